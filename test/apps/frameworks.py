"""A Starlette app that subscribes: its WebSockets know no events but ASGI's own."""

import asyncio

from hornbeam_erlang import aio, check_pubsub, publish, subscribe
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute


async def check(websocket):
    """Answer each text with it and what has been published since."""
    subscribe(websocket.path_params["topic"])
    check_pubsub()
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{text} {check_pubsub()}")


async def listen(websocket):
    """Echo, and send what is published in a task of its own."""

    async def forward():
        async for _, message in aio.messages():
            await websocket.send_text(message)

    await websocket.accept()
    subscribe(websocket.path_params["topic"])
    await websocket.send_text("subscribed")
    forwarding = asyncio.create_task(forward())
    async for text in websocket.iter_text():
        await websocket.send_text(text)
    forwarding.cancel()


async def published(request):
    topic, message = request.path_params["topic"], (await request.body()).decode()
    return PlainTextResponse(str(publish(topic, message)))


app = Starlette(
    routes=[
        WebSocketRoute("/check/{topic}", check),
        WebSocketRoute("/listen/{topic}", listen),
        Route("/publish/{topic}", published, methods=["POST"]),
    ]
)
