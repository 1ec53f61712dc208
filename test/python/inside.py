"""A worker in the process of its test, and loops that the test moves turn by turn.

Puts the parts together as the worker's own `__main__` does, less what makes a process of it. The
pipes are real; only which descriptors they are differs.
"""

import asyncio
import fcntl
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from beam import CONFIG, DEADLINE
from hornbeam_erlang._ops.carrier import install, uninstall
from hornbeam_erlang._worker import pipes
from hornbeam_erlang._worker.carrier import WorkerCarrier
from hornbeam_erlang._worker.config import Config
from hornbeam_erlang._worker.logs import Log, LogQueue
from hornbeam_erlang._worker.server import Server

PAGE = 4096


class StillLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with a clock that the test moves, in which all comes in a fixed order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.numbers = itertools.count()
        # Whether a thread has called since this was set to False.
        self.was_called = False

    def time(self) -> float:
        return self.now

    def call_soon_threadsafe(self, *arguments: Any, **options: Any) -> asyncio.Handle:
        handle = super().call_soon_threadsafe(*arguments, **options)
        self.was_called = True
        return handle


class NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set is always the same: a group cancels the tasks of a set."""

    def __init__(self, coroutine: Any, *, loop: Any, **options: Any) -> None:
        self.number = next(loop.numbers)
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self.number


def use_tasks(loop: asyncio.AbstractEventLoop, *, eager: bool) -> None:
    """Let the loop make its tasks in one of the two ways; a still loop in a fixed order."""
    kind = NumberedTask if isinstance(loop, StillLoop) else asyncio.Task
    make = asyncio.create_eager_task_factory(kind) if eager else _lazily(kind)

    def begin(loop: Any, coroutine: Any, *, eager_start: Any = None, **options: Any) -> Any:
        # uvloop passes `eager_start` on, which the factories before Python 3.13.4 do not know.
        return make(loop, coroutine, **options)

    loop.set_task_factory(begin)


def _lazily(kind: Any) -> Callable[..., Any]:
    return lambda loop, coroutine, **options: kind(coroutine, loop=loop, **options)


class Exited(Exception):
    """The worker would have ended its process."""


class Inside:
    """A worker that runs when the test says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop, app: Any, **config: Any) -> None:
        self.loop: Any = loop
        self.is_still = isinstance(loop, StillLoop)
        self.patches = pytest.MonkeyPatch()
        from_beam, self.to_worker = _pipe()
        self.from_worker, to_beam = _pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(to_beam, fcntl.F_SETPIPE_SZ, PAGE)  # so that it is full now and then
        self._ours = (from_beam, to_beam)
        self._patch(from_beam, to_beam)
        self.config = Config.from_map(CONFIG | config)
        logs = LogQueue()
        self._log(logs)
        self.pipes = pipes.Pipes(logs)
        self.pipes.open_window(self.config.worker_window, self.config.tell_window)
        self.carrier = WorkerCarrier(self.pipes, self.config)
        install(self.carrier)
        asyncio.set_event_loop(loop)
        self.server = Server(app, self.pipes, loop, self.config, self.carrier)
        self._watch_threads()
        self.pipes.start(loop, self.server)

    def _log(self, queue: LogQueue) -> None:
        """Let what is logged go to the node, and not to pytest."""
        logger = logging.getLogger("hornbeam")
        self.patches.setattr(Log, "queue", queue)
        self.patches.setattr(logger, "handlers", [])
        self.patches.setattr(logger, "propagate", False)

    def _patch(self, from_beam: int, to_beam: int) -> None:
        def leave(status: int = -1) -> None:
            raise Exited(f"the worker would have exited with {status}")

        self.patches.setattr(pipes, "FROM_BEAM", from_beam)
        self.patches.setattr(pipes, "TO_BEAM", to_beam)
        self.patches.setattr(pipes, "exit_without_beam", leave)
        self.patches.setattr(pipes, "LAST_WORDS", 0.0)
        self.patches.setattr(os, "_exit", leave)

    def _watch_threads(self) -> None:
        """Count what threads have been given to run and the loop has not heard of again; those of
        a still loop run between its turns."""
        crew = self._crew = self.server._calls._crew
        submit = crew.submit
        self._in_threads = 0
        self._is_between = threading.Event()
        if not self.is_still:
            self._is_between.set()

        def watched(work: Callable[[], Any], done: Callable[[Any], None]) -> None:
            def run() -> Any:
                self._is_between.wait()
                return work()

            def back(result: Any) -> None:
                self._in_threads -= 1
                done(result)

            self._in_threads += 1
            submit(run, back)

        crew.submit = watched

    def runs_in_threads(self, waiting: int) -> bool:
        """Tell whether some call runs in a thread, of which so many wait for an answer."""
        stuck = self._crew._queue.qsize() if waiting == self._crew._threads else 0
        return self._in_threads > waiting + stuck

    def turn(self) -> None:
        """Let the loop do what is ready, once."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        if self.is_still and self._in_threads:
            self._let_threads_run()

    def _let_threads_run(self) -> None:
        """Wait until all that threads run is done, and the loop has been told."""
        self.loop.was_called = False
        self._is_between.set()
        end = time.monotonic() + DEADLINE
        while len(self._crew._results) < self._in_threads or not self.loop.was_called:
            assert time.monotonic() < end, "a thread does not come back"
            time.sleep(0)
        self._is_between.clear()

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks of the handlers, also of those that have not begun."""
        return [task for _, task in self.server.tasks()]

    def finish(self, until: Callable[[], None]) -> None:
        """End as the worker does once it has been told to; `until` is called while that takes."""
        finishing = self.loop.create_task(self.server.finish(1.0, 0.25))
        while not finishing.done():
            until()
        finishing.result()

    def close(self) -> None:
        self.pipes.stop()
        self.carrier.stop()
        self._end_threads()
        uninstall()
        asyncio.set_event_loop(None)
        self.loop.close()
        self.patches.undo()
        for fd in self._ours:
            os.close(fd)

    def _end_threads(self) -> None:
        """Let the threads that run calls go, also the last: those of a worker end with it."""
        self._is_between.set()
        self._crew._threads += 1
        self._crew._queue.put((int, print))


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, False)
    return ends
