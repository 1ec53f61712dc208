"""The channel layer between threads and loops: who comes first, who crosses whom, what stays."""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hornbeam_erlang import publish
from hornbeam_erlang._ops import channels
from hornbeam_erlang._wire import ops
from hornbeam_erlang.channels import ChannelFull, HornbeamChannelLayer
from hornbeam_erlang.exceptions import ConnectionEnded, NotConnected
from hornbeam_erlang.testing import Beam

PATIENCE = 20


@pytest.fixture
def beam():
    with Beam() as beam:
        yield beam


@pytest.fixture
def layer(beam):
    return HornbeamChannelLayer(prefix="test", capacity=3)


@pytest.fixture
def switching():
    """Let threads take turns after a few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, PATIENCE))


def in_threads(number: int, function):
    """Call a function in so many threads at once; what they return."""
    start = threading.Barrier(number)

    def begin(n: int):
        start.wait(PATIENCE)
        return function(n)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(begin, range(number), timeout=PATIENCE))


def hearers(group: str) -> int:
    """Count who still hears a group."""
    return publish(f"channels:test:group:{group}", {"type": "count"}).result()


async def is_silent(layer, *names: str) -> bool:
    """Tell whether nothing waits in these channels: what is sent now is the next."""
    for name in names:
        await layer.send(name, {"type": "mark"})
        if await layer.receive(name) != {"type": "mark"}:
            return False
    return True


# Room


async def filled(layer, name: str) -> int:
    """Send until there is no room; how many have had some."""
    for n in range(100):
        try:
            await layer.send(name, {"n": n})
        except ChannelFull:
            return n
    raise AssertionError("never full")


def test_outside_of_any_node_a_sentence_says_so():
    with pytest.raises(NotConnected, match="Hornbeam"):
        run(HornbeamChannelLayer().send("name", {}))


def test_a_channel_that_is_full_again_after_all_has_expired_is_known_to_be(beam):
    layer = HornbeamChannelLayer(prefix="test", capacity=2, expiry=0.05)

    async def fill_again() -> None:
        name = await layer.new_channel()
        rounds = 0
        while rounds < 4:
            rounds += await filled(layer, name) > 0
            await asyncio.sleep(0.01)

    run(fill_again())
    assert layer.dropped == 0


def test_a_reader_in_the_middle_of_saying_that_a_channel_is_full_is_heard(layer, monkeypatch):
    """All that waits is taken while Erlang is about to be told: what it is told last is true."""

    async def read_meanwhile() -> None:
        name = await layer.new_channel()
        tell = channels.tell

        def tell_late(request):
            monkeypatch.setattr(channels, "tell", tell)
            for _ in range(3):
                with pytest.raises(StopIteration):
                    layer.receive(name).send(None)
            tell(request)

        monkeypatch.setattr(channels, "tell", tell_late)
        for n in range(3):
            await layer.send(name, {"n": n})
        assert channels.tell is tell
        await layer.send(name, {"n": 3})
        assert await layer.receive(name) == {"n": 3}

    run(read_meanwhile())


def test_who_waits_is_told_when_the_connection_to_the_node_ends():
    async def wait_in_vain() -> None:
        with Beam():
            layer = HornbeamChannelLayer()
            name = await layer.new_channel()
            readers = [asyncio.create_task(layer.receive(each)) for each in (name, "jobs")]
            while sum(channel.has_waiters for channel in channels_of(layer)) < 2:
                await asyncio.sleep(0)
        for reader in readers:
            with pytest.raises(ConnectionEnded):
                await reader

    run(wait_in_vain())


def channels_of(layer) -> list[channels.Channel]:
    return [*layer._board._channels.values(), *layer._board._shared.values()]


# Threads and loops


def test_threads_that_come_first_share_what_is_there(beam, switching):
    for _ in range(50):
        layer = HornbeamChannelLayer(prefix="test")
        names = in_threads(4, lambda n, layer=layer: run(layer.new_channel(f"of{n}")))
        assert len({name.partition(".")[2].partition("!")[0] for name in names}) == 1
        for name in names:
            run(layer.send(name, {"n": name}))
            assert run(layer.receive(name)) == {"n": name}


def test_loops_in_threads_send_to_each_other(layer, switching):
    """Each has a channel, sends to all and takes out what all have sent, in the order of each."""
    loops, messages = 4, 30
    layer.capacity = loops * messages
    names = [run(layer.new_channel()) for _ in range(loops)]

    async def talk(n: int) -> dict[int, list[int]]:
        heard: dict[int, list[int]] = {loop: [] for loop in range(loops)}

        async def hear() -> None:
            for _ in range(loops * messages):
                message = await layer.receive(names[n])
                heard[message["from"]].append(message["n"])

        hearing = asyncio.create_task(hear())
        for message in range(messages):
            for name in names:
                await layer.send(name, {"from": n, "n": message})
        await hearing
        return heard

    for heard in in_threads(loops, lambda n: run(talk(n))):
        assert heard == {loop: list(range(messages)) for loop in range(loops)}


def test_channels_of_anybody_lose_nothing_to_readers_that_give_up_in_threads(layer, switching):
    readers, messages = 4, 60
    layer.capacity = messages
    left = threading.Semaphore(messages)

    async def read(n: int) -> list[int]:
        heard = []
        while left.acquire(blocking=False):
            while True:
                reader = asyncio.create_task(layer.receive("jobs"))
                for _ in range(n):
                    await asyncio.sleep(0)
                if n and not reader.done():
                    reader.cancel()
                    await asyncio.wait([reader])
                if not reader.cancelled():
                    heard.append((await reader)["n"])
                    break
        return heard

    for n in range(messages):
        run(layer.send("jobs", {"n": n}))
    heard = in_threads(readers, lambda n: run(read(n * 3)))
    assert sorted(itertools.chain(*heard)) == list(range(messages))


# Groups


def test_a_member_whose_time_is_over_is_none_and_nothing_stays(beam):
    layer = HornbeamChannelLayer(prefix="test", group_expiry=0.05)

    async def expire() -> None:
        name = await layer.new_channel()
        await layer.group_add("room", name)
        while hearers("room"):
            await asyncio.sleep(0.01)
            publish("channels:test:group:room", {"type": "late"}).result()
        while await is_silent(layer, name) is False:
            pass
        assert not layer._board._groups

    run(expire())


@pytest.mark.parametrize("steps", range(6))
def test_who_leaves_while_others_come_takes_the_group_from_none(layer, steps):
    async def cross() -> None:
        old, new = [await layer.new_channel() for _ in range(2)]
        await layer.group_add("room", old)
        leaving = asyncio.create_task(layer.group_discard("room", old))
        for _ in range(steps):
            await asyncio.sleep(0)
        await layer.group_add("room", new)
        assert hearers("room") == 1
        await leaving
        await layer.group_send("room", {"type": "news"})
        assert (await layer.receive(new))["type"] in ("news", "count")
        await layer.group_discard("room", new)
        assert hearers("room") == 0

    run(cross())


@pytest.mark.parametrize("steps", range(6))
def test_who_is_taken_out_while_it_joins_leaves_nothing(layer, steps):
    async def cross() -> None:
        name = await layer.new_channel()
        joining = asyncio.create_task(layer.group_add("room", name))
        for _ in range(steps):
            await asyncio.sleep(0)
        await layer.group_discard("room", name)
        await joining
        await layer.group_discard("room", name)
        assert hearers("room") == 0

    run(cross())


@pytest.mark.parametrize("steps", range(6))
def test_a_join_that_is_cancelled_leaves_nothing_and_takes_nothing(layer, steps):
    async def cancel() -> None:
        one, other = [await layer.new_channel() for _ in range(2)]
        joining = asyncio.create_task(layer.group_add("room", one))
        for _ in range(steps):
            await asyncio.sleep(0)
        second = asyncio.create_task(layer.group_add("room", other))
        joining.cancel()
        await asyncio.wait([joining, second])
        await layer.group_send("room", {"type": "news"})
        assert await layer.receive(other) == {"type": "news"}
        assert joining.cancelled() == await is_silent(layer, one)
        await layer.group_discard("room", one)
        await layer.group_discard("room", other)
        assert hearers("room") == 0

    run(cancel())


class LateBeam(Beam):
    """A node that subscribes and unsubscribes, and says so, when a test lets it: in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[asyncio.Future[None]] = []

    async def call_async(self, op, args, timeout=None):
        is_late = op in (ops.PUBSUB_SUBSCRIBE, ops.PUBSUB_UNSUBSCRIBE)
        if is_late:
            await self.gate()
        answer = await super().call_async(op, args, timeout)
        if is_late:
            await self.gate()
        return answer

    async def gate(self) -> None:
        self.gates.append(asyncio.get_running_loop().create_future())
        await self.gates[-1]

    def open_one(self, random: Random) -> None:
        if self.gates:
            gate = self.gates.pop(random.randrange(len(self.gates)))
            if not gate.done():
                gate.set_result(None)


