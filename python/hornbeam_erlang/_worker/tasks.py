"""Tasks that run an app's code: how they begin.

Knows a loop and its task factory; must not know what a task is for.
"""

import asyncio
import contextlib
import types
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, TypeVar

from hornbeam_erlang._ops.handlers import task_in

T = TypeVar("T")


def begin(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], context: Context | None = None
) -> asyncio.Task[T] | None:
    """Make a task of a coroutine that awaits `first_turn` before all else, inside a `try`.

    It is led there at once. A task that is cancelled before its first step never takes it, and
    what the coroutine does in the end would not be done; one that has begun is cancelled there.
    Where the task factory raises there is no task: that is raised in the coroutine.
    """
    work.send(None)
    try:
        if context is None and loop.get_task_factory() is None:
            return loop.create_task(work)  # which copies the context by itself
        return task_in(copy_context() if context is None else context, loop, work)
    except BaseException as error:  # of the app's task factory
        _fail(work, error)
        return None


def _fail(work: Coroutine[Any, Any, T], error: BaseException) -> None:
    """Let a coroutine that gets no task end with what the task factory has raised."""
    with contextlib.suppress(BaseException):
        error.add_note("raised by the task factory of the loop, which the app has set")
    with contextlib.suppress(BaseException):
        work.throw(error)


@types.coroutine
def first_turn(loop: asyncio.AbstractEventLoop) -> Generator[None, None, None]:
    """Wait for the task's first step, and for one that is a turn of its own.

    A task factory may take the first step while the task is made (`asyncio.eager_task_factory`),
    in the middle of what we do with a message.
    """
    yield
    if loop.get_task_factory() is not None:
        yield
