"""The guide's snippets, with what they name but leave to the reader."""

from __future__ import annotations

import time

import hornbeam_erlang

from gallery import gallery
from guide import (
    binary,
    chat,
    dashboard,
    error_handling,
    ets_state,
    fastapi_websocket,
    starlette_websocket,
    subprotocols,
)

# Chat room and connection state: what their imports lack

chat.check_pubsub = hornbeam_erlang.check_pubsub
ets_state.time = time


# Binary data

binary.process_binary = lambda data: data[::-1]


# Subprotocols: one message that says which handler it was


def handler_named(name):
    async def handler(scope, receive, send):
        await send({"type": "websocket.send", "text": name})
        await receive()

    return handler


subprotocols.handle_graphql = handler_named("graphql")
subprotocols.handle_generic = handler_named("generic")


# Error handling: fails at the first message


async def handle_websocket(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    event = await receive()
    raise LookupError(event["text"])


error_handling.handle_websocket = handle_websocket


def under(prefix, app):
    """Show a framework's app the path behind the gallery's first segment."""

    async def mounted(scope, receive, send):
        await app({**scope, "path": scope["path"].removeprefix(prefix)}, receive, send)

    return mounted


application = gallery(
    {
        "chat": chat.application,
        "binary": binary.application,
        "subprotocols": subprotocols.application,
        "ets_state": ets_state.application,
        "dashboard": dashboard.application,
        "error_handling": error_handling.application,
        "fastapi": under("/fastapi", fastapi_websocket.app),
        "starlette": under("/starlette", starlette_websocket.app),
    }
)
