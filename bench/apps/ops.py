"""Operations on shared state from inside a coroutine, timed by the worker that does them.

An HTTP request names who answers them (Hornbeam's `state_…` or a redis-server by redis-py),
the operation and for how many seconds; the response holds the latencies. Between two
operations the event loop gets its turn, so that the echo that this app serves over WebSockets
goes on. Every result is compared with what is due.
"""

import asyncio
import json
import math
import os
from collections.abc import Awaitable, Callable, Iterable
from itertools import count, repeat
from time import perf_counter_ns
from typing import Any
from urllib.parse import parse_qsl

import echo
import redis
import redis.asyncio
from hornbeam_erlang import aio, state_delete, state_get, state_incr, state_set

KEY, COUNTER = "bench:key", "bench:counter"
VALUE = "0123456789abcdef"

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

URL = os.environ["REDIS_URL"]
blocking = redis.Redis.from_url(URL, decode_responses=True)
awaited = redis.asyncio.Redis.from_url(URL, decode_responses=True)

OPS: dict[tuple[str, str], Callable[[], Any]] = {
    ("hornbeam", "get"): lambda: state_get(KEY),
    ("hornbeam", "incr"): lambda: state_incr(COUNTER),
    ("hornbeam", "await get"): lambda: aio.state_get(KEY),
    ("redis", "get"): lambda: blocking.get(KEY),
    ("redis", "incr"): lambda: blocking.incr(COUNTER),
    ("redis", "await get"): lambda: awaited.get(KEY),
}


async def application(scope: Event, receive: Receive, send: Send) -> None:
    """Echo over WebSockets; measure for an HTTP request."""
    if scope["type"] == "websocket":
        await echo.application(scope, receive, send)
    elif scope["type"] == "http":
        asked = dict(parse_qsl(scope["query_string"].decode()))
        prepare()
        figures = await measure(asked["server"], asked["op"], float(asked["seconds"]))
        await respond(send, figures)


def prepare() -> None:
    """Put the value to get on both sides, and the counters to zero."""
    state_set(KEY, VALUE)
    state_delete(COUNTER)
    blocking.set(KEY, VALUE)
    blocking.delete(COUNTER)


async def measure(server: str, op: str, seconds: float) -> dict[str, float]:
    """Do one operation again and again."""
    due: Iterable[Any] = count(1) if op == "incr" else repeat(VALUE)
    start = perf_counter_ns()
    times = await timed(OPS[server, op], due, op.startswith("await"), start + int(seconds * 1e9))
    elapsed = perf_counter_ns() - start
    times.sort()
    return {
        "messages": len(times),
        "seconds": elapsed / 1e9,
        "p50_us": percentile(times, 0.50) / 1e3,
        "p99_us": percentile(times, 0.99) / 1e3,
        "max_us": times[-1] / 1e3,
    }


async def timed(op: Callable[[], Any], due: Iterable[Any], is_awaited: bool, end: int) -> list[int]:
    """Nanoseconds of each call until `end`."""
    times = []
    for expected in due:
        start = perf_counter_ns()
        got = await op() if is_awaited else op()
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


async def respond(send: Send, figures: dict[str, float]) -> None:
    """Answer with JSON."""
    body = json.dumps(figures).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
