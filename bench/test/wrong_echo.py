"""A server for test_echo_load.py: an echo that goes wrong once, in the way it is told."""

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

FAULT = os.environ["FAULT"]
FAULTY_MESSAGE = 20
STALL_SECONDS = 0.3
stalls: list[int] = []


def replies(text: str, before: str) -> list[dict[str, Any]]:
    """What the faulty server sends where `text` is due; `before` came just before it."""
    right = {"type": "websocket.send", "text": text}
    table: dict[str, list[dict[str, Any]]] = {
        "none": [right],
        "stalls": [right],
        "changed": [right | {"text": text[:-1] + chr(ord(text[-1]) ^ 1)}],
        "longer": [right | {"text": text + "."}],
        "before": [right | {"text": before}],
        "lost": [],
        "doubled": [right, right],
        "bytes": [{"type": "websocket.send", "bytes": text.encode()}],
        "closed": [{"type": "websocket.close", "code": 4001}],
    }
    return table[FAULT]


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Echo, but for one message of each socket."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    count, before = 0, ""
    while (event := await receive())["type"] == "websocket.receive":
        count += 1
        right = {"type": "websocket.send", "text": event["text"]}
        faulty = count == FAULTY_MESSAGE
        if faulty and FAULT == "stalls" and not stalls:
            stalls.append(count)
            time.sleep(STALL_SECONDS)  # the whole server stands still
        for reply in replies(event["text"], before) if faulty else [right]:
            await send(reply)
        before = event["text"]
