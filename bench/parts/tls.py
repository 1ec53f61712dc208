"""The same over TLS 1.3: WebSocket echo, HTTP requests, and whole lives with full handshakes."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness import comparison, rounds
from harness.load import window
from harness.rounds import Times
from parts.connect import SOURCES
from parts.http import SERVERS_OF_APPS
from servers import certificate
from servers.certificate import Certificate
from servers.process import Server, with_app

SERVERS = SERVERS_OF_APPS
TIMES = Times(rounds=3, warmup=0.3, seconds=1.2)
WORKERS = 1
# Of a load on each new server that does not count. Under its first connections uvloop gives the
# buffer of each read back to the kernel, which later ones find in the heap.
FIRST_SECONDS = 0.5


@dataclass(frozen=True)
class Work:
    """A generator's work on an app; the same as in the part without TLS that has its name."""

    title: str
    app: str
    generator: str
    asked: Mapping[str, str | int]


_MANY = {"sockets": 64, "depth": 1}
_LIVES = {"lives": 32, "sources": SOURCES, "size": 16}
WORKS = {
    "echo": Work("echo 16 B, 64 × 1", "echo", "echo", _MANY | {"size": 16}),
    "echo-kib": Work("echo 1 KiB, 64 × 1", "echo", "echo", _MANY | {"size": 1024}),
    "connect": Work(
        "connect, 32 at once", "echo", "connect", {"lives": 32, "sources": 8, "size": 16}
    ),
    "get": Work("GET, 64 × 1", "hello", "http", _MANY | {"path": "/", "expect": "Hello, World!"}),
}


@dataclass(frozen=True)
class Load:
    """A work by its name."""

    work: str

    def __str__(self) -> str:
        return WORKS[self.work].title


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--tls-works", default=",".join(WORKS), help="some of them")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds, each app on servers of its own; returns about what, and every window."""
    with certificate.made() as made:
        about, windows = _measure(chosen, made)
    cut = (f"{name} ends lives without a close_notify" for name in _cutting(windows))
    client = f"TLSv1.3 TLS_AES_128_GCM_SHA256 X25519 by {certificate.version()}"
    return about | {"notes": [f"load: {client}; certificate {certificate.KIND}", *cut]}, windows


def _measure(
    chosen: argparse.Namespace, shown: Certificate
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    workers = chosen.workers or WORKERS

    def serving(app: str) -> dict[str, Server]:
        names = rounds.chosen_servers(chosen, SERVERS)
        return {name: with_app(SERVERS[name], app)(workers, certificate=shown) for name in names}

    warm = set[int]()

    def work(server: Server, load: Load) -> dict[str, Any]:
        asked = WORKS[load.work]
        if server.pid not in warm:
            window(server, asked.generator, warmup=0, seconds=FIRST_SECONDS, **asked.asked)
            warm.add(server.pid)
        times = {"warmup": chosen.warmup, "seconds": chosen.seconds}
        return window(server, asked.generator, **asked.asked, **times)

    works = [Load(name) for name in WORKS if name in chosen.tls_works.split(",")]
    loads = {load: WORKS[load.work].app for load in works}
    return rounds.run_by_app(chosen, workers, serving, loads, work)


def _cutting(windows: list[dict[str, Any]]) -> list[str]:
    """The servers that end connections as whoever cuts them would, which RFC 8446, 6.1 forbids."""
    return list(dict.fromkeys(w["server"] for w in windows if w.get("without_close_notify")))


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Rate, latency and CPU of each server under each load, by message, life or request."""
    return comparison.table(windows, "piece", "pieces")
