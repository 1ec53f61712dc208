"""The fan-out app for Hornbeam whose subscribers are event streams, by sse-starlette.

`/forward` lets the BEAM write each message to the client; `/messages` takes them into Python, whose
handler sends them. `/publish` is a WebSocket that publishes what the client sends.
"""

import asyncio
from collections.abc import AsyncIterator

from hornbeam_erlang import aio, publish, subscribe
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

TOPIC = "topic"


async def forward(request: Request) -> EventSourceResponse:
    """Subscribe and leave the rest to the BEAM."""

    async def events() -> AsyncIterator[dict[str, str]]:
        subscribe(TOPIC, forward=True)
        yield {"data": "subscribed"}
        await asyncio.Event().wait()

    return EventSourceResponse(events())


async def messages(request: Request) -> EventSourceResponse:
    """Send every message of the topic to the client until it leaves."""

    async def events() -> AsyncIterator[dict[str, str]]:
        subscribe(TOPIC)
        yield {"data": "subscribed"}
        async for _, message in aio.messages():
            yield {"data": message}

    return EventSourceResponse(events())


async def publishing(socket: WebSocket) -> None:
    """Publish each text that the client sends."""
    await socket.accept()
    async for text in socket.iter_text():
        publish(TOPIC, text)


application = Starlette(
    routes=[
        Route("/forward", forward),
        Route("/messages", messages),
        WebSocketRoute("/publish", publishing),
    ]
)
