"""A handler that does what each message asks for and goes on with a socket of another worker.

The other half of test/e2e/test_outlive_model.py. Whatever is no command is echoed, with no wait
between it and its echo. What is published to the socket in the app is passed on as `p …`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from hornbeam_erlang import aio, connection_state

from gallery import gallery
from sockets import accept, messages, say


async def modelled(scope, receive, send):
    attempt = scope["extensions"].get("hornbeam.resume", {"attempt": 0})["attempt"]
    await accept(send)
    telling = asyncio.create_task(tell_published(send))
    try:
        async for event in messages(receive):
            text = event.get("text", "")
            if text.startswith("c "):
                await say(send, await outcome(attempt, *text.split(" ", 2)[1:]))
            elif text.endswith(f" dies {attempt}"):
                os._exit(7)
            else:
                await send({**event, "type": "websocket.send"})
    finally:
        telling.cancel()


async def tell_published(send):
    with contextlib.suppress(OSError):
        async for _, message in aio.messages():
            await say(send, f"p {message}")


async def outcome(attempt: int, name: str, argument: str = "") -> str:
    """Carry out a command; return the answer."""
    match name:
        case "who":
            return f"c {attempt}"
        case "forward":
            await aio.subscribe(argument, forward=True)
        case "subscribe":
            await aio.subscribe(argument)
        case "unsubscribe":
            await aio.unsubscribe(argument)
        case "count":
            await aio.state_incr(argument, scope="connection")
            kept = connection_state()
            kept["counted"] = kept.get("counted", 0) + 1
            return f"c {kept['counted']}"
        case "exit":
            await asyncio.sleep(0.01)  # lets the command be known as taken
            os._exit(7)
    return "c done"


application = gallery(globals())
