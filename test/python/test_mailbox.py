"""Queues of published messages: bounds, order, and those who wait at them."""

import asyncio
import contextlib
import threading
from collections import deque

import pytest
from hornbeam_erlang import aio, publish, testing
from hornbeam_erlang._ops import requests
from hornbeam_erlang._ops.mailbox import Home, Mailbox, Published, Way
from hornbeam_erlang._ops.topics import Topics
from hornbeam_erlang._wire.values import pack
from hornbeam_erlang.exceptions import ConnectionEnded, OpTimeout
from hypothesis import given
from hypothesis import strategies as st

DEADLINE = 20.0

CONNECTIONS = range(10)


def message(value=None, size=1):
    return Published("t", pack(value) if size == 1 else bytes(size))


def sizes(mailbox):
    taken = []
    while (one := mailbox.take()) is not None:
        taken.append(len(one.packed))
    return taken


@given(
    st.lists(st.integers(1, 20) | st.none(), max_size=60),
    st.integers(1, 6),
    st.integers(1, 40),
)
def test_queue_keeps_the_newest_within_its_bounds(steps, max_messages, max_bytes):
    """A step puts a message of some size, or takes one."""
    mailbox = Mailbox(max_messages, max_bytes)
    model: deque[int] = deque()
    dropped = 0
    for step in steps:
        if step is None:
            taken = mailbox.take()
            assert (taken and len(taken.packed)) == (model.popleft() if model else None)
            continue
        mailbox.put(Published("t", bytes(step)))
        model.append(step)
        while len(model) > 1 and (len(model) > max_messages or sum(model) > max_bytes):
            model.popleft()
            dropped += 1
    assert mailbox.dropped == dropped
    assert len(mailbox) == len(model)
    assert sizes(mailbox) == list(model)


def test_bound_of_messages_is_kept_and_not_one_more():
    mailbox = Mailbox(3, 1000)
    for size in (1, 2, 3):
        mailbox.put(message(size=size))
    assert mailbox.dropped == 0
    mailbox.put(message(size=4))
    assert (mailbox.dropped, sizes(mailbox)) == (1, [2, 3, 4])


def test_bound_of_bytes_is_kept_and_not_one_more():
    mailbox = Mailbox(1000, 10)
    for size in (4, 6):
        mailbox.put(message(size=size))
    assert mailbox.dropped == 0
    mailbox.put(message(size=2))
    assert (mailbox.dropped, sizes(mailbox)) == (1, [6, 2])


def test_message_longer_than_the_queue_is_kept_alone():
    mailbox = Mailbox(1000, 10)
    mailbox.put(message(size=5))
    mailbox.put(message(size=500))
    assert (mailbox.dropped, sizes(mailbox)) == (1, [500])


def test_one_reader_cannot_change_what_another_sees():
    shared = Published("t", pack({"list": [1], "text": "a"}))
    first, second = shared.value, shared.value
    first["list"].append(2)
    first["text"] = "b"
    assert second == {"list": [1], "text": "a"}
    assert shared.value == second


def test_text_is_unpacked_once_for_all():
    shared = Published("t", pack("a long text"))
    assert shared.value is shared.value


def test_threads_that_wait_get_one_message_each():
    mailbox = Mailbox(1000, 1000)
    got = []
    threads = [
        threading.Thread(target=lambda: got.append(mailbox.receive(DEADLINE).value))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for number in range(8):
        mailbox.put(message(number))
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(got) == list(range(8))


def test_thread_waits_no_longer_than_it_is_told():
    with pytest.raises(OpTimeout, match=r"within 0\.01 s"):
        Mailbox(1, 1).receive(0.01)


def home():
    """Return the running thread and loop as those in which nearly all wait."""
    return Home(threading.get_ident(), asyncio.get_running_loop())


async def waiting(mailbox, readers=1):
    """Return tasks that wait for a message, in the order in which they began to."""
    tasks = [asyncio.create_task(mailbox.receive_async()) for _ in range(readers)]
    await asyncio.sleep(0)
    return tasks


@pytest.mark.parametrize("at_home", [False, True])
def test_coroutine_that_is_cancelled_takes_no_message_with_it(at_home):
    async def main():
        mailbox = Mailbox(10, 100, home() if at_home else None)
        [reader] = await waiting(mailbox)
        mailbox.put(message(5), at_home)
        mailbox.put(message(6), at_home)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        return [(await mailbox.receive_async()).value for _ in range(2)]

    assert asyncio.run(main()) == [5, 6]


@pytest.mark.parametrize("at_home", [False, True])
def test_who_iterates_and_is_cancelled_takes_no_message_with_it(at_home):
    async def first():
        return await anext(aio.messages())

    async def main():
        with testing.Beam() as beam, beam.connection():
            if at_home:
                beam.topics.serve(asyncio.get_running_loop())
            await aio.subscribe("t")
            reader = asyncio.create_task(first())
            await asyncio.sleep(0)
            assert [publish("t", value) for value in (5, 6)] == [1, 1]
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            return [await asyncio.wait_for(first(), DEADLINE) for _ in range(2)]

    assert asyncio.run(main()) == [("t", 5), ("t", 6)]


@pytest.mark.parametrize("at_home", [False, True])
def test_message_of_who_is_cancelled_goes_to_the_next_who_waits(at_home):
    async def main():
        mailbox = Mailbox(10, 100, home() if at_home else None)
        [first] = await waiting(mailbox)
        # It begins to wait when the message is the first's, which does not know its end yet.
        second = asyncio.create_task(mailbox.receive_async())
        mailbox.put(message(5), at_home)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return (await asyncio.wait_for(second, DEADLINE)).value

    assert asyncio.run(main()) == 5


def test_messages_that_readers_give_back_are_read_in_their_order():
    async def main():
        mailbox = Mailbox(10, 100, home())
        readers = []
        for number in range(3):
            readers.append(mailbox.next_or_future())
            mailbox.put(message(number), at_home=True)
        mailbox.put(message(3), at_home=True)
        for reader in readers:
            mailbox.leave(reader)
        assert mailbox.take().value == 0
        mailbox.withdraw("other")
        return [mailbox.take().value for _ in range(3)]

    assert asyncio.run(main()) == [1, 2, 3]


@pytest.mark.parametrize("at_home", [False, True])
def test_who_was_cancelled_while_it_waited_gets_nothing(at_home):
    async def main():
        mailbox = Mailbox(10, 100, home() if at_home else None)
        [reader] = await waiting(mailbox)
        reader.cancel()
        mailbox.put(message(5), at_home)
        with pytest.raises(asyncio.CancelledError):
            await reader
        return (await mailbox.receive_async()).value

    assert asyncio.run(main()) == 5


@pytest.mark.parametrize("at_home", [False, True])
def test_coroutines_that_wait_get_one_message_each(at_home):
    async def main():
        mailbox = Mailbox(10, 100, home() if at_home else None)
        readers = await waiting(mailbox, 3)
        for number in range(3):
            mailbox.put(message(number), at_home)
        got = await asyncio.wait_for(asyncio.gather(*readers), DEADLINE)
        return sorted(one.value for one in got)

    assert asyncio.run(main()) == [0, 1, 2]


def test_what_another_thread_has_put_comes_before_what_comes_at_home_later():
    async def main():
        mailbox = Mailbox(10, 100, home())
        [reader] = await waiting(mailbox)
        thread = threading.Thread(target=mailbox.put, args=(message(1),))
        thread.start()
        thread.join(DEADLINE)
        mailbox.put(message(2), at_home=True)
        return [(await reader).value, (await mailbox.receive_async()).value]

    assert asyncio.run(main()) == [1, 2]


@pytest.mark.parametrize("at_home", [False, True])
def test_coroutine_is_woken_from_another_thread(at_home):
    async def main():
        mailbox = Mailbox(10, 10, home() if at_home else None)
        [reader] = await waiting(mailbox)
        await asyncio.to_thread(mailbox.put, message(5))
        return (await asyncio.wait_for(reader, DEADLINE)).value

    assert asyncio.run(main()) == 5


@pytest.mark.parametrize("at_home", [False, True])
def test_end_of_the_connection_wakes_all_who_wait(at_home):
    async def main():
        topics = Topics(10, 10, CONNECTIONS)
        if at_home:
            topics.serve(asyncio.get_running_loop())
        topics.subscribe(1, "t")
        mailbox = topics.mailbox(1)
        in_thread = asyncio.create_task(asyncio.to_thread(mailbox.receive, DEADLINE))
        readers = await waiting(mailbox, 2)
        while len(mailbox._waiters) < (2 if at_home else 3):
            await asyncio.sleep(0)
        topics.forget(1)
        for task in (in_thread, *readers):
            with pytest.raises(ConnectionEnded):
                await asyncio.wait_for(task, DEADLINE)

    asyncio.run(main())


def test_what_came_before_the_end_can_still_be_read():
    topics = Topics(10, 10, CONNECTIONS)
    topics.subscribe(1, "t")
    assert topics.deliver("t", pack(1)) == 1
    topics.leave(1)
    assert topics.deliver("t", pack(2)) == 0
    assert topics.find(1).receive(0).value == 1
    with pytest.raises(ConnectionEnded):
        topics.find(1).receive(0)
    topics.forget(1)
    assert topics.find(1) is None


def test_each_subscriber_of_a_topic_gets_its_messages_in_order():
    topics = Topics(1000, 1 << 20, CONNECTIONS)
    for number in range(5):
        topics.subscribe(number, "all")
        topics.subscribe(number, f"own {number}")
    for value in range(20):
        assert topics.deliver("all", pack(value)) == 5
        assert topics.deliver("own 3", pack(-value)) == 1
    got = [[topics.find(number).take().value for _ in range(20)] for number in range(3)]
    assert got == [list(range(20))] * 3
    third = [topics.find(3).take().value for _ in range(40)]
    assert third == [sign * value for value in range(20) for sign in (1, -1)]


def test_no_topic_is_kept_that_nobody_subscribes_to():
    topics = Topics(10, 10, CONNECTIONS)
    for number in range(10):
        topics.subscribe(number, f"topic {number}")
    topics.unsubscribe(0, "topic 0")
    topics.unsubscribe(0, "never")
    for number in range(10):
        topics.forget(number)
    assert topics._topics == {}
    assert topics._mailboxes == {}


def test_reader_who_polls_is_told_once_for_each_message_it_takes():
    mailbox = Mailbox(10, 10)
    mailbox.put(message(1))
    assert mailbox.ring()
    assert not mailbox.ring()
    mailbox.put(message(2))
    assert mailbox.ring()
    mailbox.take()
    assert mailbox.ring()
    mailbox.take()
    assert not mailbox.ring()


# What is over does not come back


def test_connection_that_is_over_gets_no_mailbox_again():
    connections = {1}
    topics = Topics(10, 10, connections)
    topics.subscribe(1, "t")
    connections.clear()
    topics.forget(1)
    for call in (topics.mailbox, lambda number: topics.subscribe(number, "t")):
        with pytest.raises(ConnectionEnded):
            call(1)
    topics.unsubscribe(1, "t")
    assert (topics._mailboxes, topics._topics) == ({}, {})
    topics.mailbox(0)  # the process itself has no end


@pytest.mark.parametrize("before", [None, Way(False, None), Way(True, "close")])
@pytest.mark.parametrize("forward", [False, True])
def test_connection_that_ends_before_erlangs_answer_gets_no_mailbox_again(before, forward):
    connections = {1}
    topics = Topics(10, 10, connections)
    if before is not None:
        topics.subscribe(1, "t", before)
    plan = requests.subscribe(topics, 1, "t", forward, None)
    next(plan)
    connections.clear()
    topics.forget(1)
    with contextlib.suppress(ConnectionEnded, StopIteration):
        while True:
            plan.send(None)
    assert (topics._mailboxes, topics._topics) == ({}, {})


def test_threads_that_subscribe_a_connection_while_it_ends_leave_nothing_of_it():
    connections = set(range(1, 501))
    topics = Topics(10, 10, connections)
    ready = threading.Barrier(3)

    def subscribe(topic):
        ready.wait(DEADLINE)
        for number in range(1, 501):
            with contextlib.suppress(ConnectionEnded):
                topics.subscribe(number, topic)

    threads = [threading.Thread(target=subscribe, args=(topic,)) for topic in ("a", "b")]
    for thread in threads:
        thread.start()
    ready.wait(DEADLINE)
    for number in range(1, 501):
        connections.discard(number)
        topics.forget(number)
    for thread in threads:
        thread.join(DEADLINE)
    assert (topics._mailboxes, topics._topics) == ({}, {})
