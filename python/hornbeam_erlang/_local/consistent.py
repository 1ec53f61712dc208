"""Consistent state in memory: of one node, which agrees with itself.

Knows values as they are packed. Must not know who asks.
"""

from collections.abc import Callable
from typing import Any

from hornbeam_erlang._local.quota import key_bytes, value_bytes
from hornbeam_erlang._wire.values import pack, unpack

# What a value has at most, what all keys and values have, and what a row takes beside them (bytes).
MOST, MOST_IN_ALL, ROW = 1 << 20, 1 << 26, 100


class TooMuch(Exception):
    """Tell that there is no room for it, as the node does."""


class Consistent:
    """All of it; `same` compares two values as the node does, `added` adds as it does.

    Whoever changes a row raises `TooMuch` for a value that is too large, or when there is no room.
    """

    def __init__(self, same: Callable[[Any, Any], bool], added: Callable[[Any, Any], Any]) -> None:
        self._same = same
        self._added = added
        self._rows: dict[Any, bytes] = {}
        self._bytes = 0

    def get(self, key: Any) -> bytes | None:
        """Return a value, if there is one."""
        return self._rows.get(key)

    def set(self, key: Any, packed: bytes) -> None:
        """Set a key."""
        _check(packed)
        self._put(key, packed)

    def add(self, key: Any, packed: bytes) -> bool:
        """Set a key that is absent; tell whether it was."""
        _check(packed)
        if key in self._rows:
            return False
        self._put(key, packed)
        return True

    def cas(self, key: Any, old: bytes, new: bytes) -> bool:
        """Put a value in the place of another; tell whether that was there."""
        _check(old, new)
        if key not in self._rows or not self._same(unpack(self._rows[key]), unpack(old)):
            return False
        self._put(key, new)
        return True

    def delete(self, key: Any) -> bool:
        """Delete a key; tell whether it was there."""
        packed = self._rows.pop(key, None)
        if packed is not None:
            self._bytes -= _row_bytes(key, packed)
        return packed is not None

    def incr(self, key: Any, delta: Any) -> Any:
        """Add to a number; raises `TypeError` for what is none, `OverflowError` past the range."""
        value = unpack(self._rows[key]) if key in self._rows else 0
        if type(value) not in (int, float):
            raise TypeError
        total = self._added(value, delta) if key in self._rows else delta
        self._put(key, pack(total))
        return total

    def _put(self, key: Any, packed: bytes) -> None:
        old = self._rows.get(key)
        less = 0 if old is None else _row_bytes(key, old)
        total = self._bytes - less + _row_bytes(key, packed)
        if total > max(MOST_IN_ALL, self._bytes):
            raise TooMuch("the consistent state has 64 MiB at most")
        self._rows[key] = packed
        self._bytes = total


def _check(*values: bytes) -> None:
    if max(map(_packed_bytes, values)) > MOST:
        raise TooMuch("a value of the consistent state has 1 MiB at most")


def _packed_bytes(packed: bytes) -> int:
    """Return how many bytes a value has as it is packed; numbers are not."""
    return 0 if type(unpack(packed)) in (int, float) else len(packed)


def _row_bytes(key: Any, packed: bytes) -> int:
    return ROW + key_bytes(key) + value_bytes(packed, unpack(packed))
