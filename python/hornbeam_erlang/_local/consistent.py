"""Consistent state in memory: of one node, which agrees with itself.

Knows values as they are packed. Must not know who asks.
"""

from collections.abc import Callable
from typing import Any

from hornbeam_erlang._wire.values import pack, unpack


class Consistent:
    """All of it; `same` compares two values as the node does, `added` adds as it does."""

    def __init__(self, same: Callable[[Any, Any], bool], added: Callable[[Any, Any], Any]) -> None:
        self._same = same
        self._added = added
        self._rows: dict[Any, bytes] = {}

    def get(self, key: Any) -> bytes | None:
        """Return a value, if there is one."""
        return self._rows.get(key)

    def set(self, key: Any, packed: bytes) -> None:
        """Set a key."""
        self._rows[key] = packed

    def add(self, key: Any, packed: bytes) -> bool:
        """Set a key that is absent; tell whether it was."""
        return self._rows.setdefault(key, packed) is packed

    def cas(self, key: Any, old: bytes, new: bytes) -> bool:
        """Put a value in the place of another; tell whether that was there."""
        if key not in self._rows or not self._same(unpack(self._rows[key]), unpack(old)):
            return False
        self._rows[key] = new
        return True

    def delete(self, key: Any) -> bool:
        """Delete a key; tell whether it was there."""
        return self._rows.pop(key, None) is not None

    def incr(self, key: Any, delta: Any) -> Any:
        """Add to a number; raises `TypeError` for what is none, `OverflowError` past the range."""
        value = unpack(self._rows[key]) if key in self._rows else 0
        if type(value) not in (int, float):
            raise TypeError
        total = self._added(value, delta) if key in self._rows else delta
        self._rows[key] = pack(total)
        return total
