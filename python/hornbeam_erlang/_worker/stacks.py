"""Where the handlers and threads of this worker are, as text.

Two ways, because a worker that hangs answers nothing: `report` is called by Erlang like any
function of the app, in the loop; at a signal, C code writes the threads' stacks, whoever holds
the interpreter's lock. Knows tasks and frames; must not know the wire.
"""

import asyncio
import faulthandler
import gc
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

# Of the real-time signals, which apps and their libraries leave alone.
SIGNAL = getattr(signal, "SIGRTMAX", 1) - 1

Tasks = Callable[[], list[tuple[int, "asyncio.Task[None]"]]]

_tasks: Tasks = list


def watch(tasks: Tasks) -> None:
    """Remember how the open streams and their tasks are found."""
    global _tasks  # noqa: PLW0603 - Erlang finds `report` by its module
    _tasks = tasks


def dump_at_a_signal() -> list[int] | None:
    """Have the stacks written at a signal; return the signal, and the descriptor they go to.

    None where the system has no file in memory, which the BEAM reads through /proc.
    """
    if not hasattr(os, "memfd_create"):
        return None
    fd = os.memfd_create("hornbeam-stacks")
    faulthandler.register(SIGNAL, file=fd, all_threads=True, chain=False)
    return [SIGNAL, fd]


async def report() -> dict[str, list[dict[str, Any]]]:
    """Return what each handler waits for, and where each thread is."""
    return {
        "streams": [_stream(number, task) for number, task in _tasks()],
        "threads": [_thread(thread, frame) for thread, frame in _threads()],
    }


def _stream(number: int, task: "asyncio.Task[None]") -> dict[str, Any]:
    frames = list(_awaited(task.get_coro()))
    scope = frames[0].f_locals["scope"]  # of the server's coroutine that calls the app
    return {
        "number": number,
        "type": scope["type"],
        "path": scope["path"],
        "stack": _text(frames[1:]),
    }


def _awaited(awaitable: Any) -> Iterator[FrameType]:
    """Yield the frames of a suspended coroutine, and of what it waits for, and so on."""
    while awaitable is not None:
        if inspect.iscoroutine(awaitable):
            frame, awaitable = awaitable.cr_frame, awaitable.cr_await
        elif inspect.isasyncgen(awaitable):
            frame, awaitable = awaitable.ag_frame, awaitable.ag_await
        elif inspect.isgenerator(awaitable):
            frame, awaitable = awaitable.gi_frame, awaitable.gi_yieldfrom
        else:
            frame, awaitable = None, _stepping(awaitable)
        if frame is not None:
            yield frame


def _stepping(awaitable: Any) -> Any:
    """Return the asynchronous generator of which this is a step: `async for` waits for one.

    A step does not say so itself.
    """
    if type(awaitable).__name__ in ("async_generator_asend", "async_generator_athrow"):
        return next(filter(inspect.isasyncgen, gc.get_referents(awaitable)), None)
    return None


def _thread(thread: threading.Thread | None, frame: FrameType) -> dict[str, Any]:
    name = "unknown" if thread is None else thread.name
    return {"name": name, "stack": "".join(traceback.format_stack(frame))}


def _threads() -> Iterator[tuple[threading.Thread | None, FrameType]]:
    known = {thread.ident: thread for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        yield known.get(ident), frame


def _text(frames: list[FrameType]) -> str:
    lines = ((frame, frame.f_lineno) for frame in frames)
    return "".join(traceback.StackSummary.extract(lines).format())
