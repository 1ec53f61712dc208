"""An app that asks Erlang while it is imported, and notes its end as `endings` does."""

from __future__ import annotations

from hornbeam_erlang import call

from endings import echo, lifespan
from gallery import respond

PRICE = call("price", "lamp")


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await echo(scope, receive, send)
    else:
        await respond(send, str(PRICE).encode())
