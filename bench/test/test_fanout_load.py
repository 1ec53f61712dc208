"""The fan-out load believes no delivery: each way in which one can go wrong stops it."""

import pytest
from faulty import Faulty

from harness.load import LoadError, window

FAULTS = {
    "changed": "socket 1, message 19: the text after its number has changed",
    "before": "socket 1, message 19: expected [0-9a-f]{16}, got",
    "lost": "socket 1, message 19: expected [0-9a-f]{16}, got|1 sockets still miss message 19",
    "doubled": "socket 1, message 20: expected [0-9a-f]{16}, got|socket 1: a delivery of nothing",
    "bytes": "expected a text of 40 bytes, got opcode 2",
    "closed": "the server closed with code 4001",
    "greeting": 'expected "subscribed", got welcome',
    "silent": "1 sockets were not subscribed",
    "publisher": "the publisher received a message",
}
# The last of three sockets is the slow one, which may miss messages and may be cut off.
SLOW_FAULTS = {
    "changed": "socket 2, message 19: the text after its number has changed",
    "before": "slow socket 2: message 18 where one of 19 to",
    "doubled": "slow socket 2: message 19 where one of 20 to",
    "bytes": "expected a text of 40 bytes, got opcode 2",
}
LOAD = {"sockets": 3, "depth": 2, "size": 40, "warmup": 0, "seconds": 1.0}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_delivery_is_an_error(fault: str) -> None:
    with Faulty("wrong_fanout", fault) as server, pytest.raises(LoadError, match=FAULTS[fault]):
        window(server, "fanout", **LOAD)


def test_right_deliveries_are_counted_and_paid_for() -> None:
    with Faulty("wrong_fanout", "none") as server:
        figures = window(server, "fanout", **LOAD)
    assert figures["messages"] > 100
    assert figures["messages"] % LOAD["sockets"] == 0
    assert figures["cpu_us"] > 0
    assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["max_us"] * 1.02


@pytest.mark.parametrize("fault", SLOW_FAULTS)
def test_a_wrong_delivery_to_a_slow_socket_is_an_error(fault: str) -> None:
    with (
        Faulty("wrong_fanout", fault, FAULTY_SOCKET="2") as server,
        pytest.raises(LoadError, match=SLOW_FAULTS[fault]),
    ):
        window(server, "fanout", slow=1, rate=1_000_000, **LOAD)


@pytest.mark.parametrize("fault", ["none", "lost"])
def test_messages_that_a_slow_socket_never_gets_are_counted(fault: str) -> None:
    with Faulty("wrong_fanout", fault, FAULTY_SOCKET="2") as server:
        figures = window(server, "fanout", slow=1, rate=100_000, **LOAD)
    assert figures["slow_dropped"] == (1 if fault == "lost" else 0)
    of_the_warmup = 1
    published = figures["messages"] / 2 + of_the_warmup
    assert figures["slow_received"] + figures["slow_dropped"] == published
    assert figures["slow_gone"] == 0


def test_a_slow_socket_reads_no_faster_than_it_may() -> None:
    with Faulty("wrong_fanout", "none") as server:
        figures = window(server, "fanout", slow=1, rate=400, **LOAD)
    assert figures["messages"] / 2 > 100
    assert figures["slow_seen"] <= 400 * (figures["seconds"] + 0.2) / 42 + 1
    assert figures["slow_dropped"] == 0


def test_a_slow_socket_that_is_closed_is_counted() -> None:
    with Faulty("wrong_fanout", "closed", FAULTY_SOCKET="2") as server:
        figures = window(server, "fanout", slow=1, rate=1_000_000, **LOAD)
    assert figures["slow_gone"] == 1
    assert figures["slow_received"] == 19


def test_topics_are_published_to_in_turn() -> None:
    with Faulty("wrong_fanout", "none") as server:
        figures = window(server, "fanout", topics=3, **LOAD | {"sockets": 6})
    assert figures["messages"] > 100
    assert figures["messages"] % 2 == 0


def test_a_message_of_another_topic_is_an_error() -> None:
    wrong = "socket [02], message [0-9]+: expected|still miss|a delivery of nothing"
    with Faulty("wrong_fanout", "elsewhere") as server, pytest.raises(LoadError, match=wrong):
        window(server, "fanout", topics=3, **LOAD)


def test_topics_with_unequal_parts_of_the_sockets_are_refused() -> None:
    with (
        Faulty("wrong_fanout", "none") as server,
        pytest.raises(LoadError, match="as many sockets for each topic"),
    ):
        window(server, "fanout", topics=2, **LOAD)


def test_more_sockets_than_open_at_once_all_get_everything() -> None:
    with Faulty("wrong_fanout", "none") as server:
        figures = window(server, "fanout", **LOAD | {"sockets": 150})
    assert figures["messages"] % 150 == 0


# Event streams

EVENT_FAULTS = {
    name: FAULTS[name] for name in ("changed", "before", "lost", "doubled", "greeting")
} | {
    "bytes": "an event with two lines of data",
    "closed": "the server ended the stream",
    "plain": "not an event stream",
    "silent": "1 sockets were not subscribed",
}


@pytest.mark.parametrize("fault", EVENT_FAULTS)
def test_a_wrong_event_is_an_error(fault: str) -> None:
    with (
        Faulty("wrong_fanout", fault) as server,
        pytest.raises(LoadError, match=EVENT_FAULTS[fault]),
    ):
        window(server, "fanout", events=1, **LOAD)


def test_right_events_are_counted_however_they_are_cut() -> None:
    with Faulty("wrong_fanout", "none") as server:
        figures = window(server, "fanout", events=1, **LOAD)
    assert figures["messages"] > 100
    assert figures["messages"] % LOAD["sockets"] == 0
    assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["max_us"] * 1.02
