"""Publish and subscribe: across connections, workers, Erlang processes and nodes."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from consoles import Console, posted
from harness import Node, eventually
from hornbeam_erlang import Message, OpTimeout
from terms import Atom, text
from websockets.asyncio.client import connect

TWO = {"workers": 2}


@pytest.fixture
def server(serve):
    return serve("console:application", **TWO)


@pytest.fixture
def two(server, consoles):
    """Two consoles in two workers."""
    return consoles(server, 2)


@pytest.fixture
def console(two):
    return two[0]


@pytest.fixture
def crowd(consoles):
    """Ten consoles in each of two workers."""
    return lambda server: [console for _ in range(10) for console in consoles(server, 2)]


def drained(console: Console) -> list:
    """Take all messages that wait for a console's connection."""
    return console("""
        taken = []
        while (message := check_pubsub()) is not None:
            taken.append(message)
        taken
    """)


def all_of(console: Console, count: int) -> list:
    """Wait for so many messages and take what else is there."""
    first = console(
        "[(await asyncio.wait_for(aio.receive_pubsub(), 10))[1] for _ in range(count)]", count=count
    )
    return first + drained(console)


# Who hears what


def test_every_subscriber_in_every_worker_hears_a_message_once(server, consoles, two, key):
    (third,) = consoles(server)
    for console in (*two, third):
        console("subscribe(k)", k=key)
    assert two[0]("publish(k, {'n': 1})", k=key) == 3
    assert [all_of(console, 1) for console in (*two, third)] == [[{"n": 1}]] * 3


def test_nobody_hears_what_is_published_elsewhere(two, key):
    two[0]("subscribe(k)", k=key)
    assert two[1]("publish(k + 'else', 1)", k=key) == 0
    assert two[1]("publish(k, 'mine')", k=key) == 1
    assert all_of(two[0], 1) == ["mine"]


def test_a_publisher_who_subscribes_hears_itself(console, key):
    console("subscribe(k)", k=key)
    assert console("publish(k, 'me')", k=key) == 1
    assert all_of(console, 1) == ["me"]


def test_subscribing_twice_is_subscribing_once(two, key):
    here, there = two
    here("subscribe(k); subscribe(k)", k=key)
    assert there("publish(k, 'one')", k=key) == 1
    assert all_of(here, 1) == ["one"]
    here("unsubscribe(k); unsubscribe(k)", k=key)
    assert there("publish(k, 'two')", k=key) == 0
    assert drained(here) == []


def test_a_connection_hears_all_its_topics_in_the_order_of_their_arrival(console, key):
    console("for n in range(3): subscribe(f'{k}{n}')", k=key)
    console("for n in (2, 0, 1): publish(f'{k}{n}', n)", k=key)
    assert all_of(console, 3) == [2, 0, 1]


def test_a_task_of_a_handler_subscribes_its_connection(two, key):
    here, there = two
    here(
        """
        async def task():
            subscribe(k)
            await asyncio.to_thread(subscribe, k + 'thread')
            await aio.subscribe(k + 'aio')
        await asyncio.create_task(task())
        """,
        k=key,
    )
    counts = [there("publish(t, t)", t=key + of) for of in ("", "thread", "aio")]
    assert counts == [1, 1, 1]
    assert all_of(here, 3) == [key, f"{key}thread", f"{key}aio"]


def test_an_exchange_may_subscribe_until_it_ends(server, two, key):
    heard = posted(server, "subscribe(k); publish(k, 'now'); await aio.receive_pubsub()", k=key)
    assert heard[1] == "now"
    eventually(lambda: two[0]("publish(k, 'later')", k=key) == 0)


