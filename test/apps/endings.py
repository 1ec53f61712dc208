"""Handlers that are still there when the server stops, each in its own way.

What they see is written to the file that $TRACE names, a line each: the node is gone before
anybody could ask. $LIFESPAN may be `hangs`.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from gallery import gallery, respond

FOREVER = 3600


def trace(*words) -> None:
    with Path(os.environ["TRACE"]).open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    if os.environ.get("LIFESPAN") == "hangs":
        await asyncio.sleep(FOREVER)
    trace("shutdown", os.getpid())
    await send({"type": "lifespan.shutdown.complete"})


async def echo(scope, receive, send):
    """Say which process this is, answer each message, and note how it ended."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(os.getpid())})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message["text"]})
    trace("disconnect", message["code"])


async def floods(scope, receive, send):
    """Send more than a client takes that does not read."""
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        await send({"type": "websocket.send", "text": "x" * 65536})


async def endless(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        part = {"type": "http.response.body", "body": b"x" * 65536, "more_body": True}
        await send(part)


async def pid(scope, receive, send):
    await respond(send, b"%d" % os.getpid())


async def undecided(scope, receive, send):
    """Leave a handshake without an answer."""
    trace("asked")
    await asyncio.sleep(FOREVER)


async def slow(scope, receive, send):
    """Answer once the test has made a file beside the notes: it cannot ask a server that stops."""
    trace("asked")
    while not Path(os.environ["TRACE"] + ".released").exists():
        await asyncio.sleep(0.005)
    await respond(send, b"slow but whole")


async def never(scope, receive, send):
    """Begin a response and never end, not even when cancelled."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while True:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            trace("cancelled")


async def blocks(scope, receive, send):
    trace("asked")
    time.sleep(FOREVER)


handlers = gallery(
    {
        "echo": echo,
        "floods": floods,
        "endless": endless,
        "pid": pid,
        "undecided": undecided,
        "slow": slow,
        "never": never,
        "blocks": blocks,
    }
)


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await handlers(scope, receive, send)
