"""Honest echo sockets while hostile clients work on the same worker: how late, how much memory.

Three windows: quiet, the onset of the attack, and the same attack when it has settled.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, ClassVar

from harness import report, rounds
from harness.attack import Attack
from harness.load import LoadError, window
from harness.panel import Panel
from harness.probe import Watch
from harness.rounds import Times
from servers.hornbeam import ProbedHornbeam
from servers.process import Server
from servers.rivals import Granian, Hypercorn
from servers.uvicorn import Uvicorn

MIB = 1 << 20
WORKERS = 1
KINDS = ("deaf", "flood", "download", "upload")
SILENCE_MS = 30000
TIMES = Times(rounds=2, warmup=1.0, seconds=4.0)
PANELS = (
    *(
        Panel(f"p99 ms {phase}", lambda w, phase=phase: w[phase]["p99_us"], 1e-3)
        for phase in ("quiet", "onset", "settled")
    ),
    Panel(
        "MiB above rest", lambda w: Watch.resident(w["peak"]) - Watch.resident(w["rest"]), 1 / MIB
    ),
    Panel("server cores at the onset", lambda w: w["onset"]["server_cores"]),
)
IN_FLIGHT = 64  # of a paced socket, so that a stall makes messages late and not fewer


class _Uvicorn(Uvicorn):
    APP: ClassVar[str] = "drown:application"


class _Hornbeam(ProbedHornbeam):
    APP: ClassVar[str] = "drown:application"


class _Granian(Granian):
    APP: ClassVar[str] = "drown:application"


class _Hypercorn(Hypercorn):
    APP: ClassVar[str] = "drown:application"


SERVERS: dict[str, type[Server]] = {
    "hornbeam": _Hornbeam,
    "uvicorn": _Uvicorn,
    "granian": _Granian,
    "hypercorn": _Hypercorn,
}


@dataclass(frozen=True)
class Load:
    """Honest sockets, the milliseconds between two messages of one (0: as fast as it answers),
    and how many hostile clients of each kind there are."""

    sockets: int
    interval: int
    hostile: int

    def __str__(self) -> str:
        pace = f"every {self.interval} ms" if self.interval else "at full speed"
        return f"{self.sockets} {pace}"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--drown-sockets", type=int, default=100, help="honest sockets")
    parser.add_argument("--drown-hostile", type=int, default=50, help="of each of four kinds")
    parser.add_argument(
        "--drown-intervals", default="100", help="ms between messages of an honest socket"
    )


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds, each load on servers of its own; returns about what, and every window."""
    workers = chosen.workers or WORKERS
    servers = {name: SERVERS[name](workers) for name in rounds.chosen_servers(chosen, SERVERS)}

    def drown(name: str, load: Load) -> dict[str, Any]:
        return _drown(servers[name], load, chosen)

    about: dict[str, Any] = {}
    windows = []
    for place, load in enumerate(_loads(chosen)):
        about, measured = rounds.run(chosen, workers, servers, [load], drown)
        windows += [w | {"order": [place, w["order"][1]]} for w in measured]
    return about, windows


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Latency quiet and under attack, and the memory that it took."""
    rows = report.head(
        *("honest sockets", "server", " quiet p50 ms", " p99", " onset p50 ms", " p99", " p99 ×"),
        *(" settled p50 ms", " p99", " p50 ×", " p99 ×", " Python MiB", " BEAM MiB"),
        *(" erlang:memory MiB", " longest mailbox", " hostile cores", " honest cores"),
        *(" server cores", "gone", "stopped at 4 GiB", " errors"),
    )
    rows += [_row(*each) for each in report.cells(windows)]
    return rows


def _drown(server: Server, load: Load, chosen: argparse.Namespace) -> dict[str, Any]:
    probe = server.probe if isinstance(server, ProbedHornbeam) else None
    watch = Watch(server.pids, probe)
    quiet = honest(server, load, chosen, chosen.warmup)
    rest = watch.look()
    watch.peaks = {}
    with Attack(server, watch, count=load.hostile) as attack:
        watched = partial(attack.watch, chosen.seconds)
        onset = honest(server, load, chosen, 0, watched)
        settled = honest(server, load, chosen, 0, watched)
        server.check_alive()
        clients = attack.stop()
    if clients:
        _check_hostile(clients, load.hostile)
    attacked = {"clients": clients, "stopped_after": attack.stopped_after}
    windows = {"quiet": quiet, "onset": onset, "settled": settled}
    return onset | windows | attacked | {"rest": rest, "peak": watch.peaks}


def honest(
    server: Server,
    load: Load,
    chosen: argparse.Namespace,
    warmup: float,
    beside: Callable[[], float] | None = None,
) -> dict[str, Any]:
    """One window of the honest sockets, maybe beside others, whose CPU `beside` returns."""
    figures = window(
        server,
        "echo",
        beside=beside,
        sockets=load.sockets,
        interval=load.interval,
        depth=IN_FLIGHT if load.interval else 1,
        size=16,
        silence=SILENCE_MS,
        warmup=warmup,
        seconds=chosen.seconds,
    )
    hostile = figures.pop("beside", 0.0) / figures["seconds"]
    return figures | {
        "hostile_cores": hostile,
        "honest_cores": figures["generator_cpu_us"] * figures["rate"] / 1e6,
        "server_cores": figures["cpu_us"] * figures["rate"] / 1e6,
        "cores_used_beside": max(0.0, figures["cores_used_beside"] - hostile),
    }


def _check_hostile(clients: dict[str, Any], count: int) -> None:
    """An attack that reached nothing is none."""
    for kind in KINDS:
        if clients[kind]["idle"] == count:
            raise LoadError(f"hostile: all {kind} clients were idle: {clients}")


def _row(load: str, server: str, cell: list[dict[str, Any]]) -> str:
    good = report.good(cell)
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(load, server, *[""] * 18, errors)
    quiet, onset, settled = ([w[phase] for w in good] for phase in ("quiet", "onset", "settled"))
    return report.row(
        *(load, server, millis(quiet, "p50_us"), millis(quiet, "p99_us")),
        *(millis(onset, "p50_us"), millis(onset, "p99_us"), _times(good, "onset", "p99_us")),
        *(millis(settled, "p50_us"), millis(settled, "p99_us")),
        *(_times(good, "settled", "p50_us"), _times(good, "settled", "p99_us")),
        *(_memory(good, "Python"), _memory(good, "BEAM")),
        *(_peak(good, "beam_total", MIB), _peak(good, "mailbox", 1)),
        *(report.middle(onset, f"{who}_cores", 2) for who in ("hostile", "honest", "server")),
        *(_gone(good), _stopped(good), errors),
    )


def millis(windows: list[dict[str, Any]], key: str) -> str:
    return f"{median(w[key] for w in windows) / 1e3:.2f}"


def _times(windows: list[dict[str, Any]], phase: str, key: str) -> str:
    """A phase over the quiet of the same round."""
    ratios = [{"ratio": w[phase][key] / w["quiet"][key]} for w in windows]
    return report.spread(ratios, "ratio", 1)


def _memory(windows: list[dict[str, Any]], kind: str) -> str:
    """What a kind of process held at rest, and the most above it; the worst of all rounds."""
    if not any(w["rest"][kind] for w in windows):
        return ""
    above = max(w["peak"][kind] - w["rest"][kind] for w in windows)
    return f"{median(w['rest'][kind] for w in windows) / MIB:.0f} + {above / MIB:.0f}"


def _peak(windows: list[dict[str, Any]], key: str, unit: int) -> str:
    peaks = [w["peak"][key] / unit for w in windows if key in w["peak"]]
    return report.number(max(peaks)) if peaks else ""


def _gone(windows: list[dict[str, Any]]) -> str:
    """So many hostile clients of each kind the server had ended, at most."""
    seen = [w["clients"] for w in windows if w["clients"]]
    worst = {kind: max((c[kind]["gone"] for c in seen), default=0) for kind in KINDS}
    return ", ".join(f"{number} {kind}" for kind, number in worst.items() if number) or "none"


def _stopped(windows: list[dict[str, Any]]) -> str:
    times = [w["stopped_after"] for w in windows if w["stopped_after"] is not None]
    return f"{len(times)}, after {min(times):.1f} s" if times else "never"


def _loads(chosen: argparse.Namespace) -> list[Load]:
    intervals = [int(interval) for interval in chosen.drown_intervals.split(",")]
    return [Load(chosen.drown_sockets, i, chosen.drown_hostile) for i in intervals]
