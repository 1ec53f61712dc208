"""A cluster is upgraded node by node, under load, by one whose protocol is the next."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from calling import Calling
from harness import ROOT, eventually
from members import Cluster, Member
from topics import Listeners

HELLO = ROOT / "apps" / "hornbeam" / "src" / "cluster" / "hornbeam_link_hello.erl"

LIMIT = 30.0


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The code of nodes that speak version 2 of the protocol, and 1 as well."""
    folder = tmp_path / "later"
    folder.mkdir()
    words = ["erlc", "-DVERSION=2", "-o", str(folder), str(HELLO)]
    subprocess.run(words, check=True, timeout=60)
    return folder


class Stream:
    """Numbers that one node publishes and another hears."""

    def __init__(self, publisher: Member, subscriber: Member) -> None:
        self.topic = uuid.uuid4().hex
        self.subscriber = subscriber.console()
        self.subscriber(
            """
            heard = []
            async def hear():
                async for message in aio.messages():
                    heard.append(message.value)
            subscribe(t)
            hearing = asyncio.create_task(hear())
            """,
            t=self.topic,
        )
        self.publisher = publisher.console()
        eventually(lambda: self.publisher("publish(t, -1)", t=self.topic) == 1)
        self.publisher(
            """
            async def flow():
                for number in itertools.count():
                    assert await aio.publish(t, number) == 1
                    await asyncio.sleep(0.001)
            import itertools
            flowing = asyncio.create_task(flow())
            """,
            t=self.topic,
        )

    def numbers(self) -> list[int]:
        """End it; return what was heard, without what was said to try."""
        last = self.publisher(
            """
            flowing.cancel()
            await asyncio.wait([flowing])
            assert flowing.cancelled(), flowing.exception()
            publish(t, 'last').result()
            """,
            t=self.topic,
        )
        assert last == 1
        heard = eventually(lambda: (all_ := self.heard())[-1:] == ["last"] and all_)
        return [value for value in heard if isinstance(value, int) and value >= 0]

    def heard(self) -> list[int | str]:
        return self.subscriber("heard")


def test_a_cluster_is_upgraded_node_by_node_under_load(make: Callable[..., Cluster], later: Path):
    """What is published and called on the others goes on, and who was on the one comes back."""
    cluster = make().start()
    for turn, member in enumerate(cluster.members):
        other, another = (each for each in cluster.members if each is not member)
        streams = [Stream(other, another), Stream(another, other)]
        listeners = Listeners(cluster.members)
        with Calling(other, [member, another], f"service{turn}") as calling:
            listeners.forget(member)
            assert member.stop() == 0
            listeners.settled()
            member.variables["ERL_ZFLAGS"] = f"-pa {later}"
            member.restart()
            cluster.joined()
            eventually(lambda turn=turn: spoken(cluster) == expected(turn), LIMIT)
            listeners.listen(member)
            listeners.settled()
            calling.serve(member)
            calling.reaches(member)
            assert calling.failed() == []
        for numbers in (stream.numbers() for stream in streams):
            assert len(numbers) > 100
            assert numbers == list(range(len(numbers)))


def spoken(cluster: Cluster) -> list[list[int]]:
    """Return which versions each node speaks with the others, in the order of their names."""
    return [
        [peer["protocol"] for peer in peers(member) if peer["state"] == "up"]
        for member in cluster.members
    ]


def peers(member: Member) -> list[dict]:
    return member.erlang("hornbeam_cluster_status", "peers")


def expected(turn: int) -> list[list[int]]:
    """Return what is spoken when so many, and one more, have been upgraded."""
    version = [2 if number <= turn else 1 for number in range(3)]
    return [
        [min(version[one], version[other]) for other in range(3) if other != one]
        for one in range(3)
    ]
