"""The queue that is fair to streams: who comes first, and that nobody waits for ever."""

import pytest
from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.fair import QUANTUM, FairQueue

BIG = b"x" * QUANTUM


def popped(queue):
    found = []
    while queue:
        found.append(queue.pop())
    return found


def test_a_stream_of_which_nothing_waits_comes_first():
    queue = FairQueue()
    for _ in range(3):
        queue.put(1, BIG)
    assert queue.pop() == BIG
    queue.put(2, b"small")
    assert queue.pop() == b"small"
    assert popped(queue) == [BIG, BIG]


def test_streams_with_much_to_say_take_turns():
    queue = FairQueue()
    for stream in (1, 2, 3):
        for _ in range(3):
            queue.put(stream, b"%d" % stream + BIG)
    assert [message[:1] for message in popped(queue)] == [b"1", b"2", b"3"] * 3


def test_a_long_message_takes_from_the_turns_to_come():
    queue = FairQueue()
    for _ in range(2):
        queue.put(1, b"1" + BIG * 4)
        queue.put(2, b"2" + BIG)
    for _ in range(3):
        queue.put(2, b"2" + BIG)
    assert b"".join(message[:1] for message in popped(queue)) == b"1222212"


def test_who_has_had_turns_to_come_waits_for_them_also_when_it_had_nothing_more_to_say():
    queue = FairQueue()
    queue.put(1, BIG * 4)
    for _ in range(4):
        queue.put(2, BIG)
    assert [len(queue.pop()), len(queue.pop()), len(queue.pop())] == [len(BIG) * 4] + 2 * [len(BIG)]
    queue.put(1, b"more")
    assert popped(queue) == [BIG, BIG, b"more"]


def test_many_with_little_to_say_do_not_keep_one_with_much_for_ever():
    queue = FairQueue()
    for _ in range(3):
        queue.put(1, BIG)
    for stream in range(2, 6):
        queue.put(stream, b"small")
    turns = 0
    while queue.holds(1):
        message = queue.pop()
        turns += 1
        if message == b"small":
            queue.put(2 + turns % 4, b"small")  # there is always somebody
        assert turns < 100


def test_it_knows_of_whom_something_waits():
    queue = FairQueue()
    assert not queue
    queue.put(1, b"a")
    queue.put(2, b"b")
    assert queue and queue.holds(1) and not queue.holds(3)
    assert queue.pop() == b"a"
    assert not queue.holds(1) and queue.holds(2)
    queue.pop()
    assert not queue


@pytest.mark.parametrize("stream", [0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32])
def test_the_stream_of_a_message_is_read_from_its_bytes(stream):
    assert packets.stream_of(packets.encode_send_text(stream, b"x")) == stream
    assert packets.stream_of(packets.encode_ended(stream, None, "", "")) == stream
