"""WebSocket handlers that go on with a socket of another worker; `gallery` says how."""

from __future__ import annotations

import asyncio
import json
import os
import time

import hornbeam_erlang
from hornbeam_erlang import aio

from gallery import gallery
from sockets import accept, echo, messages, say  # noqa: F401 - part of the gallery


def resumed(scope) -> dict | None:
    return scope["extensions"].get("hornbeam.resume")


async def names(scope, receive, send):
    """Answer each message with our process and it; say first how we came to the socket."""
    await accept(send)
    await say(send, json.dumps({"pid": os.getpid(), "resume": resumed(scope)}))
    async for event in messages(receive):
        await say(send, f"{os.getpid()} {event['text']}")


async def numbers(scope, receive, send):
    """Answer each message with itself; say nothing of our own."""
    await accept(send)
    async for event in messages(receive):
        await say(send, event["text"])


async def lazy(scope, receive, send):
    """Take a message only after another would have come, and answer it."""
    await accept(send)
    async for event in messages(receive):
        await say(send, event["text"])
        await asyncio.sleep(0.05)


async def bound(scope, receive, send):
    """Bind things to the connection, the first time; answer with what `check_pubsub` says."""
    key = scope["query_string"].decode()
    chosen = "first" if resumed(scope) is None else "another"
    await accept(send, subprotocol=chosen if scope["subprotocols"] else None)
    if resumed(scope) is None:
        hornbeam_erlang.state_incr(key, scope="connection")
        hornbeam_erlang.subscribe(key)
        hornbeam_erlang.subscribe(f"{key} forwarded", forward=True)
    await say(send, json.dumps(resumed(scope)))
    while True:
        topic, message = await aio.receive_pubsub()
        await say(send, json.dumps([topic, message]))


async def counting(scope, receive, send):
    """Count the messages of the client in the connection's state; answer with the number."""
    await accept(send)
    state = hornbeam_erlang.connection_state()
    await say(send, json.dumps([os.getpid(), dict(state)]))
    async for _ in messages(receive):
        state["messages"] = state.get("messages", 0) + 1
        await say(send, json.dumps(state["messages"]))


async def unwanted(scope, receive, send):
    """Keep something for a client and refuse it, with a close or a response, as the path says."""
    hornbeam_erlang.connection_state()["visits"] = 1
    if scope["path"].endswith("close"):
        await send({"type": "websocket.close"})
    else:
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"unwanted"})


async def deadly(scope, receive, send):
    """Live until the first message; end the process whenever we are to go on."""
    if resumed(scope) is not None:
        os._exit(7)
    await accept(send)
    await receive()
    await receive()
    os._exit(7)


async def fatal(scope, receive, send):
    """Answer each message with itself; two are the end before they are known as taken."""
    await accept(send)
    async for event in messages(receive):
        match event["text"]:
            case "die":
                os._exit(7)
            case "hang":
                time.sleep(3600)
        await say(send, event["text"])


async def hangs(scope, receive, send):
    """Answer the first message, and then never let go of the loop; answer all in later lives."""
    await accept(send)
    async for event in messages(receive):
        await say(send, event["text"])
        if resumed(scope) is None:
            await asyncio.sleep(0.1)
            time.sleep(3600)


async def refusing(scope, receive, send):
    """Refuse to go on: with a close, a response, a failure or by returning, as the path says."""
    how = scope["path"].split("/")[2]
    if resumed(scope) is None:
        await accept(send)
        await receive()
        await receive()
        os._exit(7)
    if how == "close":
        await send({"type": "websocket.close", "code": 4321, "reason": "no more"})
    elif how == "response":
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no more"})
    elif how == "failure":
        raise LookupError("a secret of the app")


application = gallery(globals())
