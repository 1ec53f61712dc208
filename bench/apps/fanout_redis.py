"""The fan-out app for uvicorn: its workers hear of each other's messages from redis.

One redis connection listens for the whole worker and puts each message on the queue of every
subscribed socket, whose handler sends it. That is the usual shape; a redis connection for each
socket would cost far more.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

TOPIC = "topic"
QUEUE_MESSAGES = int(os.environ.get("QUEUE_MESSAGES", "1024"))

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
queues: set[asyncio.Queue[str]] = set()


async def application(scope: Event, receive: Receive, send: Send) -> None:
    """Serve `/subscribe`, which gets every message, and `/publish`, which sends them."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["type"] != "websocket":
        return None
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/publish":
        return await publish(receive)
    return await subscribe(receive, send)


async def lifespan(receive: Receive, send: Send) -> None:
    """Listen to redis from the worker's start to its end."""
    await receive()
    async with redis.pubsub(ignore_subscribe_messages=False) as pubsub:
        await pubsub.subscribe(TOPIC)
        confirmed = await pubsub.get_message(timeout=10)
        assert confirmed and confirmed["type"] == "subscribe"
        listener = asyncio.create_task(listen(pubsub))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        listener.cancel()
    await send({"type": "lifespan.shutdown.complete"})


async def listen(pubsub: PubSub) -> None:
    """Hand each message of the topic to all queues; a full one loses it."""
    async for message in pubsub.listen():
        for queue in queues:
            if not queue.full():
                queue.put_nowait(message["data"])


async def subscribe(receive: Receive, send: Send) -> None:
    """Send every message of the topic to the client until it leaves."""
    queue: asyncio.Queue[str] = asyncio.Queue(QUEUE_MESSAGES)
    queues.add(queue)
    await send({"type": "websocket.send", "text": "subscribed"})
    forwarder = asyncio.create_task(forward(queue, send))
    try:
        while (await receive())["type"] != "websocket.disconnect":
            pass
    finally:
        queues.discard(queue)
        forwarder.cancel()


async def forward(queue: asyncio.Queue[str], send: Send) -> None:
    """Send what comes on the queue."""
    while True:
        await send({"type": "websocket.send", "text": await queue.get()})


async def publish(receive: Receive) -> None:
    """Publish each text that the client sends."""
    while (event := await receive())["type"] != "websocket.disconnect":
        await redis.publish(TOPIC, event["text"])
