"""How much a node keeps for its apps: the bounds and the sums of the stand-in for one.

Pure: knows the options by their names and what the node counts for a row; must not know what is
kept, nor for whom.
"""

from typing import Any, NamedTuple

# What the node counts for a row beside its key and value, for one that is to be undone, and for a
# subscription (bytes, about).
ROW, EXPIRY, BINDING, SUBSCRIPTION = 200, 150, 250, 600


class Limits(NamedTuple):
    """The node's options, with their defaults."""

    state_max_bytes: int = 1 << 30
    state_max_rows: int = 10_000_000
    connection_state_max_bytes: int = 1 << 24
    connection_state_max_rows: int = 100_000
    connection_max_topics: int = 10_000


class Full(Exception):
    """Tell that it would be more than `limit` allows."""

    def __init__(self, limit: str, number: int) -> None:
        super().__init__(f"the option {limit} of this node, which is {number}, allows no more")


class Quota:
    """Count what is kept, all in all and for each connection."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.all = [0, 0]
        self._owners: dict[int, list[int]] = {}

    def take(self, size: int, rows: int, owner: int | None = None) -> None:
        """Count so many bytes and rows more, or fewer; raise `Full` if it were too many."""
        if owner is not None:
            of_owner = self._owners.setdefault(owner, [0, 0])
            self._check(of_owner, size, rows, "connection_state_max_bytes")
        self._check(self.all, size, rows, "state_max_bytes")
        _add(self.all, size, rows)
        if owner is not None:
            _add(of_owner, size, rows)

    def check_topics(self, subscriptions: int) -> None:
        """Raise `Full` if a connection with so many subscriptions may have no other."""
        if subscriptions >= (most := self.limits.connection_max_topics):
            raise Full("connection_max_topics", most)

    def _check(self, counts: list[int], size: int, rows: int, first: str) -> None:
        for count, more, limit in zip(counts, (size, rows), _pair(first), strict=True):
            most = getattr(self.limits, limit)
            if more > 0 and count + more > most:
                raise Full(limit, most)

    def forget(self, owner: int) -> None:
        """Count nothing any more of what a connection had by itself."""
        size, rows = self._owners.pop(owner, [0, 0])
        _add(self.all, -size, -rows)


def _pair(first: str) -> tuple[str, str]:
    return first, first.replace("bytes", "rows")


def _add(counts: list[int], size: int, rows: int) -> None:
    counts[0] += size
    counts[1] += rows


def key_bytes(key: Any) -> int:
    """Return about how many bytes a key takes in the node."""
    match key:
        case str():
            return len(key.encode())
        case bytes():
            return 32 + _in_words(len(key))
        case tuple():
            return 16 + sum(8 + _part_bytes(part) for part in key)
    return 0 if abs(key) < 1 << 59 else key.bit_length() // 8 + 5


def _part_bytes(part: Any) -> int:
    return _in_words(len(part.encode())) if isinstance(part, str) else key_bytes(part)


def _in_words(size: int) -> int:
    return 16 + (size + 7 & -8)


def value_bytes(packed: bytes, value: Any) -> int:
    """Return about how many bytes a value takes beside its row, which a counter has room in."""
    if isinstance(value, float) or (type(value) is int and abs(value) < 1 << 1000):
        return 0
    return len(packed)
