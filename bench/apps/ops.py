"""Operations on shared state from inside a coroutine, timed by the worker that does them.

An HTTP request names who answers them (Hornbeam's `state_…` or a redis-server by redis-py),
the operation and for how many seconds; the response holds the latencies. Between two
operations the event loop gets its turn, so that the echo that this app serves over WebSockets
goes on. Every result is compared with what is due.
"""

import os
from collections.abc import Awaitable, Callable, Iterable
from itertools import count, repeat
from typing import Any

import echo
import redis
import redis.asyncio
import timing
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
        asked = timing.asked(scope)
        prepare()
        figures = await measure(asked["server"], asked["op"], float(asked["seconds"]))
        await timing.respond(send, figures)


def prepare() -> None:
    """Put the value to get on both sides, and the counters to zero."""
    state_set(KEY, VALUE)
    state_delete(COUNTER)
    blocking.set(KEY, VALUE)
    blocking.delete(COUNTER)


async def measure(server: str, op: str, seconds: float) -> timing.Figures:
    """Do one operation again and again."""
    due: Iterable[Any] = count(1) if op == "incr" else repeat(VALUE)
    calls = zip(repeat(OPS[server, op]), due)
    return await timing.measure(calls, seconds, op.startswith("await"))
