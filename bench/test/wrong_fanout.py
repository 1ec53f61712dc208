"""A server for test_fanout_load.py: a fan-out that goes wrong once, in the way it is told."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

FAULT = os.environ["FAULT"]
FAULTY_MESSAGE = 20
FAULTY_SOCKET = int(os.environ.get("FAULTY_SOCKET", "1"))

Send = Callable[[dict[str, Any]], Awaitable[None]]
subscribers: list[Send] = []
topics: list[str] = []  # of each subscriber
published: list[str] = []


def deliveries(text: str, before: str) -> list[dict[str, Any]]:
    """What one subscriber gets where `text` is due; `before` came just before it."""
    right = {"type": "websocket.send", "text": text}
    table: dict[str, list[dict[str, Any]]] = {
        "none": [right],
        "changed": [right | {"text": text[:-1] + chr(ord(text[-1]) ^ 1)}],
        "before": [right | {"text": before}],
        "lost": [],
        "doubled": [right, right],
        "bytes": [{"type": "websocket.send", "bytes": text.encode()}],
        "closed": [{"type": "websocket.close", "code": 4001}],
    }
    return table.get(FAULT, [right])


def is_due(topic: str, text: str) -> bool:
    """Whether who is subscribed to this topic gets the text."""
    if FAULT == "elsewhere" and len(published) == FAULTY_MESSAGE:
        return not text.startswith(topic)
    return text.startswith(topic)


async def publish(text: str) -> None:
    """Send to all of the topic that it begins with, but for one message of one subscriber."""
    before = published[-1] if published else ""
    published.append(text)
    for number, send in enumerate(list(subscribers)):
        if not is_due(topics[number], text):
            continue
        faulty = number == FAULTY_SOCKET and len(published) == FAULTY_MESSAGE
        right = {"type": "websocket.send", "text": text}
        for message in deliveries(text, before) if faulty else [right]:
            await send(message)
        if faulty and FAULT == "closed":
            subscribers.remove(send)


def as_events(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what an event stream says where a WebSocket sends these: cut into small chunks."""
    bodies: list[dict[str, Any]] = []
    for message in messages:
        if message["type"] == "websocket.close":
            return [*bodies, {"type": "http.response.body", "body": b""}]
        text = message.get("text", "a\ndata: b")
        for part in (": a comment\r\n\r\nda", f"ta: {text}\n", "\n"):
            bodies.append({"type": "http.response.body", "body": part.encode(), "more_body": True})
    return bodies


async def stream(receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:
    """Be a subscriber by an event stream."""
    kind = b"text/plain" if FAULT == "plain" else b"text/event-stream"
    headers = [(b"content-type", kind)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def say(message: dict[str, Any]) -> None:
        for body in as_events([message]):
            await send(body)

    subscribers.append(say)
    topics.append("")
    if FAULT != "silent" or len(subscribers) < 3:
        greeting = "welcome" if FAULT == "greeting" else "subscribed"
        await say({"type": "websocket.send", "text": greeting})
    while (await receive())["type"] != "http.disconnect":
        pass


async def application(
    scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send
) -> None:
    """Serve `/subscribe`, maybe to a topic, and `/publish`."""
    if scope["type"] == "http":
        return await stream(receive, send)
    if scope["type"] != "websocket":
        return None
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"].startswith("/subscribe"):
        greeting = "welcome" if FAULT == "greeting" else "subscribed"
        subscribers.append(send)
        topics.append(scope["path"].removeprefix("/subscribe").removeprefix("/"))
        if FAULT != "silent" or len(subscribers) < 3:
            await send({"type": "websocket.send", "text": greeting})
    while (event := await receive())["type"] == "websocket.receive":
        await publish(event["text"])
        if FAULT == "publisher":
            await send({"type": "websocket.send", "text": event["text"]})
    return None