class CountingBeam(Beam):
    """A node that counts how often it is asked to let a topic come."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def call_async(self, op, args, timeout=None):
        self.asked += op == ops.PUBSUB_SUBSCRIBE and "group:" in args[0]
        return await super().call_async(op, args, timeout)


@pytest.mark.parametrize("steps", range(5))
def test_of_many_who_join_a_group_at_once_one_asks_the_node(steps):
    """Also if the first of them gives up."""

    async def join() -> None:
        layer = HornbeamChannelLayer(prefix="test")
        names = [await layer.new_channel() for _ in range(100)]
        joining = [asyncio.create_task(layer.group_add("room", name)) for name in names]
        for _ in range(steps):
            await asyncio.sleep(0)
        joining[0].cancel()
        await asyncio.wait(joining)
        assert beam.asked <= 2
        await layer.group_send("room", {"type": "news"})
        for name in names[1:]:
            assert await layer.receive(name) == {"type": "news"}

    with CountingBeam() as beam:
        run(join())


@pytest.mark.parametrize("seed", range(60))
def test_who_is_in_a_group_hears_it_in_whatever_order_the_node_does_what_it_is_told(seed):
    random = Random(seed)
    present: set[str] = set()

    async def come_and_go(layer) -> None:
        for _ in range(4):
            name = await layer.new_channel()
            adding = asyncio.create_task(layer.group_add("room", name))
            for _ in range(random.randrange(8)):
                await asyncio.sleep(0)
            if random.random() < 0.3:
                adding.cancel()
            await asyncio.wait([adding])
            if not adding.cancelled():
                present.add(name)
                for _ in range(random.randrange(8)):
                    await asyncio.sleep(0)
            present.discard(name)
            await layer.group_discard("room", name)

    async def watch() -> None:
        with LateBeam() as beam:
            layer = HornbeamChannelLayer(prefix="test")
            opening = asyncio.create_task(layer.new_channel())
            tasks = [asyncio.create_task(come_and_go(layer)) for _ in range(3)]
            while not all(task.done() for task in [opening, *tasks]):
                beam.open_one(random)
                await asyncio.sleep(0)
                assert not present or hearers("room") == 1
            for task in tasks:
                task.result()
            assert hearers("room") == 0
            assert not layer._board._groups

    run(watch())


def test_threads_that_come_and_go_leave_a_group_as_it_is(layer, switching):
    async def come_and_go(n: int) -> None:
        for _ in range(30):
            name = await layer.new_channel()
            await layer.group_add("room", name)
            await layer.group_send("room", {"type": f"of{n}"})
            while (await layer.receive(name))["type"] != f"of{n}":
                pass
            await layer.group_discard("room", name)

    layer.capacity = 1000
    in_threads(4, lambda n: run(come_and_go(n)))
    assert hearers("room") == 0
    assert not layer._board._groups


def test_threads_that_flush_beside_each_other_all_succeed(layer, switching):
    async def fill_and_flush() -> None:
        for group in "abcdef":
            await layer.group_add(group, await layer.new_channel())
        await layer.flush()

    in_threads(4, lambda n: [run(fill_and_flush()) for _ in range(10)])
    run(layer.flush())
    assert [hearers(group) for group in "abcdef"] == [0] * 6


# Channels that nobody reads


def sweep(layer) -> None:
    """Look for what nobody reads, as is done now and then."""
    layer._board._swept -= channels.SWEEP
    layer._board._sweep()


async def member_with_lost_messages(layer) -> str:
    """Make a channel in a group, of whose messages one has expired."""
    name = await layer.new_channel()
    await layer.group_add("room", name)
    await layer.group_send("room", {"type": "first"})
    while layer._board.known(name).unread_since == math.inf:
        await asyncio.sleep(0.01)
        layer._board.known(name).drop_expired()
    return name


def test_a_channel_whose_connection_is_over_is_forgotten_with_its_groups(beam):
    layer = HornbeamChannelLayer(prefix="test", expiry=0.05)

    async def abandon() -> None:
        with beam.connection():
            name = await member_with_lost_messages(layer)
            sweep(layer)
            assert layer._board.known(name) is not None
            assert hearers("room") == 1
        while layer._board.known(name) is not None:
            await asyncio.sleep(0.01)
            sweep(layer)
        await asyncio.sleep(0)
        assert not layer._board._groups

    run(abandon())
    assert hearers("room") == 0


def test_a_member_that_is_busy_for_longer_than_its_messages_wait_stays_in_its_group(beam):
    layer = HornbeamChannelLayer(prefix="test", expiry=0.05)

    async def be_busy() -> None:
        name = await member_with_lost_messages(layer)
        sweep(layer)
        await layer.group_send("room", {"type": "next"})
        assert await layer.receive(name) == {"type": "next"}

    run(be_busy())


def test_channels_that_were_sent_to_and_never_read_are_forgotten_as_more_come(beam):
    layer = HornbeamChannelLayer(prefix="test", expiry=0.01)

    async def send_to_the_dead() -> None:
        name = await layer.new_channel()
        for n in range(20_000):
            await layer.send(f"{name}{n}", {"n": n})

    run(send_to_the_dead())
    assert len(layer._board._channels) < 10_000
