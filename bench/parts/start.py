"""From the command to the first answer, of a raw app and of FastAPI; and what pip installs."""

import argparse
import http.client
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import comparison, cpu, report, rounds
from harness.panel import Panel
from harness.rounds import Times
from servers import python, wheel
from servers.process import BENCH, Server, with_app
from servers.rivals import Granian, Gunicorn, Hypercorn
from servers.uvicorn import Uvicorn
from servers.wheel import Wheel

SERVERS: dict[str, type[Server]] = {
    "uvicorn": Uvicorn,
    "hornbeam": Wheel,
    "gunicorn": Gunicorn,
    "granian": Granian,
    "hypercorn": Hypercorn,
}
TIMES = Times(rounds=7, warmup=0, seconds=0)
WORKERS = 1
PANELS = (Panel("ms to the first answer", "ms"), Panel("CPU ms until then", "cpu_ms"))
DEADLINE = 30.0
MB = 1_000_000

# The size of a distribution and of all that it needs, with some of its extras, as installed.
_SIZE = """
import re, sys
from importlib.metadata import PackageNotFoundError, distribution
from pip._vendor.packaging.requirements import Requirement
seen, waiting = {}, [Requirement(sys.argv[1])]
while waiting:
    wanted = waiting.pop()
    name = re.sub("[-_.]+", "-", wanted.name).lower()
    if seen.get(name, set()) >= wanted.extras | {""}:
        continue
    seen.setdefault(name, set()).update(wanted.extras | {""})
    for text in distribution(name).requires or ():
        needed = Requirement(text)
        extras = wanted.extras or {""}
        if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in extras):
            waiting.append(needed)
files = {file.locate() for name in seen for file in distribution(name).files or ()}
print(sum(f.stat().st_size for f in files if f.suffix != ".pyc" and f.exists()))
"""


@dataclass(frozen=True)
class Load:
    """An app, and what is asked of it first."""

    app: str
    path: str
    title: str

    def __str__(self) -> str:
        return self.title


LOADS = (Load("hello", "/", "raw app"), Load("items", "/items/1", "FastAPI app"))


def options(parser: argparse.ArgumentParser) -> None:
    """This part has no options of its own."""


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Start each server by turns; returns what was measured on, and every start."""
    workers = chosen.workers or WORKERS
    subprocess.run(["make", "--silent", "-C", str(BENCH), wheel.INSTALLED], check=True)
    names = rounds.chosen_servers(chosen, SERVERS)
    about = rounds.measured_on(chosen, workers, {name: SERVERS[name](workers) for name in names})
    starts = []
    # The first round compiles what Python has not compiled yet; it does not count.
    for number in range(-1, chosen.rounds):
        for place, load in enumerate(LOADS):
            for name in rounds.rotated(names, number + place):
                keys = {"round": number, "server": name, "load": str(load), "app": load.app}
                server = with_app(SERVERS[name], load.app)(workers)
                order = [place, names.index(name)]
                starts.append(
                    keys | first_answer(server, load.path) | {"order": order, "error": None}
                )
                print(f"{number + 1}  {load!s:<12} {name:<10} {starts[-1]['ms']:6.0f} ms",
                      file=sys.stderr, flush=True)  # fmt: skip
    counted = [start for start in starts if start["round"] >= 0]
    took = [start["ms"] / 1000 for start in counted]
    lengths = f"{min(took):.1f}–{max(took):.1f}"
    return about | {"seconds": lengths, "notes": _sizes()}, counted


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Milliseconds and CPU of each server until the first answer."""
    rows = report.head(
        *("app", "server", " ms to the first answer", f" × {comparison.RIVAL}"),
        *(" CPU ms", f" × {comparison.RIVAL}"),
    )
    return rows + comparison.each(windows, _row)


def first_answer(server: Server, path: str) -> dict[str, Any]:
    """Start a server and ask it; returns how long that took, and the CPU of all its processes."""
    before, began = cpu.processes(), time.monotonic()
    with server:
        _get(server, path)
        seconds = time.monotonic() - began
        used = cpu.used(before, cpu.processes(), server.pids, os.getpid())
    return {
        "ms": 1000 * seconds,
        "cpu_ms": 1000 * sum(used.tree.values()),
        "cores_used_beside": used.beside / seconds,
    }


def _get(server: Server, path: str) -> None:
    """Ask until there is an answer: some servers say that they listen a moment before they do."""
    end = time.monotonic() + DEADLINE
    while True:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=DEADLINE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == http.HTTPStatus.OK, answer.status
            return
        except ConnectionError:
            server.check_alive()
            if time.monotonic() > end:
                raise
            time.sleep(0.005)
        finally:
            connection.close()


def _row(load: str, server: str, cell: list[dict[str, Any]], rival: list[dict[str, Any]]) -> str:
    return report.row(
        *(load, server, report.spread(cell, "ms"), comparison.ratio(cell, rival, "ms")),
        *(report.spread(cell, "cpu_ms"), comparison.ratio(cell, rival, "cpu_ms")),
    )


def _sizes() -> list[str]:
    (carrying,) = wheel.DIST.glob("*manylinux*.whl")
    ours = _installed(wheel.VENV, "hornbeam-erlang")
    theirs = _installed(python.VENV, "uvicorn[standard]")
    return [
        f"hornbeam's wheel: {carrying.stat().st_size / MB:.1f} MB; "
        f"installed with what it needs {ours / MB:.0f} MB, uvicorn[standard] {theirs / MB:.0f} MB"
    ]


def _installed(venv: Path, requirement: str) -> int:
    command = [str(venv / "bin/python"), "-c", _SIZE, requirement]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
