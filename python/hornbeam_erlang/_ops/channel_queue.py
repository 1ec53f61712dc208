"""The messages that wait in one channel in this process: how many have room, and for how long.

Knows deadlines, capacities and who waits. Must not know groups of a board, nor how messages come.
Safe from any thread.
"""

import math
import sys
import threading
from collections.abc import Callable
from typing import Any, cast

from hornbeam_erlang._ops.identity import WORKER
from hornbeam_erlang._ops.mailbox import IMMUTABLE, Home, Mailbox, Published


class Posted(Published):
    """A message that waits in channels no longer than until its deadline."""

    __slots__ = ("_is_flat", "deadline")

    def __init__(self, topic: str, packed: bytes, deadline: float) -> None:
        super().__init__(topic, packed)
        self._is_flat = False
        self.deadline = deadline

    def with_value(self, value: Any) -> "Posted":
        """Let the value be this; for a message that has one reader."""
        self._value = value
        return self

    # The hot path: each member of a group comes here.

    def for_one(self) -> dict[str, Any]:
        """Return the message, a dict that its reader may change."""
        if self._is_flat:
            return cast(dict[str, Any], self._value.copy())
        message: dict[str, Any] = self.value
        if IMMUTABLE.issuperset(map(type, message.values())):
            self._value, self._is_flat = message, True
            return message.copy()
        return message


class Queued(Posted):
    """A message of the node's queue, and its turn there."""

    __slots__ = ("turn",)

    def __init__(self, topic: str, packed: bytes, deadline: float, turn: int) -> None:
        super().__init__(topic, packed, deadline)
        self.turn = turn


class Channel(Mailbox):
    """One channel's messages in this process; past its capacity it takes no more.

    `now` tells the time by which messages expire. `changed` is called, while nothing is held, when
    no more messages have room, or some have expired.
    """

    __slots__ = (
        *("_changed", "_now", "capacity", "expired", "full_until", "groups", "name", "owner"),
        *("telling", "unread_since"),
    )

    def __init__(
        self,
        name: str,
        capacity: int,
        home: Home | None,
        now: Callable[[], float],
        changed: "Callable[[Channel], None]",
    ) -> None:
        # What its reader gives back is kept, however many there are.
        super().__init__(sys.maxsize, sys.maxsize, home)
        self._now = now
        self._changed = changed
        self.name = name
        self.capacity = capacity
        # Topics of the groups that it is in.
        self.groups: set[str] = set()
        # The connection whose code has put it into groups.
        self.owner = WORKER
        # Until when Erlang takes it for full, by what it was told last; 0 if it does not.
        self.full_until = 0.0
        # Held by who tells it.
        self.telling = threading.Lock()
        # When a message expired first since somebody last waited for one.
        self.unread_since = math.inf
        # How many have expired and nobody was told of.
        self.expired = 0

    def offer(self, message: Posted, at_home: bool) -> bool:
        """Take a message, unless there is no room for it."""
        # The hot path, as that of a mailbox: while one waits there nothing is kept.
        if at_home and (reader := self._reader) is not None:
            self._reader = None
            if not reader.done():
                reader.set_result(message)
                return True
        with self._lock:
            if len(self._messages) >= self.capacity:
                self._drop_expired()
            has_room = not self.closed and len(self._messages) < self.capacity
            waiters = self._keep(message, self._messages.append) if has_room else None
        if waiters is not None:
            self._notify(waiters)
        if self.expired or (has_room and len(self._messages) >= self.capacity):
            self._changed(self)
        return has_room

    def retire(self) -> bool:
        """Take nothing more, if nobody waits and nothing is there to be read; tell whether so."""
        with self._lock:
            self._drop_expired()
            self.closed = True  # first: who comes to wait sees it, or is seen here
            self.closed = not self._messages and not self.has_waiters
            return self.closed

    @property
    def has_room(self) -> bool:
        return len(self._messages) < self.capacity

    @property
    def is_known(self) -> bool:
        """Tell whether Erlang was told what is so: that it is full, or that it has room."""
        if self.has_room:
            return not self.full_until
        return self.full_until > self._now()

    def drop_expired(self) -> None:
        """Forget what nobody has read in time."""
        with self._lock:
            self._drop_expired()

    def take_expired(self) -> int:
        """Return how many have expired since this was last asked."""
        with self._lock:
            expired, self.expired = self.expired, 0
        return expired

    def no_room_until(self) -> float:
        """Return when the first of the messages expires for which others have no room, or 0."""
        with self._lock:
            self._drop_expired()
            return 0.0 if self.has_room else cast(Posted, self._messages[0]).deadline

    def clear(self) -> None:
        """Forget what waits."""
        while self.take() is not None:
            pass

    def _next(self) -> Published | None:
        self._drop_expired()
        return super()._next()

    def _drop_expired(self) -> None:
        if not self._messages:
            return
        now = self._now()
        while self._messages and cast(Posted, self._messages[0]).deadline <= now:
            super()._next()
            self.expired += 1
            self.unread_since = min(self.unread_since, now)


class SharedChannel(Channel):
    """A channel that other processes read too: what comes here is for who waits here.

    The node has counted that somebody waits, and counts him no more once a message is on its way.
    So that message does not expire here: nobody would send him another one.
    """

    __slots__ = ("waiting", "wanted")

    def __init__(self, name: str, home: Home | None, now: Callable[[], float]) -> None:
        super().__init__(name, sys.maxsize, home, now, lambda _: None)
        # How many wait here, and how many Erlang knows of.
        self.waiting = 0
        self.wanted = 0

    def retire(self) -> bool:
        """Take nothing more, if nobody waits."""
        return not self.waiting and super().retire()

    def _drop_expired(self) -> None:
        pass
