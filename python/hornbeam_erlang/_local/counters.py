"""Counters of all nodes, in memory: of the one that there is.

Knows connections by their numbers.
"""

from typing import Any

from hornbeam_erlang._local.numbers import total
from hornbeam_erlang._local.quota import Quota, key_bytes

# What the node counts for a column, and for what a connection has added (bytes, about).
COLUMN, ADDED = 250, 200


class Counters:
    """All of them: what lasts, and what each connection has added."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._lasting: dict[Any, Any] = {}
        self._added: dict[int, dict[Any, Any]] = {}

    def incr(self, number: int, key: Any, delta: Any, scoped: bool) -> Any:
        """Add to a counter and return the sum; raises `OverflowError`."""
        mine = self._added.get(number, {}) if scoped else self._lasting
        part = total(mine.get(key, 0), delta)
        sum_of_all = total(self.get(key) or 0, delta)
        if key not in mine:
            self._take(number if scoped else None, key, 1)
        if scoped:
            mine = self._added.setdefault(number, {})
        mine[key] = part
        return sum_of_all

    def get(self, key: Any) -> Any:
        """Return what has been counted, or None."""
        parts = [each[key] for each in (self._lasting, *self._added.values()) if key in each]
        return sum(parts) if parts else None

    def forget(self, number: int) -> None:
        """Take back what a connection that has ended has added."""
        for key in self._added.pop(number, {}):
            self._take(number, key, -1)

    def _take(self, owner: int | None, key: Any, rows: int) -> None:
        size = (COLUMN if owner is None else COLUMN + ADDED) + key_bytes(key)
        self._quota.take(rows * size, rows, owner)
