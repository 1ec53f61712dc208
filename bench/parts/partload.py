"""Part load: so many messages or GETs a second are offered, and answered in time.

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
from servers.cowboy import Bridge, Engine, EngineHello
from servers.hornbeam import Hornbeam
from servers.process import Server, with_app
from servers.uvicorn import QuietUvicorn

SOCKETS = 200
SIZE = 64
IN_FLIGHT = 16  # of a socket, so that a stall makes messages late and not fewer
CONNECTIONS = 64
GREETING = "Hello, World!"
WORKERS = 1
TIMES = Times(rounds=3, warmup=0.5, seconds=2.0)


class _OneScheduler(Hornbeam):
    """Hornbeam whose node has one scheduler."""

    EMULATOR: ClassVar[list[str]] = ["+S", "1:1"]


class _OneCore(_OneScheduler):
    """The same, with its Python on the one core that it may use."""

    def command(self) -> list[str]:
        return ["taskset", "--cpu-list", "0", *super().command()]


class _AllSchedulers(Hornbeam):
    """Hornbeam in a node that has all its schedulers online, as one that embeds it has."""

    EMULATOR: ClassVar[list[str]] = []


class _BridgeOneScheduler(Bridge):
    EMULATOR: ClassVar[list[str]] = ["+S", "1:1"]


SERVERS: dict[str, type[Server]] = {
    "uvicorn": QuietUvicorn,
    "hornbeam": Hornbeam,
    "hornbeam-all": _AllSchedulers,
    "hornbeam-S1": _OneScheduler,
    "hornbeam-core": _OneCore,
    "engine": Engine,
    "bridge": Bridge,
    "bridge-S1": _BridgeOneScheduler,
}
PANELS = (
    Panel("server CPU µs each", lambda w: w["cpu_us"]),
    Panel("p99 µs", lambda w: w["p99_us"]),
)


# What answers GETs; there is no bridge for those.
HTTP_SERVERS: dict[str, type[Server]] = {
    **{name: SERVERS[name] for name in ("uvicorn", "hornbeam", "hornbeam-all", "hornbeam-S1")},
    "engine": EngineHello,
}
APPS = {"messages": "echo", "GETs": "hello"}


@dataclass(frozen=True)
class Load:
    """So many messages or GETs a second, all connections together."""

    what: str
    rate_offered: int

    def __str__(self) -> str:
        return f"{self.rate_offered} {self.what} a second"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument(
        "--partload-rates", default="1000,5000,20000", help="messages a second (1000 …)"
    )
    parser.add_argument("--partload-gets", default="2000,10000", help="GETs a second (2000 …)")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    workers = chosen.workers or WORKERS

    def serving(app: str) -> dict[str, Server]:
        known = SERVERS if app == APPS["messages"] else HTTP_SERVERS
        names = rounds.chosen_servers(chosen, known)
        return {name: with_app(known[name], app)(workers) for name in names}

    def offer(server: Server, load: Load) -> dict[str, Any]:
        times = {"warmup": chosen.warmup, "seconds": chosen.seconds}
        if load.what == "messages":
            asked = {"sockets": SOCKETS, "depth": IN_FLIGHT, "size": SIZE}
            return window(server, "echo", **asked, interval=_interval(SOCKETS, load), **times)
        asked = {"sockets": CONNECTIONS, "depth": 1, "path": "/", "expect": GREETING}
        return window(server, "http", **asked, interval=_interval(CONNECTIONS, load), **times)

    rates = {"messages": chosen.partload_rates, "GETs": chosen.partload_gets}
    loads = [Load(what, int(rate)) for what in rates for rate in rates[what].split(",") if rate]
    apps = {load: APPS[load.what] for load in loads}
    return rounds.run_by_app(chosen, workers, serving, apps, offer)


def _interval(connections: int, load: Load) -> float:
    """Milliseconds between two of one connection."""
    return 1000 * connections / load.rate_offered


def table(windows: list[dict[str, Any]]) -> list[str]:
    """CPU, sleeps and latency of each server at each rate."""
    rows = report.head(
        *("offered", "server", " answered/s", " p50 µs", " p99 µs", " server CPU µs each"),
        *(f" × {comparison.RIVAL}", " of it Python", " BEAM's sleeps each"),
        *(" Python's sleeps each", " errors"),
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
