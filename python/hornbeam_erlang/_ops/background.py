"""What code begins that cannot wait for it: in the running loop or, where there is none, beside it.

Knows loops and threads. Must not know what is done.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from hornbeam_erlang._ops import identity


def begin(work: Coroutine[Any, Any, None]) -> None:
    """Do what takes a while, for the worker: as a task of the running loop, or in a thread."""
    context = identity.worker_context()
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        threading.Thread(target=context.run, args=(asyncio.run, work), daemon=True).start()
    else:  # soon: a task may take its first step at once, when a message is half taken
        loop.call_soon(_start, work, context=context)


# Or they would be collected while they run.
_tasks: set[asyncio.Task[None]] = set()


def _start(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def soon(function: Callable[[], None]) -> None:
    """Call a function when no message is half taken."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        function()
    else:
        loop.call_soon(function)
