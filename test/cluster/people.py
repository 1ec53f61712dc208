"""Who is present on which node, and what they have counted."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from consoles import Console
from harness import eventually
from members import Member
from topics import SETTLED


class People:
    """Somebody on each of some nodes, in a topic that nobody else has; each has counted one."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.topic = uuid.uuid4().hex
        self.visits = self.n = 0
        self.consoles: dict[Member, Console] = {}
        for member in members:
            self.come(member)

    def come(self, member: Member) -> None:
        """Be present on a node, and count: as a visit, and as a socket as long as this lasts."""
        self.consoles[member] = member.console()
        self.consoles[member](
            """
            presence.track(t, node(), {"n": n})
            state_incr((t, "visits"), cluster=True)
            state_incr((t, "sockets"), cluster=True, scope="connection")
            """,
            t=self.topic,
            n=self.n,
        )
        self.visits += 1

    def forget(self, member: Member) -> None:
        """Expect nobody on a node any more."""
        del self.consoles[member]

    def change(self, n: int) -> None:
        """Give everybody another meta."""
        for console in self.consoles.values():
            console("presence.update(t, node(), {'n': n}) != ''", t=self.topic, n=n)
        self.n = n

    def settled(self, limit: float = SETTLED) -> None:
        """Wait until all nodes list the same people, and count the same."""
        eventually(self.is_right, limit)

    def is_right(self) -> bool:
        names = sorted(member.name for member in self.consoles)
        right = [names, len(names), self.visits, len(names), [self.n] * len(names)]
        return all(self.seen_from(member) == right for member in self.consoles)

    def seen_from(self, member: Member) -> list[object]:
        """Return who is listed on a node, how many, both counters, and everybody's meta."""
        return self.consoles[member](  # type: ignore[no-any-return]
            """
            [sorted(presence.list(t)), presence.count(t), state_get((t, "visits"), cluster=True),
             state_get((t, "sockets"), cluster=True),
             [meta["n"] for found in presence.list(t).values() for meta in found["metas"]]]
            """,
            t=self.topic,
        )
