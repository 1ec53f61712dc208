"""Requests and plans of requests, performed by who carries ops: blocking, and as coroutines."""

import asyncio
import sys
from typing import Any, TypeVar

from hornbeam_erlang._ops.carrier import connected
from hornbeam_erlang._ops.places import PLACES
from hornbeam_erlang._ops.requests import Plan, Request
from hornbeam_erlang._ops.sent import Sent

T = TypeVar("T")


def perform(request: Request[T]) -> T:
    """Call a request's op and return its result; blocks."""
    carrier = connected()
    return request.read(carrier.call(request.op, request.args, _seconds(request.timeout)))


async def perform_async(request: Request[T]) -> T:
    """Call a request's op and wait for its result."""
    carrier = connected()
    timeout = _seconds(request.timeout)
    return request.read(await carrier.call_async(request.op, request.args, timeout))


def tell(request: Request[T], *, is_asked: bool = False) -> Sent[T]:
    """Send a request's op for who calls the function that calls this one, and go on."""
    frame = sys._getframe(1)
    return connected().tell(request, PLACES.number(frame.f_back or frame), is_asked=is_asked)


async def told(request: Request[Any]) -> None:
    """Send a request's op and go on; wait only where Erlang does not keep up."""
    frame = sys._getframe(1)
    place = PLACES.number(frame)
    sent = connected().tell(request, place, is_asked=True)
    if sent.is_asked:
        await sent


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
