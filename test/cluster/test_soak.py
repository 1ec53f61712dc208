"""Cuts, stalls and deaths at random, for minutes: `make cluster-soak MINUTES=10`.

CLUSTER_SOAK is for how many minutes, and CLUSTER_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import sys
import time

import pytest
from members import Cluster, Member
from people import People
from topics import Listeners

MINUTES = float(os.environ.get("CLUSTER_SOAK", "0"))

LENGTHS = (0.006, 0.05, 0.5, 2, 5, 9, 12, 14, 20, 40, 70, 90)
"""Seconds that a link is cut or a node stands still: about the tick's time, and far from it."""


@pytest.mark.skipif(not MINUTES, reason="make cluster-soak runs it")
def test_all_is_right_within_seconds_after_whatever_happened(cluster):
    seed = int(os.environ.get("CLUSTER_SEED") or random.randrange(10**6))
    story = Story(cluster, random.Random(seed))
    tell(f"\nCLUSTER_SEED={seed}")
    end = time.monotonic() + MINUTES * 60
    while time.monotonic() < end:
        tell(story.next())


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Story:
    """What happens to a cluster, one thing after the other."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self.cluster, self.chance = cluster, chance
        self.listeners, self.people = Listeners(cluster.members), People(cluster.members)

    def next(self) -> str:
        """Let something happen and be over; wait until all is right, and say how long that took."""
        happens = self.chance.choice(
            [self.cut_all, self.cut_pair, self.cut_one_way, self.isolate, self.stall, self.kill]
        )
        members = self.chance.sample(self.cluster.members, 2)
        seconds = self.chance.choice(LENGTHS)
        happens(seconds, *members)
        self.people.change(self.chance.randrange(10**6))
        over = time.monotonic()
        self.listeners.settled()
        self.people.settled()
        what = f"{happens.__name__} {seconds} s {[member.name for member in members]}"
        return f"{what}: right {time.monotonic() - over:.1f} s after"

    def cut_all(self, seconds: float, _one: Member, _other: Member) -> None:
        self.cluster.network.cut_all()
        self._heal(seconds)

    def cut_pair(self, seconds: float, one: Member, other: Member) -> None:
        self.cluster.network.cut(one.machine, other.machine)
        self._heal(seconds)

    def cut_one_way(self, seconds: float, one: Member, other: Member) -> None:
        self.cluster.network.cut_one_way(one.machine, other.machine)
        self._heal(seconds)

    def isolate(self, seconds: float, one: Member, _other: Member) -> None:
        self.cluster.network.isolate(one.machine)
        self._heal(seconds)

    def _heal(self, seconds: float) -> None:
        time.sleep(seconds)
        self.cluster.network.heal()

    def stall(self, seconds: float, one: Member, _other: Member) -> None:
        one.stall()
        time.sleep(seconds)
        one.resume()

    def kill(self, _seconds: float, one: Member, _other: Member) -> None:
        one.kill()
        self.listeners.forget(one)
        self.people.forget(one)
        self.listeners.settled()
        self.people.settled()
        one.restart()
        self.listeners.listen(one)
        self.people.come(one)
