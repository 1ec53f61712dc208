"""Operations on shared state from inside a coroutine, timed by the worker that does them.

An HTTP request names who answers them (Hornbeam's `state_…`, a redis-server by redis-py, a process
that sends back what a pipe brings, which is the least that asking another process costs, or one of
the node that sends back what a socket brings, which is the least that asking the node costs), the
operation and for how many seconds; the response holds the latencies. Between two
operations the event loop gets its turn, so that the echo that this app serves over WebSockets
goes on. Every result is compared with what is due.
"""

import asyncio
import os
import socket
import subprocess
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


class Echo:
    """Who sends back what is written to one descriptor, by another or the same."""

    def __init__(self, to: int, from_: int) -> None:
        self._to, self._from = to, from_
        self._numbers = count(1)

    def get(self) -> str:
        os.write(self._to, VALUE.encode())
        return os.read(self._from, 4096).decode()

    def incr(self) -> int:
        os.write(self._to, b"%d" % next(self._numbers))
        return int(os.read(self._from, 4096))

    def begin(self) -> None:
        """Count anew, and undo what the event loop has made of the descriptor."""
        self._numbers = count(1)
        os.set_blocking(self._from, True)

    async def awaited(self) -> str:
        loop = asyncio.get_running_loop()
        came: asyncio.Future[str] = loop.create_future()
        loop.add_reader(self._from, lambda: came.set_result(os.read(self._from, 4096).decode()))
        os.write(self._to, VALUE.encode())
        try:
            return await came
        finally:
            loop.remove_reader(self._from)


process = subprocess.Popen(
    [os.environ["PIPE_ECHO"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
)
assert process.stdin and process.stdout
pipe = Echo(process.stdin.fileno(), process.stdout.fileno())

connection = socket.create_connection(("127.0.0.1", int(os.environ["NODE_ECHO"])))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
node = Echo(connection.fileno(), connection.fileno())

OPS: dict[tuple[str, str], Callable[[], Any]] = {
    ("pipe", "get"): pipe.get,
    ("pipe", "incr"): pipe.incr,
    ("pipe", "await get"): pipe.awaited,
    ("node", "get"): node.get,
    ("node", "incr"): node.incr,
    ("node", "await get"): node.awaited,
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
    pipe.begin()
    node.begin()


async def measure(server: str, op: str, seconds: float) -> timing.Figures:
    """Do one operation again and again."""
    due: Iterable[Any] = count(1) if op == "incr" else repeat(VALUE)
    calls = zip(repeat(OPS[server, op]), due)
    return await timing.measure(calls, seconds, op.startswith("await"))
