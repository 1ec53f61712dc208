"""The fan-out load believes no delivery: each way in which one can go wrong stops it."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BENCH))

from harness.load import LoadError, window  # noqa: E402
from servers.uvicorn import Uvicorn  # noqa: E402

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
LOAD = {"sockets": 3, "depth": 2, "size": 40, "warmup": 0, "seconds": 0.3}


class WrongFanout(Uvicorn):
    """The fan-out of wrong_fanout.py."""

    APP = "wrong_fanout:application"

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def command(self) -> list[str]:
        return [*super().command(), "--app-dir", str(BENCH / "test")]

    def environment(self) -> dict[str, str]:
        return {"FAULT": self.fault}


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    subprocess.run(["make", "--silent", "-C", str(BENCH)], check=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_delivery_is_an_error(fault: str) -> None:
    with WrongFanout(fault) as server, pytest.raises(LoadError, match=FAULTS[fault]):
        window(server, "fanout", **LOAD)


def test_right_deliveries_are_counted_and_paid_for() -> None:
    with WrongFanout("none") as server:
        figures = window(server, "fanout", **LOAD)
    assert figures["messages"] > 100
    assert figures["messages"] % LOAD["sockets"] == 0
    assert figures["cpu_us"] > 0
    assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["max_us"] * 1.02
