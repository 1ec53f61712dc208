"""The raw ASGI app of the HTTP benchmark: a greeting for GET, the same body back for POST.

A greeting names who is in the path, if anybody is: so a response to another request is noticed.
"""

from collections.abc import Awaitable, Callable
from typing import Any

GREETING = b"Hello, World!"

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


async def application(scope: Event, receive: Receive, send: Send) -> None:
    """Answer a request; there is no lifespan."""
    if scope["type"] != "http":
        return
    body = greeting(scope["path"]) if scope["method"] == "GET" else await read(receive)
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def greeting(path: str) -> bytes:
    """The response to a GET."""
    return GREETING if path == "/" else b"Hello, %b!" % path[1:].encode()


async def read(receive: Receive) -> bytes:
    """The request's body."""
    event = await receive()
    body: bytes = event.get("body", b"")
    while event.get("more_body"):
        event = await receive()
        body += event.get("body", b"")
    return body
