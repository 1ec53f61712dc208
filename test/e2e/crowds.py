"""A crowd of WebSockets that keep an account of what they say and hear.

Each says a numbered text at its own moment of every period and counts on an app that echoes it.
Lean, because thousands share one core with the server that they work on: asyncio's protocols and
bare frames. Knows RFC 6455 as far as that needs; knows nothing of the server, and imports nothing
of the tests, for bench/ uses it too.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

HANDSHAKE = (
    b"GET %s HTTP/1.1\r\nhost: crowd\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
NO_CLOSE = 1006
"""The code of a connection that ended without a close frame (RFC 6455, 7.1.5)."""


@dataclass
class Account:
    """What one socket has said and heard, in numbers that grow."""

    said: int = 0
    heard: int = 0
    lost: int = 0
    doubled: int = 0
    strange: list[bytes] = field(default_factory=list)
    waiting: dict[int, float] = field(default_factory=dict)
    """When each number was said that has not come back."""
    longest: float = 0.0
    """The longest time from saying a number to hearing it or a later one, in seconds."""

    def say(self) -> int:
        self.said += 1
        self.waiting[self.said] = time.monotonic()
        return self.said

    def hear(self, number: int) -> None:
        """Note an echo; what was said before it and has not come is lost."""
        if number not in self.waiting:
            self.doubled += 1
            return
        now = time.monotonic()
        for earlier in [n for n in self.waiting if n <= number]:
            self.longest = max(self.longest, now - self.waiting.pop(earlier))
            self.lost += earlier < number
        self.heard += 1

    def give_up(self) -> None:
        """Take what has not come for lost."""
        self.lost += len(self.waiting)
        self.waiting.clear()


class Client(asyncio.Protocol):
    """One WebSocket, lean; what comes is for `message` and `closed` of who inherits."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.code: int | None = None
        self.reason = ""
        self.buffer = b""
        self.upgraded = False

    def message(self, opcode: int, payload: bytes) -> None:
        """Take a message."""

    def closed(self) -> None:
        """Take note of the end, of which `code` says how it came."""

    def is_open(self) -> None:
        """Say that the server has accepted."""
        if not self.opened.done():
            self.opened.set_result(None)

    def write(self, opcode: int, payload: bytes) -> None:
        """Write a frame; its mask is zero, which leaves the payload as it is."""
        if not self.transport.is_closing():
            self.transport.write(frame_head(opcode, len(payload)) + payload)

    def leave(self) -> None:
        """Close as a client should."""
        self.write(CLOSE, struct.pack(">H", 1000))

    # From the loop

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(HANDSHAKE % self.path.encode())

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data if self.buffer else data
        at = 0 if self.upgraded else self.upgrade(data)
        while self.upgraded and (place := payload_place(data, at)) is not None:
            self.frame(data[at] & 0x0F, data[place[0] : place[1]])
            at = place[1]
        self.buffer = data[at:]

    def upgrade(self, data: bytes) -> int:
        """Take the response to the handshake; return where it ends."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        if data.startswith(b"HTTP/1.1 101"):
            self.upgraded = True
            self.is_open()
            return end + 4
        self.refused(data.split(b"\r\n")[0].decode("latin-1"))
        return len(data)

    def refused(self, why: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionRefusedError(why))
        self.transport.abort()

    def frame(self, opcode: int, payload: bytes) -> None:
        if opcode in (TEXT, BINARY):
            self.message(opcode, payload)
        elif opcode == PING:
            self.write(PONG, payload)
        elif opcode == CLOSE:
            self.code = int.from_bytes(payload[:2], "big") if payload else 1005
            self.reason = payload[2:].decode()
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.refused("closed before it was open")
        self.code = self.code or NO_CLOSE
        self.closed()


def frame_head(opcode: int, size: int) -> bytes:
    """Write what stands before the payload of a client's frame."""
    if size < 126:
        return struct.pack(">BBI", 0x80 | opcode, 0x80 | size, 0)
    if size < 65536:
        return struct.pack(">BBHI", 0x80 | opcode, 0x80 | 126, size, 0)
    return struct.pack(">BBQI", 0x80 | opcode, 0x80 | 127, size, 0)


