"""The app under hostile clients: the echo for honest ones, and a path for each kind of the others.

What it does not do is the point: it sends a gigabyte to who does not read, and leaves unread
what it is sent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import echo

PART = bytes(65536)
PARTS = 16384
SLEEP_SECONDS = 3600.0

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


async def application(scope: Event, receive: Receive, send: Send) -> None:
    """Echo at `/`; be drowned elsewhere."""
    match scope["type"], scope.get("path"):
        case "websocket", "/deaf":
            await receive()
            await send({"type": "websocket.accept"})
            for _ in range(PARTS):
                await send({"type": "websocket.send", "bytes": PART})
        case "websocket", "/flood":
            await receive()
            await send({"type": "websocket.accept"})
            await asyncio.sleep(SLEEP_SECONDS)
        case "http", "/download":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(PARTS):
                await send({"type": "http.response.body", "body": PART, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case "http", "/upload":
            await asyncio.sleep(SLEEP_SECONDS)
        case "websocket", _:
            await echo.application(scope, receive, send)
