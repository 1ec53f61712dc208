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
from hornbeam_erlang import (
    aio,
    publish,
    state_delete,
    state_get,
    state_incr,
    state_set,
    subscribe,
)

KEY, COUNTER = "bench:key", "bench:counter"
VALUE = "0123456789abcdef"
TOPIC, MESSAGE = "bench:topic", "x" * 128
MANY = 64

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


def set_many() -> None:
    """Set without waiting for any answer."""
    for _ in range(MANY):
        state_set(KEY, VALUE)


async def redis_set_many() -> None:
    """Set in one round trip."""
    async with awaited.pipeline(transaction=False) as batch:
        for _ in range(MANY):
            batch.set(KEY, VALUE)
        await batch.execute()


def publish_many() -> None:
    """Publish without waiting for any answer."""
    for _ in range(MANY):
        publish(TOPIC, MESSAGE)


async def redis_publish_many() -> None:
    """Publish one after the other, as redis-py does."""
    for _ in range(MANY):
        await awaited.publish(TOPIC, MESSAGE)


# What has no answer to be compared, and is done so often in one call; whether that is awaited.
OF_MANY: dict[tuple[str, str], tuple[Callable[[], Any], bool]] = {
    ("hornbeam", "set"): (set_many, False),
    ("redis", "set"): (redis_set_many, True),
    ("hornbeam", "publish"): (publish_many, False),
    ("redis", "publish"): (redis_publish_many, True),
}

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
    if scope["type"] == "websocket" and scope["path"] == "/subscribed":
        await subscribed(receive, send)
    elif scope["type"] == "websocket":
        await echo.application(scope, receive, send)
    elif scope["type"] == "http":
        asked = timing.asked(scope)
        prepare()
        figures = await measure(asked["server"], asked["op"], float(asked["seconds"]))
        await timing.respond(send, figures)


async def subscribed(receive: Receive, send: Send) -> None:
    """Let the client have what is published."""
    await receive()
    await send({"type": "websocket.accept"})
    subscribe(TOPIC, forward=True)
    await send({"type": "websocket.send", "text": "subscribed"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


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
    if (server, op) in OF_MANY:
        many, is_awaited = OF_MANY[server, op]
        figures = await timing.measure(zip(repeat(many), repeat(None)), seconds, is_awaited)
        state_get(KEY)  # comes when all before it is done
        return {key: per_op(key, value) for key, value in figures.items()}
    due: Iterable[Any] = count(1) if op == "incr" else repeat(VALUE)
    calls = zip(repeat(OPS[server, op]), due)
    return await timing.measure(calls, seconds, op.startswith("await"))


def per_op(key: str, value: float) -> float:
    """What a figure of calls that do many says of one."""
    if key == "seconds":
        return value
    return value * MANY if key == "messages" else value / MANY