@pytest.mark.parametrize("how", ["leave", "vanish", "kill_worker"])
@pytest.mark.parametrize("forward", [False, True], ids=["queue", "forward"])
def test_a_subscription_ends_with_its_connection_without_a_finally(
    serve, consoles, key, how, forward
):
    server = serve("console:application", **TWO, fresh=how == "kill_worker")
    watcher, subscriber = consoles(server, 2)
    subscriber("subscribe(k, forward=forward)", k=key, forward=forward)
    assert watcher("publish(k, 1)", k=key) == 1
    getattr(subscriber, how)()
    eventually(lambda: watcher("publish(k, 2)", k=key) == 0)


def test_a_worker_subscribes_in_its_lifespan_and_hears_in_the_background(serve, shared, key):
    server = serve("listener:application", **TWO, env={"TOPIC": key}, fresh=True)
    assert shared.node.eval(f"hornbeam:publish({text(key)}, 7)") == 2
    heard = f"hornbeam_state:get_multi([{{{text(key)}, Pid}} || Pid <- [%d, %d]])"
    due = {(key, pid): 7 for pid in server.worker_pids()}
    eventually(lambda: shared.node.eval(heard % tuple(server.worker_pids())) == due)


# Reading


def test_check_pubsub_does_not_wait(console, key):
    assert console("subscribe(k); check_pubsub()", k=key) is None
    console("publish(k, 1)", k=key)
    assert all_of(console, 1) == [1]
    assert console("check_pubsub()") is None


def test_receive_pubsub_waits_in_a_thread_as_long_as_it_is_told(two, key):
    here, there = two
    here("subscribe(k)", k=key)
    here.ask("await asyncio.to_thread(receive_pubsub, 10)")
    assert eventually(lambda: there("publish(k, 'hello')", k=key)) == 1
    assert here.answer() == (key, "hello")
    with pytest.raises(OpTimeout):
        here("await asyncio.to_thread(receive_pubsub, 0.05)")


def test_a_block_subscribes_and_unsubscribes_its_connection(two, key):
    here, there = two
    here.ask(
        """
        async with aio.subscribed(k) as messages:
            heard = [await messages.receive(timeout=10) for _ in range(2)]
        heard
        """,
        k=key,
    )
    assert eventually(lambda: there("publish(k, 1)", k=key)) == 1
    there("publish(k, 2)")
    assert here.answer() == [Message(key, 1), Message(key, 2)]
    assert there("publish(k, 3)") == 0


def test_messages_are_iterated_with_their_topics(two, key):
    here, there = two
    here("subscribe(k); subscribe(k + 'b')", k=key)
    here.ask(
        """
        heard = []
        async for topic, message in aio.messages():
            heard.append((topic, message))
            if len(heard) == 3:
                break
        heard
        """
    )
    there("publish(k, 1); publish(k + 'b', 2); publish(k, 3)", k=key)
    assert here.answer() == [(key, 1), (f"{key}b", 2), (key, 3)]


async def test_a_raw_receive_is_woken_whoever_awaits_it(serve, key):
    server = serve("polling:application", **TWO)
    url = f"{server.ws}/?{key}"
    async with connect(url) as speaks, connect(url) as listens:
        for ws in (speaks, listens):
            assert await ws.recv() == "subscribed"
        for n in range(20):
            await speaks.send(str(n))
            assert [await speaks.recv(), await listens.recv()] == [str(n)] * 2
        assert server.node.eval(f'hornbeam:publish({text(key)}, <<"from erlang">>)') == 2
        assert [await speaks.recv(), await listens.recv()] == ["from erlang"] * 2


def test_a_raw_receive_is_not_woken_for_a_function_that_does_not_name_check_pubsub(two, key):
    here, there = two
    here("subscribe(k); check_pubsub()", k=key)
    there("publish(k, 'wake')", k=key)
    assert all_of(here, 1) == ["wake"]
    assert here("events[1:]") == []


async def test_starlette_never_sees_an_event_that_it_does_not_know(serve, key):
    server = serve("frameworks:app", **TWO)
    async with connect(f"{server.ws}/check/{key}") as ws:
        for n in range(20):
            assert httpx.post(f"{server.http}/publish/{key}", content=b"news").text == "1"
            await ws.send(str(n))
            assert await ws.recv() == f"{n} news"


