"""Whole lives of WebSockets: connect, upgrade, one echo, close, and again."""

import argparse
from dataclasses import dataclass
from typing import Any

from harness import comparison, report, rounds
from harness.load import window
from servers.hornbeam import Hornbeam
from servers.process import Server
from servers.rivals import Granian, Gunicorn, Hypercorn
from servers.uvicorn import Uvicorn

SERVERS: dict[str, type[Server]] = {
    "uvicorn": Uvicorn,
    "hornbeam": Hornbeam,
    "gunicorn": Gunicorn,
    "granian": Granian,
    "hypercorn": Hypercorn,
}
WORKERS = 1
SOURCES = 8  # addresses of the client, so that a port is not used again within TIME_WAIT


@dataclass(frozen=True)
class Load:
    """So many lives in progress at once, so many bytes in the message of each."""

    lives: int
    size: int

    def __str__(self) -> str:
        return f"{self.lives} at once, {report.size(self.size)}"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--connect-lives", default="32", help="in progress at once")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    workers = chosen.workers or WORKERS
    servers = {name: SERVERS[name](workers) for name in rounds.chosen_servers(chosen, SERVERS)}
    loads = [Load(int(lives), 16) for lives in chosen.connect_lives.split(",")]

    def live(name: str, load: Load) -> dict[str, Any]:
        times = {"warmup": chosen.warmup, "seconds": chosen.seconds}
        return window(servers[name], "connect", sources=SOURCES, **vars(load), **times)

    return rounds.run(chosen, workers, servers, loads, live)


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Rate, latency and CPU of each server, by life."""
    return comparison.table(windows, "life", "lives")
