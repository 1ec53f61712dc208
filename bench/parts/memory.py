"""Memory of WebSockets that say nothing: what a server holds for each of five thousand, and what
a round of pings costs it."""

import argparse
import time
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

from harness import comparison, cpu, probe, report, rounds
from harness.load import LoadError, window
from harness.machine import raise_descriptors
from harness.panel import CPU, Panel
from harness.rounds import Times
from servers import certificate
from servers.certificate import Certificate
from servers.cowboy import Cowboy
from servers.hornbeam import Hornbeam
from servers.process import Server
from servers.rivals import Granian, Gunicorn, Hypercorn
from servers.uvicorn import Uvicorn

KIB, MIB = 1 << 10, 1 << 20
TIMES = Times(rounds=1)  # its figures vary little
WORKERS = 1
PANELS = (Panel("KiB a socket", "kib"), CPU)
FIRST_SOCKETS = 200  # that come and go before, for all that is made once


PING_SECONDS = 3  # the default is 20 with each of them

# OTP's process for a TLS connection hibernates after 3 s of silence, which these pings never leave.
SILENCE = 4


class _HornbeamResume(Hornbeam):
    """Hornbeam whose sockets outlive their worker."""

    OPTIONS: ClassVar[str] = ", websocket_resume => true"


class _PingingUvicorn(Uvicorn):
    OPTIONS: ClassVar[list[str]] = ["--ws-ping-interval", str(PING_SECONDS)]


class _PingingHornbeam(Hornbeam):
    OPTIONS: ClassVar[str] = f", websocket_ping_interval => {1000 * PING_SECONDS}"


class _PingingHornbeamResume(_PingingHornbeam):
    OPTIONS: ClassVar[str] = _PingingHornbeam.OPTIONS + _HornbeamResume.OPTIONS


SERVERS: dict[str, type[Server]] = {
    "uvicorn": Uvicorn,
    "hornbeam": Hornbeam,
    "hornbeam-resume": _HornbeamResume,
    "cowboy": Cowboy,
    "gunicorn": Gunicorn,
    "granian": Granian,
    "hypercorn": Hypercorn,
}


# Of those whose interval can be set: what they hold when each socket has answered some pings.
PINGING: dict[str, type[Server]] = {
    "uvicorn": _PingingUvicorn,
    "hornbeam": _PingingHornbeam,
    "hornbeam-resume": _PingingHornbeamResume,
}


# Of those that speak TLS themselves.
SECURE = ("uvicorn", "hornbeam", "hornbeam-resume")


