"""HTTP/1.1 requests on connections that are kept alive: a raw app's and a FastAPI app's."""

import argparse
from dataclasses import dataclass
from typing import Any

from harness import comparison, rounds
from harness.load import window
from harness.rounds import Times
from servers.cowboy import BareHello, CowboyHello, EngineHello
from servers.hornbeam import Hornbeam, MeteredHornbeam
from servers.process import Server, with_app
from servers.rivals import Granian, Gunicorn, Hypercorn
from servers.uvicorn import QuietUvicorn

SERVERS_OF_APPS: dict[str, type[Server]] = {
    "uvicorn": QuietUvicorn,
    "hornbeam": Hornbeam,
    "gunicorn": Gunicorn,
    "granian": Granian,
    "hypercorn": Hypercorn,
}
SERVERS: dict[str, type[Server]] = {
    **SERVERS_OF_APPS,
    # Neither rivals nor apps: the least that a front end on the BEAM can cost.
    "engine": EngineHello,
    "bare": BareHello,
    "cowboy": CowboyHello,
    "hornbeam-metrics": MeteredHornbeam,
}
# What is measured where it is asked for.
ASKED_FOR = ("hornbeam-metrics",)
TIMES = Times(rounds=3, warmup=0.3, seconds=1.2)
WORKERS = 1


@dataclass(frozen=True)
class Kind:
    """An app, what is asked of it, and how the generator knows the right answer."""

    app: str
    title: str
    asked: dict[str, str | int]
    shape: str = "64x1"


KINDS = {
    "hello": Kind("hello", "GET", {"path": "/", "expect": "Hello, World!"}),
    "pipelined": Kind("hello", "GET pipelined", {"path": "/#", "expect": "Hello, #!"}, "64x4"),
    "post": Kind("hello", "POST 1 KiB", {"path": "/", "size": 1024}),
    "json": Kind(
        "items", "GET FastAPI", {"path": "/items/#", "expect": '{"id":#,"name":"item #"}'}
    ),
}


@dataclass(frozen=True)
class Load:
    """So many connections, so many requests in flight on each, of one kind."""

    kind: str
    sockets: int
    depth: int

    def __str__(self) -> str:
        return f"{KINDS[self.kind].title}, {self.sockets} × {self.depth}"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--http-kinds", default=",".join(KINDS), help="of requests")
    parser.add_argument("--http-shapes", help="connections x requests in flight (the kind's own)")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds, each app on servers of its own; returns about what, and every window."""
    workers = chosen.workers or WORKERS
    chosen.servers = chosen.servers or [name for name in SERVERS if name not in ASKED_FOR]

    def serving(app: str) -> dict[str, Server]:
        names = rounds.chosen_servers(chosen, SERVERS)
        return {name: with_app(SERVERS[name], app)(workers) for name in names}

    def ask(server: Server, load: Load) -> dict[str, Any]:
        times = {"warmup": chosen.warmup, "seconds": chosen.seconds}
        asked = KINDS[load.kind].asked
        return window(server, "http", sockets=load.sockets, depth=load.depth, **asked, **times)

    loads = {load: KINDS[load.kind].app for load in _loads(chosen)}
    return rounds.run_by_app(chosen, workers, serving, loads, ask)


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Rate, latency and CPU of each server under each load."""
    return comparison.table(windows, "request", "requests")


def _loads(chosen: argparse.Namespace) -> list[Load]:
    kinds = [kind for kind in KINDS if kind in chosen.http_kinds.split(",")]
    return [
        Load(kind, *(int(number) for number in shape.split("x")))
        for kind in kinds
        for shape in (chosen.http_shapes or KINDS[kind].shape).split(",")
    ]
