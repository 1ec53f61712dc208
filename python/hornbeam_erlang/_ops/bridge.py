"""The one place where public functions reach Erlang.

Knows only that something may have installed itself as the carrier of ops: the worker does, and
the stand-in of `hornbeam_erlang.testing`. Must not import the worker, so that the package can be
imported anywhere.
"""

import asyncio
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from hornbeam_erlang._ops.handlers import Handlers
from hornbeam_erlang._ops.mailbox import Topics
from hornbeam_erlang.exceptions import NotConnected

__all__ = [
    "Carrier",
    "Plan",
    "Request",
    "call",
    "call_async",
    "connected",
    "follow",
    "follow_async",
    "install",
    "installed",
    "perform",
    "perform_async",
    "uninstall",
]

T = TypeVar("T")


class Carrier(Protocol):
    """Carry ops to Erlang, and keep what this process has of its own."""

    topics: Topics
    handlers: Handlers

    def call(self, op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
        """Call an op and block; `timeout` is in seconds, None is the carrier's own."""

    async def call_async(self, op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
        """Call an op and wait for it."""

    def caller(self) -> int:
        """Return the number of the connection for which the running code calls; 0 is the worker.

        Raises `NotConnected` for code that belongs to none, and `ConnectionEnded` for code whose
        connection is over.
        """

    def is_alone(self) -> bool:
        """Tell whether nothing else can run in this process while the running code blocks."""


class Request(NamedTuple, Generic[T]):
    """An op with its arguments as they travel, and how to read its result.

    `timeout` is what the op itself may take, in milliseconds.
    """

    op: int
    args: list[Any]
    read: Callable[[Any], T]
    timeout: int | None = None


Plan = Generator[Request[Any], Any, T]

_carrier: Carrier | None = None


def install(carrier: Carrier) -> None:
    """Let ops travel by `carrier` from now on."""
    global _carrier  # noqa: PLW0603 - one process is one worker
    _carrier = carrier


def installed() -> Carrier | None:
    """Return the carrier, if there is one."""
    return _carrier


def uninstall() -> None:
    """Let every further op raise `NotConnected`."""
    global _carrier  # noqa: PLW0603
    _carrier = None


def connected() -> Carrier:
    """Return the carrier; raises `NotConnected` outside of a worker."""
    if _carrier is None:
        raise NotConnected(
            "this is not a Hornbeam worker: Erlang can be called only by an app that "
            "hornbeam:start has started, or inside of hornbeam_erlang.testing.Beam"
        )
    return _carrier


def call(op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
    """Call the op with this number and return Erlang's answer; blocks until it is there.

    May be called from any thread. Raises what the answer's status names (docs/wire.md),
    `OpTimeout` when none has come in `timeout` seconds, and `NotConnected` outside of a worker and
    when it is at its end.
    """
    return connected().call(op, args, timeout)


async def call_async(op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
    """Call the op with this number and wait for Erlang's answer without blocking the loop."""
    return await connected().call_async(op, args, timeout)


def perform(request: Request[T]) -> T:
    """Call a request's op and return its result; blocks."""
    carrier = connected()
    return request.read(carrier.call(request.op, request.args, _seconds(request.timeout)))


async def perform_async(request: Request[T]) -> T:
    """Call a request's op and wait for its result."""
    carrier = connected()
    timeout = _seconds(request.timeout)
    return request.read(await carrier.call_async(request.op, request.args, timeout))


# How much longer than Erlang we wait: its own answer, which says more, comes first.
_GRACE = 5.0


def _seconds(timeout: int | None) -> float | None:
    return None if timeout is None else timeout / 1000 + _GRACE


def follow(plan: Plan[T]) -> T:
    """Perform a plan's requests one after the other; blocks."""
    try:
        request = next(plan)
        while True:
            try:
                result = perform(request)
            except BaseException as error:
                request = plan.throw(error)
            else:
                request = plan.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def follow_async(plan: Plan[T]) -> T:
    """Perform a plan's requests one after the other.

    A plan changes something here and in Erlang, and both sides have to agree in the end: so a plan
    that is cancelled hears of it when the request that is under way has its answer, and may take
    back what it has done.
    """
    try:
        request = next(plan)
        while True:
            try:
                result = await _answered(request)
            except BaseException as error:
                request = plan.throw(error)
            else:
                request = plan.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def _answered(request: Request[T]) -> T:
    """Wait for a request's result; who is cancelled meanwhile waits on, and is cancelled then."""
    work = asyncio.ensure_future(perform_async(request))
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    try:
        if cancelled is None:
            return work.result()
        if not work.cancelled():
            work.exception()  # or it would be logged as one that nobody has looked at
        raise cancelled
    finally:
        del work, cancelled  # what is raised holds this frame, and with it the handler's stream
