"""Apps that take part in the lifespan protocol, each in its own way."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from gallery import respond


async def lifespan_events(receive, send, startup, shutdown):
    await receive()
    await startup()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await shutdown()
    await send({"type": "lifespan.shutdown.complete"})


async def nothing():
    pass


async def traced(scope, receive, send):
    """Write what happens into the file that $TRACE names."""

    async def trace(word):
        with Path(os.environ["TRACE"]).open("a") as file:
            file.write(word + "\n")

    if scope["type"] == "lifespan":
        await lifespan_events(receive, send, lambda: trace("startup"), lambda: trace("shutdown"))
    else:
        await trace(scope["type"])
        await respond(send, b"")


async def stateful(scope, receive, send):
    """Answer with the state that was found, then change it in depth and at the top."""
    if scope["type"] == "lifespan":
        scope["state"]["shared"] = []
        await lifespan_events(receive, send, nothing, nothing)
    else:
        state = scope["state"]
        state["shared"].append(1)
        await respond(
            send, json.dumps({"shared": state["shared"], "own": state.get("own")}).encode()
        )
        state["own"] = "of this scope only"


async def without(scope, receive, send):
    """Know nothing but HTTP."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await respond(send, b"state" if scope.get("state") else b"no state")


async def ignores(scope, receive, send):
    """Return from the lifespan without a word."""
    if scope["type"] == "http":
        await respond(send, b"state" if scope.get("state") else b"no state")


async def fails(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "the database is away"})


async def raises_in_startup(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        raise RuntimeError("the database is away")


async def hangs_in_startup(scope, receive, send):
    if scope["type"] == "lifespan":
        await asyncio.sleep(3600)


async def hangs_at_the_end(scope, receive, send):
    async def hang():
        await asyncio.sleep(3600)

    await lifespan_events(receive, send, nothing, hang)
