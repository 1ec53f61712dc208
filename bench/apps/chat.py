"""The loop of the guide's chat: what a client says is published, and read back by `check_pubsub`.

Each socket is alone in its room, so that every message is one delivery; and what it says is text as
it stands, since JSON costs the same either way. `asking` waits for the answer of each publish, as
all did before a publish returned what may be asked.
"""

import itertools
import os
from collections.abc import Awaitable, Callable
from typing import Any

from hornbeam_erlang import check_pubsub, publish, subscribe

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

rooms = itertools.count()


def tell(topic: str, text: str) -> None:
    """Publish and go on."""
    publish(topic, text)


def ask(topic: str, text: str) -> None:
    """Publish and wait."""
    publish(topic, text).result()


async def application(scope: Event, receive: Receive, send: Send) -> None:
    """Serve a WebSocket whose publishes nobody asks about."""
    await chat(scope, receive, send, tell)


async def asking(scope: Event, receive: Receive, send: Send) -> None:
    """Serve a WebSocket whose publishes are waited for."""
    await chat(scope, receive, send, ask)


async def chat(scope: Event, receive: Receive, send: Send, say: Callable[[str, str], None]) -> None:
    """Publish what the client says, and send what was published."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    topic = f"chat:{os.getpid()}-{next(rooms)}"
    subscribe(topic)
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.receive":  # and no word that something was published
            say(topic, event["text"])
        if message := check_pubsub():
            await send({"type": "websocket.send", "text": message})
