"""An app whose workers subscribe in their lifespan and listen in the background."""

import asyncio
import contextlib
import os

from hornbeam_erlang import aio, state_set, subscribe

from gallery import respond

TOPIC = os.environ["TOPIC"]


async def listen():
    async for topic, message in aio.messages():
        state_set((topic, os.getpid()), message)


async def application(scope, receive, send):
    if scope["type"] != "lifespan":
        await respond(send, b"nothing here")
        return
    await receive()
    subscribe(TOPIC)
    state_set((TOPIC, "alive", os.getpid()), True, scope="connection")
    listening = asyncio.create_task(listen())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening
    await send({"type": "lifespan.shutdown.complete"})
