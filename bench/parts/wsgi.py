"""HTTP/1.1 requests to WSGI apps in threads: one without a framework, and a Flask app."""

import argparse
from dataclasses import dataclass
from typing import Any

from harness import comparison, rounds
from harness.load import window
from harness.rounds import Times
from servers.process import Server
from servers.wsgi import Adapted, Granian, Gunicorn, Hornbeam

SERVERS: dict[str, type[Server]] = {
    "gunicorn-gthread": Gunicorn,
    "hornbeam-wsgi": Hornbeam,
    "hornbeam-a2wsgi": Adapted,
    "granian-wsgi": Granian,
}
RIVAL = "gunicorn-gthread"
TIMES = Times(rounds=3, warmup=0.3, seconds=1.2)
WORKERS = 1
SOCKETS = 64


@dataclass(frozen=True)
class Kind:
    """An app, what is asked of it, and how the generator knows the right answer."""

    app: str
    title: str
    asked: dict[str, str]


KINDS = {
    "hello": Kind("application", "GET", {"path": "/#", "expect": "Hello, #!"}),
    "flask": Kind(
        "flask", "GET Flask", {"path": "/items/#", "expect": '{"id":#,"name":"item #"}\n'}
    ),
}


@dataclass(frozen=True)
class Load:
    """So many connections with a request in flight on each, of one kind."""

    kind: str
    sockets: int

    def __str__(self) -> str:
        return f"{KINDS[self.kind].title}, {self.sockets} × 1"


def options(parser: argparse.ArgumentParser) -> None:
    """This part has none of its own."""


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds, each app on servers of its own; returns about what, and every window."""
    workers = chosen.workers or WORKERS

    def serving(app: str) -> dict[str, Server]:
        names = rounds.chosen_servers(chosen, SERVERS)
        return {name: with_app(SERVERS[name], app)(workers) for name in names}

    def ask(server: Server, load: Load) -> dict[str, Any]:
        times = {"warmup": chosen.warmup, "seconds": chosen.seconds}
        return window(
            server, "http", sockets=load.sockets, depth=1, **KINDS[load.kind].asked, **times
        )

    loads = {Load(kind, SOCKETS): KINDS[kind].app for kind in KINDS}
    return rounds.run_by_app(chosen, workers, serving, loads, ask)


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Rate, latency and CPU of each server under each load."""
    return comparison.table(windows, "request", "requests", RIVAL)


def with_app(server: type[Server], app: str) -> type[Server]:
    """The server with this app of wsgi_hello.py."""
    return type(server.__name__, (server,), {"APP": f"wsgi_hello:{app}"})
