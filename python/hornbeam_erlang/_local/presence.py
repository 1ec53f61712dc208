"""Who is present, in memory, and what those who watch are told of it.

Knows connections by their numbers, and metas as they are packed. Must not know who watches.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hornbeam_erlang._local.quota import Quota
from hornbeam_erlang._ops.roster import TOPICS, Members, Meta
from hornbeam_erlang._wire.values import pack, unpack

# What the node counts for a row beside what is counted of each part (bytes, about).
ROW = 600


@dataclass(frozen=True, slots=True)
class Row:
    """A connection's presence in a topic: its place among all, its meta and its refs."""

    place: int
    packed: bytes
    ref: str
    before: str | None = None

    def meta(self) -> Meta:
        """Return what is shown of it."""
        shown: Meta = {**unpack(self.packed), "phx_ref": self.ref}
        return shown if self.before is None else {**shown, "phx_ref_prev": self.before}


class Presences:
    """All of them; `publish` sends a packed value to a topic."""

    def __init__(self, quota: Quota, publish: Callable[[str, bytes], Any]) -> None:
        self._quota = quota
        self._publish = publish
        self._rows: dict[tuple[int, str, str], Row] = {}
        self._numbers = itertools.count(1)

    def track(self, number: int, topic: str, key: str, packed: bytes) -> str:
        """Let a connection be present, or change its meta; return its ref."""
        old = self._rows.get((number, topic, key))
        if old is not None and old.packed == packed:
            return old.ref
        size = len(packed) - len(old.packed) if old else _bytes(topic, key, packed)
        self._quota.take(size, 0 if old else 1, number)
        place = next(self._numbers)
        new = Row(old.place if old else place, packed, f"ref{place}", old.ref if old else None)
        self._rows[number, topic, key] = new
        self._tell(topic, key, new, old)
        return new.ref

    def is_present(self, number: int, topic: str, key: str) -> bool:
        """Tell whether a connection is present."""
        return (number, topic, key) in self._rows

    def untrack(self, number: int, topic: str, key: str) -> bool:
        """Let a connection be present no more; tell whether it was."""
        old = self._rows.pop((number, topic, key), None)
        if old is not None:
            self._quota.take(-_bytes(topic, key, old.packed), -1, number)
            self._tell(topic, key, None, old)
        return old is not None

    def forget(self, number: int) -> None:
        """Let a connection that has ended be present nowhere."""
        for owner, topic, key in [*self._rows]:
            if owner == number:
                self.untrack(number, topic, key)

    def members(self, topic: str) -> Members:
        """Return who is present."""
        found = [(key, row) for (_, at, key), row in self._rows.items() if at == topic]
        members: Members = {}
        for key, row in sorted(found, key=lambda member: (member[0].encode(), member[1].place)):
            members.setdefault(key, {"metas": []})["metas"].append(row.meta())
        return members

    def message(self, topic: str, event: str, payload: Any) -> bytes:
        """Return what those who watch are told."""
        return pack({"topic": topic, "event": event, "payload": payload})

    def _tell(self, topic: str, key: str, new: Row | None, old: Row | None) -> None:
        joins, leaves = ({key: {"metas": [row.meta()]}} if row else {} for row in (new, old))
        payload = {"joins": joins, "leaves": leaves}
        self._publish(TOPICS + topic, self.message(topic, "presence_diff", payload))


def _bytes(topic: str, key: str, packed: bytes) -> int:
    return ROW + 3 * (len(topic.encode()) + len(key.encode())) + len(packed)
