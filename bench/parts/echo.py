"""WebSocket echo: messages of a few sizes over a few shapes of load, all servers in turn.

Each round starts every server afresh; within a round the servers take turns load by load,
in an order that rotates, so that what changes on the machine meets all of them alike.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from harness.load import LoadError, window
from harness.machine import machine
from servers import SERVERS, Server


@dataclass(frozen=True)
class Load:
    """So many sockets, so many messages in flight on each, so many bytes in a message."""

    sockets: int
    depth: int
    size: int

    def __str__(self) -> str:
        size = f"{self.size} B" if self.size < 1024 else f"{self.size // 1024} KiB"
        return f"{self.sockets} × {self.depth}, {size}"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--sizes", default="16,1024", help="bytes in a message, at least 16")
    parser.add_argument("--shapes", default="64x1,64x8,1x1", help="sockets x messages in flight")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    servers = {name: SERVERS[name](chosen.workers) for name in chosen.servers}
    about = {
        "rounds": chosen.rounds,
        "seconds": chosen.seconds,
        "workers": chosen.workers,
        "versions": {name: server.versions() for name, server in servers.items()},
        "machine": machine(),
    }
    windows = [w for number in range(chosen.rounds) for w in _round(number, servers, chosen)]
    return about, windows


def _round(
    number: int, servers: dict[str, Server], chosen: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    with ExitStack() as running:
        for server in servers.values():
            running.enter_context(server)
        for position, load in enumerate(_loads(chosen)):
            for name in _rotated(list(servers), number + position):
                order = [position, chosen.servers.index(name)]
                yield _window(number, name, servers[name], load, chosen) | {"order": order}


def _window(
    number: int, name: str, server: Server, load: Load, chosen: argparse.Namespace
) -> dict[str, Any]:
    about = {"round": number, "server": name, "load": str(load), **vars(load), "error": None}
    try:
        figures = window(
            server,
            "echo",
            sockets=load.sockets,
            depth=load.depth,
            size=load.size,
            warmup=chosen.warmup,
            seconds=chosen.seconds,
        )
    except LoadError as error:
        server.check_alive()
        print(f"{number + 1} {load} {name}: {error}", file=sys.stderr, flush=True)
        return about | {"error": str(error)}
    print(
        f"{number + 1}  {load!s:<16} {name:<9} {figures['rate']:>8.0f}/s "
        f"{figures['cpu_us']:6.1f} µs CPU/message",
        file=sys.stderr,
        flush=True,
    )
    return about | figures


def _loads(chosen: argparse.Namespace) -> list[Load]:
    shapes = [[int(n) for n in shape.split("x")] for shape in chosen.shapes.split(",")]
    sizes = [int(size) for size in chosen.sizes.split(",")]
    return [Load(sockets, depth, size) for sockets, depth in shapes for size in sizes]


def _rotated(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]
