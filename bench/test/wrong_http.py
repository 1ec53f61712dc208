"""A server for test_http_load.py: items for GET, the body back for POST, changed when told so."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import hello

FAULT = os.environ["FAULT"]


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer a request in chunks, for want of a length."""
    if scope["type"] != "http":
        return
    number = scope["path"].rpartition("/")[2]
    body = b'{"id":%s,"name":"item %s"}' % (number.encode(), number.encode())
    if scope["method"] == "POST":
        body = await hello.read(receive)
    if FAULT == "changed":
        body = body[:-1] + bytes((body[-1] ^ 1,))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body[:5], "more_body": True})
    await send({"type": "http.response.body", "body": body[5:]})
