"""Operations on shared state from a coroutine: Hornbeam's beside redis-py's and two floors.

One Hornbeam worker does all of them, so that the Python, its event loop and its other work are the
same; all that differs is who answers. Once it has nothing else to do, once it echoes at full
load. Those that have no answer to wait for (`set`, `publish` to one subscriber) are done 64 at a
time, by redis-py in one pipeline or one after the other.
"""

import argparse
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from harness import asked, report, rounds, subscriber
from harness.load import window
from harness.panel import PANELS as USUAL
from harness.panel import Panel
from harness.rounds import Times
from servers.hornbeam import HornbeamOps
from servers.process import Server
from servers.redis import Redis

# Two are no rivals: the least that it costs to ask another process and sleep, and to ask the node.
SERVERS: dict[str, type[Server]] = {
    "redis": Redis,
    "hornbeam": HornbeamOps,
    "pipe": HornbeamOps,
    "node": HornbeamOps,
}
TIMES = Times(rounds=3, warmup=0.2, seconds=1.5)
WORKERS = 1
UNASKED = ("set", "publish")
TOPIC = "bench:topic"
PANELS = (*USUAL, Panel("echo messages/s beside", "echo_rate"))
ECHO = {"sockets": 64, "depth": 8, "size": 16}


@dataclass(frozen=True)
class Load:
    """An operation, and whether the worker echoes meanwhile."""

    op: str
    echo: bool

    def __str__(self) -> str:
        beside = f"echo {ECHO['sockets']} × {ECHO['depth']}" if self.echo else "idle"
        return f"{self.op}, {beside}"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--ops", default="get,incr,await get,set,publish", help="operations")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    redis = Redis()
    hornbeam = HornbeamOps(redis, chosen.workers or WORKERS)
    answering = rounds.chosen_servers(chosen, SERVERS)

    def operate(name: str, load: Load) -> dict[str, Any]:
        with _hearing(hornbeam if name == "hornbeam" else redis, load):
            if load.echo:
                return _under_echo(hornbeam, name, load, chosen)
            pids, query = [*hornbeam.pids, *redis.pids], {"server": name, "op": load.op}
            return asked.window(hornbeam, pids, query, chosen.warmup, chosen.seconds)

    servers = {"redis": redis, "hornbeam": hornbeam}
    loads = [Load(op, echo) for echo in (False, True) for op in chosen.ops.split(",")]
    windows: list[dict[str, Any]] = []
    for is_unasked in (False, True):
        some = [load for load in loads if (load.op in UNASKED) is is_unasked]
        who = [name for name in answering if name in servers or not is_unasked]
        about, found = rounds.run(chosen, hornbeam.workers, servers, some, operate, who)
        windows += found
    return about, windows


def _hearing(server: Server, load: Load) -> AbstractContextManager[Any]:
    """Somebody to publish to."""
    if load.op != "publish":
        return nullcontext()
    if isinstance(server, Redis):
        return subscriber.redis(server.host, server.port, TOPIC)
    return subscriber.websocket(server.host, server.port, "/subscribed")


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Latency of each operation, and what it costs or what it leaves to the echo."""
    rows = report.head(
        *("operation", "answered by", " p50 µs", " p99 µs", " operations/s"),
        *(" CPU µs/operation", " Python", " BEAM", " redis", " echo messages/s", " errors"),
    )
    rows += [_row(*each) for each in report.cells(windows)]
    return rows


def _row(load: str, server: str, cell: list[dict[str, Any]]) -> str:
    good = report.good(cell)
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(load, server, *[""] * 8, errors)
    costs, echo = [""] * 4, ""
    if good[0]["echo"]:
        echo = report.spread(good, "echo_rate")
    else:
        shares = (report.share(good, kind) for kind in ("Python", "BEAM", "redis"))
        costs = [report.spread(good, "cpu_us", 1), *shares]
    return report.row(
        *(load, server, report.spread(good, "p50_us", 1), report.spread(good, "p99_us", 1)),
        *(report.spread(good, "rate"), *costs, echo, errors),
    )


def _under_echo(
    hornbeam: Server, name: str, load: Load, chosen: argparse.Namespace
) -> dict[str, Any]:
    """The operations' figures, all of them done while the echo went on."""
    query = {"server": name, "op": load.op}
    echo = window(
        hornbeam,
        "echo",
        beside=lambda: asked.ask(hornbeam, query, 0.9 * chosen.seconds),
        warmup=chosen.warmup,
        seconds=chosen.seconds,
        **ECHO,
    )
    figures: dict[str, Any] = echo["beside"]
    return figures | {
        "rate": figures["messages"] / figures["seconds"],
        "echo_rate": echo["rate"],
        "cores_used_beside": echo["cores_used_beside"],
    }
