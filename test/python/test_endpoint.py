"""The protocol without I/O: what credit lets pass, and in which order."""

import struct

import pytest
from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.credit import Account, Allowance
from hornbeam_erlang._wire.endpoint import (
    CHUNK,
    MULTICAST_PAYLOAD,
    MULTICAST_STREAMS,
    OPENING_CREDIT,
    Endpoint,
)
from hornbeam_erlang._wire.values import unpack
from hypothesis import given
from hypothesis import strategies as st


def cut(data):
    """Cut what is written to the pipe into its packets."""
    found = []
    while data:
        (length,) = struct.unpack_from(">I", data)
        found.append(data[4 : 4 + length])
        assert len(found[-1]) == length
        data = data[4 + length :]
    return found


def endpoint(credit):
    made = Endpoint()
    made.open_window(credit)
    return made


def everything(made):
    data = b""
    while taken := made.take():
        data += taken
    return data


@given(st.lists(st.binary(max_size=100)))
def test_packets_keep_their_order_and_their_bytes(messages):
    made = endpoint(1 << 20)
    for message in messages:
        made.send(message)
    assert cut(everything(made)) == messages
    assert made.idle


def answer(stream, body=b"ok", more=False):
    return packets.encode_response_start(stream, 200, [(b"x-a", b"1")], body, more)


@pytest.mark.parametrize("stream", [1, 127, 128, 65_536, 1 << 40])
def test_an_answer_and_the_end_behind_it_are_one_message(stream):
    made = endpoint(1 << 20)
    made.send(answer(stream))
    made.send_ended(stream)
    whole = packets.encode_response(stream, 200, [(b"x-a", b"1")], b"ok")
    assert cut(everything(made)) == [whole]
    assert unpack(whole) == [packets.RESPONSE, stream, 200, [[b"x-a", b"1"]], b"ok"]


# Each with what was said before the handler of stream 1 returned.
APART = {
    "nothing": [],
    "more is to come": [answer(1, more=True)],
    "the last of several parts": [
        answer(1, more=True),
        packets.encode_response_body(1, b"", False),
    ],
    "another stream's": [answer(1), answer(2)],
    "something of its own": [answer(1), packets.encode_credit(1, 5, 0)],
    "a body that looks like an end": [packets.encode_response_body(1, b"\xc2", True)],
    "long": [answer(1, b"x" * 5000)],
}


@pytest.mark.parametrize("before", APART.values(), ids=APART)
def test_an_end_behind_anything_else_is_a_message(before):
    made = endpoint(1 << 20)
    for message in before:
        made.send(message)
    made.send_ended(1)
    assert cut(everything(made)) == [*before, packets.encode_ended(1, None, "", "")]


def test_an_answer_that_is_written_has_its_end_behind_it():
    made = endpoint(1 << 20)
    made.send(answer(1))
    written = made.take()
    made.send_ended(1)
    end = packets.encode_ended(1, None, "", "")
    assert cut(written + everything(made)) == [answer(1), end]


def test_an_end_does_not_pass_what_is_held_or_waits_in_turns():
    made = endpoint(1 << 20)
    made.send_first(b"\x95\x2c\x01", 1)
    made.send(answer(1))
    made.send_ended(1)
    assert cut(everything(made)) == [b"\x95\x2c\x01"]
    made.release(1)
    end = packets.encode_ended(1, None, "", "")
    assert cut(everything(made)) == [answer(1), end]
    made.send(answer(2))
    made.take_turns()
    made.send_ended(2)
    end = packets.encode_ended(2, None, "", "")
    assert cut(everything(made)) == [answer(2), end]


def test_every_byte_on_the_pipe_is_paid():
    made = endpoint(1000)
    made.send(b"x" * 100)
    made.take()
    assert made.credit == 1000 - 104


def test_window_is_reduced_by_what_was_written_before_it_was_known():
    made = Endpoint()
    made.send(b"x" * 96)
    made.take()
    made.open_window(1000)
    assert made.credit == 900


def test_frame_that_overdraws_is_written_and_the_next_waits():
    made = endpoint(10)
    made.send(b"x" * 100)
    made.send(b"y")
    assert cut(everything(made)) == [b"x" * 100]
    assert (made.idle, made.writable) == (False, False)
    made.credit += 94
    assert made.take() == b""
    made.credit += 1
    assert made.writable
    assert cut(everything(made)) == [b"y"]