@dataclass(frozen=True)
class Load:
    """So many sockets, each of which has sent so many messages before and got them back, and then
    has answered so many pings; over TLS or not."""

    sockets: int
    messages: int
    pings: int
    tls: bool = False

    def __str__(self) -> str:
        said = {0: "silent", 1: "one message"}.get(self.messages, f"{self.messages} messages")
        pinged = f", {self.pings} pings later" if self.pings else ""
        secure = ", TLS" if self.tls else ""
        return f"{report.number(self.sockets)}, {said}{pinged}{secure}"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--memory-sockets", default="5000", help="WebSockets that are open")
    parser.add_argument("--memory-messages", default="0,1", help="that each has sent before")
    parser.add_argument("--memory-pings", default="0,3", help="that each has answered since")
    parser.add_argument("--memory-tls", default="0,1", help="without it, with it")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds, each load on servers of its own; returns about what, and every window."""
    workers = chosen.workers or WORKERS
    raise_descriptors()
    about: dict[str, Any] = {}
    windows = []
    for place, load in enumerate(_loads(chosen)):
        with certificate.made() if load.tls else nullcontext() as made:
            servers = _servers(chosen, load, made)

            def hold(name: str, load: Load, servers: dict[str, Server] = servers) -> dict[str, Any]:
                return _hold(servers[name], load)

            told, measured = rounds.run(chosen, workers, servers, [load], hold)
        about = told | {"versions": told["versions"] | about.get("versions", {})}
        windows += [w | {"order": [place, w["order"][1]]} for w in measured]
    return about | {"seconds": _opening_seconds(windows)}, windows


def _servers(chosen: argparse.Namespace, load: Load, made: Certificate | None) -> dict[str, Server]:
    """Those that are measured under a load."""
    known = PINGING if load.pings else SERVERS
    if load.tls:
        known = {name: known[name] for name in SECURE}
    workers = chosen.workers or WORKERS
    names = rounds.chosen_servers(chosen, known)
    return {name: known[name](workers, certificate=made) for name in names}


def table(windows: list[dict[str, Any]]) -> list[str]:
    """KiB a socket of each server, and of its two sides."""
    rows = report.head(
        *("sockets", "server", " KiB a socket", f" × {comparison.RIVAL}", " BEAM", " Python"),
        *(" MiB before", " MiB with all", " server CPU µs/opening", " µs/ping", " errors"),
    )
    return rows + comparison.each(windows, _row)


def _hold(server: Server, load: Load) -> dict[str, Any]:
    """Open all sockets, and compare what the server held before with what it holds then."""

    def settled() -> dict[str, int]:
        try:
            return probe.settled(server.pids)
        except TimeoutError as late:
            raise LoadError(str(late)) from late

    window(server, "idle", sockets=FIRST_SOCKETS, messages=1)
    before = settled()
    idle = {"sockets": load.sockets, "messages": load.messages}
    figures = window(server, "idle", after=lambda: (_pinged(server, load), settled()), **idle)
    ping_cpu, after = figures.pop("after")
    each = {kind: (after[kind] - before[kind]) / KIB / load.sockets for kind in after}
    whole = {"before_mib": sum(before.values()) / MIB, "after_mib": sum(after.values()) / MIB}
    return figures | whole | {"kib": sum(each.values()), "kib_by_process": each} | ping_cpu


def _pinged(server: Server, load: Load) -> dict[str, float]:
    """Wait until each socket has answered its pings, or all have been silent for a while; tells
    what the server spent on a ping."""
    if not load.pings:
        time.sleep(SILENCE if load.tls else 0)
        return {}
    used = -_cpu(server)
    time.sleep(load.pings * PING_SECONDS)
    used += _cpu(server)
    time.sleep(1)
    return {"ping_us": used * 1e6 / (load.sockets * load.pings)}


def _cpu(server: Server) -> float:
    everyone = cpu.processes()
    return sum(process.cpu for root in server.pids for process in cpu.tree(everyone, root))


def _row(load: str, server: str, cell: list[dict[str, Any]], rival: list[dict[str, Any]]) -> str:
    good = report.good(cell)
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(load, server, *[""] * 8, errors)
    return report.row(
        *(load, server, report.spread(good, "kib", 1), comparison.ratio(good, rival, "kib")),
        *(_share(good, "BEAM"), _share(good, "Python")),
        *(report.middle(good, "before_mib"), report.middle(good, "after_mib")),
        *(report.middle(good, "cpu_us"), _ping(good), errors),
    )


def _opening_seconds(windows: list[dict[str, Any]]) -> str:
    """How long the windows were, in which all sockets were opened."""
    seconds = [w["seconds"] for w in report.good(windows)] or [0.0]
    return f"{min(seconds):.0f}–{max(seconds):.0f}"


def _share(windows: list[dict[str, Any]], kind: str) -> str:
    return f"{median(w['kib_by_process'][kind] for w in windows):.1f}"


def _ping(windows: list[dict[str, Any]]) -> str:
    return report.middle(windows, "ping_us") if "ping_us" in windows[0] else ""


def _loads(chosen: argparse.Namespace) -> list[Load]:
    counts = [int(count) for count in chosen.memory_sockets.split(",")]
    messages = [int(count) for count in chosen.memory_messages.split(",")]
    pings = [int(count) for count in chosen.memory_pings.split(",")]
    secure = [bool(int(tls)) for tls in chosen.memory_tls.split(",")]
    return [
        Load(count, said, number, tls)
        for tls in secure
        for number in pings
        for count in counts
        for said in messages
    ]
