"""What other threads have the loop's thread send: their ops, in the order of each of them.

Knows pipes and the loop; must not know what an op says. They are in front of whatever the loop's
thread writes next. Threads wait here for room for ops that nobody asks about; of those for which
there is none when their turn comes, the answer is asked for.
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
        # Whether one needs room, and how it is sent.
        self._waiting: deque[tuple[bool, Callable[..., None], tuple[Any, ...]]] = deque()
        pipes.inbox, pipes.take_inbox = self._waiting, self._take
        self._room = threading.Condition()
        self._sleepers = 0
        self._drain_scheduled = False
        self._is_stopped = False
        pipes.on_room = self.wake

    def wait_for_room(self, seconds: float) -> bool:
        """Block until one more may be put; return False if it may not in so many seconds."""
        if self._has_room():
            return True
        with self._room:
            self._sleepers += 1
            try:
                return self._room.wait_for(self._has_room, seconds)
            finally:
                self._sleepers -= 1

    def _has_room(self) -> bool:
        return self._is_stopped or (len(self._waiting) < MOST and self._may_tell())

    def put(self, send: Callable[..., None], *args: Any) -> None:
        """Let the loop's thread call `send`; raises `NotConnected` when the loop has ended."""
        self._put((False, send, args))

    def put_tell(self, send: Callable[..., None], *args: Any) -> None:
        """Let it do so with one more argument: whether there is no room, and the answer is asked
        for."""
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
        self._take()
        self._pipes.flush()
        self.wake()

    def _take(self) -> None:
        waiting = self._waiting
        while waiting:
            is_tell, send, args = waiting.popleft()
            if is_tell:
                send(*args, not self._may_tell())
            else:
                send(*args)
            del send, args  # or what an op was sent by would be held here when it is written

    def wake(self) -> None:
        """Let threads go on if there is room for what they send."""
        if self._sleepers and self._has_room():
            with self._room:
                self._room.notify_all()

    def stop(self) -> None:
        """Tell the threads that wait that the loop has ended."""
        with self._room:
            self._is_stopped = True
            self._room.notify_all()


def stopped() -> NotConnected:
    """Return what an op raises whose answer will not come."""
    return NotConnected("the worker has stopped; Erlang's answer will not come")
