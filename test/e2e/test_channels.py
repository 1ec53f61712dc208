"""The channel layer in workers: its channels and groups, across workers and their lives."""

from __future__ import annotations

import pytest
from harness import eventually
from visitors import Raised, Visitor, at, run

OPEN = """
    from hornbeam_erlang.channels import HornbeamChannelLayer
    global layer
    layer = HornbeamChannelLayer(prefix=k, capacity=3, expiry=60)
"""


@pytest.fixture
def server(serve):
    return serve("console:application", workers=2)


@pytest.fixture
def two(server, consoles, key):
    """Two consoles in two workers, each with a layer."""
    pair = consoles(server, 2)
    for console in pair:
        console(OPEN, k=key)
    return pair


def test_a_channel_of_one_process_is_sent_to_by_another(two):
    reader, sender = two
    name = reader("await layer.new_channel()")
    sender("await layer.send(name, {'type': 'hello', 'data': b'x'})", name=name)
    assert reader("await layer.receive(name)", name=name) == {"type": "hello", "data": b"x"}


def test_a_group_reaches_its_members_in_all_workers(two):
    join = """
        name = await layer.new_channel()
        await layer.group_add("room", name)
        name
    """
    names = [console(join) for console in two]
    two[0]("await layer.group_send('room', {'type': 'chat'})")
    for console, name in zip(two, names, strict=True):
        assert console("await layer.receive(name)", name=name) == {"type": "chat"}


def test_a_member_is_added_and_taken_out_by_another_worker(two):
    owner, other = two
    name = owner("await layer.new_channel()")
    other("await layer.group_add('room', name)", name=name)
    other("await layer.group_send('room', {'type': 'first'})")
    other("await layer.group_discard('room', name)", name=name)
    other("await layer.group_send('room', {'type': 'second'})")
    assert owner("await layer.receive(name)", name=name) == {"type": "first"}
    source = "await asyncio.wait_for(layer.receive(name), 0.2)"
    with pytest.raises(TimeoutError):
        owner(source, name=name)


def test_a_full_channel_is_known_to_all_workers(two):
    owner, other = two
    name = owner("await layer.new_channel()")
    owner("for n in range(3): await layer.send(name, {'n': n})", name=name)
    for console in two:
        source = "import channels.exceptions\nawait layer.send(name, {'n': 3})"
        with pytest.raises(Exception, match=name):
            console(source, name=name)
    assert owner("await layer.receive(name)", name=name) == {"n": 0}
    other("await layer.send(name, {'n': 4})", name=name)
    assert owner("[(await layer.receive(name))['n'] for _ in range(3)]", name=name) == [1, 2, 4]


def test_a_channel_without_an_owner_gives_each_message_to_one_reader(two):
    source = "[(await layer.receive('jobs'))['n'] for _ in range(n)]"
    two[0]("for n in range(3): await layer.send('jobs', {'n': n})")
    assert two[1](source, n=2) == [0, 1]
    assert two[0](source, n=1) == [2]


def test_who_waits_for_a_message_of_anybody_gets_the_next(two):
    two[0].ask("(await layer.receive('jobs'))['n']")
    two[1]("await layer.send('jobs', {'n': 7})")
    assert two[0].answer() == 7


def test_a_reader_that_gives_up_loses_nothing(two):
    source = """
        for _ in range(20):
            task = asyncio.create_task(layer.receive("jobs"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await layer.send("jobs", {"n": 1})
    """
    two[0](source)
    assert two[1]("await layer.receive('jobs')") == {"n": 1}


def test_a_group_may_have_channels_without_an_owner(two):
    two[0]("await layer.group_add('room', 'jobs')")
    two[1]("for n in range(5): await layer.group_send('room', {'n': n})")
    assert two[0]("[(await layer.receive('jobs'))['n'] for _ in range(3)]") == [0, 1, 2]
    two[0]("await layer.group_discard('room', 'jobs')")
    two[1]("await layer.group_send('room', {'n': 9})")
    with pytest.raises(TimeoutError):
        two[0]("await asyncio.wait_for(layer.receive('jobs'), 0.2)")


def test_a_flush_forgets_what_all_workers_have(two):
    name = two[0]("await layer.new_channel()")
    two[0]("await layer.group_add('room', name)", name=name)
    two[0]("await layer.send(name, {'n': 1})", name=name)
    two[1]("await layer.send('jobs', {'n': 1})")
    two[1]("await layer.flush()")
    two[1]("await layer.group_send('room', {'n': 2})")
    for console, channel in ((two[0], name), (two[1], "jobs")):
        with pytest.raises(TimeoutError):
            console("await asyncio.wait_for(layer.receive(name), 0.2)", name=channel)


@pytest.mark.parametrize("channel", ["await layer.new_channel()", "'jobs'"])
def test_who_waits_outside_hears_of_the_end_of_the_node(serve, channel):
    server = serve("console:application", fresh=True)
    visitor = Visitor(at(server))
    visitor(OPEN, k="ends")
    visitor(f"async def wait(): return await layer.receive({channel})")
    visitor.ask("asyncio.run(wait())")
    heard = "length(hornbeam_pubsub_fanout:all_subscribers())"
    eventually(lambda: server.node.eval(heard) == 2)
    server.stop()
    with pytest.raises(Raised, match="ConnectionEnded"):
        visitor.answer()
    visitor.close()


def losses(server, why: str) -> int:
    return server.info()["channel_losses"].get(why, 0)


