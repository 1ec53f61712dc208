"""What other threads have the loop's thread send: their ops, in the order of each of them.

Knows pipes and the loop; must not know what an op says. Those that nobody asks about wait here for
room, and past a number of them their threads do.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from hornbeam_erlang._worker.pipes import Pipes
from hornbeam_erlang.exceptions import NotConnected

# Past this many that wait, threads wait before they put more.
MOST = 1024


class Inbox:
    """The ops of other threads, on their way to the loop's."""

    def __init__(self, pipes: Pipes, may_tell: Callable[[], bool]) -> None:
        self._pipes = pipes
        self._may_tell = may_tell
        # Whether one has to wait for room, and how it is sent.
        self._waiting: deque[tuple[bool, Callable[..., None], tuple[Any, ...]]] = deque()
        self._room = threading.Condition()
        self._drain_scheduled = False
        self._is_stopped = False
        pipes.on_room = self.drain_if_stalled

    def wait_for_room(self, seconds: float) -> bool:
        """Block until one more may be put; return False if it may not in so many seconds."""
        if self._has_room():
            return True
        with self._room:
            return self._room.wait_for(self._has_room, seconds)

    def _has_room(self) -> bool:
        return len(self._waiting) < MOST or self._is_stopped

    def put(self, send: Callable[..., None], *args: Any) -> None:
        """Let the loop's thread call `send`; raises `NotConnected` when the loop has ended."""
        self._put((False, send, args))

    def put_tell(self, send: Callable[..., None], *args: Any) -> None:
        """Let it do so once there is room for one more op that nobody waits for."""
        self._put((True, send, args))

    def _put(self, item: tuple[bool, Callable[..., None], tuple[Any, ...]]) -> None:
        if self._is_stopped:
            raise stopped()
        self._waiting.append(item)
        if not self._drain_scheduled:
            self._drain_scheduled = True
            try:
                self._pipes.loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop has been closed
                raise stopped() from None

    def _drain(self) -> None:
        self._drain_scheduled = False
        waiting, pipes = self._waiting, self._pipes
        while waiting:
            if waiting[0][0] and not self._may_tell():
                pipes.flush()
                if not self._may_tell():
                    break  # until `drain_if_stalled`
            _, send, args = waiting.popleft()
            send(*args)
            del send, args  # or what an op was sent by would be held here when it is written
        pipes.flush()
        if self._has_room():
            with self._room:
                self._room.notify_all()

    def drain_if_stalled(self) -> None:
        """Send what has waited for room, if there is some now."""
        if self._waiting and not self._drain_scheduled and self._pipes.owner is not None:
            self._drain_scheduled = True
            self._pipes.loop.call_soon(self._drain)

    def stop(self) -> None:
        """Tell the threads that wait that the loop has ended."""
        with self._room:
            self._is_stopped = True
            self._room.notify_all()


def stopped() -> NotConnected:
    """Return what an op raises whose answer will not come."""
    return NotConnected("the worker has stopped; Erlang's answer will not come")
