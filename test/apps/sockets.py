"""WebSocket handlers, each showing one behaviour; `gallery` says how they are reached."""

from __future__ import annotations

import asyncio
import json

from gallery import gallery, note, note_count, released

# Who is told the same, by the query that they came with.
_CROWDS: dict[bytes, list] = {}


async def accept(send, **fields):
    await send({"type": "websocket.accept", **fields})


async def say(send, text):
    await send({"type": "websocket.send", "text": text})


async def messages(receive):
    """Yield what the client sends until it is gone."""
    while True:
        event = await receive()
        if event["type"] == "websocket.receive":
            yield event
        elif event["type"] == "websocket.disconnect":
            return


async def echo(scope, receive, send):
    await accept(send)
    async for event in messages(receive):
        await send({**event, "type": "websocket.send"})


async def accept_and_be_cancelled(send):
    """Accept, and do not wait for what comes of it."""
    accepting = asyncio.create_task(accept(send))
    await asyncio.sleep(0)
    accepting.cancel()
    await asyncio.wait([accepting])
    assert accepting.cancelled()


async def hasty(scope, receive, send):
    await accept_and_be_cancelled(send)
    await say(send, "first")
    await say(send, (await receive())["type"])
    async for event in messages(receive):
        await say(send, event["text"])


async def hasty_and_closes(scope, receive, send):
    await accept_and_be_cancelled(send)
    await send({"type": "websocket.close", "code": 4001})


async def hasty_and_returns(scope, receive, send):
    await accept_and_be_cancelled(send)


async def hasty_and_raises(scope, receive, send):
    await accept_and_be_cancelled(send)
    raise LookupError("in haste")


async def held(scope, receive, send):
    note(scope, (await receive())["type"])
    await released(scope)
    await accept(send)
    await receive()


async def held_and_refused(scope, receive, send):
    note(scope, (await receive())["type"])
    await released(scope)
    await send({"type": "websocket.close"})


async def disagrees(scope, receive, send):
    """Accept what was never asked for, then properly, and say what that raised."""
    raised = []
    for wrong in (
        {"subprotocol": "json"},
        {"headers": [(b"sec-websocket-extensions", b"permessage-deflate")]},
    ):
        try:
            await send({"type": "websocket.accept"} | wrong)
        except ValueError as error:
            raised.append(str(error))
    await accept(send)
    await say(send, "; ".join(raised))


