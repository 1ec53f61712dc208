"""Streams without a process: a real loop, and a list in place of the pipe."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgpack
from beam import NAMES, Message
from hornbeam_erlang._asgi.headers import Limits
from hornbeam_erlang._asgi.http import Http
from hornbeam_erlang._asgi.stream import Shared
from hornbeam_erlang._asgi.websocket import WebSocket

WINDOW = (1000, 10)
LIMITS = Limits(head=1000, fields=20)


class Sent:
    """What a stream has written, decoded."""

    def __init__(self) -> None:
        self._data: list[bytes] = []
        self.write = self._data.append

    def write_payload(self, code: int, stream: int, payload: bytes) -> None:
        self.write(msgpack.packb((code, stream, payload)))

    def shared(self, window: tuple[int, int]) -> Shared:
        return Shared(asyncio.get_running_loop(), self.write, self.write_payload, window, LIMITS)

    def messages(self) -> list[Message]:
        """Return everything written since the last call, as (name, stream, field, …)."""
        decoded = [msgpack.unpackb(data) for data in self._data]
        self._data.clear()
        return [(NAMES[code], *fields) for code, *fields in decoded]

    def names(self) -> list[str]:
        return [message[0] for message in self.messages()]


async def settle() -> None:
    """Let every task run until it waits for something from outside."""
    for _ in range(20):
        await asyncio.sleep(0)


def with_websocket(
    scenario: Callable[[WebSocket, Sent], Awaitable[None]],
    window: tuple[int, int] = WINDOW,
    offered: Sequence[str] = (),
) -> None:
    async def main() -> None:
        sent = Sent()
        websocket = WebSocket(1, sent.shared(window), offered)
        await asyncio.wait_for(scenario(websocket, sent), 20)

    asyncio.run(main())


def with_open_websocket(
    scenario: Callable[[WebSocket, Sent], Awaitable[None]], window: tuple[int, int] = WINDOW
) -> None:
    async def opened(websocket: WebSocket, sent: Sent) -> None:
        accepting = asyncio.create_task(websocket.send({"type": "websocket.accept"}))
        await settle()
        websocket.accepted()
        await accepting
        await websocket.receive()
        sent.messages()
        await scenario(websocket, sent)

    with_websocket(opened, window)


def with_http(
    scenario: Callable[[Http, Sent], Awaitable[None]],
    *,
    method: str = "GET",
    body: bytes = b"",
    more: bool = False,
    window: tuple[int, int] = WINDOW,
) -> None:
    async def main() -> None:
        sent = Sent()
        shared = sent.shared(window)
        await asyncio.wait_for(scenario(Http(1, shared, method, body, more), sent), 20)

    asyncio.run(main())


def text(value: str) -> dict[str, Any]:
    return {"type": "websocket.send", "text": value}
