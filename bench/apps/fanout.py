"""The fan-out app for Hornbeam, with a path for each of its two lanes.

`/forward` lets the BEAM write each message to the client; `/messages` takes them into Python,
whose handler sends them. `/publish` publishes what the client sends. `/forward/NAME` is one topic
of many, and `/publish/each` publishes to the one that the first four letters of each text name.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hornbeam_erlang import aio, publish, subscribe

TOPIC = "topic"

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


async def application(scope: Event, receive: Receive, send: Send) -> None:
    """Serve a WebSocket by its path."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    match scope["path"].split("/")[1:]:
        case ["forward"]:
            await forwarded(receive, send, TOPIC)
        case ["forward", name]:
            await forwarded(receive, send, name)
        case ["messages"]:
            await handled(receive, send)
        case ["publish"]:
            await publishing(receive)
        case ["publish", "each"]:
            await publishing_to_each(receive)


async def forwarded(receive: Receive, send: Send, topic: str) -> None:
    """Subscribe and leave the rest to the BEAM."""
    subscribe(topic, forward=True)
    await send({"type": "websocket.send", "text": "subscribed"})
    await until_closed(receive)


async def handled(receive: Receive, send: Send) -> None:
    """Send every message of the topic to the client until it leaves."""
    subscribe(TOPIC)
    await send({"type": "websocket.send", "text": "subscribed"})
    forwarder = asyncio.create_task(send_messages(send))
    try:
        await until_closed(receive)
    finally:
        forwarder.cancel()


async def send_messages(send: Send) -> None:
    """Send what is published."""
    async for _, message in aio.messages():
        await send({"type": "websocket.send", "text": message})


async def until_closed(receive: Receive) -> None:
    """Wait until the client leaves."""
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def publishing(receive: Receive) -> None:
    """Publish each text that the client sends."""
    while (event := await receive())["type"] != "websocket.disconnect":
        publish(TOPIC, event["text"])


async def publishing_to_each(receive: Receive) -> None:
    """Publish each text to the topic that it names."""
    while (event := await receive())["type"] != "websocket.disconnect":
        publish(event["text"][:4], event["text"])
