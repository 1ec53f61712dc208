"""Calls from Erlang into a Python function: Hornbeam's beside ErlPort's."""

import argparse
from dataclasses import dataclass
from typing import Any

from harness import report, rounds
from harness.rounds import Times
from servers.calls import (
    ERLPORT,
    BareCalls,
    Calls,
    ErlPortCalls,
    HornbeamAsyncCalls,
    HornbeamCalls,
)

SERVERS: dict[str, type[Calls]] = {
    "erlport": ErlPortCalls,
    "hornbeam": HornbeamCalls,
    "hornbeam-async": HornbeamAsyncCalls,
    "bare": BareCalls,
}
TIMES = Times(rounds=3, warmup=0.3, seconds=1.5)
WORKERS = 1


@dataclass(frozen=True)
class Load:
    """So many processes that call, each with one call in flight, so many bytes in a call."""

    callers: int
    size: int

    def __str__(self) -> str:
        return f"{self.callers} × 1, {report.size(self.size)}"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--callers", default="1,64", help="processes that call")
    parser.add_argument("--call-sizes", default="16,1024", help="bytes, whole sixteens")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    workers = chosen.workers or WORKERS
    names = rounds.chosen_servers(chosen, SERVERS)
    missing = _erlport_missing() if "erlport" in names else None
    if missing:
        names.remove("erlport")
    servers = {name: SERVERS[name](workers) for name in names}

    def call(name: str, load: Load) -> dict[str, Any]:
        return servers[name].window(load.size, load.callers, chosen.warmup, chosen.seconds)

    about, windows = rounds.run(chosen, workers, servers, _loads(chosen), call)
    return about | {"notes": [missing] if missing else []}, windows


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Rate, latency and CPU of each kind of call under each load."""
    rows = report.head(
        *("load", "call", " calls/s", " p50 µs", " p99 µs", " CPU µs/call"),
        *(" BEAM", " Python", " errors"),
    )
    rows += [_row(*each) for each in report.cells(windows)]
    return rows


def _row(load: str, server: str, cell: list[dict[str, Any]]) -> str:
    good = report.good(cell)
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(load, server, *[""] * 6, errors)
    return report.row(
        *(load, server, report.spread(good, "rate")),
        *(report.middle(good, "p50_us", 1), report.middle(good, "p99_us", 1)),
        *(report.spread(good, "cpu_us", 1), report.share(good, "BEAM")),
        *(report.share(good, "Python"), errors),
    )


def _loads(chosen: argparse.Namespace) -> list[Load]:
    callers = [int(count) for count in chosen.callers.split(",")]
    sizes = [int(size) for size in chosen.call_sizes.split(",")]
    return [Load(count, size) for count in callers for size in sizes]


def _erlport_missing() -> str | None:
    """Return why there is no ErlPort to measure, or None."""
    if ERLPORT is None:
        return "without ErlPort: the variable ERLPORT does not name a built one"
    if not (ERLPORT / "ebin/erlport.app").is_file():
        return f"without ErlPort: {ERLPORT} has no ebin/erlport.app"
    return None
