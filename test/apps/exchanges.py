"""HTTP handlers, each showing one behaviour; `gallery` says how they are reached."""

from __future__ import annotations

import asyncio
import os

from gallery import gallery, key, note, note_count, read_body, released, respond

PART = bytes(65536)


async def start(send, status=200, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def body(send, part, more=True):
    await send({"type": "http.response.body", "body": part, "more_body": more})


async def hello(scope, receive, send):
    await respond(send, b"hello", headers=[(b"content-type", b"text/plain")])


async def echo(scope, receive, send):
    await respond(send, await read_body(receive))


async def scope_of(scope, receive, send):
    await respond(send, repr(scope).encode())


async def parts(scope, receive, send):
    await start(send)
    for part in (b"one ", b"two ", b""):
        await body(send, part)
    await released(scope)
    await body(send, b"three", more=False)


async def sized(scope, receive, send):
    await start(send, headers=[(b"content-length", b"5")])
    await body(send, b"hello", more=False)


async def sized_parts(scope, receive, send):
    await start(send, headers=[(b"content-length", b"7")])
    await body(send, b"one ")
    await body(send, b"two")
    await body(send, b"", more=False)


async def bodiless_parts(scope, receive, send):
    """Say 204 and an end that comes later; note what `receive` says then."""
    await start(send, status=204)
    await body(send, b"")
    note(scope, (await receive())["type"])
    note(scope, (await receive())["type"])


async def bodiless_with_body(scope, receive, send):
    """Give a body to the status in the query, as frameworks do with `return None`."""
    status, _, parts = key(scope).partition("&")
    await start(send, status=int(status), headers=[(b"content-length", b"4")])
    for _ in range(int(parts)):
        await body(send, b"nu")
        await asyncio.sleep(0.01)
    await body(send, b"null", more=False)


async def cookies(scope, receive, send):
    headers = [
        (b"set-cookie", b"a=1; Path=/"),
        (b"x-other", b"between"),
        (b"set-cookie", b"b=2; Path=/"),
        (b"vary", b"accept"),
        (b"vary", b"origin"),
        (b"x-empty", b""),
    ]
    await respond(send, b"", headers=headers)


async def counts(scope, receive, send):
    """Note the size of the first part of the body; count the rest once released."""
    event = await receive()
    total = len(event["body"])
    note(scope, total)
    await released(scope)
    while event["more_body"]:
        event = await receive()
        total += len(event["body"])
    await respond(send, str(total).encode())


async def floods(scope, receive, send):
    """Send parts of 64 KiB until the client is gone; note how many."""
    await start(send)
    sent = 0
    try:
        while True:
            await body(send, PART)
            sent += 1
            note_count(scope, sent)
    except OSError:
        note(scope, "OSError")
    assert (await receive())["type"] == "http.request"
    note(scope, (await receive())["type"])


async def big(scope, receive, send):
    await start(send)
    for _ in range(256):
        await body(send, PART)
    await body(send, b"", more=False)


async def early(scope, receive, send):
    """Answer at length before the request is at its end."""
    await respond(send, bytes(300_000))


async def asks_late(scope, receive, send):
    note(scope, "called")
    await released(scope)
    await respond(send, await read_body(receive))


async def never_asks(scope, receive, send):
    await respond(send, b"no need", status=417)


async def waits(scope, receive, send):
    await read_body(receive)
    note(scope, "waiting")
    note(scope, (await receive())["type"])


async def after_the_end(scope, receive, send):
    await read_body(receive)
    await respond(send, b"done")
    note(scope, (await receive())["type"])


async def raises(scope, receive, send):
    raise LookupError("a secret of the app")


async def returns(scope, receive, send):
    pass


async def breaks_chunked(scope, receive, send):
    await start(send)
    await body(send, b"the beginning")
    note(scope, "begun")
    await released(scope)
    raise LookupError("a secret of the app")


async def breaks_sized(scope, receive, send):
    await start(send, headers=[(b"content-length", b"100")])
    await body(send, b"the beginning")
    await released(scope)
    raise LookupError("a secret of the app")


async def forgets_the_end(scope, receive, send):
    await start(send)
    await body(send, b"the beginning")
    await released(scope)


async def dies_midway(scope, receive, send):
    await start(send)
    await body(send, b"the beginning")
    await read_body(receive)
    os._exit(3)


async def slow(scope, receive, send):
    await read_body(receive)
    note(scope, (await receive())["type"])


async def pauses(scope, receive, send):
    await start(send)
    await body(send, b"before")
    await asyncio.sleep(0.3)
    await body(send, b" and after", more=False)


async def slow_later(scope, receive, send):
    await start(send)
    await body(send, b"first")
    await released(scope)
    await body(send, b" second", more=False)


application = gallery(globals())
