"""Publish to a thousand WebSockets of which some read slowly: what the others feel of it."""

import argparse
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

from harness import report, rounds
from harness.load import window
from harness.panel import CPU, Panel
from harness.probe import Watch
from harness.rounds import Times
from servers.hornbeam import ProbedHornbeam
from servers.process import Server
from servers.uvicorn import UvicornRedis

MIB = 1 << 20
TIMES = Times(rounds=2, warmup=10.0, seconds=3.0)  # what can fill is filled by the warm-up
WORKERS = 2
PANELS = (
    Panel("publishes/s without slow ones", lambda w: w["without"]["publishes"]),
    Panel("publishes/s with them", "publishes"),
    Panel("p99 ms with them", "p99_us", 1e-3),
    CPU,
)
QUEUE_MESSAGES = 64  # few, so that the queues of slow sockets are full before the window


class _Hornbeam(ProbedHornbeam):
    APP: ClassVar[str] = "fanout:application"
    OPTIONS: ClassVar[str] = f", pubsub_queue_messages => {QUEUE_MESSAGES}"


class _UvicornRedis(UvicornRedis):
    """With as many messages for a slow socket."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"QUEUE_MESSAGES": str(QUEUE_MESSAGES)}


SERVERS: dict[str, type[Server]] = {
    "uvicorn-redis": _UvicornRedis,
    "hornbeam-messages": _Hornbeam,
    "hornbeam-forward": _Hornbeam,
}
PATHS = {"hornbeam-messages": "/messages", "hornbeam-forward": "/forward"}


@dataclass(frozen=True)
class Load:
    """Subscribed sockets, how many of them are slow, publishes in flight, bytes in a message."""

    sockets: int
    slow: int
    depth: int
    size: int

    def __str__(self) -> str:
        return f"{self.depth} × {self.sockets}, {self.slow} slow, {report.size(self.size)}"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--slow-sockets", type=int, default=1000, help="subscribed sockets")
    parser.add_argument("--slow-ones", type=int, default=100, help="of them, that read slowly")
    parser.add_argument("--slow-rate", type=int, default=1024, help="bytes a second that they read")
    parser.add_argument("--slow-size", type=int, default=16384, help="bytes in a message")
    parser.add_argument("--slow-depth", type=int, default=1, help="publishes in flight")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    workers = chosen.workers or WORKERS
    servers = {name: SERVERS[name](workers) for name in rounds.chosen_servers(chosen, SERVERS)}
    load = Load(chosen.slow_sockets, chosen.slow_ones, chosen.slow_depth, chosen.slow_size)

    def fan_out(name: str, load: Load) -> dict[str, Any]:
        return _fan_out(name, servers[name], load, chosen)

    return rounds.run(chosen, workers, servers, [load], fan_out)


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Rate and latency of the fast sockets beside those without any slow one; drops; memory."""
    rows = report.head(
        *("load", "server", " publishes/s without", " with", " ×", " p50 ms without", " with"),
        *(" ×", " p99 ms without", " with", " ×", " dropped for slow ones", " of", " cut off"),
        *(" Python MiB", " BEAM MiB", " erlang:memory MiB", " longest mailbox"),
        *(" server CPU µs/delivery", " generator", " verified", " errors"),
    )
    rows += [_row(*each) for each in report.cells(windows)]
    return rows


def _fan_out(name: str, server: Server, load: Load, chosen: argparse.Namespace) -> dict[str, Any]:
    watch = Watch(server.pids, server.probe if isinstance(server, ProbedHornbeam) else None)

    def fan_out(slow: int, warmup: float) -> dict[str, Any]:
        figures = window(
            server,
            "fanout",
            beside=lambda: watch.keep_looking(chosen.seconds),
            subscribe=PATHS.get(name, "/subscribe"),
            sockets=load.sockets,
            depth=load.depth,
            size=load.size,
            slow=slow,
            rate=chosen.slow_rate,
            warmup=warmup,
            seconds=chosen.seconds,
        )
        return figures | {"publishes": figures["rate"] / (load.sockets - slow)}

    without = fan_out(0, min(1.0, chosen.warmup))
    rest, watch.peaks = watch.peaks, {}
    slowed = fan_out(load.slow, chosen.warmup)
    return slowed | {"without": without, "rest": rest, "peak": watch.peaks}


def _row(load: str, server: str, cell: list[dict[str, Any]]) -> str:
    good = report.good(cell)
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(load, server, *[""] * 19, errors)
    return report.row(
        *(load, server, *_compared(good, "publishes", 1)),
        *(*_compared(good, "p50_us", 1e-3), *_compared(good, "p99_us", 1e-3)),
        report.number(sum(w["slow_dropped"] for w in good)),
        report.number(sum(w["slow_dropped"] + w["slow_received"] for w in good)),
        report.number(sum(w["slow_gone"] for w in good)),
        *(_memory(good, "Python"), _memory(good, "BEAM"), _memory(good, "beam_total")),
        report.number(max(w["peak"]["mailbox"] for w in good))
        if "mailbox" in good[0]["peak"]
        else "",
        *(report.middle(good, "cpu_us", 1), report.middle(good, "generator_cpu_us", 1)),
        *(report.number(sum(w["messages"] + w["slow_received"] for w in good)), errors),
    )


def _compared(windows: list[dict[str, Any]], key: str, unit: float) -> list[str]:
    """Without slow sockets, with them, and the quotient of the same round."""
    without = median(w["without"][key] for w in windows) * unit
    slowed = median(w[key] for w in windows) * unit
    ratios = [{"ratio": w[key] / w["without"][key]} for w in windows]
    return [f"{without:.1f}", f"{slowed:.1f}", report.spread(ratios, "ratio", 2)]


def _memory(windows: list[dict[str, Any]], key: str) -> str:
    """The most without slow sockets, and the most above it with them; the worst of all rounds."""
    if not any(w["rest"].get(key) for w in windows):
        return ""
    above = max(w["peak"][key] - w["rest"][key] for w in windows)
    return f"{median(w['rest'][key] for w in windows) / MIB:.0f} + {max(0, above) / MIB:.0f}"