async def test_starlette_sends_what_its_tasks_hear(serve, key):
    server = serve("frameworks:app", **TWO)
    async with connect(f"{server.ws}/listen/{key}") as ws:
        assert await ws.recv() == "subscribed"
        assert httpx.post(f"{server.http}/publish/{key}", content=b"news").text == "1"
        assert await ws.recv() == "news"
        await ws.send("still here")
        assert await ws.recv() == "still here"


# Forward lane


def test_forwarded_messages_reach_the_socket_as_they_are(two, key):
    here, there = two
    here("subscribe(k, forward=True)", k=key)
    said = ["text ☃", b"\x00\xff", {"a": [1, 2.5, None, True]}, [1, "ä"], 5, None, True]
    assert there("[publish(k, value) for value in said]", k=key, said=said) == [1] * len(said)
    text_, binary, *others = [here.next_pushed() for _ in said]
    assert (text_, binary) == ("text ☃", b"\x00\xff")
    assert all(isinstance(other, str) for other in others)
    assert list(map(json.loads, others)) == said[2:]
    assert drained(here) == []


@pytest.mark.parametrize("value", [{"raw": b"\xff"}, {1: 2, (1, 2): 3}, [b"bytes"]], ids=repr)
def test_what_json_cannot_say_still_reaches_the_queues(two, key, value):
    here, there = two
    here("subscribe(k)", k=key)
    assert there("publish(k, value)", k=key, value=value) == 1
    assert all_of(here, 1) == [value]


def test_python_does_not_wake_for_a_forwarded_message(two, key):
    here, there = two
    here("subscribe(k, forward=True)", k=key)
    here.ask("time.sleep(2); 'awake'")
    assert there("publish(k, 'to a sleeper')", k=key) == 1
    assert here.next_message() == "to a sleeper"
    assert here.answer() == "awake"


@pytest.mark.parametrize("last", [False, True], ids=["queue", "forward"])
def test_a_message_is_never_delivered_twice_to_a_connection(two, key, last):
    here, there = two
    here("subscribe(k, forward=not last); subscribe(k, forward=last)", k=key, last=last)
    assert there("publish(k, 'once')", k=key) == 1
    if last:
        assert here.next_pushed() == "once"
    else:
        assert all_of(here, 1) == ["once"]
    assert (drained(here), here.all_pushed()) == ([], [])


def test_erlang_forwards_too(server, two, key):
    two[0]("subscribe(k, forward=True)", k=key)
    said = f'[1 = hornbeam:publish({text(key)}, V) || V <- [<<"text">>, <<255>>, #{{a => [1]}}]]'
    server.node.eval(said)
    assert [two[0].next_pushed() for _ in range(3)] == ["text", b"\xff", '{"a":[1]}']


def test_a_message_crosses_to_a_worker_once_however_many_subscribe(server, two, crowd, key):
    here, there = two
    readers = [console for console in crowd(server) if console.pid == here.pid]
    for reader in readers:
        reader("subscribe(k)", k=key)
    before = bytes_read(here.pid)
    assert there("publish(k, bytes(2**20))", k=key) == len(readers) > 5
    assert {len(all_of(reader, 1)[0]) for reader in readers} == {2**20}
    assert 2**20 < bytes_read(here.pid) - before < 2**21


def bytes_read(pid: int) -> int:
    """How many bytes a process has read, from pipes too."""
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(counters["rchar"])


# Order and losses


def test_each_publishers_messages_come_in_its_order(server, consoles, two, key):
    readers = [consoles(server)[0] for _ in range(3)]
    for reader, forward in zip(readers, (False, False, True), strict=True):
        reader("subscribe(k, forward=forward)", k=key, forward=forward)
    for name, console in zip("ab", two, strict=True):
        console.ask("{publish(k, [name, n]) for n in range(300)}", k=key, name=name)
    server.node.eval(f'[hornbeam:publish({text(key)}, [<<"c">>, N]) || N <- lists:seq(0, 299)]')
    assert [console.answer() for console in two] == [{3}, {3}]
    heard = [all_of(reader, 900) for reader in readers[:2]]
    heard.append([json.loads(readers[2].next_pushed()) for _ in range(900)])
    for messages in heard:
        for name in "abc":
            assert [n for of, n in messages if of == name] == list(range(300))


