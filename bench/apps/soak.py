"""The app of the soak: echo, broadcast in both lanes, state that dies with its socket, HTTP.

A room is a topic. Whoever enters one is counted in the shared state for as long as its socket
lasts, and every text that it sends is published to the room.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import echo
from hornbeam_erlang import aio, publish, state_get, state_incr, state_set, subscribe

KEPT_SECONDS = 2.0

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


async def application(scope: Event, receive: Receive, send: Send) -> None:
    """Serve `/echo` and rooms over WebSockets, and whatever is asked by HTTP."""
    if scope["type"] == "http":
        return await respond(scope, receive, send)
    if scope["type"] != "websocket":
        return None
    if scope["path"] == "/echo":
        return await echo.application(scope, receive, send)
    _, lane, room = scope["path"].split("/")
    return await attend(lane, room, receive, send)


async def attend(lane: str, room: str, receive: Receive, send: Send) -> None:
    """Stay in a room until the client leaves, by the lane that it asked for."""
    await receive()
    await send({"type": "websocket.accept"})
    state_incr(("members", room), scope="connection")
    state_set(("member", room, uuid.uuid4().hex), lane, scope="connection")
    subscribe(room, forward=lane == "forward")
    await send({"type": "websocket.send", "text": "subscribed"})
    reader = asyncio.create_task(tell(send)) if lane == "messages" else None
    while (event := await receive())["type"] != "websocket.disconnect":
        publish(room, event["text"])
    if reader:
        reader.cancel()


async def tell(send: Send) -> None:
    """Send what is published."""
    async for _, text in aio.messages():
        await send({"type": "websocket.send", "text": text})


async def respond(scope: Event, receive: Receive, send: Send) -> None:
    """Keep the request's body in the state for a while, and return it in parts."""
    body = await read(receive)
    key = ("seen", uuid.uuid4().hex)
    await aio.state_set(key, body, ttl=KEPT_SECONDS)
    await aio.state_incr("requests")
    kept = state_get(key)
    length = str(len(kept)).encode()
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    half = len(kept) // 2
    await send({"type": "http.response.body", "body": kept[:half], "more_body": True})
    await send({"type": "http.response.body", "body": kept[half:]})


async def read(receive: Receive) -> bytes:
    """The request's body."""
    parts, more = [], True
    while more:
        event = await receive()
        parts.append(event.get("body", b""))
        more = event.get("more_body", False)
    return b"".join(parts)
