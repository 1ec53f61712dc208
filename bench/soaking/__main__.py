"""Soak a node and see whether it holds afterwards what it held before.

  start → warm-up (clients, kills) → all let go → at rest: the account before
        → soak (the same for longer) → all let go → at rest: the account after

The warm-up fills caches and allocators; it may kill either worker. The soak kills the younger
one only, so that a leak in Python has all the time to show in the other. The status is 1 when
something is not back, or when a client met an error that no kill explains.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from harness import cpu
from harness.machine import machine
from harness.report import publish
from servers.hornbeam import ProbedHornbeam
from servers.process import BENCH, ServerError
from soaking import accounts, picture, report
from soaking.crowd import LIVES, Crowd

WORKERS = 2
SAMPLE_SECONDS = 5.0
KILL_SECONDS = (5.0, 25.0)  # between two kills
STEADY_SECONDS = 6.0  # nothing may change for so long before the node is at rest
REST_SECONDS = 90.0  # and this is the most that is waited for it


class Hornbeam(ProbedHornbeam):
    def __init__(self, app: str) -> None:
        super().__init__(WORKERS)
        self.APP = app  # type: ignore[misc]


@dataclass
class Soak:
    """One run against one server."""

    server: Hornbeam
    chosen: argparse.Namespace
    crowd: Crowd
    start: float = field(default_factory=time.monotonic)
    phase: str = "warm-up"
    samples: list[dict[str, Any]] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)

    async def run(self) -> dict[str, Any]:
        """Do all phases; return what was found."""
        sampler = asyncio.create_task(self._sample())
        before = await self._busy("warm-up", self.chosen.warmup, any_worker=True)
        self.crowd.done.clear()
        first, began = cpu.processes(), time.monotonic()
        after = await self._busy("soak", self.chosen.minutes * 60, any_worker=False)
        sampler.cancel()
        return {
            "before": before,
            "after": after,
            "cores": self._cores(first, cpu.processes(), time.monotonic() - began),
            "done": dict(self.crowd.done),
            "errors": self.crowd.errors,
            "kills": len(self.kills),
            "longest_mailbox": max(sample["longest_mailbox"] for sample in self.samples),
        }

    async def _busy(self, phase: str, seconds: float, any_worker: bool) -> accounts.Account:
        self.phase = phase
        killer = asyncio.create_task(self._kill(any_worker))
        living = asyncio.create_task(self.crowd.live(self.chosen.clients, seconds))
        await asyncio.sleep(seconds)
        killer.cancel()
        await living
        self.phase = "rest"
        return await self._rest()

    async def _kill(self, any_worker: bool) -> None:
        while True:
            await asyncio.sleep(self.crowd.random.uniform(*KILL_SECONDS))
            living = accounts.workers(self.server)
            if len(living) == WORKERS:
                victim = self.crowd.random.choice(living) if any_worker else living[-1]
                os.kill(victim.pid, signal.SIGKILL)
                self.crowd.saw_kill()
                self.kills.append(time.monotonic() - self.start)

    async def _rest(self) -> accounts.Account:
        """Wait until nothing changes any more."""
        deadline = time.monotonic() + REST_SECONDS
        last, since = None, time.monotonic()
        while time.monotonic() < deadline:
            account = accounts.take(self.server)
            now = accounts.counts(account)
            if now != last or len(account["workers"]) < WORKERS:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > STEADY_SECONDS:
                break
            await asyncio.sleep(0.5)
        return accounts.take(self.server, rest=True)

    async def _sample(self) -> None:
        while True:
            account = accounts.take(self.server)
            sample = {"at": round(time.monotonic() - self.start, 1), "phase": self.phase}
            sample |= {"clients": self.crowd.open, "rows": sum(account["tables"].values())}
            sample |= {k: account[k] for k in ("processes", "ports", "atoms", "longest_mailbox")}
            sample |= {k: account[k] for k in ("memory", "beam_rss", "beam_descriptors")}
            sample["workers"] = [worker["rss"] for worker in account["workers"]]
            self.samples.append(sample)
            self.server.check_alive()
            await asyncio.sleep(SAMPLE_SECONDS)

    def _cores(
        self, before: dict[int, cpu.Process], after: dict[int, cpu.Process], seconds: float
    ) -> dict[str, float]:
        used = cpu.used(before, after, self.server.pids, os.getpid())
        mine = after[os.getpid()].cpu - before[os.getpid()].cpu
        # A killed worker's time is with the helper that buried it.
        cores = {"BEAM": used.tree["BEAM"], "Python": used.tree["Python"] + used.tree["other"]}
        cores |= {"the clients": mine, "beside": used.beside}
        return {kind: value / seconds for kind, value in cores.items()}


def main() -> int:
    chosen = options().parse_args()
    crowd = Crowd("", 0, random.Random(chosen.seed), LIVES)
    about = vars(chosen) | {"machine": machine(), "workers": WORKERS}
    folder, publishes = about.pop("results"), about.pop("publish")
    with Hornbeam(chosen.app) as server:
        crowd.host, crowd.port = server.host, server.port
        soak = Soak(server, chosen, crowd)
        about |= uvloop.run(soak.run()) | {"versions": server.versions()}
    lines = accounts.compare(about["before"], about["after"], chosen.share, chosen.extra)
    markdown = write(folder, about, soak, lines)
    if publishes:
        publish("soak", markdown)
    print(markdown)
    if failed := [line.what for line in lines if line.leaks]:
        print(f"not back: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed or crowd.errors else 0


def write(folder: Path, about: dict[str, Any], soak: Soak, lines: list[accounts.Line]) -> str:
    """Write soak.json, soak.md and soak.png; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    found = about | {"lines": [asdict(line) for line in lines]}
    compact = [json.dumps(sample, separators=(",", ":")) for sample in soak.samples]
    text = json.dumps(found | {"killed_at": [round(k, 1) for k in soak.kills]}, indent=1)
    samples = ",\n  ".join(compact)
    text = f'{text.removesuffix("}").rstrip()},\n "samples": [\n  {samples}\n ]\n}}\n'
    (folder / "soak.json").write_text(text)
    title = f"Hornbeam, {about['clients']} clients, {about['workers']} workers"
    picture.draw(folder / "soak.png", title, soak.samples, soak.kills)
    markdown = "\n".join([*report.table(lines), "", *report.notes(about), ""])
    (folder / "soak.md").write_text(markdown)
    return markdown


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the soak")
    parser.add_argument("--warmup", type=float, default=120.0, help="seconds of the same before")
    parser.add_argument("--app", default="soak:application", help="from bench/apps or PYTHONPATH")
    parser.add_argument("--clients", type=int, default=80, help="clients at a time")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--share", type=float, default=0.05, help="by which bytes may grow")
    parser.add_argument("--extra", type=float, default=2.0, help="MiB by which they may, beside")
    parser.add_argument("--results", type=Path, default=BENCH / "results", help="folder")
    parser.add_argument("--publish", action="store_true", help="also put the table into README.md")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as error:
        sys.exit(f"soak: {error}")
