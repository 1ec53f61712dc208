"""Threads for plain functions: one takes all the work, and others join it while work has to wait.

Knows threads and the loop; must not know what the work is. A thread for each function at once
would spend more on handing over the interpreter than on short functions; one thread alone would
let a function that waits for a database hold up all others.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any

from hornbeam_erlang._worker.logs import Log

# Work that has waited so long gets another thread (seconds).
PATIENCE = 0.002

# So many threads at most: what anyio, and with it Starlette, allows by default.
MOST = 40

# How long a thread that joined stays without work (seconds).
LINGER = 1.0

_log = Log("hornbeam.app")

Work = Callable[[], Any]
Done = Callable[[Any], None]


class Crew:
    """Threads that run work for one loop.

    One that is not needed any more ends. With `stays` it waits until it is: what an app keeps by
    thread, such as the connection to a database, is not to be made anew all the time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        most: int = MOST,
        name: str = "hornbeam-call",
        *,
        stays: bool = False,
    ) -> None:
        self._loop = loop
        self._most = most
        self._name = name
        self._stays = stays
        # What follows in the loop is not to run in the context of a thread.
        self._context = copy_context()
        self._queue: SimpleQueue[tuple[Work, Done]] = SimpleQueue()
        self._submitted = 0
        self._watching = False
        # Those that take work, and those that wait until they are to.
        self._threads = 0
        self._resting = 0
        # Whether the system has just refused one.
        self._is_short = False
        self._recalls: SimpleQueue[None] = SimpleQueue()
        self._leaving = threading.Lock()
        self._results: deque[tuple[Done, Any]] = deque()
        self._is_notified = False

    def submit(self, work: Work, done: Done) -> None:
        """Run `work` in a thread, then `done` with its result in the loop; called in the loop.

        `work` must not raise.
        """
        self._queue.put((work, done))
        self._submitted += 1
        if not self._watching:
            self._watching = True
            if self._threads == 0:
                self._join()
            self._loop.call_later(PATIENCE, self._look, self._submitted)

    def _look(self, submitted: int) -> None:
        """Let another thread join if some of the first `submitted` pieces of work still wait."""
        waiting = self._queue.qsize()
        if waiting > self._submitted - submitted and self._threads < self._most:
            self._join()
        self._watching = waiting > 0 and self._threads < self._most
        if self._watching:
            self._loop.call_later(PATIENCE, self._look, self._submitted)

    def _join(self) -> None:
        with self._leaving:
            self._threads += 1
            if self._resting:
                self._resting -= 1
                self._recalls.put(None)
                return
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError as error:  # the system allows no more: it is tried again (`_look`)
            with self._leaving:
                self._threads -= 1
            self._complain(error)
        else:
            self._is_short = False

    def _complain(self, error: RuntimeError) -> None:
        if not self._is_short:
            self._is_short = True
            _log.error(
                f"work waits for a thread of {self._name}, of which there are "
                f"{self._threads}: {error}"
            )

    # In a thread

    def tell(self, done: Done, result: Any) -> None:
        """Run `done` with a result in the loop, after what was told before."""
        self._results.append((done, result))
        if not self._is_notified:
            self._is_notified = True
            with suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._deliver, context=self._context)

    def _run(self) -> None:
        while (piece := self._next()) is not None:
            work, done = piece
            self.tell(done, work())
            del piece, work, done  # what they hold is not to live until the next one

    def _next(self) -> tuple[Work, Done] | None:
        """Return the next piece of work, or None when there are threads enough without this one."""
        while True:
            try:
                return self._queue.get(timeout=None if self._threads == 1 else LINGER)
            except Empty:
                pass
            with self._leaving:
                if self._threads == 1:
                    continue
                self._threads -= 1
                if not self._stays:
                    return None
                self._resting += 1
            self._recalls.get()

    # In the loop

    def _deliver(self) -> None:
        # Before the results are taken: who adds one from now on notifies again.
        self._is_notified = False
        while self._results:
            done, result = self._results.popleft()
            done(result)