LIMITS = {"pubsub_queue_messages": 10, "pubsub_queue_bytes": 10_000}


def test_a_full_queue_drops_the_oldest_and_counts_them(serve, consoles, key):
    server = serve("console:application", **TWO, **LIMITS)
    here, there = consoles(server, 2)
    here("subscribe(k)", k=key)
    assert here("pubsub_dropped()") == 0
    assert there("[publish(k, n) for n in range(25)]", k=key) == [1] * 25
    eventually(lambda: here("pubsub_dropped()") == 15)
    assert drained(here) == list(range(15, 25))
    there("publish(k, 'room again')", k=key)
    assert all_of(here, 1) == ["room again"]
    assert here("pubsub_dropped()") == 15


def test_a_queue_is_bounded_in_bytes_too(serve, consoles, key):
    server = serve("console:application", **TWO, **LIMITS)
    here, there = consoles(server, 2)
    here("subscribe(k)", k=key)
    there("for n in range(5): publish(k, [n, 'x' * 3000])", k=key)
    eventually(lambda: here("pubsub_dropped()") == 2)
    assert [n for n, _ in drained(here)] == [2, 3, 4]


def test_what_is_dropped_for_one_connection_is_not_dropped_for_another(serve, consoles, key):
    server = serve("console:application", **TWO, **LIMITS)
    slow, publisher = consoles(server, 2)
    (fast,) = [console for console in consoles(server, 2) if console.pid == slow.pid]
    for console in (slow, fast):
        console("subscribe(k)", k=key)
    heard = []
    for n in range(30):
        publisher("publish(k, n)", k=key, n=n)
        heard += all_of(fast, 1)
    assert heard == list(range(30))
    assert fast("pubsub_dropped()") == 0
    eventually(lambda: slow("pubsub_dropped()") == 20)


def test_a_client_that_does_not_read_costs_it_forwarded_messages_and_nobody_memory(
    serve, consoles, key
):
    server = serve("console:application", **TWO, fresh=True)
    here, there = consoles(server, 2)
    (slow,) = consoles(server)
    slow("subscribe(k, forward=True)", k=key)
    here("subscribe(k + 'other', forward=True)", k=key)
    before = server.node.eval("erlang:memory(total)")
    there("for n in range(1000): publish(k, bytes(2**17))", k=key)
    grown = server.node.eval("erlang:memory(total)") - before
    assert grown < 64 * 2**20
    there("publish(k + 'other', 'prompt')", k=key)
    assert here.next_pushed() == "prompt"
    there("publish(k, 'last')", k=key)
    came = 0
    while slow.next_pushed() != "last":
        came += 1
    assert slow("pubsub_dropped()") == 1000 - came > 0


def losses(server) -> int:
    return server.info()["pubsub_losses"].get("slow", 0)


def test_a_slow_client_is_closed_with_1013_where_the_option_says_so(serve, consoles, key):
    server = serve("console:application", **TWO, pubsub_overflow=Atom("close"), fresh=True)
    slow, publisher = consoles(server, 2)
    (other,) = consoles(server)
    for console in (slow, other):
        console("subscribe(k, forward=True)", k=key)
    published = 0

    def is_heard():
        publisher("publish(k, 'x' * 2**15)", k=key)
        return len(other.next_pushed()) == 2**15

    while server.info()["counters"]["slow_clients_closed"] == 0:
        assert is_heard() and published < 500
        published += 1
    # Now: who takes nothing for a second after the close is cut off.
    assert slow.read_close() == (1013, "too slow")
    assert all(is_heard() for _ in range(20))
    assert other("1 + 1") == 2


