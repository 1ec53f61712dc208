"""WebSocket echo: messages of a few sizes over a few shapes of load, all servers in turn."""

import argparse
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness import report, rounds
from harness.load import window
from servers.cowboy import Cowboy
from servers.daphne import Daphne
from servers.hornbeam import Hornbeam
from servers.process import Server
from servers.rivals import Granian, Gunicorn, Hypercorn
from servers.uvicorn import Uvicorn

SERVERS: dict[str, type[Server]] = {
    "uvicorn": Uvicorn,
    "granian": Granian,
    "gunicorn": Gunicorn,
    "hypercorn": Hypercorn,
    "daphne": Daphne,
    "hornbeam": Hornbeam,
    "cowboy": Cowboy,
}
WORKERS = 1


@dataclass(frozen=True)
class Load:
    """So many sockets, so many messages in flight on each, so many bytes in a message."""

    sockets: int
    depth: int
    size: int

    def __str__(self) -> str:
        return f"{self.sockets} × {self.depth}, {report.size(self.size)}"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--sizes", default="16,1024", help="bytes in a message, at least 16")
    parser.add_argument("--shapes", default="64x1,64x8,1x1", help="sockets x messages in flight")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    workers = chosen.workers or WORKERS
    servers = {name: SERVERS[name](workers) for name in rounds.chosen_servers(chosen, SERVERS)}

    def echo(name: str, load: Load) -> dict[str, Any]:
        times = {"warmup": chosen.warmup, "seconds": chosen.seconds}
        return window(servers[name], "echo", **vars(load), **times)

    return rounds.run(chosen, workers, servers, _loads(chosen), echo)


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Rate, latency and CPU of each server under each load."""
    rows = report.head(
        *("load", "server", " messages/s", " p50 µs", " p99 µs", " server CPU µs/message"),
        *(" × uvicorn", " of it Python", " generator CPU µs/message", " errors"),
    )
    for load in report.distinct(windows, "load"):
        rival = report.good(report.cell(windows, load=load, server="uvicorn"))
        for server in report.distinct(windows, "server"):
            rows.append(_row(load, server, report.cell(windows, load=load, server=server), rival))
    return rows


def _row(load: str, server: str, cell: list[dict[str, Any]], rival: list[dict[str, Any]]) -> str:
    good = report.good(cell)
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(load, server, *[""] * 7, errors)
    ratio = ""
    if rival:
        ratio = f"{median(w['cpu_us'] for w in good) / median(w['cpu_us'] for w in rival):.2f}"
    return report.row(
        *(load, server, report.spread(good, "rate")),
        *(report.middle(good, "p50_us"), report.middle(good, "p99_us")),
        *(report.spread(good, "cpu_us", 1), ratio, report.share(good, "Python")),
        *(report.middle(good, "generator_cpu_us", 1), errors),
    )


def _loads(chosen: argparse.Namespace) -> list[Load]:
    shapes = [[int(n) for n in shape.split("x")] for shape in chosen.shapes.split(",")]
    sizes = [int(size) for size in chosen.sizes.split(",")]
    return [Load(sockets, depth, size) for sockets, depth in shapes for size in sizes]
