"""Many small apps behind one: the first segment of the path names the handler.

Also the journal, in which handlers note what they saw under the key that the client put
into the query string; `GET /journal/<count>?<key>` waits until it has that many entries,
`GET /release?<key>` lets a handler go on that waits in `released`, as does `open_gate`, which
Erlang calls where a request would have to wait.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any

_entries: defaultdict[str, list[Any]] = defaultdict(list)
_gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


def gallery(handlers: dict[str, Any]):
    """Make one ASGI app of the functions of a module."""

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError("no lifespan here")
        name = segments(scope)[0]
        handler = {"journal": journal, "release": release}.get(name) or handlers[name]
        await handler(scope, receive, send)

    return application


def segments(scope) -> list[str]:
    """Return the parts of the path below the app's root."""
    return scope["path"].removeprefix(scope["root_path"]).removeprefix("/").split("/")


def key(scope) -> str:
    return scope["query_string"].decode()


def note(scope, entry: Any) -> None:
    """Remember something that JSON can say."""
    _entries[key(scope)].append(entry)


def note_count(scope, count: int) -> None:
    """Remember a number that only grows, in place of the one before."""
    _entries[key(scope)][:] = [count]


async def released(scope) -> None:
    await _gates[key(scope)].wait()


async def journal(scope, receive, send) -> None:
    count = int(segments(scope)[1])
    while len(_entries[key(scope)]) < count:
        await asyncio.sleep(0.005)
    await respond(send, json.dumps(_entries[key(scope)]).encode())


async def release(scope, receive, send) -> None:
    _gates[key(scope)].set()
    await respond(send, b"")


async def open_gate(key: str) -> None:
    _gates[key].set()


async def respond(send, body: bytes, status: int = 200, headers=()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive) -> bytes:
    """Read a request's whole body."""
    body = b""
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise ConnectionError(event["type"])
        body += event.get("body", b"")
        if not event.get("more_body", False):
            return body
