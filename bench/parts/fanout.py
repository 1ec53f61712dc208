"""Publish to a thousand WebSockets: what one delivery costs, and how long it takes."""

import argparse
from dataclasses import dataclass
from typing import Any

from harness import report, rounds
from harness.load import window
from harness.panel import CPU, RATE, Panel
from harness.rounds import Times
from servers.cowboy import BareFanout, CowboyFanout
from servers.daphne import DaphneChannels
from servers.hornbeam import HornbeamFanout
from servers.process import Server
from servers.uvicorn import UvicornRedis

SERVERS: dict[str, type[Server]] = {
    "uvicorn-redis": UvicornRedis,
    "daphne-channels": DaphneChannels,
    "hornbeam-messages": HornbeamFanout,
    "hornbeam-forward": HornbeamFanout,
    "bare-forward": BareFanout,
    "cowboy-pg": CowboyFanout,
}
# Where a server's subscribers connect: Hornbeam's two lanes are two paths of one app.
PATHS = {"hornbeam-messages": "/messages", "hornbeam-forward": "/forward"}
TIMES = Times(rounds=3, warmup=0.5, seconds=1.6)
PANELS = (RATE, CPU, Panel("p50 ms", "p50_us", 1e-3))
WORKERS = 2


@dataclass(frozen=True)
class Load:
    """So many subscribed sockets, so many publishes in flight, so many bytes in a message."""

    sockets: int
    depth: int
    size: int

    def __str__(self) -> str:
        return f"{self.depth} × {self.sockets}, {report.size(self.size)}"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--fanout-sockets", type=int, default=1000, help="subscribed sockets")
    parser.add_argument("--fanout-depths", default="1,8", help="publishes in flight")
    parser.add_argument("--fanout-sizes", default="128", help="bytes in a message, at least 16")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    loads = all_loads(chosen.fanout_sockets, chosen.fanout_depths, chosen.fanout_sizes)
    return measure_all(chosen, SERVERS, PATHS, loads)


def measure_all(
    chosen: argparse.Namespace,
    known: dict[str, type[Server]],
    paths: dict[str, str],
    loads: list[Load],
    **more: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds of this load, with `more` options of its generator, against some servers."""
    workers = chosen.workers or WORKERS
    servers = {name: known[name](workers) for name in rounds.chosen_servers(chosen, known)}

    def fan_out(name: str, load: Load) -> dict[str, Any]:
        times = {"warmup": chosen.warmup, "seconds": chosen.seconds}
        path = paths.get(name, "/subscribe")
        return window(servers[name], "fanout", subscribe=path, **more, **vars(load), **times)

    return rounds.run(chosen, workers, servers, loads, fan_out)


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Rate, latency and CPU of each server under each load, by delivery."""
    rows = report.head(
        *("load", "server", " deliveries/s", " p50 ms", " p99 ms", " server CPU µs/delivery"),
        *(" BEAM", " Python", " redis", " generator CPU µs/delivery", " verified", " errors"),
    )
    rows += [_row(*each) for each in report.cells(windows)]
    return rows


def _row(load: str, server: str, cell: list[dict[str, Any]]) -> str:
    good = report.good(cell)
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(load, server, *[""] * 9, errors)
    millis = [{key: w[key] / 1e3 for key in ("p50_us", "p99_us")} for w in good]
    return report.row(
        *(load, server, report.spread(good, "rate")),
        *(report.middle(millis, "p50_us", 1), report.middle(millis, "p99_us", 1)),
        report.spread(good, "cpu_us", 2),
        *(report.share(good, kind, 2) for kind in ("BEAM", "Python", "redis")),
        report.middle(good, "generator_cpu_us", 2),
        report.number(sum(w["messages"] for w in good)),
        errors,
    )


def all_loads(sockets: int, depths: str, sizes: str) -> list[Load]:
    """Return the load with each of the depths and sizes, which stand with commas between them."""
    pairs = [(int(depth), int(size)) for depth in depths.split(",") for size in sizes.split(",")]
    return [Load(sockets, depth, size) for depth, size in pairs]
