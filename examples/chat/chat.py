"""A chat in one file: an ASGI app whose rooms span all workers.

`GET /` is the page. `/ws/<room>?name=<name>` is a WebSocket; both sides speak JSON:

- client: `{"text": "…"}` says something to the room;
- server: `{"kind": "members", "names": […]}` at the start and whenever somebody came or left,
  `{"kind": "joined" | "left", "name": …}` and `{"kind": "message", "name": …, "text": …}`.

This process keeps nothing of a room. What is said is published, and Erlang writes it to the
sockets of all who are there. Who is there is known on all nodes and belongs to the connections, so
that nobody stays whose connection is gone. With the option websocket_resume a connection outlives
this process, and another one goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from hornbeam_erlang import aio, presence, publish, subscribe

__all__ = ["application"]

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

PAGE = Path(__file__).with_name("index.html").read_bytes()
NAME_LENGTH = 32
TEXT_LENGTH = 2000
"""The longest name and message, in characters; what is over is cut off."""

POLICY = (
    b"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    b"img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)


async def application(scope: Event, receive: Receive, send: Send) -> None:
    """Serve the page and the rooms."""
    match scope["type"]:
        case "http":
            await page(scope, send)
        case "websocket":
            await chat(scope, receive, send)


async def page(scope: Event, send: Send) -> None:
    """Answer with the one page there is."""
    if scope["path"] != "/":
        await respond(send, 404, b"text/plain", b"There is only / here.\n")
    elif scope["method"] not in {"GET", "HEAD"}:
        await respond(send, 405, b"text/plain", b"Only GET.\n")
    else:
        await respond(send, 200, b"text/html; charset=utf-8", PAGE)


async def respond(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    """Send a whole response."""
    headers = [
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        (b"content-security-policy", POLICY),
        (b"x-content-type-options", b"nosniff"),
    ]
    if status == 405:
        headers.append((b"allow", b"GET, HEAD"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def chat(scope: Event, receive: Receive, send: Send) -> None:
    """Take somebody into a room until the connection ends."""
    room, name = visitor(scope)
    if not room or not name:
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    subscribe(said_in(room), forward=True)
    await aio.presence.track(said_in(room), name, {})
    watching = asyncio.create_task(watch(room, send))
    try:
        while (message := await receive())["type"] != "websocket.disconnect":
            if text := spoken(message):
                publish(said_in(room), {"kind": "message", "name": name, "text": text})
    finally:
        watching.cancel()


async def watch(room: str, send: Send) -> None:
    """Tell a client who is in the room, and who came and left since, until it is gone."""
    here: Counter[str] | None = None
    async for diff in presence.changes(said_in(room)):
        known = here or Counter[str]()
        now = known + connections(diff["joins"]) - connections(diff["leaves"])
        if here is not None:
            for came in now.keys() - known.keys():
                await tell(send, kind="joined", name=came)
            for gone in known.keys() - now.keys():
                await tell(send, kind="left", name=gone)
        await tell(send, kind="members", names=sorted(now, key=str.casefold))
        here = now


def connections(members: presence.Members) -> Counter[str]:
    """Count by how many connections somebody is here: a name may be in two windows."""
    return Counter({name: len(found["metas"]) for name, found in members.items()})


def said_in(room: str) -> str:
    """Name the topic of what is said in a room, and of who is there."""
    return f"chat:{room}"


async def tell(send: Send, **news: Any) -> None:
    """Send a client one piece of news."""
    with contextlib.suppress(OSError):
        await send({"type": "websocket.send", "text": json.dumps(news)})


def visitor(scope: Event) -> tuple[str, str]:
    """Read which room is asked for, and who asks; empty where either is missing."""
    _, _, room = scope["path"].partition("/ws/")
    query = parse_qs(scope["query_string"].decode("latin-1"))
    return room, query.get("name", [""])[0].strip()[:NAME_LENGTH]


def spoken(message: Event) -> str:
    """Read what a client said; empty when it is nothing that this chat understands."""
    try:
        text = json.loads(message.get("text") or "")["text"]
    except (ValueError, KeyError, TypeError):
        return ""
    return text.strip()[:TEXT_LENGTH] if isinstance(text, str) else ""