def test_what_full_channels_of_a_group_lose_is_counted_for_all_workers(two, server):
    before = losses(server, "full")
    for console in two:
        console("""
            name = await layer.new_channel()
            await layer.group_add("room", name)
            await layer.group_add("room", "jobs")
        """)
    two[0]("for n in range(5): await layer.group_send('room', {'n': n})")
    eventually(lambda: losses(server, "full") == before + 3 * 2)
    two[0]("await layer.flush()")


def test_what_nobody_has_read_in_time_is_counted(two, server):
    before = losses(server, "expired")
    two[0]("layer.expiry = 0.001\nawait layer.send('jobs', {'n': 1})")
    eventually(lambda: losses(server, "expired") == before + 1)


def test_mass_broadcast_loses_nothing(two, key):
    """The published failure of others: 1 000 members, of which some hear nothing."""
    join = """
        layer = HornbeamChannelLayer(prefix=k, capacity=10)
        names = [await layer.new_channel() for _ in range(500)]
        for name in names: await layer.group_add("crowd", name)
    """
    for console in two:
        console(join, k=f"{key}-crowd")
    two[0]("for n in range(10): await layer.group_send('crowd', {'n': n})")
    source = "[[(await layer.receive(name))['n'] for _ in range(10)] for name in names]"
    for console in two:
        assert console(source) == [list(range(10))] * 500
        assert console("layer.dropped") == 0


def test_who_is_left_hears_while_members_come_and_go(two, server, key):
    source = """
        one, other = await layer.new_channel(), await layer.new_channel()
        heard = []
        for n in range(100):
            await layer.group_add("room", one)
            await asyncio.gather(layer.group_discard("room", one), layer.group_add("room", other))
            await layer.group_send("room", {"n": n})
            heard.append((await asyncio.wait_for(layer.receive(other), 10))["n"])
            adding = asyncio.create_task(layer.group_add("room", one))
            await asyncio.gather(*(layer.group_discard("room", name) for name in (one, other)))
            await adding
            await layer.group_discard("room", one)
        heard
    """
    assert two[0](source) == list(range(100))
    topic = f'<<"channels:{key}:group:room">>'
    assert server.node.eval(f"hornbeam_pubsub_fanout:subscribers({topic})") == (0, 0)


# What the node has beside code, when nobody's heap holds what is over.
MEMORY = """
    [erlang:garbage_collect(Pid) || Pid <- processes()],
    {erlang:memory(total), erlang:memory(ets),
     [ets:info(Table, size) || Table <- [hornbeam_channel_messages, hornbeam_full_channels,
                                         hornbeam_channel_deadlines, hornbeam_channel_lengths]]}
"""


def test_messages_to_the_dead_leave_nothing(two, server):
    """The published failure of others, channels_redis#384: each left something behind."""
    owner, sender = two
    name = owner("await layer.new_channel()")
    owner("await layer.group_add('room', name)", name=name)
    owner.kill_worker()
    source = """
        for _ in range(10):
            sends = [layer.send(f"{name}{n}", {"n": n, "data": bytes(100)}) for n in range(1000)]
            await asyncio.gather(*sends)
    """
    eventually(lambda: sender(source, name=name) is None)
    total, ets, sizes = server.node.eval(MEMORY)
    for _ in range(10):
        sender(source, name=name)
    after_total, after_ets, after_sizes = server.node.eval(MEMORY)
    assert after_sizes == sizes
    assert after_ets < ets + 1_000_000
    assert after_total < total + 10_000_000  # 100 bytes of each message


# From outside


def test_process_outside_sends_to_channels_and_groups(two, server, key):
    names = [
        console("name = await layer.new_channel(); await layer.group_add('room', name); name")
        for console in two
    ]
    source = """
        from asgiref.sync import async_to_sync
        from hornbeam_erlang.channels import HornbeamChannelLayer
        layer = HornbeamChannelLayer(prefix=k)
        async_to_sync(layer.send)(name, {"n": 1})
        async_to_sync(layer.group_send)("room", {"n": 2})
        async_to_sync(layer.send)("jobs", {"n": 3})
        result = None
    """
    run(source, at(server), k=key, name=names[0])
    receive = "[(await layer.receive(name))['n'] for _ in range(count)]"
    assert two[0](receive, name=names[0], count=2) == [1, 2]
    assert two[1](receive, name=names[1], count=1) == [2]
    assert two[1](receive, name="jobs", count=1) == [3]


@pytest.fixture
def runworker(server, key):
    """A process outside that reads channels which have no owner."""
    visitor = Visitor(at(server))
    visitor(f"from hornbeam_erlang.channels import *\nlayer = HornbeamChannelLayer({key!r})")
    yield visitor
    visitor.kill()


JOB = "asyncio.run(layer.receive('jobs'))['n']"


def test_process_outside_receives(two, runworker):
    runworker.ask(JOB)
    two[0]("await layer.send('jobs', {'n': 1})")
    assert runworker.answer() == 1
    two[1]("await layer.group_add('all', 'jobs'); await layer.group_send('all', {'n': 2})")
    assert runworker(JOB) == 2


def test_process_outside_that_is_killed_while_it_waits_takes_nothing_along(two, runworker, server):
    wants = "[Row || Row <- ets:tab2list(hornbeam_channel_wants), element(2, Row) > 0]"
    before = len(server.node.eval(wants))
    runworker.ask(JOB)
    eventually(lambda: len(server.node.eval(wants)) == before + 1)
    runworker.kill()
    eventually(lambda: len(server.node.eval(wants)) == before)
    two[0]("await layer.send('jobs', {'n': 1})")
    assert two[1]("(await layer.receive('jobs'))['n']") == 1