async def chosen(scope, receive, send):
    headers = [(b"x-first", b"one"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    await accept(send, subprotocol=scope["subprotocols"][-1], headers=headers)
    await receive()


async def accept_first(scope, receive, send):
    await accept(send)
    await say(send, (await receive())["type"])
    await say(send, (await receive())["type"])


async def refused(scope, receive, send):
    await receive()
    await send({"type": "websocket.close", "code": 4000, "reason": "not you"})
    note(scope, await receive())


async def denied(scope, receive, send):
    await receive()
    await send(
        {
            "type": "websocket.http.response.start",
            "status": 401,
            "headers": [(b"www-authenticate", b"Basic"), (b"content-type", b"text/plain")],
        }
    )
    await send({"type": "websocket.http.response.body", "body": b"first ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"log in"})


async def fails_before_accept(scope, receive, send):
    await receive()
    raise LookupError("a secret of the app")


async def fails_after_accept(scope, receive, send):
    await accept(send)
    raise LookupError("a secret of the app")


async def returns_before_accept(scope, receive, send):
    await receive()


async def returns_after_accept(scope, receive, send):
    await accept(send)
    await receive()


async def silent(scope, receive, send):
    note(scope, await receive())
    note(scope, await receive())


async def keys(scope, receive, send):
    await accept(send)
    async for event in messages(receive):
        await say(send, json.dumps(sorted(event)))


async def sends_after_close(scope, receive, send):
    await accept(send)
    await send({"type": "websocket.close"})
    try:
        await say(send, "too late")
    except OSError:
        note(scope, "OSError")


async def sends_after_disconnect(scope, receive, send):
    await accept(send)
    async for _ in messages(receive):
        pass
    try:
        await say(send, "too late")
    except OSError:
        note(scope, "OSError")


async def farewell(scope, receive, send):
    await accept(send)
    async for event in messages(receive):
        note(scope, event["text"])
    # A disconnect may be asked for again.
    note(scope, await receive())


async def answers_when_released(scope, receive, send):
    """Answer each message once the test lets it; note how it ended."""
    await accept(send)
    await receive()
    while (event := await receive())["type"] == "websocket.receive":
        note(scope, event["text"])
        await released(scope)
        await say(send, f"to {event['text']}")
    note(scope, event)


async def prints_its_end(scope, receive, send):
    await accept(send)
    await say(send, (await receive())["type"])
    print("the end:", await receive())


async def closes(scope, receive, send):
    """Close as the client's first message asks, a JSON object of code and reason."""
    await accept(send)
    await receive()
    asked = json.loads((await receive())["text"])
    await send({"type": "websocket.close", **asked})
    note(scope, await receive())


async def parting(scope, receive, send):
    """Send more than a client's window takes, and close."""
    await accept(send)
    for _ in range(10):
        await send({"type": "websocket.send", "bytes": bytes(20000)})
    await send({"type": "websocket.close", "code": 4000, "reason": "that was all"})


async def corrected(scope, receive, send):
    """Send the event that the client asks for, and note what came of it."""
    await receive()
    await accept(send)
    async for event in messages(receive):
        try:
            await send(json.loads(event["text"]))
        except Exception as error:
            note(scope, [base.__name__ for base in type(error).__mro__])
            await say(send, "refused")


async def sends_before_accept(scope, receive, send):
    await receive()
    try:
        await say(send, "too early")
    except RuntimeError:
        await accept(send)
        await say(send, "in time")
        await receive()


async def pushes(scope, receive, send):
    await accept(send)
    for number in range(3):
        await asyncio.sleep(0.01)
        await say(send, str(number))
    await receive()


async def chorus(scope, receive, send):
    async def voice(name):
        for number in range(200):
            await say(send, f"{name}:{number}:{'x' * 1000}")

    await accept(send)
    await asyncio.gather(*map(voice, range(10)))
    await receive()


async def told_alike(scope, receive, send):
    """Tell all who came by the same query the same things, when one of them says so."""
    crowd = _CROWDS.setdefault(scope["query_string"], [])
    crowd.append(send)
    await accept(send)
    async for event in messages(receive):
        for said in (event["text"], "", event["text"].encode(), "more: " * 20_000):
            kind = "bytes" if isinstance(said, bytes) else "text"
            for tell in crowd:
                await tell({"type": "websocket.send", kind: said})
        for number, tell in enumerate(crowd):
            await say(tell, str(number))
    crowd.remove(send)


async def hoses(scope, receive, send):
    """Send for ever in one task, receive in another; note how many came in."""

    async def pour():
        while True:
            await send({"type": "websocket.send", "bytes": bytes(65536)})

    await accept(send)
    pouring = asyncio.create_task(pour())
    came = 0
    try:
        async for _ in messages(receive):
            came += 1
            note_count(scope, came)
    finally:
        pouring.cancel()


async def ticks(scope, receive, send):
    """Send something small every now and then until the client is gone."""
    await accept(send)
    try:
        while True:
            await say(send, "tick")
            await asyncio.sleep(0.02)
    except OSError:
        note(scope, "gone")


async def floods(scope, receive, send):
    """Send numbered messages of 64 KiB for ever; note how many were sent."""
    await accept(send)
    sent = 0
    try:
        while True:
            await send({"type": "websocket.send", "bytes": sent.to_bytes(4, "big") * 16384})
            sent += 1
            note_count(scope, sent)
    except OSError:
        note(scope, "gone")


async def stops_reading(scope, receive, send):
    """Take no message until released, then count them all."""
    await accept(send)
    note(scope, "open")
    await released(scope)
    total = 0
    async for event in messages(receive):
        if "text" in event:
            await say(send, str(total))
        else:
            total += len(event["bytes"])


async def scope_of(scope, receive, send):
    await accept(send)
    await say(send, repr({**scope, "state": scope.get("state")}))
    await receive()


async def who(scope, receive, send):
    import os

    await accept(send)
    await say(send, str(os.getpid()))
    async for event in messages(receive):
        await send({**event, "type": "websocket.send"})


application = gallery(globals())
