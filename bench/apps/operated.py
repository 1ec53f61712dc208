"""The raw ASGI app of those who are looked at: WebSockets get an echo, requests a greeting."""

import echo
import hello


async def application(scope: hello.Event, receive: hello.Receive, send: hello.Send) -> None:
    """Serve either; there is no lifespan."""
    app = echo if scope["type"] == "websocket" else hello
    await app.application(scope, receive, send)
