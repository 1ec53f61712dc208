"""The same for uvicorn: its workers hear of each other's messages from redis.

As in fanout_redis.py, one redis connection listens for the whole worker and puts each message on
the queue of every open stream, whose generator yields it.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

TOPIC = "topic"
QUEUE_MESSAGES = 1024

redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
queues: set[asyncio.Queue[str]] = set()


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Listen to redis from the worker's start to its end."""
    async with redis.pubsub(ignore_subscribe_messages=False) as pubsub:
        await pubsub.subscribe(TOPIC)
        confirmed = await pubsub.get_message(timeout=10)
        assert confirmed and confirmed["type"] == "subscribe"
        listener = asyncio.create_task(listen(pubsub))
        yield
        listener.cancel()


async def listen(pubsub: PubSub) -> None:
    """Hand each message of the topic to all queues; a full one loses it."""
    async for message in pubsub.listen():
        for queue in queues:
            if not queue.full():
                queue.put_nowait(message["data"])


async def subscribed(request: Request) -> EventSourceResponse:
    """Send every message of the topic to the client until it leaves."""

    async def events() -> AsyncIterator[dict[str, str]]:
        queue: asyncio.Queue[str] = asyncio.Queue(QUEUE_MESSAGES)
        queues.add(queue)
        try:
            yield {"data": "subscribed"}
            while True:
                yield {"data": await queue.get()}
        finally:
            queues.discard(queue)

    return EventSourceResponse(events())


async def publishing(socket: WebSocket) -> None:
    """Publish each text that the client sends."""
    await socket.accept()
    async for text in socket.iter_text():
        await redis.publish(TOPIC, text)


application = Starlette(
    routes=[Route("/subscribe", subscribed), WebSocketRoute("/publish", publishing)],
    lifespan=lifespan,
)
