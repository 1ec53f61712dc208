"""The echo load believes no reply: each way in which an echo can go wrong stops it."""

from pathlib import Path

import pytest
from faulty import Faulty

from harness.load import LoadError, window
from harness.machine import raise_descriptors
from servers.certificate import Certificate
from servers.cowboy import Cowboy

FAULTS = {
    "changed": "the text after its number has changed",
    "longer": "expected a text of 40 bytes, got opcode 1, 41 bytes",
    "before": "expected [0-9a-f]{16}, got",
    "lost": "expected [0-9a-f]{16}, got",
    "doubled": "expected [0-9a-f]{16}, got|a reply to nothing",
    "bytes": "expected a text of 40 bytes, got opcode 2",
    "closed": "the server closed with code 4001",
}
LOAD = {"sockets": 3, "depth": 2, "size": 40, "warmup": 0, "seconds": 0.2}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_reply_is_an_error(fault: str, shown: Certificate | None) -> None:
    with (
        Faulty("wrong_echo", fault, shown) as server,
        pytest.raises(LoadError, match=FAULTS[fault]),
    ):
        window(server, "echo", **LOAD)


def test_right_replies_are_counted_and_paid_for(shown: Certificate | None) -> None:
    with Faulty("wrong_echo", "none", shown) as server:
        figures = window(server, "echo", **LOAD)
    assert figures["messages"] > 100
    assert figures["cpu_us"] > 0
    assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["max_us"] * 1.02


def test_a_server_that_is_gone_is_an_error() -> None:
    with Faulty("wrong_echo", "none") as server:
        pass
    with pytest.raises(LoadError, match="cannot connect"):
        window(server, "echo", **LOAD)


def test_a_pace_is_kept_and_paid_for() -> None:
    with Faulty("wrong_echo", "none") as server:
        figures = window(server, "echo", **LOAD | {"sockets": 5, "interval": 10, "seconds": 0.5})
    assert 240 <= figures["messages"] <= 250


def test_a_stall_makes_all_late_that_were_due_meanwhile() -> None:
    paced = LOAD | {"sockets": 5, "interval": 10, "depth": 64, "seconds": 0.5}
    with Faulty("wrong_echo", "stalls") as server:
        figures = window(server, "echo", **paced)
    assert figures["p50_us"] > 20_000
    assert figures["max_us"] > 290_000
    assert 240 <= figures["messages"] <= 250


def test_more_sockets_than_open_at_once_are_all_answered() -> None:
    with Faulty("wrong_echo", "none") as server:
        figures = window(server, "echo", **LOAD | {"sockets": 150})
    assert figures["messages"] >= 150


def test_sockets_that_are_too_many_for_one_address_go_out_from_the_next() -> None:
    sockets = 8200
    if raise_descriptors() < sockets + 100:
        pytest.skip("too few descriptors")
    with Cowboy() as server:
        figures = window(server, "echo", beside=sources, **LOAD | {"sockets": sockets})
    assert figures["beside"]["0100007F"] >= 8192
    assert figures["beside"]["0200007F"] == sockets - 8192


def sources() -> dict[str, int]:
    """How many open connections of the machine go out from each address, as /proc writes them."""
    counts: dict[str, int] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, _, state = line.split()[1:4]
        if state == "01":
            source = local.partition(":")[0]
            counts[source] = counts.get(source, 0) + 1
    return counts
