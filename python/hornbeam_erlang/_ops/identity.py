"""For which connection the running code calls: a number that follows its context.

A handler's tasks and `asyncio.to_thread` take its context along, a plain thread begins without
one. Knows numbers, of which 0 is the worker; must not know what a connection is.
"""

import contextlib
from collections.abc import Container, Iterator
from contextvars import Context, ContextVar, copy_context

from hornbeam_erlang.exceptions import ConnectionEnded, NotConnected

WORKER = 0

# Nobody is meant where nothing is set: code that is taken for another's would see what is its.
current: ContextVar[int | None] = ContextVar("hornbeam_connection", default=None)


def caller(connections: Container[int]) -> int:
    """Return for whom the running code calls: one of those connections, or the worker.

    Raises `NotConnected` where the code has no context, `ConnectionEnded` when it has outlived its
    connection.
    """
    number = current.get()
    if number is None:
        raise NotConnected(
            "this code belongs to no connection: a thread begins without context variables; "
            "start its function with contextvars.copy_context().run, or by asyncio.to_thread"
        )
    if number != WORKER and number not in connections:
        raise ConnectionEnded("the connection for which this code runs is over")
    return number


def caller_or_worker(connections: Container[int]) -> int:
    """Return for whom the running code calls, where that decides nothing but the order."""
    number = current.get()
    return number if number is not None and number in connections else WORKER


@contextlib.contextmanager
def as_worker() -> Iterator[None]:
    """Let the block's code call for the worker."""
    token = current.set(WORKER)
    try:
        yield
    finally:
        current.reset(token)


def worker_context() -> Context:
    """Return a copy of the running context in which code calls for the worker."""
    context = copy_context()
    context.run(current.set, WORKER)
    return context
