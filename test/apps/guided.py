"""The guide's snippets, with what they name but leave to the reader.

What the snippets tell a service that is not there is told to the journal.
"""

from __future__ import annotations

from collections import Counter

from gallery import gallery, key, note
from guide import (
    binary,
    dashboard,
    error_handling,
    fastapi_websocket,
    starlette_websocket,
    subprotocols,
)

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


# Live dashboard

dashboard.state_get = {"metrics:requests": 42, "metrics:latency_p99": 7}.get


# Error handling: fails at the first message


async def handle_websocket(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    event = await receive()
    raise LookupError(event["text"])


error_handling.handle_websocket = handle_websocket


# FastAPI: counts users in this worker

users: Counter[str] = Counter()


def state_incr(name, by=1):
    users[name] += by
    note({"query_string": name.encode()}, users[name])


fastapi_websocket.state_incr = state_incr


def under(prefix, app):
    """Show a framework's app the path behind the gallery's first segment."""

    async def mounted(scope, receive, send):
        await app({**scope, "path": scope["path"].removeprefix(prefix)}, receive, send)

    return mounted


async def missing(scope, receive, send):
    """Call an op that this version has not got."""
    import hornbeam_erlang

    await send({"type": "websocket.accept"})
    try:
        hornbeam_erlang.state_get(key(scope))
    except NotImplementedError as error:
        await send({"type": "websocket.send", "text": str(error)})


application = gallery(
    {
        "binary": binary.application,
        "subprotocols": subprotocols.application,
        "dashboard": dashboard.application,
        "error_handling": error_handling.application,
        "fastapi": under("/fastapi", fastapi_websocket.app),
        "starlette": under("/starlette", starlette_websocket.app),
        "missing": missing,
    }
)
