"""HTTP/1.1 requests on connections that are kept alive: a raw app's and a FastAPI app's."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness import comparison, rounds
from harness.load import window
from harness.rounds import Times
from servers.cowboy import CowboyHello
from servers.hornbeam import Hornbeam
from servers.process import Server
from servers.rivals import Granian, Gunicorn, Hypercorn
from servers.uvicorn import Uvicorn


class _Uvicorn(Uvicorn):
    """uvicorn without its log of requests, which the others do not write by default."""

    def command(self) -> list[str]:
        return [*super().command(), "--no-access-log"]


SERVERS: dict[str, type[Server]] = {
    "uvicorn": _Uvicorn,
    "hornbeam": Hornbeam,
    "gunicorn": Gunicorn,
    "granian": Granian,
    "hypercorn": Hypercorn,
    "cowboy": CowboyHello,  # no rival and no app: the least that our front end can cost
}
TIMES = Times(rounds=3, warmup=0.3, seconds=1.2)
WORKERS = 1


@dataclass(frozen=True)
class Kind:
    """An app, what is asked of it, and how the generator knows the right answer."""

    app: str
    title: str
    asked: dict[str, str | int]


KINDS = {
    "hello": Kind("hello", "GET", {"path": "/", "expect": "Hello, World!"}),
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
    parser.add_argument("--http-shapes", default="64x1", help="connections x requests in flight")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds, each app on servers of its own; returns about what, and every window."""
    workers = chosen.workers or WORKERS
    loads = _loads(chosen)
    about: dict[str, Any] = {}
    windows = []
    for app in dict.fromkeys(KINDS[load.kind].app for load in loads):
        servers = {
            name: _serving(SERVERS[name], f"{app}:application")(workers)
            for name in rounds.chosen_servers(chosen, SERVERS)
        }
        mine = [load for load in loads if KINDS[load.kind].app == app]
        about, measured = rounds.run(chosen, workers, servers, mine, _asking(servers, chosen))
        place = loads.index(mine[0])
        windows += [w | {"order": [place + w["order"][0], w["order"][1]]} for w in measured]
    return about, windows


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Rate, latency and CPU of each server under each load."""
    return comparison.table(windows, "request", "requests")


def _serving(server: type[Server], app: str) -> type[Server]:
    return type(server.__name__, (server,), {"APP": app})


def _asking(
    servers: dict[str, Server], chosen: argparse.Namespace
) -> Callable[[str, Load], dict[str, Any]]:
    def ask(name: str, load: Load) -> dict[str, Any]:
        return window(
            servers[name],
            "http",
            sockets=load.sockets,
            depth=load.depth,
            warmup=chosen.warmup,
            seconds=chosen.seconds,
            **KINDS[load.kind].asked,
        )

    return ask


def _loads(chosen: argparse.Namespace) -> list[Load]:
    shapes = [[int(n) for n in shape.split("x")] for shape in chosen.http_shapes.split(",")]
    kinds = [kind for kind in KINDS if kind in chosen.http_kinds.split(",")]
    return [Load(kind, sockets, depth) for kind in kinds for sockets, depth in shapes]
