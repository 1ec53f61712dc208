"""Random histories of three nodes, held to a model: topics, presence, counters, and what is heard.

Connections come and go, subscribe, publish, are present and count, on nodes that are cut off, stand
still, are stopped and killed meanwhile. When that is over, all must be as the model says on all
nodes within seconds; and whatever happens, nobody hears a message twice, one that was never said,
or those of one publisher in another order. HISTORY_SEED repeats a run and HISTORY_STEPS says how
long it is; a failure shows what has happened.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from consoles import Console
from harness import eventually
from members import Cluster, Member
from topics import SETTLED

STEPS = int(os.environ.get("HISTORY_STEPS", "8"))
SEEDS = [int(seed) for seed in os.environ.get("HISTORY_SEED", "1,2").split(",")]

TOPICS = ["a", "b", "c"]
MOST_CONNECTIONS = 12

LENGTHS = (0.01, 0.3, 2, 12)
"""Seconds that something lasts: shorter than the links notice, and longer."""

CONNECTION = """
import itertools
heard, said = [], itertools.count()
async def hear():
    async for message in aio.messages():
        heard.append((message.topic, *message.value))
subscribe(name)
hearing = asyncio.create_task(hear())
"""


@dataclass(eq=False)
class Connection:
    """What the model knows of one: its topics, where it is present, what it has counted for now."""

    name: str
    member: Member
    console: Console
    topics: set[str] = field(default_factory=set)
    present: dict[str, int] = field(default_factory=dict)
    counted: int = 0


class History:
    """A cluster and the model of it."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.chance = cluster, random.Random(seed)
        self.prefix = f"history-{seed}-{time.monotonic_ns()}"
        self.connections: list[Connection] = []
        self.names = (f"connection{n}" for n in itertools.count())
        self.published: Counter[tuple[str, str, int]] = Counter()
        self.counted = 0
        self.stalled: set[Member] = set()
        self.story: list[str] = []
        self.wrong: list[str] = []

    def topic(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def tell(self, what: str) -> None:
        self.story.append(what)

    # What connections do

    def act(self) -> None:
        """Do one thing that needs nobody who stands still."""
        awake = [c for c in self.connections if c.member not in self.stalled]
        if not awake or (len(self.connections) < MOST_CONNECTIONS and self.chance.random() < 0.2):
            self.come()
            return
        act = self.chance.choice(
            [self.subscribe, self.subscribe, self.unsubscribe, self.publish, self.publish,
             self.be_present, self.be_present, self.be_absent, self.count, self.count_for_good,
             self.leave]
        )  # fmt: skip
        act(self.chance.choice(awake), self.chance.choice(TOPICS))

    def come(self) -> None:
        members = [m for m in self.cluster.members if m.running and m not in self.stalled]
        member, name = self.chance.choice(members), next(self.names)
        connection = Connection(name, member, member.console())
        connection.console(CONNECTION, name=self.topic(name))
        self.connections.append(connection)
        self.tell(f"{name} comes to {member.name}")

    def leave(self, who: Connection, _topic: str) -> None:
        self.chance.choice([who.console.leave, who.console.vanish])()
        self.connections.remove(who)
        self.tell(f"{who.name} leaves")

    def subscribe(self, who: Connection, topic: str) -> None:
        who.console("subscribe(t)", t=self.topic(topic))
        who.topics.add(topic)
        self.tell(f"{who.name} subscribes to {topic}")

    def unsubscribe(self, who: Connection, topic: str) -> None:
        who.console("unsubscribe(t)", t=self.topic(topic))
        who.topics.discard(topic)
        self.tell(f"{who.name} unsubscribes from {topic}")

    def publish(self, who: Connection, topic: str) -> int:
        number, handed = who.console(
            "n = next(said)\nn, publish(t, (name, n)).result()",
            t=self.topic(topic), name=who.name,
        )  # fmt: skip
        self.published[self.topic(topic), who.name, number] += 1
        self.tell(f"{who.name} publishes {number} to {topic}: {handed}")
        return handed

    def be_present(self, who: Connection, topic: str) -> None:
        n = self.chance.randrange(100)
        who.console("presence.track(t, k, {'n': n})", t=self.topic(topic), k=who.name, n=n)
        who.present[topic] = n
        self.tell(f"{who.name} is present in {topic} as {n}")

    def be_absent(self, who: Connection, topic: str) -> None:
        was = who.console("presence.untrack(t, k)", t=self.topic(topic), k=who.name)
        assert was == (who.present.pop(topic, None) is not None)
        self.tell(f"{who.name} is no more in {topic}")

    def count(self, who: Connection, _topic: str) -> None:
        who.console("state_incr(k, cluster=True, scope='connection')", k=self.topic("open"))
        who.counted += 1
        self.tell(f"{who.name} counts")

    def count_for_good(self, who: Connection, _topic: str) -> None:
        who.console("state_incr(k, 3, cluster=True)", k=self.topic("all"))
        self.counted += 3
        self.tell(f"{who.name} counts for good")

    # What happens to nodes

    def step(self) -> None:
        """Let something happen while connections go on, wait until it is over, and compare."""
        happens = self.chance.choice(
            [self.nothing, self.cut, self.cut, self.isolate, self.stall, self.stop, self.kill]
        )
        happens(self.chance.choice(LENGTHS), *self.chance.sample(self.cluster.members, 2))
        eventually(self.is_right, 2 * SETTLED if happens == self.stall else SETTLED)
        self.compare_heard()

    def go_on(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for _ in range(self.chance.randrange(5, 15)):
            self.act()
        time.sleep(max(0.0, end - time.monotonic()))  # the length of what happens

    def nothing(self, _seconds: float, _one: Member, _other: Member) -> None:
        self.go_on(0)

    def cut(self, seconds: float, one: Member, other: Member) -> None:
        self.tell(f"{one.name} and {other.name} are cut off from each other for {seconds} s")
        self.cluster.network.cut(one.machine, other.machine)
        self.go_on(seconds)
        self.heal()

    def isolate(self, seconds: float, one: Member, _other: Member) -> None:
        self.tell(f"{one.name} is cut off for {seconds} s")
        self.cluster.network.isolate(one.machine)
        self.go_on(seconds)
        self.heal()

    def heal(self) -> None:
        self.cluster.network.heal()
        self.tell("healed")

    def stall(self, seconds: float, one: Member, _other: Member) -> None:
        self.tell(f"{one.name} stands still for {seconds} s")
        one.stall()
        self.stalled.add(one)
        self.go_on(seconds)
        one.resume()
        self.stalled.clear()
        self.tell("resumed")

    def stop(self, _seconds: float, one: Member, _other: Member) -> None:
        self.tell(f"{one.name} is stopped")
        self.gone(one)
        assert one.stop() == 0
        self.restart(one)

    def kill(self, _seconds: float, one: Member, _other: Member) -> None:
        self.tell(f"{one.name} is killed")
        self.gone(one)
        one.kill()
        self.restart(one)

    def gone(self, one: Member) -> None:
        self.connections = [c for c in self.connections if c.member is not one]

    def restart(self, one: Member) -> None:
        self.go_on(0)
        one.restart()
        self.tell(f"{one.name} is started")

    # What the model says

    def is_right(self) -> bool:
        self.wrong = [wrong for member in self.cluster.members for wrong in self.compare(member)]
        return not self.wrong

    def compare(self, member: Member) -> list[str]:
        """Return where a node knows something else than the model."""
        pairs = {"counters": self.counters(member)}
        pairs |= {topic: self.state(member, topic) for topic in TOPICS}
        return [
            f"{member.name}, {what}: {known}, and should be {right}"
            for what, (known, right) in pairs.items()
            if known != right
        ]

    def counters(self, member: Member) -> tuple[Any, Any]:
        """Return what a node has counted, and what the model has."""
        counted = member(
            "state_get(one, 0, cluster=True), state_get(other, 0, cluster=True)",
            one=self.topic("open"), other=self.topic("all"),
        )  # fmt: skip
        return counted, (sum(c.counted for c in self.connections), self.counted)

    def state(self, member: Member, topic: str) -> tuple[Any, Any]:
        """Return who is present, how many, and how many are told: by a node, and by the model."""
        listed, count, handed = member(
            "presence.list(t), presence.count(t), publish(t, ('try', -1)).result()",
            t=self.topic(topic),
        )
        found = {key: [meta["n"] for meta in one["metas"]] for key, one in listed.items()}
        present = {c.name: [c.present[topic]] for c in self.connections if topic in c.present}
        subscribers = sum(topic in c.topics for c in self.connections)
        return (found, count, handed), (present, len(present), subscribers)

    def compare_heard(self) -> None:
        """Have one message said to each topic on each node, and look at all that was ever heard."""
        due = [
            (self.topic(topic), *self.last(member, topic))
            for member in self.cluster.members
            for topic in TOPICS
        ]
        for connection in self.connections:
            wanted = {d for d in due if d[0] in map(self.topic, connection.topics)}
            eventually(lambda c=connection, w=wanted: w <= set(c.console("heard")), SETTLED)
            self.judge([h for h in connection.console("heard") if h[1] != "try"])

    def last(self, member: Member, topic: str) -> tuple[str, int]:
        number = len(self.published)
        member("publish(t, (n, i)).result()", t=self.topic(topic), n=member.name, i=number)
        self.published[self.topic(topic), member.name, number] += 1
        return member.name, number

    def judge(self, heard: list[tuple[str, str, int]]) -> None:
        """Nothing twice, nothing that was not said, and of each publisher in its order."""
        assert [message for message, times in Counter(heard).items() if times > 1] == []
        assert set(heard) <= self.published.keys()
        for _, numbers in itertools.groupby(
            sorted(enumerate(heard), key=lambda each: (each[1][:2], each[0])),
            key=lambda each: each[1][:2],
        ):
            in_order = [number for _, (*_, number) in numbers]
            assert in_order == sorted(in_order)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_nodes_know_is_what_the_model_says(cluster: Cluster, seed: int) -> None:
    history = History(cluster, seed)
    try:
        for _ in range(STEPS):
            history.step()
    except BaseException:
        lines = [f"HISTORY_SEED={seed}", *history.story, *history.wrong]
        print(*lines, sep="\n")  # noqa: T201
        raise
