"""The layer of Django Channels in one process: names, room, time, threads, forks, what is lost."""

import asyncio
import logging
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull, MessageTooLarge
from hornbeam_erlang import publish, testing
from hornbeam_erlang._ops import channels as board_module
from hornbeam_erlang._ops.channel_queue import Channel, Posted
from hornbeam_erlang._ops.mailbox import Home
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import pack
from hornbeam_erlang.channels import HornbeamChannelLayer

DEADLINE = 20.0


@pytest.fixture(autouse=True)
def beam():
    with testing.Beam() as beam:
        yield beam


@pytest.fixture
def clock(beam, monkeypatch):
    """Let time go by only where a test says so, by `advance`."""
    monkeypatch.setattr(testing, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    return beam


def layer(**options):
    return HornbeamChannelLayer(**{"prefix": "p", "capacity": 3} | options)


def run(work):
    return asyncio.run(asyncio.wait_for(work, DEADLINE))


def numbers(layer, name):
    """Take all that waits in a channel."""
    channel = layer._board._channel(name)
    return [message.value["n"] for message in iter(channel.take, None)]


async def settle():
    """Let tasks go on that have been begun meanwhile."""
    for _ in range(5):
        await asyncio.sleep(0)


async def members(group):
    """Return how many processes hear a group."""
    return await publish(f"channels:p:group:{group}", {"n": "who"})


# Names and sizes


@pytest.mark.parametrize("name", ["", "a b", "=+135!", "größe", "a" * 100, 7])
def test_name_that_is_none_is_a_type_error(name):
    async def work():
        one = layer()
        own = await one.new_channel()
        for call in (
            one.send(name, {}),
            one.receive(name),
            one.group_add(name, own),
            one.group_add("group", name),
            one.group_discard(name, own),
            one.group_send(name, {}),
        ):
            with pytest.raises(TypeError):
                await call

    run(work())


def test_message_is_a_dict_and_not_too_large():
    async def work():
        one = layer(max_message_size=100)
        fits = {"b": bytes(100 - len(pack({"b": b""})))}
        await one.send("jobs", fits)
        assert await one.receive("jobs") == fits
        large = {"b": fits["b"] + b"x"}
        for call in (one.send("jobs", large), one.group_send("group", large)):
            with pytest.raises(MessageTooLarge, match="101 bytes"):
                await call
        with pytest.raises(AssertionError):
            await one.send("jobs", ["list"])
        with pytest.raises(TypeError, match="message"):
            await one.send("jobs", {"o": object()})

    run(work())


def test_channel_of_another_process_cannot_be_received_from():
    async def work():
        other = await layer().new_channel()
        for name in (other, "not-client-prefix!local_part"):
            with pytest.raises(AssertionError, match="client prefix"):
                await layer().receive(name)

    run(work())


# Room


def test_capacity_is_that_of_the_first_pattern_that_fits():
    async def work():
        one = layer(channel_capacity={"big*": 5, re.compile(r"^t.ny"): 1})
        own = await one.new_channel("tiny")
        for name, capacity in (("biggest", 5), ("tony", 1), (own, 1), ("other", 3)):
            for n in range(capacity):
                await one.send(name, {"n": n})
            with pytest.raises(ChannelFull, match=re.escape(name)):
                await one.send(name, {"n": capacity})
            assert (await one.receive(name))["n"] == 0
            await one.send(name, {"n": capacity})

    run(work())


def test_channel_that_is_emptied_before_it_is_told_full_is_not_full():
    """Or its reader, who waits for the next message, would be the last to hear of it."""

    async def work():
        one = layer()
        name = await one.new_channel()
        one._board._tell_fullness(one._board._channel(name))
        await one.send(name, {"n": 1})
        assert await one.receive(name) == {"n": 1}

    run(work())


def test_full_channel_that_is_cleared_from_elsewhere_has_room():
    async def work():
        one = layer()
        name = await one.new_channel()
        for n in range(3):
            await one.send(name, {"n": n})
        await publish("channels:p:everybody", ["clear", "nobody", 1])
        await asyncio.sleep(0)
        await one.send(name, {"n": 4})
        assert await one.receive(name) == {"n": 4}

    run(work())


def test_message_of_a_reader_that_gives_up_has_room_in_a_full_channel():
    async def work():
        home = Home(threading.get_ident(), asyncio.get_running_loop())
        channel = Channel("c", 1, home, lambda: 0.0, lambda _: None)
        first, second = (Posted("c", pack(n), float("inf")) for n in (1, 2))
        reader = channel.next_or_future()
        assert channel.offer(first, True)
        assert channel.offer(second, True)
        channel.leave(reader)
        assert [channel.take(), channel.take(), channel.take()] == [first, second, None]

    run(work())


def test_receive_that_is_cancelled_at_any_step_loses_nothing():
    async def work():
        one = layer(capacity=100)
        for name in (await one.new_channel(), "jobs"):
            for steps in range(8):
                task = asyncio.create_task(one.receive(name))
                for step in range(8):
                    if step == 3:
                        await one.send(name, {"n": steps})
                    if step == steps:
                        task.cancel()
                    await asyncio.sleep(0)
                await asyncio.wait([task])
                got = await one.receive(name) if task.cancelled() else task.result()
                assert got == {"n": steps}

    run(work())


# Time


def test_message_that_is_not_read_in_time_is_gone(clock):
    async def work():
        one = layer(expiry=2)
        name = await one.new_channel()
        await one.group_add("group", name)
        await one.send(name, {"n": 1})
        clock.advance(1)
        await one.group_send("group", {"n": 2})
        clock.advance(1)
        assert await one.receive(name) == {"n": 2}

    run(work())


def test_message_that_expires_makes_room(clock):
    async def work():
        one = layer(expiry=2, capacity=1)
        name = await one.new_channel()
        for channel in (name, "jobs"):
            await one.send(channel, {"n": 1})
        clock.advance(2)
        for channel in (name, "jobs"):
            await one.send(channel, {"n": 2})
            assert await one.receive(channel) == {"n": 2}

    run(work())


def test_member_is_one_for_so_long_after_it_was_last_added(clock):
    async def work():
        one = layer(group_expiry=10)
        name = await one.new_channel()
        await one.group_add("group", name)
        clock.advance(9)
        await one.group_add("group", name)
        clock.advance(9)
        await one.group_send("group", {"n": 1})
        clock.advance(1)
        await one.group_send("group", {"n": 2})
        assert numbers(one, name) == [1]
        await settle()
        assert await members("group") == 0

    run(work())


def test_channels_that_nobody_reads_are_forgotten(clock):
    async def work():
        one = layer(expiry=2)
        await one.new_channel()
        for _ in range(100):
            await one.send(await one.new_channel(), {"n": 1})
        clock.advance(board_module.SWEEP)
        await one.send(name := await one.new_channel(), {"n": 2})
        assert set(one._board._channels) == {name}

    run(work())


def test_member_that_nobody_reads_is_taken_out_of_its_groups_in_the_end(clock):
    async def work():
        one = layer(expiry=2)
        dead, idle, read = [await one.new_channel() for _ in range(3)]
        for name, group in ((dead, "dead"), (idle, "idle"), (read, "read")):
            await one.group_add(group, name)
        for group in ("dead", "read"):
            await one.group_send(group, {"n": 1})
        clock.advance(2)
        task = asyncio.create_task(one.receive(read))
        await settle()
        for seconds in (board_module.SWEEP, board_module.ABANDONED):
            assert await members("dead") == 1
            clock.advance(seconds)
            await one.send(await one.new_channel(), {"n": 2})
            await settle()
        assert [await members(group) for group in ("dead", "idle", "read")] == [0, 1, 1]
        assert await task == {"n": "who"}

    run(work())


def test_member_keeps_no_messages_that_have_expired(clock):
    async def work():
        one = layer(expiry=2)
        name = await one.new_channel()
        await one.group_add("group", name)
        await one.group_send("group", {"n": 1})
        clock.advance(board_module.SWEEP)
        await one.send(await one.new_channel(), {"n": 2})
        assert len(one._board.known(name)) == 0
        assert await members("group") == 1

    run(work())


def lost(beam):
    """Return how many messages the node knows to be lost, and why."""
    return dict(beam._memory._channels.lost)


@pytest.mark.parametrize("channel", ["own", "jobs"])
@pytest.mark.parametrize("capacity", [1, 2])
def test_message_that_expires_is_counted_when_somebody_looks(clock, channel, capacity):
    async def work():
        one = layer(expiry=2, capacity=capacity)
        name = await one.new_channel() if channel == "own" else channel
        await one.send(name, {"n": 1})
        clock.advance(2)
        assert lost(clock) == {}
        await one.send(name, {"n": 2})
        assert await one.receive(name) == {"n": 2}
        assert lost(clock) == {"expired": 1}

    run(work())


def test_messages_that_expire_in_channels_that_nobody_reads_are_counted(clock):
    async def work():
        one = layer(expiry=2)
        for _ in range(3):
            await one.send(await one.new_channel(), {"n": 1})
        clock.advance(board_module.SWEEP)
        await one.send(await one.new_channel(), {"n": 2})
        await settle()
        assert lost(clock) == {"expired": 3}

    run(work())


def put(beam, *messages):
    """Have the node put messages into a channel that anybody may read, and nothing else go on."""
    for n in messages:
        args = ["channels:p:channel:jobs", pack({"n": n}), 60_000, 100]
        assert beam.call(ops.CHANNELS_PUT, args)


def test_who_waits_is_given_a_message_that_has_come_however_late_he_looks(clock):
    """Erlang does not know that he still waits: nobody would send him another one."""

    async def work():
        one = layer()
        await one.new_channel()
        reader = asyncio.create_task(one.receive("jobs"))
        await settle()
        put(clock, 1)
        clock.advance(60)
        assert await reader == {"n": 1}
        reader = asyncio.create_task(one.receive("jobs"))
        await settle()
        put(clock, 2)
        assert await reader == {"n": 2}

    run(work())


def test_what_readers_give_back_together_is_read_in_its_order(beam):
    async def work():
        one = layer()
        await one.new_channel()
        readers = [asyncio.create_task(one.receive("jobs")) for _ in range(3)]
        await settle()
        put(beam, 1, 2, 3, 4)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
        assert [(await one.receive("jobs"))["n"] for _ in range(4)] == [1, 2, 3, 4]

    run(work())


def test_what_a_reader_gives_back_when_its_channel_is_forgotten_is_read(clock):
    async def work():
        clock.topics.serve(asyncio.get_running_loop())
        one = layer(expiry=2 * board_module.SWEEP)
        name = await one.new_channel()
        reader = asyncio.create_task(one.receive(name))
        await settle()
        old = one._board.known(name)
        clock.call(ops.CHANNELS_SEND, [*address(name), pack(["sent", name, {"n": 1}])])
        reader.cancel()
        clock.advance(board_module.SWEEP)
        one._board._channel("other")
        assert one._board.known(name) is None
        await asyncio.wait([reader])
        assert reader.cancelled()
        assert one._board.known(name) is not old
        assert await one.receive(name) == {"n": 1}

    run(work())


def address(name):
    """Return a channel of a process, as the node knows it, and the address of the process."""
    client = name.partition("!")[0].rpartition(".")[2]
    return f"channels:p:channel:{name}", f"channels:p:to:{client}"


# Flush


def test_flush_waits_for_all_layers_of_its_process():
    async def work():
        one, other = layer(), layer()
        name = await other.new_channel()
        for n in range(9):
            await other.group_add(f"group{n}", name)
        await other.send(name, {"n": 1})
        await one.flush()
        assert [await members(f"group{n}") for n in range(9)] == [0] * 9
        assert numbers(other, name) == []

    run(work())


# Groups


def test_group_add_that_is_cancelled_leaves_nothing():
    async def work():
        for steps in range(6):
            one = layer()
            name, group = await one.new_channel(), f"group{steps}"
            task = asyncio.create_task(one.group_add(group, name))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await one.group_send(group, {"n": steps})
            expected = [] if task.cancelled() else [steps]
            assert (steps, numbers(one, name)) == (steps, expected)
            assert await members(group) == len(expected)

    run(work())


def test_member_that_is_discarded_while_it_is_added_leaves_nothing():
    async def work():
        one = layer()
        name = await one.new_channel()
        task = asyncio.create_task(one.group_add("group", name))
        await asyncio.sleep(0)
        await one.group_discard("group", name)
        await task
        assert await members("group") == 0

    run(work())


def test_member_that_is_added_while_another_is_discarded_is_one():
    async def work():
        one = layer()
        first, second = await one.new_channel(), await one.new_channel()
        for steps in range(6):
            await one.group_add("group", first)
            task = asyncio.create_task(one.group_discard("group", first))
            for _ in range(steps):
                await asyncio.sleep(0)
            await one.group_add("group", second)
            await task
            await one.group_send("group", {"n": steps})
            assert numbers(one, second) == [steps]
            await one.group_discard("group", second)
        assert await members("group") == 0

    run(work())


def test_each_member_may_change_its_message():
    async def work():
        one = layer()
        names = [await one.new_channel() for _ in range(3)]
        for name in names:
            await one.group_add("group", name)
        for message in ({"n": 1}, {"n": {"deep": [1]}}):
            await one.group_send("group", message)
            for name in names:
                got = await one.receive(name)
                assert got == message
                got["n"] = "changed"

    run(work())


# What is lost


def losses(caplog):
    found = [r for r in caplog.records if r.name == "hornbeam_erlang.channels"]
    assert {record.levelno for record in found} <= {logging.INFO}
    return [record.getMessage() for record in found]


def test_what_full_members_lose_is_logged_once_a_burst_and_counted(caplog):
    async def work():
        one = layer()
        full, empty = [await one.new_channel() for _ in range(2)]
        for name in (full, empty):
            await one.group_add("group", name)
        for n in range(3):
            await one.send(full, {"n": n})
        for _ in range(3):
            publish("channels:p:group:group", {"n": 9})  # no loop runs in between
        assert losses(caplog) == []
        await asyncio.sleep(0)
        assert losses(caplog) == ["1 of 2 channels over capacity in group group"]
        await one.group_send("group", {"n": 9})
        await asyncio.sleep(0)
        assert losses(caplog)[1:] == ["2 of 2 channels over capacity in group group"]
        assert one.dropped == 5
        assert numbers(one, full) == [0, 1, 2]
        assert numbers(one, empty) == [9, 9, 9]

    with caplog.at_level(logging.INFO):
        run(work())


# Threads, loops and processes


def test_thousand_sends_from_threads_all_arrive():
    one = layer(capacity=1000)
    name = async_to_sync(one.new_channel)()

    def send(thread):
        for n in range(100):
            async_to_sync(one.send)(name, {"n": (thread, n)})

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(send, range(10)))
    got = numbers(one, name)
    assert sorted(map(tuple, got)) == [(thread, n) for thread in range(10) for n in range(100)]
    for thread in range(10):
        assert [n for t, n in got if t == thread] == list(range(100))


