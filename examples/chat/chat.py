"""A chat in one file: an ASGI app that needs nothing but ASGI.

`GET /` is the page. `/ws/<room>?name=<name>` is a WebSocket; both sides speak JSON:

- client: `{"text": "…"}` says something to the room;
- server: `{"kind": "members", "names": […]}` whenever somebody came or left,
  `{"kind": "joined" | "left", "name": …}` and `{"kind": "message", "name": …, "text": …}`.

Rooms live in the memory of this process, so all their members must be served by one worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

__all__ = ["Room", "application"]

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Inbox = asyncio.Queue[str]

PAGE = Path(__file__).with_name("index.html").read_bytes()
NAME_LENGTH = 32
TEXT_LENGTH = 2000
"""The longest name and message, in characters; what is over is cut off."""

INBOX_LENGTH = 256
"""How many events wait for somebody whose connection is slow."""

POLICY = (
    b"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    b"img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)


class Room:
    """The people in one room; what happens here, everybody finds in their inbox.

    An inbox holds JSON texts. Whoever reads it too slowly misses the oldest ones, so that
    nobody ever waits for somebody else's connection.
    """

    def __init__(self) -> None:
        self._members: dict[Inbox, str] = {}

    @property
    def names(self) -> list[str]:
        """Who is here, in alphabetical order."""
        return sorted(self._members.values(), key=str.casefold)

    def join(self, name: str) -> Inbox:
        """Let somebody in and return their inbox."""
        inbox: Inbox = asyncio.Queue(INBOX_LENGTH)
        self._members[inbox] = name
        self._tell(kind="joined", name=name)
        self._tell(kind="members", names=self.names)
        return inbox

    def leave(self, inbox: Inbox) -> None:
        """Let somebody go."""
        name = self._members.pop(inbox)
        self._tell(kind="left", name=name)
        self._tell(kind="members", names=self.names)

    def say(self, inbox: Inbox, text: str) -> None:
        """Pass on what a member says, to themselves too."""
        self._tell(kind="message", name=self._members[inbox], text=text)

    def _tell(self, **news: Any) -> None:
        text = json.dumps(news)
        for inbox in self._members:
            if inbox.full():
                inbox.get_nowait()
            inbox.put_nowait(text)


ROOMS: dict[str, Room] = {}


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
    topic, name = visitor(scope)
    if not topic or not name:
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    room = ROOMS.setdefault(topic, Room())
    inbox = room.join(name)
    forwarding = asyncio.create_task(forward(inbox, send))
    try:
        while (message := await receive())["type"] != "websocket.disconnect":
            if text := spoken(message):
                room.say(inbox, text)
    finally:
        forwarding.cancel()
        room.leave(inbox)
        if not room.names:
            ROOMS.pop(topic, None)


async def forward(inbox: Inbox, send: Send) -> None:
    """Send what arrives in an inbox, until the connection is gone."""
    with contextlib.suppress(OSError):
        while True:
            await send({"type": "websocket.send", "text": await inbox.get()})


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
