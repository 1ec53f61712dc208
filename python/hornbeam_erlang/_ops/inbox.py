"""What threads have the one that owns the wire send: their ops, in the order of each of them.

Knows how that thread is woken; must not know what an op says. What waits here is in front of
whatever it writes next. Threads wait (`Room`) for room for ops that nobody asks about; of those for
which there is none when their turn comes, the answer is asked for.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from hornbeam_erlang.exceptions import NotConnected

# Past this many that wait, threads wait before they put more.
MOST = 1024


class Room:
    """Where threads wait until more may be sent."""

    def __init__(self, has_room: Callable[[], bool]) -> None:
        self._has_room = has_room
        self._changed = threading.Condition()
        self._sleepers = 0
        self.is_over = False

    def wait(self, seconds: float) -> bool:
        """Block until there is room, or nothing can be sent any more; False if it is too late."""
        if self._may_go_on():
            return True
        with self._changed:
            self._sleepers += 1
            try:
                return self._changed.wait_for(self._may_go_on, seconds)
            finally:
                self._sleepers -= 1

    def _may_go_on(self) -> bool:
        return self.is_over or self._has_room()

    def wake(self) -> None:
        """Let threads go on if there is room for what they send."""
        if self._sleepers and self._may_go_on():
            with self._changed:
                self._changed.notify_all()

    def end(self) -> None:
        """Let those go on who wait: nothing can be sent any more."""
        with self._changed:
            self.is_over = True
            self._changed.notify_all()


class Inbox:
    """The ops of other threads, on their way to the owner's.

    `notify` has the owner's thread call `drain` soon; it raises `RuntimeError` when there is no
    such thread any more. `ended` makes what is raised then.
    """

    def __init__(
        self,
        notify: Callable[[], None],
        may_tell: Callable[[], bool],
        ended: Callable[[], NotConnected],
    ) -> None:
        self._notify = notify
        self._may_tell = may_tell
        self._ended = ended
        # Whether one needs room, and how it is sent.
        self.waiting: deque[tuple[bool, Callable[..., None], tuple[Any, ...]]] = deque()
        self._room = Room(lambda: len(self.waiting) < MOST and self._may_tell())
        self.wait_for_room, self.wake = self._room.wait, self._room.wake
        self._is_notified = False

    def put(self, send: Callable[..., None], *args: Any) -> None:
        """Let the owner's thread call `send`; raises `NotConnected` when that has ended."""
        self._put((False, send, args))

    def put_tell(self, send: Callable[..., None], *args: Any) -> None:
        """Let it do so with one more argument: whether there is no room, and the answer is asked
        for."""
        self._put((True, send, args))

    def _put(self, item: tuple[bool, Callable[..., None], tuple[Any, ...]]) -> None:
        if self._room.is_over:
            raise self._ended()
        self.waiting.append(item)
        if not self._is_notified:
            self._is_notified = True
            try:
                self._notify()
            except RuntimeError:
                raise self._ended() from None

    def stop(self) -> None:
        """Tell the threads that wait that the owner has ended."""
        self._room.end()

    # In the owner's thread

    def drain(self) -> None:
        """Send what waits; who puts something from now on notifies again."""
        self._is_notified = False
        self.take()

    def take(self) -> None:
        """Send what waits, though the owner is about to be told of more."""
        waiting = self.waiting
        while waiting:
            is_tell, send, args = waiting.popleft()
            if is_tell:
                send(*args, not self._may_tell())
            elif not self._room.is_over:  # who has called was told that no answer will come
                send(*args)
            del send, args  # or what an op was sent by would be held here when it is written