def test_channels_are_read_in_several_loops():
    one = layer(capacity=1000)
    names = [async_to_sync(one.new_channel)() for _ in range(4)]

    async def read(name):
        return [(await one.receive(name))["n"] for _ in range(200)]

    async def send():
        for n in range(200):
            await one.group_send("group", {"n": n})

    for name in names:
        async_to_sync(one.group_add)("group", name)
    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(run, read(name)) for name in names]
        run(send())
        assert [reader.result(DEADLINE) for reader in readers] == [list(range(200))] * 4


def test_full_channels_in_several_loops_lose_nothing_and_do_not_stop():
    one = layer(capacity=1)
    name = async_to_sync(one.new_channel)()

    async def read():
        return [(await one.receive(name))["n"] for _ in range(500)]

    async def send():
        for n in range(500):
            while True:
                try:
                    await one.send(name, {"n": n})
                    break
                except ChannelFull:
                    await asyncio.sleep(0)

    with ThreadPoolExecutor(1) as thread:
        reader = thread.submit(run, read())
        run(send())
        got = reader.result(DEADLINE)
    assert len(got) == 500
    assert got == list(range(500))


def test_fork_is_another_client():
    one = layer()
    before = one.client_prefix
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, one.client_prefix.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        after = pipe.read()
    os.wait()
    assert len(after) == len(before)
    assert after != before == one.client_prefix
