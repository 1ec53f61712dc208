"""An app of a rolling update: it echoes requests after a moment, and WebSockets at once."""

import asyncio

from gallery import read_body, respond

MOMENT = 0.02
"""Seconds, so that there is always a request in flight."""


async def application(scope, receive, send):
    if scope["type"] == "http":
        body = await read_body(receive)
        await asyncio.sleep(MOMENT)
        await respond(send, body or b"hello")
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": message["text"]})
