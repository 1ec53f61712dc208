"""A Socket.IO server of python-socketio, as its documentation has it, and a page for it."""

import os
from pathlib import Path

import socketio

server = socketio.AsyncServer(async_mode="asgi")


@server.event
async def connect(sid, _environ, _auth):
    await server.save_session(sid, {"count": 0})


@server.event
async def count(sid):
    session = await server.get_session(sid)
    session["count"] += 1
    await server.save_session(sid, session)
    return [os.getpid(), session["count"]]


application = socketio.ASGIApp(
    server,
    static_files={
        "/": str(Path(__file__).with_name("socketed.html")),
        "/socket.io.js": os.environ.get("SOCKET_IO_JS", ""),
    },
)
