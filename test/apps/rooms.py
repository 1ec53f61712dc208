"""A chat of python-socketio: rooms, callbacks, and what it takes to look at from outside."""

import asyncio
import os

import socketio
from hornbeam_erlang.socketio import HornbeamManager

server = socketio.AsyncServer(async_mode="asgi", client_manager=HornbeamManager())
application = socketio.ASGIApp(server)


@server.event
async def connect(sid, environ):
    await server.emit("welcome", {"worker": os.getpid(), "sid": sid}, to=sid)


@server.event
async def join(sid, room):
    await server.enter_room(sid, room)
    return os.getpid()


@server.event
async def leave(sid, room):
    await server.leave_room(sid, room)


@server.event
async def say(sid, room, text):
    await server.emit("said", {"text": text, "data": b"\x00\xff"}, room=room)


@server.event
async def count(sid, room, number):
    await asyncio.gather(*(server.emit("said", n, room=room) for n in range(number)))


@server.event
async def bring(sid, other, room):
    await server.enter_room(other, room)


@server.event
async def expel(sid, other):
    await server.disconnect(other)
