"""From nothing to the first page of a FastAPI project: what pip takes, and the first start."""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness import comparison, report, rounds
from harness.panel import Panel
from harness.rounds import Times
from parts.start import SERVERS as STARTED
from parts.start import first_answer
from servers import wheel
from servers.process import BENCH, Server

SERVERS: dict[str, type[Server]] = {name: STARTED[name] for name in ("uvicorn", "hornbeam")}
TIMES = Times(rounds=5, warmup=0, seconds=0)
PANELS = (Panel("s to install", "install_s"), Panel("ms to the first page", "ms"))

FOLDER = BENCH / "_build/first"
WANTED = {
    "uvicorn": ["fastapi", "uvicorn[standard]"],
    "hornbeam": ["fastapi", "hornbeam-erlang"],
}
LOAD = "FastAPI"
MB = 1_000_000


def options(parser: argparse.ArgumentParser) -> None:
    """This part has no options of its own."""


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Install and start each server by turns; returns what was measured on, and every turn."""
    subprocess.run(["make", "--silent", "-C", str(BENCH), wheel.INSTALLED], check=True)
    names = rounds.chosen_servers(chosen, SERVERS)
    about = rounds.measured_on(chosen, 1, {name: SERVERS[name](1) for name in names})
    packages = {name: _download(name) for name in names}
    windows = []
    for number in range(chosen.rounds):
        for place, name in enumerate(rounds.rotated(names, number)):
            keys = {"round": number, "server": name, "load": LOAD, "order": [0, place]}
            found = _first_page(name, packages[name])
            windows.append(keys | found | {"error": None})
            took = f"{found['install_s']:5.1f} s to install, {found['ms']:5.0f} ms to the page"
            print(f"{number + 1}  {name:<10} {took}", file=sys.stderr, flush=True)
    lengths = [window["install_s"] + window["ms"] / 1000 for window in windows]
    return about | {"seconds": f"{min(lengths):.1f}–{max(lengths):.1f}"}, windows


def table(windows: list[dict[str, Any]]) -> list[str]:
    """What pip fetches, the seconds that it takes, and then the first start."""
    rows = report.head("server", " MB to fetch", " s to install", " ms to the first page", " steps")
    return rows + comparison.each(windows, _row)


def _download(name: str) -> Path:
    """Let pip gather what it will install, and nothing else."""
    folder = FOLDER / f"{name}.packages"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--find-links", str(wheel.DIST), "--dest", str(folder), *WANTED[name]],
        check=True,
    )  # fmt: skip
    return folder


def _first_page(name: str, packages: Path) -> dict[str, Any]:
    venv = FOLDER / name
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
    began = time.monotonic()
    subprocess.run(
        [str(venv / "bin/pip"), "install", "--quiet", "--disable-pip-version-check",
         "--no-index", "--find-links", str(packages), *WANTED[name]],
        check=True,
    )  # fmt: skip
    install_s = time.monotonic() - began
    started = first_answer(_server(name, venv), "/items/1")
    fetched = sum(file.stat().st_size for file in packages.iterdir()) / MB
    return started | {"install_s": install_s, "fetched_mb": fetched}


def _server(name: str, venv: Path) -> Server:
    """Start what pip has put there, with nothing said but the app."""

    class Installed(SERVERS[name]):  # type: ignore[misc]
        def command(self) -> list[str]:
            return [str(venv / "bin" / name), "items:application", "--port", "0"]

    return Installed(1)


def _row(load: str, server: str, cell: list[dict[str, Any]], rival: list[dict[str, Any]]) -> str:
    return report.row(
        *(server, report.middle(cell, "fetched_mb", 1), report.spread(cell, "install_s", 1)),
        *(report.spread(cell, "ms"), "2"),
    )
