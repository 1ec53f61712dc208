"""Who hears what is published on which node."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from consoles import Console
from harness import eventually
from members import Member

SETTLED = 10.0
"""Seconds after the healing of a network in which every publish is right everywhere."""


class Listeners:
    """A subscriber on each of some nodes, to a topic that nobody else has."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.topic = uuid.uuid4().hex
        self.consoles: dict[Member, Console] = {}
        for member in members:
            self.listen(member)

    def listen(self, member: Member) -> None:
        """Subscribe on a node, also one that was started anew."""
        self.consoles[member] = member.console()
        self.consoles[member]("subscribe(t)", t=self.topic)

    def forget(self, member: Member) -> None:
        """Expect nothing more of a node, and publish nothing on it until it listens again."""
        del self.consoles[member]

    def settled(self, limit: float = SETTLED) -> None:
        """Wait until what is published on each node is handed to all, and all hear it."""
        eventually(self.is_right, limit)

    def is_right(self) -> bool:
        everybody = (len(self.consoles), len(self.consoles))
        return all(self.heard_of(member) == everybody for member in self.consoles)

    def heard_of(self, publisher: Member) -> tuple[int, int]:
        """Publish on a node; return to how many that was handed, and how many heard it at once."""
        message = uuid.uuid4().hex
        handed = publisher("publish(t, m)", t=self.topic, m=message)
        return handed, sum(self._hears(console, message) for console in self.consoles.values())

    def _hears(self, console: Console, message: str) -> bool:
        """Say whether a message comes within a second; what came before it was of tries before."""
        return console(
            """
            async def wait(message):
                while (await aio.receive_pubsub())[1] != message:
                    pass
                return True
            try:
                heard = await asyncio.wait_for(wait(m), 1)
            except TimeoutError:
                heard = False
            heard
            """,
            m=message,
        )
