"""A node that stands still: what the others do meanwhile, and what they say that it did not get."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from consoles import Console
from harness import eventually
from identities import Authority
from members import Cluster, Member
from topics import Listeners

GUARD = 5.0
"""Seconds in which everything is to be done that takes milliseconds on a quiet machine."""

BLOCK, RATE = 16384, 125
"""Bytes of a message, and messages a second: two megabytes."""

STALL = 6.0
"""Seconds that a node stands still while the others still hold it for alive."""


@pytest.fixture
def cluster(make: Callable[..., Cluster]) -> Cluster:
    """Two workers a node, whose sockets outlive them."""
    return make("--workers", "2", "--websocket-resume").start()


class Flood:
    """Two megabytes a second from one node to a subscriber on another."""

    def __init__(self, publisher: Member, subscriber: Member) -> None:
        self.topic = uuid.uuid4().hex
        self.subscriber = subscriber.console()
        self.subscriber(
            """
            heard = []
            async def hear():
                async for _ in aio.messages():
                    heard.append(1)
            subscribe(t)
            hearing = asyncio.create_task(hear())
            """,
            t=self.topic,
        )
        self.publisher = publisher.console()
        eventually(lambda: self.publisher("publish(t, '')", t=self.topic) == 1)
        self.published = self.heard()

    def begin(self) -> None:
        self.publisher(
            """
            handed = []
            async def flood(message, pause):
                while True:
                    handed.append(await aio.publish(t, message))
                    await asyncio.sleep(pause)
            flooding = asyncio.create_task(flood("x" * size, 1 / rate))
            """,
            t=self.topic,
            size=BLOCK,
            rate=RATE,
        )

    def end(self) -> int:
        """Say to how many it was handed; the last one may not be among them."""
        return self.publisher("flooding.cancel(); sum(handed)")

    def heard(self) -> int:
        return self.subscriber("len(heard)")


@contextmanager
def stalled(member: Member) -> Iterator[None]:
    member.stall()
    try:
        yield
    finally:
        member.resume()


def within_guard(do: Callable[[], object]) -> float:
    begun = time.monotonic()
    do()
    took = time.monotonic() - begun
    assert took < GUARD
    return took


def test_who_serves_waits_for_no_node_that_stands_still(cluster, record_property):
    one, two, three = cluster.members
    between = Listeners([one, two])
    flood = Flood(one, three)
    longest = {"subscribe": 0.0, "cross": 0.0, "resume": 0.0}
    with stalled(three):
        flood.begin()
        end = time.monotonic() + STALL
        while time.monotonic() < end:
            socket = apart(one, flood.publisher)
            steps = {
                "subscribe": lambda: subscribe(one),
                "cross": lambda: crossing(between),
                "resume": lambda socket=socket: resumed(socket),
            }
            for name, step in steps.items():
                longest[name] = max(longest[name], within_guard(step))
            socket.leave()
        flood.end()
        assert three.name in one.knows()
    record_property("longest", longest)


def subscribe(member: Member) -> None:
    member("subscribe(t); unsubscribe(t)", t=uuid.uuid4().hex)


def crossing(listeners: Listeners) -> None:
    assert listeners.is_right()


def resumed(socket: Console) -> None:
    """Kill a socket's worker: it goes on in another."""
    os.kill(socket.pid, signal.SIGKILL)
    assert socket("os.getpid()") != socket.pid


def apart(member: Member, beside: Console) -> Console:
    """Open a socket in another worker than that of one that there is."""
    while (socket := member.console()).pid == beside.pid:
        socket.leave()
    return socket


def test_what_a_node_did_not_get_is_counted_where_it_was_published(cluster):
    one, _, three = cluster.members
    flood = Flood(one, three)
    with stalled(three):
        flood.begin()
        eventually(lambda: three.name not in one.knows(), 30)
        handed = flood.end()
    eventually(lambda: three.name in one.knows(), 30)
    eventually(lambda: one("publish(t, '')", t=flood.topic) == 1)
    missing = handed - (flood.heard() - 1)
    losses = one.erlang("hornbeam_pubsub", "losses")
    assert 0 < missing <= losses.get("link", 0) + losses.get("cut", 0) <= handed + 1


@pytest.mark.parametrize("carrier", ["tcp", "tls"])
def test_a_node_ends_in_time_while_another_stands_still(make, tmp_path, carrier):
    cluster = make()
    if carrier == "tls":
        speak_tls(cluster.members, made(tmp_path / "authority"))
    one, _, three = cluster.start().members
    flood = Flood(one, three)
    with stalled(three):
        flood.begin()
        eventually(lambda: flood.publisher("len(handed)") > RATE)
        # More than the machines between them take, so that the node has much to write.
        one(
            """
            for _ in range(20):
                rpc_cast(n, 'erlang', 'byte_size', [bytes(1 << 20)])
            node()
            """,
            n=three.name,
        )
        begun = time.monotonic()
        assert one.stop() == 0
        assert time.monotonic() - begun < 3 * GUARD


def speak_tls(members: list[Member], folder: Path) -> None:
    authority = Authority(folder)
    for member in members:
        identity = authority.server()
        member.words += [
            *("--cluster-certfile", str(identity.certfile)),
            *("--cluster-keyfile", str(identity.keyfile)),
            *("--cluster-cacertfile", str(authority.cafile)),
        ]


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder
