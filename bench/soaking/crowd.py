"""The clients of the soak: each lives one short life after another until it is told to stop.

A life connects, works and ends, cleanly or by a reset; every reply is compared with what is
due. What goes wrong is an error, unless a worker was killed meanwhile: that is a cut.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from soaking.websocket import PATIENCE, Ended, WebSocket, reset

RECOVERY = 3.0  # seconds after a kill in which its consequences may still be met
ROOMS = 8
KEPT_ERRORS = 20

Life = Callable[["Crowd", int], Awaitable[None]]


class Wrong(Exception):
    """A reply that is not the one that is due."""


@dataclass
class Crowd:
    """Clients of one server, and what they did."""

    host: str
    port: int
    random: random.Random
    lives: tuple[Life, ...]
    pause_seconds: float = 0.05  # between two actions of a client, on average
    done: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    killed_at: float = float("-inf")
    stopping: bool = False
    born: int = 0
    open: int = 0

    async def live(self, clients: int, seconds: float) -> None:
        """Let so many clients live for so long; returns when the last has ended."""
        self.stopping = False
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._lives())
            await asyncio.sleep(seconds)
            self.stopping = True

    def saw_kill(self) -> None:
        """Note that a worker has just been killed."""
        self.killed_at = time.monotonic()
        self.done["kills"] += 1

    async def pause(self) -> None:
        """Wait a moment."""
        await asyncio.sleep(self.random.expovariate(1 / self.pause_seconds))

    def text(self, *words: object) -> str:
        """These words, with something behind them."""
        return " ".join([*map(str, words), "x" * self.random.choice((0, 10, 200, 2000))])

    async def _lives(self) -> None:
        while not self.stopping:
            await self._life(self.random.choice(self.lives))
            await self.pause()

    async def _life(self, live: Life) -> None:
        self.born += 1
        self.open += 1
        began = time.monotonic()
        try:
            await live(self, self.born)
            self.done["lives"] += 1
        except (Ended, Wrong, OSError, EOFError, TimeoutError) as error:
            self._failed(live.__name__, began, error)
        finally:
            self.open -= 1

    def _failed(self, life: str, began: float, error: BaseException) -> None:
        if not isinstance(error, Wrong) and self.killed_at > began - RECOVERY:
            self.done["cut"] += 1
            return
        self.done["errors"] += 1
        if len(self.errors) < KEPT_ERRORS:
            self.errors.append(f"{life}: {type(error).__name__}: {error}")


async def echoing(crowd: Crowd, name: int) -> None:
    """Send texts and get them back."""
    ws = await connect(crowd, "/echo")
    try:
        for number in range(crowd.random.randrange(1, 30)):
            text = crowd.text(name, number)
            await ws.send(text)
            if (got := await ws.receive()) != text:
                raise Wrong(f"expected {text[:40]!r}, got {got[:40]!r}")
            crowd.done["echoes"] += 1
            await crowd.pause()
        await end(crowd, ws)
    finally:
        ws.reset()


async def attending(crowd: Crowd, name: int) -> None:
    """Enter a room, publish there, and read what is published until one's own text comes."""
    lane = crowd.random.choice(("forward", "messages"))
    room = f"room-{crowd.random.randrange(ROOMS)}"
    ws = await connect(crowd, f"/{lane}/{room}")
    try:
        heard: dict[str, int] = {}
        while (text := await ws.receive()) != "subscribed":  # others may have been quicker
            hear(crowd, heard, text, room)
        for number in range(crowd.random.randrange(1, 30)):
            await ws.send(crowd.text(room, name, number))
            crowd.done["published"] += 1
            await hear_until(crowd, ws, heard, (room, str(name), number))
            await crowd.pause()
        await end(crowd, ws)
    finally:
        ws.reset()


async def hear_until(
    crowd: Crowd, ws: WebSocket, heard: dict[str, int], mine: tuple[str, str, int]
) -> None:
    """Read texts until `mine` (room, publisher, number)."""
    room, name, number = mine
    while heard.get(name, -1) < number:
        hear(crowd, heard, await ws.receive(), room)
    if heard[name] != number:
        raise Wrong(f"our number {heard[name]} where {number} is due")


def hear(crowd: Crowd, heard: dict[str, int], text: str, room: str) -> None:
    """Check a text of the room: each publisher's come in order, none of them twice."""
    crowd.done["deliveries"] += 1
    words = text.split(" ")
    if len(words) != 4 or words[0] != room or words[3].strip("x"):
        raise Wrong(f"no text of {room}: {text[:40]!r}")
    publisher, number = words[1], int(words[2])
    if number <= heard.get(publisher, -1):
        raise Wrong(f"{publisher}'s number {number} after {heard[publisher]}")
    heard[publisher] = number


async def leaving_at_once(crowd: Crowd, name: int) -> None:
    """Enter a room, publish, and vanish without reading what comes."""
    ws = await connect(crowd, f"/{crowd.random.choice(('forward', 'messages'))}/room-0")
    try:
        await ws.send(crowd.text("room-0", name, 0))
    finally:
        crowd.done["resets"] += 1
        ws.reset()


async def requesting(crowd: Crowd, name: int) -> None:
    """Do some requests on one connection; at times leave in the middle of one."""
    reader, writer = await asyncio.open_connection(crowd.host, crowd.port)
    try:
        for number in range(crowd.random.randrange(1, 10)):
            body = (crowd.text(name, number) * crowd.random.choice((1, 1, 30))).encode()
            head = f"POST /{number} HTTP/1.1\r\nHost: {crowd.host}\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            if crowd.random.random() < 0.05:
                crowd.done["resets"] += 1
                return
            if await response(reader) != body:
                raise Wrong(f"another body for request {name} {number}")
            crowd.done["requests"] += 1
            await crowd.pause()
    finally:
        reset(writer)


async def response(reader: asyncio.StreamReader) -> bytes:
    """Read a response with status 200; return its body."""
    async with asyncio.timeout(PATIENCE):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if not head.startswith("http/1.1 200"):
            raise Ended(head.partition("\r\n")[0])
        length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
        return await reader.readexactly(int(length.split(":")[1]))


async def connect(crowd: Crowd, path: str) -> WebSocket:
    """Open a WebSocket of the crowd."""
    ws = await WebSocket.connect(crowd.host, crowd.port, path)
    crowd.done["connects"] += 1
    return ws


async def end(crowd: Crowd, ws: WebSocket) -> None:
    """Close, or break the connection."""
    if crowd.random.random() < 0.7:
        await ws.close()
        crowd.done["closes"] += 1
    else:
        ws.reset()
        crowd.done["resets"] += 1


LIVES = (echoing, attending, attending, leaving_at_once, requesting, requesting)
