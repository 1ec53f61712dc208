"""A server for test_download_load.py that sends what is wrong in the way it is told."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

FAULT = os.environ["FAULT"]
PART = bytes(65536)
PARTS = 4


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Send a response of zeros, or one with another `status`, with bytes `changed`, with a `length`
    instead of chunks, or `cut` off."""
    if scope["type"] != "http":
        return
    length = [(b"content-length", b"%d" % (PARTS * len(PART)))]
    await send(
        {
            "type": "http.response.start",
            "status": 503 if FAULT == "status" else 200,
            "headers": length if FAULT == "length" else [],
        }
    )
    for _ in range(PARTS - 1):
        await send({"type": "http.response.body", "body": PART, "more_body": True})
    if FAULT == "cut":
        raise RuntimeError("cut off on purpose")
    body = PART[:-1] + b"x" if FAULT == "changed" else PART
    await send({"type": "http.response.body", "body": body})
