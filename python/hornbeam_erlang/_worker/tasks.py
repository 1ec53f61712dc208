"""Tasks that run an app's code: how they begin.

Knows a loop and its task factory; must not know what a task is for.
"""

import asyncio
import types
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


def begin(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], context: Context | None = None
) -> asyncio.Task[T]:
    """Make a task of a coroutine that awaits `first_turn` before all else, inside a `try`.

    It is led there at once. A task that is cancelled before its first step never takes it, and
    what the coroutine does in the end would not be done; one that has begun is cancelled there.
    """
    work.send(None)
    return loop.create_task(work, context=context)


@types.coroutine
def first_turn(loop: asyncio.AbstractEventLoop) -> Generator[None, None, None]:
    """Wait for the task's first step, and for one that is a turn of its own.

    A task factory may take the first step while the task is made (`asyncio.eager_task_factory`),
    in the middle of what we do with a message.
    """
    yield
    if loop.get_task_factory() is not None:
        yield