def payload_place(data: bytes, at: int) -> tuple[int, int] | None:
    """Find the payload of the server's frame that begins at `at`: where it starts and ends."""
    if len(data) < at + 2:
        return None
    size, start = data[at + 1], at + 2
    if size == 126:
        size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
    elif size == 127:
        size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
    return (start, start + size) if len(data) >= start + size else None


class Socket(Client):
    """One WebSocket of a crowd. What it has lost is known when a later echo comes.

    With a `greeting`, the app's first message says who serves it.
    """

    def __init__(self, path: str, *, greeting: bool, ended: Callable[[Socket], None]) -> None:
        super().__init__(path)
        self.account = Account()
        self.greeting: bytes | None = None
        self.greeted = not greeting
        self.ended = ended

    def say(self) -> None:
        """Say the next number."""
        self.write(TEXT, b"%d" % self.account.say())

    def is_open(self) -> None:
        if self.greeted:
            super().is_open()

    def message(self, opcode: int, payload: bytes) -> None:
        if not self.greeted:
            self.greeting, self.greeted = payload, True
            self.is_open()
        elif payload.isdigit():
            self.account.hear(int(payload))
        else:
            self.account.strange.append(payload)

    def closed(self) -> None:
        self.ended(self)


def has_heard(socket: Socket, number: int) -> bool:
    """Tell whether a socket has heard a number past this one, or will hear none any more."""
    account = socket.account
    return socket.code is not None or account.said - len(account.waiting) > number


class Crowd:
    """Many sockets at one address, that speak once a period (s) each from `open` on."""

    def __init__(self, host: str, port: int, path: str, *, period: float = 1.0) -> None:
        self.host, self.port, self.path, self.period = host, port, path, period
        self.sockets: list[Socket] = []
        self.closes: list[Socket] = []
        self.silent = False
        self.greeting = False

    async def open(self, count: int, at_once: int = 50) -> None:
        """Open so many sockets."""
        for first in range(0, count, at_once):
            many = range(first, min(first + at_once, count))
            await asyncio.gather(*[self.join(number / count) for number in many])

    async def join(self, phase: float = 0.0) -> Socket:
        """Open one socket, which speaks from this part of a period on."""
        loop = asyncio.get_running_loop()
        _, socket = await loop.create_connection(self.new_socket, self.host, self.port)
        await asyncio.wait_for(socket.opened, 30)
        self.sockets.append(socket)
        loop.call_later(phase * self.period, self.speak, socket)
        return socket

    def new_socket(self) -> Socket:
        return Socket(self.path, greeting=self.greeting, ended=self.closes.append)

    def speak(self, socket: Socket) -> None:
        if not self.silent and socket.code is None:
            socket.say()
            asyncio.get_running_loop().call_later(self.period, self.speak, socket)

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition of the crowd, and fail when it does not come."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s: {self.told()}"
            await asyncio.sleep(0.02)

    async def all_heard(self, seconds: float = 60.0) -> None:
        """Wait until every open socket has heard a number that it says from now on."""
        said = {socket: socket.account.said for socket in self.living()}

        await self.until(lambda: all(has_heard(s, number) for s, number in said.items()), seconds)

    async def fall_silent(self, seconds: float = 30.0) -> None:
        """Say nothing more, and wait until all has come back to the open sockets."""
        self.silent = True
        await self.until(lambda: not any(s.account.waiting for s in self.living()), seconds)

    async def leave(self) -> None:
        """Close every socket that is open."""
        self.silent = True
        for socket in self.living():
            socket.leave()
        await self.until(lambda: not self.living(), 30)

    def living(self) -> list[Socket]:
        return [socket for socket in self.sockets if socket.code is None]

    def longest(self) -> float:
        """Return the longest time that anybody waited for an echo since the last call."""
        longest = max((socket.account.longest for socket in self.sockets), default=0.0)
        for socket in self.sockets:
            socket.account.longest = 0.0
        return longest

    def told(self) -> dict[str, object]:
        """Sum up all accounts."""
        accounts = [socket.account for socket in self.sockets]
        return {
            "sockets": len(accounts),
            "said": sum(a.said for a in accounts),
            "heard": sum(a.heard for a in accounts),
            "waiting": sum(len(a.waiting) for a in accounts),
            "lost": sum(a.lost for a in accounts),
            "doubled": sum(a.doubled for a in accounts),
            "strange": [text for a in accounts for text in a.strange][:5],
            "closes": dict(Counter(socket.code for socket in self.closes)),
        }
