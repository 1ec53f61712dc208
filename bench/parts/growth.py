"""How costs grow: with open sockets, with topics, with a topic's subscribers, with rows of state.

Each curve has servers of its own, which take turns as in every part.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import asked, report, rounds
from harness.load import window
from harness.machine import raise_descriptors
from harness.rounds import Times
from servers.cowboy import Cowboy, CowboyFanout
from servers.hornbeam import Hornbeam, HornbeamFanout, HornbeamRows
from servers.process import Server
from servers.uvicorn import Uvicorn

TIMES = Times(rounds=2, warmup=0.3, seconds=1.2)
WORKERS = 1
SPARE = 200  # descriptors that are needed beside a socket's
IN_FLIGHT = {"topics": 64, "subscribers": 8}
PATHS = {"hornbeam": "/forward", "cowboy-pg": "/subscribe"}


@dataclass(frozen=True)
class Load:
    """What grows, and how large it is; what is done meanwhile, of several things."""

    curve: str
    count: int
    op: str = ""

    def __str__(self) -> str:
        return (
            f"{self.op} of {self.count} {self.curve}" if self.op else f"{self.count} {self.curve}"
        )


def echo(server: Server, _name: str, load: Load, times: dict[str, float]) -> dict[str, Any]:
    """Send on all sockets at once, each with one message in flight."""
    return window(server, "echo", sockets=load.count, depth=1, size=16, **times)


def publish_in_turn(
    server: Server, name: str, load: Load, times: dict[str, float]
) -> dict[str, Any]:
    """Publish to one topic after the other, each of which has one subscriber."""
    return window(
        server,
        "fanout",
        subscribe=PATHS[name],
        publish="/publish/each",
        sockets=load.count,
        topics=load.count,
        depth=IN_FLIGHT["topics"],
        **times,
    )


def publish(server: Server, name: str, load: Load, times: dict[str, float]) -> dict[str, Any]:
    """Publish to one topic, with so many subscribers."""
    depth = IN_FLIGHT["subscribers"]
    return window(server, "fanout", subscribe=PATHS[name], sockets=load.count, depth=depth, **times)


def operate(server: Server, _name: str, load: Load, times: dict[str, float]) -> dict[str, Any]:
    """Read or write a row at random."""
    return asked.window(server, server.pids, {"rows": load.count, "op": load.op}, **times)


@dataclass(frozen=True)
class Curve:
    """Who is measured, how, at which sizes and doing what; what a message is there."""

    servers: dict[str, type[Server]]
    measure: Callable[[Server, str, Load, dict[str, float]], dict[str, Any]]
    counts: str
    message: str
    ops: tuple[str, ...] = ("",)


FANOUTS: dict[str, type[Server]] = {"hornbeam": HornbeamFanout, "cowboy-pg": CowboyFanout}
CURVES = {
    "sockets": Curve(
        {"uvicorn": Uvicorn, "hornbeam": Hornbeam, "cowboy": Cowboy},
        *(echo, "64,1000,5000,15000", "echo"),
    ),
    "topics": Curve(FANOUTS, publish_in_turn, "1,100,10000", "publish"),
    "subscribers": Curve(FANOUTS, publish, "1,10,100,1000", "delivery"),
    "rows": Curve(
        *({"hornbeam": HornbeamRows}, operate, "10,1000,100000,1000000"),
        *("operation", ("get", "set", "incr")),
    ),
}
SERVERS = {name: kind for curve in CURVES.values() for name, kind in curve.servers.items()}


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    for name, curve in CURVES.items():
        parser.add_argument(f"--growth-{name}", default=curve.counts, help=f"{name}; '' for none")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds of each curve; returns what was measured on, and every window."""
    most = raise_descriptors() - SPARE
    times = {"warmup": chosen.warmup, "seconds": chosen.seconds}
    about: dict[str, Any] = {"versions": {}}
    windows: list[dict[str, Any]] = []
    notes: list[str] = []
    for place, (name, curve) in enumerate(CURVES.items()):
        loads, lost = _possible(_loads(chosen, name), most)
        told, measured = _run(chosen, curve, loads, times)
        notes += [f"without {load}: descriptors allow {most}" for load in lost]
        about = told | {"versions": about["versions"] | told["versions"]}
        windows += [w | {"order": [place, *w["order"]]} for w in measured]
    return about | {"notes": notes}, windows


def table(windows: list[dict[str, Any]]) -> list[str]:
    """What a message costs at each size."""
    rows = report.head(
        *("what", " how many", "server", "a message is", " messages/s", " p50 µs"),
        *(" server CPU µs/message", " generator CPU µs/message", " errors"),
    )
    for load in report.distinct(windows, "load"):
        for server in report.distinct(report.cell(windows, load=load), "server"):
            rows.append(_row(report.cell(windows, load=load, server=server)))
    return rows


def draw(path: Path, about: dict[str, Any], windows: list[dict[str, Any]]) -> None:
    """Draw a panel of curves for each thing that grows."""
    from harness import picture  # has needs that measuring has not

    panels = {
        f"CPU µs per {curve.message}, by {name}": _lines(report.cell(windows, curve=name))
        for name, curve in CURVES.items()
    }
    picture.curves(path, "What costs grow with", about, panels)


def _run(
    chosen: argparse.Namespace, curve: Curve, loads: list[Load], times: dict[str, float]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    workers = chosen.workers or WORKERS
    names = rounds.chosen_servers(chosen, curve.servers)
    servers = {name: curve.servers[name](workers) for name in names if loads}
    return rounds.run(
        *(chosen, workers, servers, loads),
        lambda name, load: curve.measure(servers[name], name, load, times),
    )


def _loads(chosen: argparse.Namespace, name: str) -> list[Load]:
    counts = [int(count) for count in getattr(chosen, f"growth_{name}").split(",") if count]
    return [Load(name, count, op) for count in counts for op in CURVES[name].ops]


def _possible(loads: list[Load], most: int) -> tuple[list[Load], list[Load]]:
    """Those for which there are descriptors, and the others."""
    lost = [load for load in loads if load.curve != "rows" and load.count > most]
    return [load for load in loads if load not in lost], lost


def _row(cell: list[dict[str, Any]]) -> str:
    good, first = report.good(cell), cell[0]
    what = CURVES[first["curve"]]
    message = f"{first['op']} of state" if first["op"] else what.message
    cells = [first["curve"], report.number(first["count"]), first["server"], message]
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(*cells, *[""] * 4, errors)
    generator = report.middle(good, "generator_cpu_us", 1) if "generator_cpu_us" in good[0] else ""
    return report.row(
        *(*cells, report.spread(good, "rate"), report.middle(good, "p50_us", 1)),
        *(report.spread(good, "cpu_us", 1), generator, errors),
    )


def _lines(windows: list[dict[str, Any]]) -> dict[str, dict[int, list[float]]]:
    """The CPU of each server, and thing that it does, by size: of all rounds."""
    lines: dict[str, dict[int, list[float]]] = {}
    for w in report.good(windows):
        line = lines.setdefault(f"{w['server']} {w['op']}".strip(), {})
        line.setdefault(w["count"], []).append(w["cpu_us"])
    return lines
