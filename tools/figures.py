"""Writes the figures of the documentation from what the benchmarks measured.

    .venv/bin/python tools/figures.py

A page has a figure between two marks, `<!-- figure: idle socket -->12 KiB<!-- end -->`; what
stands there is FIGURES' word for what bench/results has. So no page says another number than the
one beside it, and after `bench/run` all say the new ones.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
BUSY = 0.05  # cores that others use, as the benchmarks have it
# WebSockets past their third ping.
IDLE = "5 000, silent, 3 pings later"
SPOKEN = "5 000, one message, 3 pings later"
MARK = re.compile(r"(<!-- figure: ([^>]+?) -->)(.*?)(<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    """Return all pages that may have figures."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return sorted([*pages, ROOT / "python" / "README.md"])


@cache
def windows(part: str) -> list[dict[str, Any]]:
    about = json.loads((RESULTS / f"{part}.json").read_text(encoding="utf-8"))
    return [window for window in about["windows"] if not window["error"]]


def value(part: str, load: str, server: str, key: str, kind: str = "") -> float:
    """Return the median of a figure of a server under a load, which may say X for times."""
    load = load.replace(" X ", " \N{MULTIPLICATION SIGN} ")
    found = [w[key] for w in windows(part) if (w["load"], w["server"]) == (load, server)]
    assert found, f"bench/results/{part}.json has no {server} under {load}"
    return median(each[kind] if kind else each for each in found)


def number(value: float, digits: int = 0) -> str:
    """Write a number with a gap at each thousand that does not break."""
    return f"{value:,.{digits}f}".replace(",", "\N{NO-BREAK SPACE}")


def micros(value: float) -> str:
    return f"{number(value)}\N{NO-BREAK SPACE}µs"


def kib(value: float, digits: int = 0) -> str:
    return f"{number(value, digits)}\N{NO-BREAK SPACE}KiB"


def millis(value: float) -> str:
    return f"{number(value)}\N{NO-BREAK SPACE}ms"


def plain(value: float) -> str:
    return number(value)


ROWS: tuple[tuple[str, str, str, str, str, Callable[[float], str]], ...] = (
    ("Drops among 500 open WebSockets when a worker is killed",
     "outlive", "kill", "hornbeam-resume", "dropped", plain),
    ("… when the code is loaded anew", "outlive", "reload", "hornbeam-resume", "dropped", plain),
    ("Memory of an idle WebSocket", "memory", IDLE, "hornbeam", "kib", kib),
    ("CPU of an echo, 15 000 sockets", "growth", "15000 sockets", "hornbeam", "cpu_us", micros),
    ("CPU of an echo, 64 sockets, 1 message in flight",
     "echo", "64 X 1, 16 B", "hornbeam", "cpu_us", micros),
    ("CPU of a FastAPI request", "http", "GET FastAPI, 64 X 1", "hornbeam", "cpu_us", micros),
    ("FastAPI requests a second, one worker",
     "http", "GET FastAPI, 64 X 1", "hornbeam", "rate", plain),
    ("CPU of a bare GET", "http", "GET, 64 X 1", "hornbeam", "cpu_us", micros),
    ("CPU of an echo, one socket alone", "echo", "1 X 1, 16 B", "hornbeam", "cpu_us", micros),
)  # fmt: skip


def beside_uvicorn() -> str:
    """Write the table of the README: ours, uvicorn's, and one over the other."""
    lines = [
        "",
        "",
        "| on 2 cores, one worker each (two for the drops) | Hornbeam | uvicorn | ÷ |",
        "|---|---:|---:|---:|",
    ]
    for title, part, load, server, key, written in ROWS:
        ours, theirs = (value(part, load, name, key) for name in (server, "uvicorn"))
        share = number(ours / theirs, 2) if ours else ""
        lines.append(f"| {title} | {written(ours)} | {written(theirs)} | {share} |")
    return "\n".join([*lines, "", ""])


def first_page() -> str:
    """Write the table of what it takes to the first page."""
    lines = ["", "", "| | fetched by pip | to install, from disk | from the command to the page |"]
    lines.append("|---|---:|---:|---:|")
    for server in ("hornbeam", "uvicorn"):
        mb, install, ms = (
            value("first", "FastAPI", server, key) for key in ("fetched_mb", "install_s", "ms")
        )
        shown = f"{number(mb)} MB | {number(install, 1)} s | {number(ms)} ms"
        lines.append(f"| {server} | {shown} |")
    if median(window["cores_used_beside"] for window in windows("first")) > BUSY:
        lines += ["", "Measured while other work ran on the machine: compare, and do not quote."]
    return "\n".join([*lines, "", ""])


def measured_by(part: str) -> str:
    about = json.loads((RESULTS / f"{part}.json").read_text(encoding="utf-8"))
    uvicorn = about["versions"]["uvicorn"]["uvicorn"]
    return f"{about['machine']['date'].split()[0]}, uvicorn {uvicorn}"


FIGURES: dict[str, Callable[[], str]] = {
    "beside uvicorn": beside_uvicorn,
    "first page": first_page,
    "measured": lambda: measured_by("echo"),
    "idle socket": lambda: kib(value("memory", IDLE, "hornbeam", "kib")),
    "idle socket of uvicorn": lambda: kib(value("memory", IDLE, "uvicorn", "kib")),
    "idle socket with resume": lambda: kib(value("memory", IDLE, "hornbeam-resume", "kib")),
    "idle socket in the node": lambda: kib(
        value("memory", IDLE, "hornbeam", "kib_by_process", "BEAM"), 1
    ),
    "idle socket in Python": lambda: kib(
        value("memory", IDLE, "hornbeam", "kib_by_process", "Python"), 1
    ),
    "socket that has spoken": lambda: kib(value("memory", "5 000, one message", "hornbeam", "kib")),
    "socket that has long spoken": lambda: kib(value("memory", SPOKEN, "hornbeam", "kib")),
    "idle socket over TLS": lambda: kib(value("memory", f"{IDLE}, TLS", "hornbeam", "kib")),
    "server without sockets": lambda: (
        f"{number(value('memory', '5 000, silent', 'hornbeam', 'before_mib'))}\N{NO-BREAK SPACE}MiB"
    ),
    "state get": lambda: micros(value("ops", "get, idle", "hornbeam", "p50_us")),
    "state get by redis": lambda: micros(value("ops", "get, idle", "redis", "p50_us")),
    "state get with await": lambda: micros(value("ops", "await get, idle", "hornbeam", "p50_us")),
    "gap of a kill": lambda: millis(1000 * value("outlive", "kill", "hornbeam-resume", "gap")),
    "gap of a reload": lambda: millis(1000 * value("outlive", "reload", "hornbeam-resume", "gap")),
}


def page(text: str) -> str:
    """Return a page with its figures made anew."""
    return MARK.sub(lambda mark: f"{mark[1]}{FIGURES[mark[2]]()}{mark[4]}", text)


if __name__ == "__main__":
    for path in pages():
        text = path.read_text(encoding="utf-8")
        if (new := page(text)) != text:
            path.write_text(new, encoding="utf-8")
