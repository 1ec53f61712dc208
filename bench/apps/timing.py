"""Calls that a coroutine times itself, one after the other, and the answer that tells the figures.

Between two calls the event loop gets its turn. Every result is compared with what is due.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter_ns
from typing import Any
from urllib.parse import parse_qsl

Event = dict[str, Any]
Figures = dict[str, float]
Call = Callable[[], Any]


def asked(scope: Event) -> dict[str, str]:
    """What the query of a request says."""
    return dict(parse_qsl(scope["query_string"].decode()))


async def measure(
    calls: Iterable[tuple[Call, Any]], seconds: float, is_awaited: bool = False
) -> Figures:
    """Call for so long, each call with the result that is due; returns rate and latencies."""
    start = perf_counter_ns()
    times = await timed(calls, is_awaited, start + int(seconds * 1e9))
    elapsed = perf_counter_ns() - start
    times.sort()
    return {
        "messages": len(times),
        "seconds": elapsed / 1e9,
        "p50_us": percentile(times, 0.50) / 1e3,
        "p99_us": percentile(times, 0.99) / 1e3,
        "max_us": times[-1] / 1e3,
    }


async def timed(calls: Iterable[tuple[Call, Any]], is_awaited: bool, end: int) -> list[int]:
    """Nanoseconds of each call until `end`."""
    times = []
    for call, expected in calls:
        start = perf_counter_ns()
        got = await call() if is_awaited else call()
        now = perf_counter_ns()
        times.append(now - start)
        if got != expected:
            raise AssertionError(f"expected {expected!r}, got {got!r}")
        if now > end:
            break
        await asyncio.sleep(0)
    return times


def percentile(times: list[int], fraction: float) -> int:
    """The time below which this fraction of sorted times lies."""
    return times[math.ceil(fraction * len(times)) - 1]


async def respond(send: Callable[[Event], Awaitable[None]], figures: Figures) -> None:
    """Answer with JSON."""
    body = json.dumps(figures).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
