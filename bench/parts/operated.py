"""What it costs to be looked at: many sockets, with everything that tells of a server on, and off.

The metrics are scraped, the access log is written, the live page is open, or one socket's messages
are traced; sockets send messages, or are silent while requests come.
"""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from harness import comparison, onlooker, rounds
from harness.load import window
from harness.machine import raise_descriptors
from harness.panel import CPU, Panel
from harness.rounds import Times
from servers.hornbeam import OperatedHornbeam, ScrapedHornbeam, ShownHornbeam, TracedHornbeam
from servers.process import Server

RIVAL = "hornbeam"
WORKERS = 1
SIZE = 64
CONNECTIONS = 64
GREETING = "Hello, World!"
TIMES = Times(rounds=3, warmup=4.0, seconds=10.0)

SERVERS: dict[str, type[Server]] = {
    RIVAL: OperatedHornbeam,
    "hornbeam-metrics": ScrapedHornbeam,
    "hornbeam-trace": TracedHornbeam,
    "hornbeam-everything": ShownHornbeam,
}
PANELS = (CPU, Panel("p99 µs", lambda w: w["p99_us"]))


@dataclass(frozen=True)
class Load:
    """So many sockets, and so many of their messages, or of GETs beside them, a second."""

    sockets: int
    what: str
    rate_offered: int

    def __str__(self) -> str:
        return f"{self.sockets} sockets, {self.rate_offered} {self.what}/s"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--operated-sockets", type=int, default=15_000, help="WebSockets (15000)")
    parser.add_argument("--operated-rate", type=int, default=5000, help="a second (5000)")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    raise_descriptors()
    workers = chosen.workers or WORKERS
    names = rounds.chosen_servers(chosen, SERVERS)
    servers = {name: SERVERS[name](workers) for name in names}
    loads = [Load(chosen.operated_sockets, what, chosen.operated_rate) for what in OFFERS]
    times = {"warmup": chosen.warmup, "seconds": chosen.seconds}

    def offer(name: str, load: Load) -> dict[str, Any]:
        server = servers[name]
        with _looked_at(server):
            return OFFERS[load.what](server, load, times)

    return rounds.run(chosen, workers, servers, loads, offer)


def table(windows: list[dict[str, Any]]) -> list[str]:
    """CPU and latency of each, beside those of who tells nothing."""
    return comparison.table(windows, "message", "messages", RIVAL)


@contextmanager
def _looked_at(server: Server) -> Iterator[None]:
    """Look at what the server tells."""
    with ExitStack() as looking:
        if isinstance(server, ScrapedHornbeam):
            looking.enter_context(onlooker.scraping(server.operations))
        if isinstance(server, ShownHornbeam):
            looking.enter_context(onlooker.page_open(server.operations, server.TOKEN))
        if isinstance(server, TracedHornbeam):
            looking.enter_context(onlooker.tracing(server.pid))
        yield


def _messages(server: Server, load: Load, times: dict[str, float]) -> dict[str, Any]:
    asked = {"sockets": load.sockets, "depth": 1, "size": SIZE}
    interval = 1000 * load.sockets / load.rate_offered
    return window(server, "echo", **asked, interval=interval, **times)


def _gets(server: Server, load: Load, times: dict[str, float]) -> dict[str, Any]:
    asked = {"sockets": CONNECTIONS, "depth": 1, "path": "/", "expect": GREETING}
    interval = 1000 * CONNECTIONS / load.rate_offered

    def beside() -> dict[str, Any]:
        return window(server, "http", **asked, interval=interval, **times)

    return window(server, "idle", sockets=load.sockets, messages=1, after=beside)["after"]


OFFERS = {"messages": _messages, "GETs": _gets}
