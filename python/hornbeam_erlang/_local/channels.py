"""Channels in memory: queues that anybody may read, and which channels of processes are full.

Knows channels by their topics and messages as they are packed. Must not know who reads them.
"""

import itertools
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from hornbeam_erlang._wire.values import pack

T = TypeVar("T")

# A packed array of five, whose first elements are packed before the message.
_FIVE = b"\x95"


class Waiting(NamedTuple):
    """A message, its turn, and until when it is worth something (seconds of the clock)."""

    turn: int
    packed: bytes
    until: float


class Member(NamedTuple):
    """How long a channel is in a group, how long its messages wait, and how many may."""

    until: float
    message_ttl: int
    capacity: int


class Channels:
    """All of them; `publish` sends a packed value to a topic and returns to how many."""

    def __init__(self, clock: Callable[[], float], publish: Callable[[str, bytes], int]) -> None:
        self._clock = clock
        self._publish = publish
        self._queues: dict[str, deque[Waiting]] = {}
        self._wants: dict[str, deque[str]] = {}
        self._full: dict[str, float] = {}
        self._groups: dict[str, dict[str, Member]] = {}
        self._turns = itertools.count(1)
        # How many messages were "full" or "expired".
        self.lost: Counter[str] = Counter()

    def put(self, channel: str, packed: bytes, ttl: int, capacity: int) -> bool:
        """Put a message into a channel; tell whether there was room."""
        queue = self._living(channel)
        if len(queue) >= capacity:
            return False
        queue.append(Waiting(next(self._turns), packed, self._clock() + ttl / 1000))
        self._send_wanted(channel)
        return True

    def put_back(self, channel: str, turn: int, packed: bytes, ttl: int) -> None:
        """Let a message wait again at its turn."""
        back = Waiting(turn, packed, self._clock() + ttl / 1000)
        self._queues[channel] = deque(sorted([*self._living(channel), back]))
        self._send_wanted(channel)

    def want(self, channel: str, address: str, more: bool) -> None:
        """Let one more, or one less, wait at an address."""
        wants = self._wants.setdefault(channel, deque())
        if more:
            wants.append(address)
            self._send_wanted(channel)
        elif address in wants:
            wants.remove(address)

    def _living(self, channel: str) -> deque[Waiting]:
        """Return a channel's messages without those that are past their time."""
        for name in [name for name, queue in self._queues.items() if not queue]:
            del self._queues[name]
        queue = self._queues.setdefault(channel, deque())
        while queue and queue[0].until <= self._clock():
            queue.popleft()
            self.note_lost(1, True)
        return queue

    def _send_wanted(self, channel: str) -> None:
        queue, wants = self._living(channel), self._wants.get(channel)
        while queue and wants:
            message, address = queue.popleft(), wants.popleft()
            left = max(int((message.until - self._clock()) * 1000), 1)
            head = _FIVE + pack("queued") + pack(channel) + pack(message.turn) + pack(left)
            if not self._publish(address, head + message.packed):
                queue.appendleft(message)

    def send(self, channel: str, address: str, packed: bytes) -> bool:
        """Send what a process is to put into a channel of its own; tell whether that has room."""
        if self._full.get(channel, 0) > self._clock():
            return False
        self._publish(address, packed)
        return True

    def set_full(self, channel: str, full: bool, ttl: int) -> None:
        """Note that a channel of a process is full, or is no more."""
        self._full[channel] = self._clock() + ttl / 1000 if full else 0

    def join(self, group: str, channel: str, member: Member) -> None:
        """Let what is published to a group go into a channel."""
        self._groups.setdefault(group, {})[channel] = member

    def leave(self, group: str, channel: str) -> None:
        """Let it go there no more."""
        self._groups.get(group, {}).pop(channel, None)

    def distribute(self, group: str, packed: bytes) -> int:
        """Put what is published to a group into its channels; return 1 if there are any."""
        members = self._groups.get(group, {})
        living = {name: member for name, member in members.items() if member.until > self._clock()}
        for channel, member in living.items():
            if not self.put(channel, packed, member.message_ttl, member.capacity):
                self.note_lost(1, False)
        return min(len(living), 1)

    def note_lost(self, messages: int, expired: bool) -> None:
        """Count messages that nobody gets."""
        self.lost["expired" if expired else "full"] += messages

    def clear(self, prefix: str) -> None:
        """Forget all whose names begin so."""
        self._queues = _others(self._queues, prefix)
        self._full = _others(self._full, prefix)
        self._groups = _others(self._groups, prefix)


def _others(names: dict[str, T], prefix: str) -> dict[str, T]:
    return {name: value for name, value in names.items() if not name.startswith(prefix)}