def test_of_a_topic_only_the_latest_waits_for_a_slow_client(serve, consoles, key):
    server = serve("console:application", **TWO, fresh=True)
    slow, publisher = consoles(server, 2)
    before = losses(server)
    slow("subscribe(k, forward=True, overflow='latest'); subscribe(k + '2', forward=True)", k=key)
    publisher("for n in range(500): publish(k, [n, 'x' * 2**15])", k=key)
    publisher("publish(k + '2', 'of another topic')", k=key)
    publisher("publish(k, [500, ''])", k=key)
    heard = []
    while not heard or heard[-1] != 500:
        message = slow.next_pushed()
        heard.append(message if message == "of another topic" else json.loads(message)[0])
    # What was on its way comes, of what waited the newest, in order and nothing twice.
    numbers = [n for n in heard if isinstance(n, int)]
    assert numbers == sorted(set(numbers)) and len(numbers) < 400
    assert "of another topic" in heard
    assert slow("pubsub_dropped()") == 501 - len(numbers) == losses(server) - before


def test_one_topic_may_close_where_the_others_drop(serve, consoles, key):
    server = serve("console:application", **TWO, fresh=True)
    slow, publisher = consoles(server, 2)
    slow("subscribe(k, forward=True, overflow='close'); subscribe(k + '2', forward=True)", k=key)
    before = losses(server)
    publisher("for n in range(500): publish(k + '2', [n, 'x' * 2**15])", k=key)
    eventually(lambda: losses(server) > before)
    assert server.info()["counters"]["slow_clients_closed"] == 0
    publisher("for n in range(500): publish(k, 'x' * 2**15)", k=key)
    eventually(lambda: server.info()["counters"]["slow_clients_closed"] == 1)
    assert slow.read_close() == (1013, "too slow")


@pytest.mark.parametrize("forward, overflow", [(True, "drop"), (True, 1), (False, "latest")])
def test_an_overflow_is_one_of_three_and_for_forwarding(console, key, forward, overflow):
    with pytest.raises(ValueError, match="overflow"):
        console("subscribe(k, forward=f, overflow=o)", k=key, f=forward, o=overflow)


def test_a_worker_that_hangs_loses_messages_but_not_the_node(serve, consoles, key):
    server = serve("console:application", **TWO, fresh=True)
    here, there = consoles(server, 2)
    here("subscribe(k)", k=key)
    before = server.node.eval("erlang:memory(total)")
    here.ask("time.sleep(3)")
    there("for n in range(1000): publish(k, bytes(2**17))", k=key)
    assert server.node.eval("erlang:memory(total)") - before < 64 * 2**20
    here.answer()
    eventually(lambda: len(drained(here)) == 0)
    there("publish(k, 'after')", k=key)
    assert all_of(here, 1) == ["after"]
    assert here("pubsub_dropped()") > 0


# Erlang


COLLECT = """
register({name}, spawn(fun() ->
    ok = hornbeam:subscribe({topic}),
    ok = hornbeam:subscribe({topic}),
    Loop = fun Loop(Got) ->
        receive
            {{hornbeam_pubsub, Topic, Message}} -> Loop([{{Topic, Message}} | Got]);
            {{got, From}} -> From ! {{got, lists:reverse(Got)}}, Loop(Got);
            {{stop, From}} -> ok = hornbeam:unsubscribe({topic}), From ! stopped, Loop(Got);
            die -> ok
        end
    end,
    Loop([])
end)),
ok
"""
TELL = "{name} ! {{{what}, self()}}, receive stopped -> ok; {{got, Got}} -> Got end"


