"""A worker's ear and mouth: it runs the Python that a test sends, and answers with its value.

`/console` takes it over a WebSocket, message by message, in that connection; `POST /console`
in an HTTP exchange. Source and names come pickled, the outcome goes back so. The public names
of `hornbeam_erlang` and some modules are there, as are `scope`, `send` and `events`: what
`receive` gave that was no message.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import pickle
import threading
import time

import hornbeam_erlang
from hornbeam_erlang import aio, presence, terms

from gallery import gallery, read_body, respond
from sockets import accept, echo, who  # noqa: F401 - part of the gallery

ANSWER = b"\0answer:"
"""What an answer begins with, so that it is known from whatever else a socket brings."""

SHORT = ("get", "set", "delete", "incr", "decr")
PUBLIC = {name: getattr(hornbeam_erlang, name) for name in (*hornbeam_erlang.__all__, *SHORT)}
MODULES = (aio, asyncio, hornbeam_erlang, inspect, os, presence, terms, threading, time)
NAMES = PUBLIC | {module.__name__.rpartition(".")[2]: module for module in MODULES}


async def console(scope, receive, send):
    names = NAMES | {"scope": scope, "send": send, "events": []}
    if scope["type"] == "http":
        await respond(send, await outcome(await read_body(receive), names))
        return
    await accept(send)
    while (event := await receive())["type"] != "websocket.disconnect":
        if "bytes" in event:
            answer = await outcome(event["bytes"], names)
            await send({"type": "websocket.send", "bytes": ANSWER + answer})
        else:
            names["events"].append(event)


async def outcome(request: bytes, names: dict) -> bytes:
    """Run what a request asks for; an exception travels by its class and what is in it."""
    source, given = pickle.loads(request)
    try:
        return pickle.dumps((True, await run(source, names | given, names)))
    except Exception as error:
        return pickle.dumps((False, (type(error), error.args, vars(error))))


async def run(source: str, seen: dict, kept: dict):
    """Execute statements; the value is that of the last one, if that is an expression."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    await execute(ast.Module(body, []), "exec", seen)
    value = await execute(ast.Expression(last.value), "eval", seen) if last else None
    kept.update(seen)
    return value


async def execute(tree, mode: str, names: dict):
    code = compile(tree, "<test>", mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    value = eval(code, names)
    return await value if code.co_flags & inspect.CO_COROUTINE else value


application = gallery(globals())
