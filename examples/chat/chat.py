"""A chat in one file: an ASGI app whose rooms span all workers.

`GET /` is the page. `/ws/<room>?name=<name>` is a WebSocket; both sides speak JSON:

- client: `{"text": "…"}` says something to the room;
- server: `{"kind": "members", "names": […]}` at the start and whenever somebody came or left,
  `{"kind": "joined" | "left", "name": …}` and `{"kind": "message", "name": …, "text": …}`.

This process keeps nothing of a room. What is said is published, and Erlang writes it to the
sockets of all who are there. Who is there stands in shared state that belongs to their
connections, so that nobody stays whose connection is gone. With the option websocket_resume a
connection outlives this process, and another one goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from hornbeam_erlang import (
    OpTimeout,
    aio,
    connection_state,
    publish,
    state_delete,
    state_items,
    state_set,
    subscribe,
)

__all__ = ["application"]

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

PAGE = Path(__file__).with_name("index.html").read_bytes()
NAME_LENGTH = 32
TEXT_LENGTH = 2000
"""The longest name and message, in characters; what is over is cut off."""

LOOK_EVERY = 2.0
"""Seconds after which a room is looked at although nobody said that somebody came or left:
those whose worker was killed could not say it."""

MOVED = 1012
"""The code with which a handler ends whose socket stays open: another worker goes on with it."""

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
    me = ("people", room, connection_state().setdefault("id", uuid.uuid4().hex))
    state_set(me, name, scope="connection")
    watching = asyncio.create_task(watch(room, send))
    publish(moves_in(room), "joined")
    message: Event = {}
    try:
        while (message := await receive())["type"] != "websocket.disconnect":
            if text := spoken(message):
                publish(said_in(room), {"kind": "message", "name": name, "text": text})
    finally:
        watching.cancel()
        if message.get("code") != MOVED:
            state_delete(me)
            publish(moves_in(room), "left")


async def watch(room: str, send: Send) -> None:
    """Tell a client who is in the room, and who came and left since, until it is gone."""
    async with aio.subscribed(moves_in(room)) as moves:
        known = people(room)
        await tell(send, kind="members", names=sorted(known.values(), key=str.casefold))
        while True:
            with contextlib.suppress(OpTimeout):
                await moves.receive(timeout=LOOK_EVERY)
            now = people(room)
            for came in now.keys() - known.keys():
                await tell(send, kind="joined", name=now[came])
            for gone in known.keys() - now.keys():
                await tell(send, kind="left", name=known[gone])
            if now != known:
                await tell(send, kind="members", names=sorted(now.values(), key=str.casefold))
            known = now


def people(room: str) -> dict[Any, str]:
    """Return who is in a room: a key for each connection, and its name."""
    return dict(state_items(("people", room)))


def said_in(room: str) -> str:
    """Name the topic of what is said in a room."""
    return f"chat:{room}"


def moves_in(room: str) -> str:
    """Name the topic that says that somebody came or left."""
    return f"chat-moves:{room}"


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
