"""Echo sockets while others download from the same worker: how late, and how fast is either.

Two windows: quiet, and beside clients that read a response without end as fast as it comes.
"""

import argparse
from dataclasses import dataclass
from typing import Any

from harness import report, rounds
from harness.attack import Attack
from harness.load import LoadError
from harness.panel import Panel
from harness.probe import Watch
from harness.rounds import Times
from parts.drown import MIB, SERVERS, honest, millis
from servers.process import Server

WORKERS = 1
TIMES = Times(rounds=2, warmup=0.5, seconds=3.0)
PANELS = (
    Panel("p50 ms quiet", lambda w: w["quiet"]["p50_us"], 1e-3),
    Panel("p50 ms beside downloads", lambda w: w["p50_us"], 1e-3),
    Panel("p99 ms beside downloads", lambda w: w["p99_us"], 1e-3),
    Panel("MB/s downloaded", lambda w: w["downloaded"]["rate"], 1e-6),
)


@dataclass(frozen=True)
class Load:
    """Sockets, the milliseconds between two messages of one, and how many clients download."""

    sockets: int
    interval: int
    downloads: int

    def __str__(self) -> str:
        return f"{self.sockets} every {self.interval} ms, {self.downloads} downloads"


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--downloads-sockets", type=int, default=100, help="sockets that echo")
    parser.add_argument("--downloads", default="20", help="clients that download")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    workers = chosen.workers or WORKERS
    servers = {name: SERVERS[name](workers) for name in rounds.chosen_servers(chosen, SERVERS)}
    counts = [int(count) for count in chosen.downloads.split(",")]
    loads = [Load(chosen.downloads_sockets, 100, count) for count in counts]

    def download(name: str, load: Load) -> dict[str, Any]:
        return _download(servers[name], load, chosen)

    return rounds.run(chosen, workers, servers, loads, download)


def table(windows: list[dict[str, Any]]) -> list[str]:
    """Latency quiet and beside downloads, and how much was downloaded."""
    rows = report.head(
        *("sockets", "server", " quiet p50 ms", " p99", " beside downloads p50 ms", " p99"),
        *(" p50 ×", " MB/s downloaded", " server cores", " server CPU ms/MB"),
        *(" downloading cores", " MiB above rest", " errors"),
    )
    rows += [_row(*each) for each in report.cells(windows)]
    return rows


def _download(server: Server, load: Load, chosen: argparse.Namespace) -> dict[str, Any]:
    watch = Watch(server.pids, None)
    quiet = honest(server, load, chosen, chosen.warmup)
    rest = watch.look()
    watch.peaks = {}
    figures: dict[str, Any] = {}

    def beside() -> float:
        """Download for as long as the window is; the sockets are open already."""
        with Attack(server, watch, generator="download", count=load.downloads) as downloads:
            used = downloads.watch(chosen.seconds)
            figures.update(downloads.stop() or {})
        return used

    window = honest(server, load, chosen, chosen.warmup, beside)
    server.check_alive()
    if not figures.get("bytes"):
        raise LoadError("nothing was downloaded")
    figures |= {"rate": figures["bytes"] / figures["seconds"]}
    return window | {"quiet": quiet, "downloaded": figures, "rest": rest, "peak": watch.peaks}


def _row(load: str, server: str, cell: list[dict[str, Any]]) -> str:
    good = report.good(cell)
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(load, server, *[""] * 10, errors)
    quiet = [w["quiet"] for w in good]
    above = max(Watch.resident(w["peak"]) - Watch.resident(w["rest"]) for w in good)
    for w in good:
        rate = w["downloaded"]["rate"] / 1e6
        w |= {"times": w["p50_us"] / w["quiet"]["p50_us"], "mb": rate}
        w |= {"cpu_mb": 1e3 * w["server_cores"] / rate}
    return report.row(
        *(load, server, millis(quiet, "p50_us"), millis(quiet, "p99_us")),
        *(millis(good, "p50_us"), millis(good, "p99_us"), report.spread(good, "times", 1)),
        *(report.spread(good, "mb", 0), report.middle(good, "server_cores", 2)),
        *(report.middle(good, "cpu_mb", 2), report.middle(good, "hostile_cores", 2)),
        *(f"{above / MIB:.0f}", errors),
    )