def test_erlang_processes_subscribe_too(server, two, key):
    name = f"c{key}"
    server.node.eval(COLLECT.format(name=name, topic=text(key)))
    eventually(lambda: two[0]("publish(k, None)", k=key) == 1)
    two[1]("publish(k, {'text': 'ä', 'n': (1, b'\\xff')})", k=key)
    got = server.node.eval(TELL.format(name=name, what="got"))
    assert got[-1] == (key, {"text": "ä", "n": (1, b"\xff")})
    assert got[:-1] == [(key, "undefined")] * (len(got) - 1)
    two[0]("subscribe(k)", k=key)
    assert server.node.eval(f"hornbeam:publish({text(key)}, #{{n => 1}})") == 2
    assert all_of(two[0], 1) == [{"n": 1}]
    server.node.eval(TELL.format(name=name, what="stop"))
    assert two[1]("publish(k, 1)", k=key) == 1


def test_an_erlang_process_that_died_is_no_subscriber(server, two, key):
    name = f"c{key}"
    server.node.eval(COLLECT.format(name=name, topic=text(key)))
    eventually(lambda: two[0]("publish(k, 1)", k=key) == 1)
    server.node.eval(f"{name} ! die, ok")
    eventually(lambda: two[0]("publish(k, 1)", k=key) == 0)


@pytest.mark.parametrize("topic", [None, 1, b"bytes", ["list"]], ids=repr)
def test_a_topic_is_a_str(console, topic):
    for source in ("subscribe(t)", "unsubscribe(t)", "publish(t, 1)"):
        with pytest.raises(TypeError):
            console(source, t=topic)


# A second node


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes that know each other, each serving the console with two workers."""
    folder = tmp_path_factory.mktemp("meeting")
    nodes = [
        Node(tmp_path_factory.mktemp(name), name=f"{name}@127.0.0.1", meeting=folder)
        for name in ("first", "second")
    ]
    servers = [node.serve("console:application", **TWO) for node in nodes]
    assert nodes[0].eval("net_kernel:connect_node('second@127.0.0.1')") is True
    yield servers
    assert [node.close() for node in nodes] == [[], []]


def test_a_publish_reaches_subscribers_of_every_node_and_counts_them(cluster, consoles, key):
    here, there = cluster
    near, far = consoles(here, 2) + consoles(there, 2), consoles(there, 2)
    everybody = near + far
    for console in everybody:
        console("subscribe(k)", k=key)
    eventually(lambda: near[0]("publish(k, 'all')", k=key) == len(everybody))
    for console in everybody:
        assert set(all_of(console, 1)) == {"all"}
    assert there.node.eval(f"hornbeam:publish({text(key)}, 1)") == len(everybody)


SENT = """
lists:sum([element(2, hd(element(2, inet:getstat(Port, [send_oct]))))
    || {_, Port} <- erlang:system_info(dist_ctrl)])
"""


def test_a_message_crosses_to_a_node_once_however_many_subscribe(cluster, consoles, key):
    here, there = cluster
    readers = [consoles(there)[0] for _ in range(10)]
    (publisher,) = consoles(here)
    for number, reader in enumerate(readers):
        reader("subscribe(k, forward=forward)", k=key, forward=number < 5)
    eventually(lambda: publisher("publish(k, 'probe')", k=key) == 10)
    before = here.node.eval(SENT)
    assert publisher("publish(k, 'x' * 2**20)", k=key) == 10
    for reader in readers[:5]:
        while reader.next_pushed() == "probe":
            pass
    for reader in readers[5:]:
        while all_of(reader, 1)[-1] == "probe":
            pass
    assert 2**20 < here.node.eval(SENT) - before < 2**21


def test_forwarding_and_order_hold_across_nodes(cluster, consoles, key):
    (reader,), (publisher,) = consoles(cluster[1]), consoles(cluster[0])
    reader("subscribe(k, forward=True)", k=key)
    eventually(lambda: publisher("publish(k, -1)", k=key) == 1)
    publisher("for n in range(300): publish(k, n)", k=key)
    heard = [int(reader.next_pushed())]
    while heard[-1] != 299:
        heard.append(int(reader.next_pushed()))
    assert [n for n in heard if n >= 0] == list(range(300))
