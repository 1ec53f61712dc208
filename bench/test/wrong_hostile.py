"""A server for test_hostile_load.py that hostile clients find wrong in the way it is told."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import drown

FAULT = os.environ["FAULT"]


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Be drowned, or refuse to: `refuses` WebSockets, `ends` all at once, or is `silent`."""
    if FAULT == "none" or scope["type"] == "lifespan":
        return await drown.application(scope, receive, send)
    if FAULT == "ends" and scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        return None
    if FAULT == "refuses" and scope["type"] == "websocket":
        await receive()
        return await send({"type": "websocket.close"})
    if FAULT == "silent" and scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    if FAULT == "silent":
        while (await receive())["type"] != "http.disconnect":
            pass
    return None
