"""Event streams: responses that last until their client leaves or the node ends them.

What is published under the key of the query goes to the clients of those that forward.
"""

from __future__ import annotations

import os
from urllib.parse import parse_qs

from hornbeam_erlang import ServerSentEvent, publish, subscribe

from gallery import gallery, key, note, read_body, respond, segments

STREAM = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


def last_event_id(scope) -> str:
    return dict(scope["headers"]).get(b"last-event-id", b"").decode()


async def begin(send, headers=()) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [*STREAM, *headers]})


async def say(send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def waits(scope, receive, send):
    """Say who serves and the last event that the client has had, if asked to; then wait.

    `/waits/said` says so at once, `/waits/silent` never says anything; of `/waits/torn` the last
    event is not whole.
    """
    await read_body(receive)
    await begin(send)
    how = segments(scope)[1]
    if how != "silent":
        await say(send, b"id: %d\ndata: %s\n\n" % (os.getpid(), last_event_id(scope).encode()))
    if how == "torn":
        await say(send, b"data: never whole\n")
    note(scope, "waits")
    note(scope, (await receive())["type"])


async def counts(scope, receive, send):
    """Say three events, and that was all."""
    await begin(send)
    for n in range(3):
        await say(send, b"data: %d\n\n" % n)
    await send({"type": "http.response.body"})


async def fails(scope, receive, send):
    await begin(send)
    await say(send, b"data: 1\n\n")
    raise RuntimeError(key(scope))


async def hello(scope, receive, send):
    await respond(send, b"hello")


# The streams that are open, by their keys: how to say something in them.
_said = {}


async def forwards(scope, receive, send):
    """Forward what is published. `/forwards/early` subscribes before the response begins,
    `/forwards/close` and `latest` say what happens to a slow client."""
    how = segments(scope)[1]
    if how == "early":
        subscribe(key(scope), forward=True)
    await begin(send)
    if how != "early":
        subscribe(key(scope), forward=True, overflow=how if how in ("close", "latest") else None)
    _said[key(scope)] = send
    note(scope, "forwards")
    await read_body(receive)
    while (await receive())["type"] != "http.disconnect":
        pass
    note(scope, "gone")


async def says(scope, receive, send):
    """Say in an open stream what is posted; with nothing posted, end it."""
    said = await read_body(receive)
    event = {"type": "http.response.body", "body": said, "more_body": bool(said)}
    await _said[key(scope)](event)
    await respond(send, b"")


async def publishes(scope, receive, send):
    """Publish an event with what stands in the query: `/publishes?topic=…&data=…&id=…`."""
    await read_body(receive)
    given = {name: values[0] for name, values in parse_qs(key(scope)).items()}
    topic, data = given.pop("topic"), given.pop("data")
    count = await publish(topic, ServerSentEvent(data, **given))
    await respond(send, str(count).encode())


async def refused(scope, receive, send):
    """Forward to what is no stream of events, before and after that is known."""
    how = segments(scope)[1]
    if how == "early":
        subscribe(key(scope), forward=True)
    headers = {
        "early": [(b"content-type", b"text/plain")],
        "plain": [(b"content-type", b"text/plain")],
        "gzip": [*STREAM, (b"content-encoding", b"gzip")],
    }[how]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await say(send, b"begun")
    try:
        subscribe(key(scope) + "late", forward=True)
    except ValueError as error:
        note(scope, str(error))
    await send({"type": "http.response.body"})


application = gallery(globals())
