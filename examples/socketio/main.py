"""A shared board by FastAPI and Socket.IO: who moves the dot moves it for all.

`npm install` brings the page's client; then `hornbeam` in this folder serves it by four workers.
"""

import os
from pathlib import Path

import socketio
from fastapi import FastAPI
from fastapi.responses import FileResponse
from hornbeam_erlang.aio import state_incr
from hornbeam_erlang.socketio import HornbeamManager

HERE = Path(__file__).parent
CLIENT = HERE / "node_modules" / "socket.io-client" / "dist" / "socket.io.min.js"

sio = socketio.AsyncServer(async_mode="asgi", client_manager=HornbeamManager())
api = FastAPI(title="Board")
app = socketio.ASGIApp(sio, other_asgi_app=api)


@api.get("/")
async def page() -> FileResponse:
    """Return the page."""
    return FileResponse(HERE / "index.html")


@api.get("/client.js")
async def client() -> FileResponse:
    """Return Socket.IO's client, as npm has installed it."""
    return FileResponse(os.environ.get("SOCKET_IO_JS", CLIENT), media_type="text/javascript")


@api.post("/clear", status_code=204)
async def clear() -> None:
    """Move the dot home for all, from an ordinary request in whichever worker."""
    await sio.emit("moved", {"x": 0, "y": 0, "by": "clear"}, room="board")


@sio.event
async def connect(sid: str, environ: dict) -> None:
    """Let a client see the board, and know its number and its worker."""
    await sio.enter_room(sid, "board")
    await sio.emit(
        "welcome", {"number": await state_incr("visitors"), "worker": os.getpid()}, to=sid
    )


@sio.event
async def move(sid: str, where: dict) -> None:
    """Move the dot for all."""
    await sio.emit("moved", {**where, "by": sid}, room="board")
