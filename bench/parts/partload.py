"""WebSocket echo at part load: so many messages a second are offered, and answered in time.

Where servers live, and where two processes cost most: what is between two messages is sleep, and
each wake-up is paid by one of them. The floors say what of it is the bridge's.
"""

import argparse
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

from harness import comparison, report, rounds
from harness.load import window
from harness.panel import Panel
from harness.rounds import Times
from servers.cowboy import Bridge, Engine
from servers.hornbeam import Hornbeam
from servers.process import Server
from servers.uvicorn import Uvicorn

SOCKETS = 200
SIZE = 64
IN_FLIGHT = 16  # of a socket, so that a stall makes messages late and not fewer
WORKERS = 1
TIMES = Times(rounds=3, warmup=0.5, seconds=2.0)


class _OneScheduler(Hornbeam):
    """Hornbeam whose node has one scheduler."""

    EMULATOR: ClassVar[list[str]] = ["+S", "1:1"]


class _OneCore(_OneScheduler):
    """The same, with its Python on the one core that it may use."""

    def command(self) -> list[str]:
        return ["taskset", "--cpu-list", "0", *super().command()]


class _BridgeOneScheduler(Bridge):
    EMULATOR: ClassVar[list[str]] = ["+S", "1:1"]


SERVERS: dict[str, type[Server]] = {
    "uvicorn": Uvicorn,
    "hornbeam": Hornbeam,
    "hornbeam-S1": _OneScheduler,
    "hornbeam-core": _OneCore,
    "engine": Engine,
    "bridge": Bridge,
    "bridge-S1": _BridgeOneScheduler,
}
PANELS = (
    Panel("server CPU µs/message", lambda w: w["cpu_us"]),
    Panel("p99 µs", lambda w: w["p99_us"]),
)


@dataclass(frozen=True)
class Load:
    """So many messages a second, all sockets together."""

    rate_offered: int

    def __str__(self) -> str:
        return f"{self.rate_offered} a second"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument(
        "--partload-rates", default="1000,5000,20000", help="messages a second (1000 …)"
    )


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    workers = chosen.workers or WORKERS
    servers = {name: SERVERS[name](workers) for name in rounds.chosen_servers(chosen, SERVERS)}
    loads = [Load(int(rate)) for rate in chosen.partload_rates.split(",")]

    def offer(name: str, load: Load) -> dict[str, Any]:
        return window(
            servers[name],
            "echo",
            sockets=SOCKETS,
            depth=IN_FLIGHT,
            size=SIZE,
            interval=1000 * SOCKETS / load.rate_offered,
            warmup=chosen.warmup,
            seconds=chosen.seconds,
        )

    return rounds.run(chosen, workers, servers, loads, offer)


def table(windows: list[dict[str, Any]]) -> list[str]:
    """CPU, sleeps and latency of each server at each rate."""
    rows = report.head(
        *("offered", "server", " messages/s", " p50 µs", " p99 µs", " server CPU µs/message"),
        *(f" × {comparison.RIVAL}", " of it Python", " BEAM's sleeps/message"),
        *(" Python's sleeps/message", " errors"),
    )
    return rows + comparison.each(windows, _row)


def _row(load: str, server: str, cell: list[dict[str, Any]], rival: list[dict[str, Any]]) -> str:
    good = report.good(cell)
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(load, server, *[""] * 8, errors)
    return report.row(
        *(load, server, report.spread(good, "rate")),
        *(report.middle(good, "p50_us"), report.middle(good, "p99_us")),
        *(report.spread(good, "cpu_us", 1), comparison.ratio(good, rival, "cpu_us")),
        *(report.share(good, "Python"), _sleeps(good, "BEAM"), _sleeps(good, "Python"), errors),
    )


def _sleeps(windows: list[dict[str, Any]], kind: str) -> str:
    return f"{median(w['sleeps'][kind] / w['messages'] for w in windows):.2f}"
