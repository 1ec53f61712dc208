"""A worker dies, hangs, or all are reloaded: what the open WebSockets of a server feel of it."""

import argparse
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from harness import report, rounds
from harness.cpu import processes, tree
from harness.load import LoadError, window
from harness.panel import Panel
from harness.rounds import Times
from servers.hornbeam import Hornbeam
from servers.process import Server
from servers.rivals import Gunicorn
from servers.uvicorn import Uvicorn

WORKERS = 2
PANELS = (
    Panel("closes", "dropped"),
    Panel("messages lost", "lost"),
    Panel("longest gap, s", "gap"),
)
TIMES = Times(rounds=1)
# Seconds after which a worker that stands still is taken for hung, and that old workers get at a
# reload: the same for all, and short. By default they are 30 and 30 of Hornbeam and of gunicorn,
# 5 and no bound of uvicorn.
PATIENCE = 5


class _Hornbeam(Hornbeam):
    OPTIONS: ClassVar[str] = (
        f", worker_hang_timeout => {PATIENCE}000, drain_timeout => {PATIENCE}000"
    )


class _ResumingHornbeam(_Hornbeam):
    OPTIONS: ClassVar[str] = f"{_Hornbeam.OPTIONS}, websocket_resume => true"


class _Uvicorn(Uvicorn):
    def command(self) -> list[str]:
        return [
            *(*super().command(), "--timeout-worker-healthcheck", str(PATIENCE)),
            *("--timeout-graceful-shutdown", str(PATIENCE)),
        ]


class _Gunicorn(Gunicorn):
    def command(self) -> list[str]:
        return [
            *(*super().command(), "--timeout", str(PATIENCE)),
            *("--graceful-timeout", str(PATIENCE)),
        ]


SERVERS: dict[str, type[Server]] = {
    "hornbeam-resume": _ResumingHornbeam,
    "hornbeam": _Hornbeam,
    "uvicorn": _Uvicorn,
    "gunicorn": _Gunicorn,
}

# What a worker's command line has and that of no other process of the server.
WORKER = {
    "hornbeam-resume": r"hornbeam_erlang\._worker",
    "hornbeam": r"hornbeam_erlang\._worker",
    "uvicorn": r"spawn_main",
    "gunicorn": r"gunicorn",
}


@dataclass(frozen=True)
class Load:
    """What happens to a server, to how many sockets, and how often each of them speaks (s)."""

    event: str
    sockets: int
    period: float

    def __str__(self) -> str:
        return self.event


def kill(name: str, server: Server) -> None:
    """Kill a worker as `kill -9` does."""
    os.kill(_a_worker(name, server), signal.SIGKILL)


def reload(_name: str, server: Server) -> None:
    """Ask for new workers in place of the old ones, in the way that all these servers have."""
    os.kill(server.pid, signal.SIGHUP)


def hang(name: str, server: Server) -> None:
    """Let a worker stand still, as one that computes for ever does."""
    os.kill(_a_worker(name, server), signal.SIGSTOP)


@dataclass(frozen=True)
class Event:
    """What happens, and for how long it is watched (s)."""

    happen: Callable[[str, Server], None]
    seconds: float


EVENTS = {"kill": Event(kill, 5.0), "reload": Event(reload, 8.0), "hang": Event(hang, 10.0)}


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--outlive-sockets", type=int, default=500)
    parser.add_argument("--outlive-period", type=float, default=0.5, help="s between messages")
    parser.add_argument("--outlive-events", default=",".join(EVENTS))


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    workers = chosen.workers or WORKERS
    servers = {name: SERVERS[name](workers) for name in rounds.chosen_servers(chosen, SERVERS)}
    loads = [
        Load(event, chosen.outlive_sockets, chosen.outlive_period)
        for event in chosen.outlive_events.split(",")
    ]

    def outlive(name: str, load: Load) -> dict[str, Any]:
        event = EVENTS[load.event]
        figures = window(
            servers[name],
            "outlive",
            beside=lambda: event.happen(name, servers[name]),
            sockets=load.sockets,
            period=load.period,
            seconds=event.seconds,
        )
        servers[name].check_alive()
        if figures["doubled"]:
            raise LoadError(f"{figures['doubled']} echoes came twice")
        return figures

    about, windows = rounds.run(chosen, workers, servers, loads, outlive)
    seconds = "/".join(f"{EVENTS[load.event].seconds:.0f}" for load in loads)
    return about | {"seconds": seconds}, windows


def table(windows: list[dict[str, Any]]) -> list[str]:
    """What was dropped and lost, and how long the unluckiest socket waited."""
    rows = report.head(
        *("event", "server", " sockets", " dropped", "with code", " messages said", " lost"),
        *(" longest gap s", " without an echo at the end", " p50 ms", " errors"),
    )
    rows += [_row(*each) for each in report.cells(windows)]
    return rows


def _row(event: str, server: str, cell: list[dict[str, Any]]) -> str:
    good = report.good(cell)
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(event, server, *[""] * 8, errors)
    return report.row(
        *(event, server, str(good[0]["sockets"]), report.spread(good, "dropped"), _codes(good)),
        *(report.middle(good, "said"), report.spread(good, "lost"), report.spread(good, "gap", 2)),
        *(
            report.spread(good, "unserved"),
            f"{median(w['p50_us'] for w in good) / 1e3:.1f}",
            errors,
        ),
    )


def _codes(windows: list[dict[str, Any]]) -> str:
    codes = sum((Counter(w["codes"]) for w in windows), Counter[str]())
    return ", ".join(sorted(codes)) or "none"


def _a_worker(name: str, server: Server) -> int:
    """The worker that holds the most sockets, where workers hold any."""
    family = tree(processes(), server.pid)
    workers = [p.pid for p in family if p.pid != server.pid and _matches(WORKER[name], p.pid)]
    if not workers:
        raise LoadError(f"{name} has no worker")
    return max(workers, key=_sockets)


def _matches(pattern: str, pid: int) -> bool:
    return re.search(pattern, Path(f"/proc/{pid}/cmdline").read_text()) is not None


def _sockets(pid: int) -> int:
    opened = Path(f"/proc/{pid}/fd").iterdir()
    return sum(str(descriptor.readlink()).startswith("socket:") for descriptor in opened)
