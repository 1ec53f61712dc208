"""Credit, both ways: what a stream may still send, and what it owes for what it has taken. Pure."""

from functools import lru_cache


class Account:
    """What one stream may still send: bytes and messages, both spent, both refilled."""

    __slots__ = ("bytes", "messages")

    def __init__(self, size: int, messages: int) -> None:
        self.bytes = size
        self.messages = messages

    @property
    def open(self) -> bool:
        """Tell whether one more message may be sent; it may overdraw the account."""
        return self.bytes > 0 and self.messages > 0

    def add(self, size: int, messages: int) -> None:
        self.bytes += size
        self.messages += messages


class Allowance:
    """What one stream has consumed of its window and not yet given back as credit."""

    __slots__ = ("_half_bytes", "_half_messages", "bytes", "messages")

    def __init__(self, size: int, messages: int) -> None:
        self._half_bytes = _half(size)
        self._half_messages = _half(messages)
        self.bytes = 0
        self.messages = 0

    def consume(self, size: int) -> bool:
        """Count one message; tell whether it is time to give credit."""
        self.bytes += size
        self.messages += 1
        return self.bytes >= self._half_bytes or self.messages >= self._half_messages

    def give(self) -> tuple[int, int]:
        """Return the bytes and messages to give, and start to count again."""
        given = self.bytes, self.messages
        self.bytes = self.messages = 0
        return given


@lru_cache(maxsize=16)
def _half(window: int) -> int:
    """Return the same number for all streams, each of which keeps it."""
    return max(window // 2, 1)
