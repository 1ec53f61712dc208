"""Apps that keep sessions in the memory of their worker, each in a way of its own.

Each answers with the worker that it runs in. A session that is not in its memory gets 404, as in
the apps that the option `affinity` is for. Requests of /hold wait until the file is there that the
query names.
"""

import asyncio
import json
import os
import time
import uuid
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

MEMORY: dict[str, int] = {}


def header(scope, name):
    return dict(scope["headers"]).get(name, b"").decode()


def cookie(scope, name):
    morsel = SimpleCookie(header(scope, b"cookie")).get(name)
    return morsel and morsel.value


async def respond(send, body, status=200, headers=()):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": content})


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        return await socket(scope, receive, send)
    if scope["type"] != "http":
        raise NotImplementedError
    query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
    return await PATHS[scope["path"].removeprefix(scope.get("root_path", ""))](scope, query, send)


async def who(_scope, _query, send):
    await respond(send, {"pid": os.getpid()})


async def hold(_scope, query, send):
    while not Path(query["until"]).exists():
        await asyncio.sleep(0.01)
    await respond(send, {"pid": os.getpid()})


async def enter(scope, query, send):
    """Begin a session that a cookie of the app names; `anew` gives the old one another name."""
    old, new = cookie(scope, "sessionid"), uuid.uuid4().hex
    MEMORY[new] = MEMORY.pop(old, 0) if "anew" in query else 0
    header = (b"set-cookie", f"sessionid={new}; HttpOnly; Path=/".encode())
    await respond(send, {"pid": os.getpid()}, headers=[header])


async def leave(_scope, _query, send):
    header = (b"set-cookie", b'sessionid=""; Max-Age=0; Path=/')
    await respond(send, {"pid": os.getpid()}, headers=[header])


async def count(scope, _query, send):
    await counted(cookie(scope, "sessionid"), send)


async def counted(session, send):
    if session not in MEMORY:
        return await respond(send, {"pid": os.getpid()}, 404)
    MEMORY[session] += 1
    return await respond(send, {"pid": os.getpid(), "count": MEMORY[session]})


async def engine_io(_scope, query, send):
    """Speak as much of Engine.IO as it takes to be told that a session is unknown."""
    if "sid" not in query:
        sid = uuid.uuid4().hex
        MEMORY[sid] = 0
        packet = json.dumps({"sid": sid, "upgrades": ["websocket"], "pid": os.getpid()})
        return await respond(send, b"0" + packet.encode())
    return await counted(query["sid"], send)


async def mcp(scope, _query, send):
    session = header(scope, b"mcp-session-id")
    if session:
        return await counted(session, send)
    session = uuid.uuid4().hex
    MEMORY[session] = 0
    named = (b"mcp-session-id", session.encode())
    return await respond(send, {"pid": os.getpid(), "session": session}, headers=[named])


async def sse(_scope, _query, send):
    """Name the session in the stream's first event, in pieces, and keep the stream open."""
    session = uuid.uuid4().hex
    MEMORY[session] = 0
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"text/event-stream")],
        }
    )
    for part in ("event: endpoint\r\ndata: /messages/?sess", f"ion_id={session}\r\n\r\n"):
        await send({"type": "http.response.body", "body": part.encode(), "more_body": True})
    await asyncio.Event().wait()


async def messages(_scope, query, send):
    await counted(query.get("session_id"), send)


async def cached(_scope, _query, send):
    await respond(send, {"pid": os.getpid()}, headers=[(b"cache-control", b"public, max-age=60")])


async def socket(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    resumed = "hornbeam.resume" in scope.get("extensions", {})
    await send({"type": "websocket.send", "text": f"{os.getpid()} {resumed}"})
    while (event := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": f"{os.getpid()} {event['text']}"})


PATHS = {
    "/who": who,
    "/hold": hold,
    "/enter": enter,
    "/leave": leave,
    "/count": count,
    "/engine.io/": engine_io,
    "/mcp": mcp,
    "/sse": sse,
    "/messages/": messages,
    "/cached": cached,
}


def wsgi(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    while environ["PATH_INFO"] == "/hold" and not Path(query["until"][0]).exists():
        time.sleep(0.01)
    start_response("200 OK", [("content-type", "application/json")])
    return [json.dumps({"pid": os.getpid()}).encode()]
