"""Who is present on three nodes: what it costs that somebody joins or leaves, and to list them."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import asked, report, rounds
from harness.rounds import Times
from servers.cowboy import PresenceNodes
from servers.process import Server

SERVERS: dict[str, type[Server]] = {"three-nodes": PresenceNodes}
TIMES = Times(rounds=2, warmup=0.3, seconds=1.5)
OPS = {
    "join": "somebody joins",
    "told": "the same, until the third node has told it",
    "leave": "somebody leaves",
    "list": "all are listed",
    "count": "they are counted",
}


@dataclass(frozen=True)
class Load:
    """How many are present, and what is done."""

    count: int
    op: str

    def __str__(self) -> str:
        return f"{self.op} at {self.count}"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument(
        "--presence-members", default="300,3000,15000,50000", help="who are present on three nodes"
    )


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    counts = [int(count) for count in chosen.presence_members.split(",")]
    loads = [Load(count, op) for count in counts for op in OPS]
    servers = {name: SERVERS[name]() for name in rounds.chosen_servers(chosen, SERVERS)}
    times = {"warmup": chosen.warmup, "seconds": chosen.seconds}

    def window(name: str, load: Load) -> dict[str, Any]:
        query = {"rows": load.count, "op": load.op}
        return asked.window(servers[name], servers[name].pids, query, **times)

    return rounds.run(chosen, 0, servers, loads, window)


def table(windows: list[dict[str, Any]]) -> list[str]:
    """What each thing costs at each size."""
    rows = report.head(
        *("what", " present", " a second", " p50 µs", " p99 µs", " CPU µs on three nodes"),
        *(" bytes to the others", " errors"),
    )
    for op in OPS:
        for count in report.distinct(report.cell(windows, op=op), "count"):
            rows.append(_row([w for w in windows if (w["op"], w["count"]) == (op, count)]))
    return rows


def draw(path: Path, about: dict[str, Any], windows: list[dict[str, Any]]) -> None:
    """Draw curves of what costs alike: how long it takes, and the CPU of all three nodes."""
    from harness import picture  # has needs that measuring has not

    panels = {
        f"{title}: {', '.join(ops)}": _lines([w for w in windows if w["op"] in ops], key)
        for ops in (("join", "leave"), ("list",))
        for title, key in (("p50 µs", "p50_us"), ("CPU µs on three nodes", "cpu_us"))
    }
    picture.curves(path, "Presence over three nodes", about, panels)


def _lines(windows: list[dict[str, Any]], key: str) -> dict[str, dict[int, list[float]]]:
    lines: dict[str, dict[int, list[float]]] = {}
    for w in report.good(windows):
        lines.setdefault(w["op"], {}).setdefault(w["count"], []).append(w[key])
    return lines


def _row(cell: list[dict[str, Any]]) -> str:
    good, first = report.good(cell), cell[0]
    cells = [OPS[first["op"]], report.number(first["count"])]
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(*cells, *[""] * 5, errors)
    return report.row(
        *(*cells, report.spread(good, "rate"), report.spread(good, "p50_us", 1)),
        *(report.spread(good, "p99_us", 1), report.spread(good, "cpu_us", 1)),
        *(report.middle(good, "sent_bytes"), errors),
    )
