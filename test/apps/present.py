"""WebSockets that are present in the topic of the query, and those who watch it."""

from __future__ import annotations

import json
import os

from hornbeam_erlang import aio, presence, state_get, state_incr

from gallery import gallery, key, respond, segments
from sockets import accept, messages, say

STREAM = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


async def joins(scope, receive, send):
    """Be present as the second segment says; then do what each message says, and say what it is.

    A message is `["update", meta]`, `["untrack"]` or `["track", key, meta]`.
    """
    topic, name = key(scope), segments(scope)[1]
    await accept(send)
    state_incr((topic, "online"), cluster=True, scope="connection")
    ref = await aio.presence.track(topic, name, {"n": 0})
    await say(send, json.dumps({"pid": os.getpid(), "ref": ref}))
    async for event in messages(receive):
        match json.loads(event["text"]):
            case ["update", meta]:
                done = presence.update(topic, name, meta)
            case ["track", other, meta]:
                done = presence.track(topic, other, meta)
            case ["untrack"]:
                done = presence.untrack(topic, name)
        await say(send, json.dumps(done))


async def watches(scope, receive, send):
    """Say each change."""
    await accept(send)
    async for diff in presence.changes(key(scope)):
        await say(send, json.dumps(diff))


async def forwards(scope, receive, send):
    """Let the node tell the client of a WebSocket or an event stream; be present too."""
    if scope["type"] == "websocket":
        await accept(send)
    else:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM})
    await aio.presence.subscribe(key(scope), forward=True)
    if scope["type"] == "websocket":
        await aio.presence.track(key(scope), "watcher", {})
    while not (await receive())["type"].endswith("disconnect"):
        pass


async def lists(scope, receive, send):
    """Answer with who is present, how many that are, and the counter of those who joined."""
    topic = key(scope)
    found = presence.list(topic), presence.count(topic)
    online = state_get((topic, "online"), 0, cluster=True)
    await respond(send, json.dumps([*found, online]).encode())


async def counts(scope, receive, send):
    """Count once more, for good, and answer with the sum."""
    total = state_incr((key(scope), "visits"), cluster=True)
    await respond(send, json.dumps(total).encode())


application = gallery(globals())