def test_op_passes_frames_that_wait_for_credit():
    made = endpoint(0)
    made.send(b"other")
    made.send_op(b"op")
    assert cut(everything(made)) == [b"op"]
    made.credit = 100
    assert cut(everything(made)) == [b"other"]


def test_op_keeps_its_place_while_there_is_credit():
    made = endpoint(10 * CHUNK)
    for _ in range(3):
        made.send(b"x" * CHUNK)
    made.send_op(b"op")
    assert [packet[:2] for packet in cut(everything(made))] == [b"xx", b"xx", b"xx", b"op"]


def test_one_write_is_bounded():
    made = endpoint(10 * CHUNK)
    for _ in range(8):
        made.send(b"x" * (CHUNK // 4))
    assert len(made.take()) <= CHUNK + CHUNK // 4


def test_opening_credit_is_enough_for_hello():
    assert Endpoint().credit == OPENING_CREDIT


@pytest.mark.parametrize(
    ("size", "messages", "is_open"),
    [(1, 1, True), (0, 1, False), (1, 0, False), (-1, 5, False)],
)
def test_account_is_open_while_both_currencies_are_positive(size, messages, is_open):
    assert Account(size, messages).open is is_open


@given(st.lists(st.integers(0, 300)), st.integers(1, 1000), st.integers(1, 50))
def test_allowance_gives_back_exactly_what_was_consumed(sizes, window, messages):
    allowance = Allowance(window, messages)
    given_bytes = given_messages = 0
    for size in sizes:
        if allowance.consume(size):
            more_bytes, more_messages = allowance.give()
            given_bytes += more_bytes
            given_messages += more_messages
    assert given_bytes + allowance.bytes == sum(sizes)
    assert given_messages + allowance.messages == len(sizes)
    assert allowance.bytes < max(window // 2, 1)
    assert allowance.messages < max(messages // 2, 1)


def on_stream(number, size=3):
    return packets.encode_send_bytes(number, b"x" * size)


def test_who_has_little_to_say_passes_who_has_much():
    made = endpoint(100 * CHUNK)
    for _ in range(20):
        made.send(on_stream(1, CHUNK // 4))
    made.take_turns()
    made.send(on_stream(200))
    made.send(on_stream(70_000))
    streams = [packets.stream_of(packet) for packet in cut(everything(made))]
    assert streams == [1, 200, 70_000] + 19 * [1]


def test_until_the_pipe_is_full_and_when_nothing_waits_any_more_all_keeps_its_order():
    made = endpoint(100 * CHUNK)
    sent = [on_stream(number % 3 + 1, CHUNK // 2) for number in range(12)]
    for message in sent:
        made.send(message)
    assert cut(everything(made)) == sent
    made.take_turns()
    assert made.take() == b""
    for message in sent:
        made.send(message)
    assert cut(everything(made)) == sent
    made.send(on_stream(1))
    made.take_turns()
    assert cut(made.take()) == [on_stream(1)]
    for message in sent:
        made.send(message)
    assert cut(everything(made)) == sent


def expanded(made):
    """Return what is written as (code, stream, payload), as if each stream were told by itself."""
    single = {multicast: send for send, multicast in packets.MULTICAST.items()}
    told = []
    for packet in cut(everything(made)):
        code, stream, *fields = unpack(packet)
        if code in single:
            told += [(single[code], number, fields[1]) for number in fields[0]]
        else:
            told.append((code, stream, *fields))
    return told


payloads = st.tuples(
    st.sampled_from([packets.SEND_TEXT, packets.SEND_BYTES]),
    st.integers(1, 300),
    st.sampled_from([b"", b"same", b"other", b"x" * CHUNK]),
)


@given(st.lists(st.tuples(payloads, st.booleans()), max_size=30), st.data())
def test_who_is_told_the_same_is_told_in_the_same_order(sent, data):
    made = endpoint(1 << 40)
    told, due = [], []
    for payload, is_followed in sent:
        made.send_payload(*payload)
        due.append(payload)
        if is_followed:
            made.send(packets.encode_flushed(payload[1]))
            due.append((packets.FLUSHED, payload[1]))
        if data.draw(st.booleans()):
            told += expanded(made)
    assert told + expanded(made) == due
    assert made.idle


@given(st.lists(payloads, max_size=30), st.integers(0, 30))
def test_each_stream_is_told_in_its_order_while_the_pipe_is_full(sent, full_at):
    made = endpoint(1 << 40)
    for count, payload in enumerate(sent):
        if count == full_at:
            made.take_turns()
        made.send_payload(*payload)
    told = expanded(made)
    for stream in {stream for _, stream, _ in sent}:
        of_stream = [payload for payload in sent if payload[1] == stream]
        assert [payload for payload in told if payload[1] == stream] == of_stream


@pytest.mark.parametrize(
    ("messages", "due"),
    [
        ([(39, 1, b"a"), (39, 2, b"a"), (39, 1, b"a")], [[51, 0, [1, 2, 1], b"a"]]),
        ([(40, 1, b"a"), (40, 2, b"a")], [[52, 0, [1, 2], b"a"]]),
        ([(39, 1, b"a"), (40, 2, b"a")], [[39, 1, b"a"], [40, 2, b"a"]]),
        ([(39, 1, b"a"), (39, 1, b"a")], [[39, 1, b"a"], [39, 1, b"a"]]),
        (
            [(39, 1, b"a"), (39, 2, b"a"), (39, 2, b"a")],
            [[51, 0, [1, 2], b"a"], [39, 2, b"a"]],
        ),
        ([(39, 1, b"a"), (39, 2, b"b")], [[39, 1, b"a"], [39, 2, b"b"]]),
        (
            [(39, 1, b"a"), (39, 2, b"a"), (40, 3, b"a")],
            [[51, 0, [1, 2], b"a"], [40, 3, b"a"]],
        ),
    ],
)
def test_what_several_are_told_at_once_travels_once(messages, due):
    made = endpoint(1 << 20)
    for message in messages:
        made.send_payload(*message)
    assert [unpack(packet) for packet in cut(everything(made))] == due


def test_no_multicast_is_longer_than_the_beam_reads():
    made = endpoint(1 << 30)
    for stream in range(1, MULTICAST_STREAMS + 3):
        made.send_payload(packets.SEND_TEXT, stream, b"a")
    long = bytes(MULTICAST_PAYLOAD + 1)
    for stream in (1, 2):
        made.send_payload(packets.SEND_BYTES, stream, long)
    written = [unpack(packet) for packet in cut(everything(made))]
    codes = [packets.MULTICAST_TEXT, packets.MULTICAST_TEXT, packets.SEND_BYTES, packets.SEND_BYTES]
    assert [message[0] for message in written] == codes
    assert list(map(len, (written[0][2], written[1][2]))) == [MULTICAST_STREAMS, 2]


def test_op_passes_what_others_have_to_say_and_not_its_own_stream():
    made = endpoint(100 * CHUNK)
    for number in (1, 2, 1, 2, 1, 2, 1, 2):
        made.send(on_stream(number, CHUNK // 2))
    made.take_turns()
    made.send_op(b"of 3", 3)
    made.send_op(b"of 1", 1)
    made.send_op(b"of 3 again", 3)
    found = cut(everything(made))
    said = [packet if packet[:2] == b"of" else packets.stream_of(packet) for packet in found]
    assert said[0] == b"of 3"
    assert said.index(b"of 1") < said.index(b"of 3 again")
    assert 1 not in said[said.index(b"of 1") :]
    assert 2 in said[: said.index(b"of 1")]
    assert made.idle


def test_op_of_nobody_known_comes_last():
    made = endpoint(100 * CHUNK)
    made.send(on_stream(1, CHUNK))
    made.send(on_stream(1, CHUNK))
    made.take_turns()
    made.send_op(b"op")
    assert [packet[:2] for packet in cut(everything(made))][-1] == b"op"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, CHUNK // 2)), max_size=40), st.data())
def test_each_stream_keeps_its_order_whenever_the_pipe_is_full(messages, data):
    made = endpoint(1 << 40)
    sent, written = [], b""
    for count, (stream, size) in enumerate(messages):
        sent.append(packets.encode_send_bytes(stream, b"%d:" % count + b"x" * size))
        made.send(sent[-1])
        if data.draw(st.booleans()):
            written += made.take()
        if data.draw(st.booleans()):
            made.take_turns()
    found = cut(written + everything(made))
    assert sorted(found) == sorted(sent)
    for stream in range(6):
        of_stream = [packet for packet in sent if packets.stream_of(packet) == stream]
        assert [packet for packet in found if packets.stream_of(packet) == stream] == of_stream
    assert made.idle


# Ops that nobody asks about


class Teller:
    """What an op has been told by: it asks for the answer if it is told to."""

    def ask(self, tell):
        return packets.as_op(tell, 99)


def tell(stream, value):
    return packets.encode_tell(stream, 1, 22, [value])


def told(made, stream, value):
    made.send_tell(Teller(), tell(stream, value), stream)


def test_one_whose_teller_is_held_is_asked_for_and_not_paid():
    made = endpoint(1 << 20)
    made.tells = 2
    kept = Teller()
    made.send_tell(kept, tell(300, "kept"), 300)
    told(made, 1, "dropped")
    assert not made.may_tell
    asked, dropped = (unpack(packet) for packet in cut(everything(made)))
    assert asked == [packets.OP, 300, 99, 22, ["kept"]]
    assert dropped == [packets.TELL, 1, 1, 22, ["dropped"]]
    assert (made.tells, made.tell_bytes) == (1, 0)


@pytest.mark.parametrize("ref", [0, 127, 128, 1 << 16, 1 << 32])
@pytest.mark.parametrize("stream", [0, 127, 128, 1 << 16, 1 << 32])
def test_a_tell_becomes_the_op_that_it_is(stream, ref):
    made = packets.as_op(packets.encode_tell(stream, 300, 22, ["t", b"x"]), ref)
    assert made == packets.encode_op(stream, ref, 22, ["t", b"x"])


@pytest.mark.parametrize("is_full", [False, True])
def test_an_op_never_passes_what_its_stream_has_told(is_full):
    """Also where it may pass all else: without credit, and while streams take turns."""
    made = endpoint(1)
    made.send(packets.encode_log(1, "spends", "the credit"))
    everything(made)
    if is_full:
        made.send(packets.encode_log(1, "so that", "something waits"))
        made.take_turns()
    for stream, value in ((1, "a"), (2, "other"), (1, "b")):
        told(made, stream, value)
        made.send(packets.encode_send_text(stream, b"text"))
    made.send_op(packets.encode_op(1, 7, 1, ["k"]), 1)
    written = [unpack(packet) for packet in cut(made.take())]
    assert [packet[4][0] for packet in written] == ["a", "b", "k"]
    assert not everything(made)
    made.credit += 10_000
    rest = [unpack(packet)[0] for packet in cut(everything(made))]
    assert rest.count(packets.TELL) == 1
    assert rest.count(packets.SEND_TEXT) == 3
    assert made.idle


@pytest.mark.parametrize("is_full", [False, True])
def test_a_tell_keeps_its_place_among_the_messages_of_its_stream(is_full):
    made = endpoint(1 << 20)
    for n in range(4):
        if is_full and n == 2:
            made.take_turns()
        made.send_payload(packets.SEND_TEXT, 1, b"%d" % n)
        told(made, 1, n)
    written = [unpack(packet) for packet in cut(everything(made))]
    assert [
        packet[2] if packet[0] == packets.SEND_TEXT else packet[4][0] for packet in written
    ] == [*(b"0", 0, b"1", 1, b"2", 2, b"3", 3)]


def test_what_follows_an_op_that_is_first_waits_for_its_release():
    made = endpoint(1 << 20)
    made.send_first(b"\x95,\x01first", 1)
    made.send(packets.encode_send_text(1, b"held"))
    told(made, 1, "held")
    made.send_op(packets.encode_op(1, 7, 1, ["held"]), 1)
    made.send_first(b"\x95,\x01second", 1)
    made.send_payload(packets.SEND_TEXT, 1, b"held longer")
    made.send(packets.encode_send_text(2, b"not held"))
    assert [packet[3:] for packet in cut(everything(made))] == [b"\xc4\x08not held", b"first"]
    assert not made.idle
    made.release(1)
    written = cut(everything(made))
    assert [packet[1] for packet in written[:3]] == [packets.SEND_TEXT, packets.TELL, packets.OP]
    assert written[3][3:] == b"second"
    assert len(written) == 4
    made.release(1)
    assert len(cut(everything(made))) == 1
    assert made.idle


class Unasked(Teller):
    """Somebody holds it; to compare it would ask, and wait for the answer."""

    def __eq__(self, other):
        raise AssertionError("it was asked")

    __hash__ = None


def test_an_end_behind_what_was_told_is_a_message():
    made = endpoint(1 << 20)
    made.tells = 5
    teller = Unasked()
    made.send(answer(1))
    made.send_tell(teller, tell(1, "a"), 1)
    made.send_ended(1)
    end = packets.encode_ended(1, None, "", "")
    assert cut(everything(made)) == [answer(1), teller.ask(tell(1, "a")), end]
