"""WebSocket echo: messages of a few sizes over a few shapes of load, all servers in turn."""

import argparse
from dataclasses import dataclass
from typing import Any

from harness import comparison, report, rounds
from harness.load import window
from harness.rounds import Times
from servers.cowboy import Cowboy, Engine
from servers.daphne import Daphne
from servers.hornbeam import Hornbeam, HornbeamChat, HornbeamChatAsking, MeteredHornbeam
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
    "engine": Engine,
    "cowboy": Cowboy,
    "hornbeam-chat": HornbeamChat,
    "hornbeam-chat-asking": HornbeamChatAsking,
    "hornbeam-metrics": MeteredHornbeam,
}
# What is measured where it is asked for: those that echo by publishing, and one that counts.
ASKED_FOR = ("hornbeam-chat", "hornbeam-chat-asking", "hornbeam-metrics")
TIMES = Times(rounds=3, warmup=0.3, seconds=1.2)
WORKERS = 1
LOADS = "64x1x16,64x1x1024,64x1x16384,64x8x16,64x8x1024,1x1x16,1x1x1024"


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
    parser.add_argument(
        "--loads", default=LOADS, help="sockets x messages in flight x bytes in a message (16 …)"
    )


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    chosen.servers = chosen.servers or [name for name in SERVERS if name not in ASKED_FOR]
    return run(chosen, chosen.workers or WORKERS, SERVERS, chosen.loads)


def run(
    chosen: argparse.Namespace, workers: int, known: dict[str, type[Server]], loads: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Let some of the known servers echo under these loads."""
    servers = {name: known[name](workers) for name in rounds.chosen_servers(chosen, known)}

    def echo(name: str, load: Load) -> dict[str, Any]:
        times = {"warmup": chosen.warmup, "seconds": chosen.seconds}
        return window(servers[name], "echo", **vars(load), **times)

    return rounds.run(chosen, workers, servers, _loads(loads), echo)


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Rate, latency and CPU of each server under each load."""
    rows = report.head(
        *("load", "server", " messages/s", " p50 µs", " p99 µs", " server CPU µs/message"),
        *(f" × {comparison.RIVAL}", " of it Python", " generator CPU µs/message", " errors"),
    )
    return rows + comparison.each(windows, _row)


def _row(load: str, server: str, cell: list[dict[str, Any]], rival: list[dict[str, Any]]) -> str:
    good = report.good(cell)
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(load, server, *[""] * 7, errors)
    return report.row(
        *(load, server, report.spread(good, "rate")),
        *(report.middle(good, "p50_us"), report.middle(good, "p99_us")),
        *(report.spread(good, "cpu_us", 1), comparison.ratio(good, rival, "cpu_us")),
        report.share(good, "Python"),
        *(report.middle(good, "generator_cpu_us", 1), errors),
    )


def _loads(said: str) -> list[Load]:
    return [Load(*(int(number) for number in load.split("x"))) for load in said.split(",")]
