"""WebSockets of frameworks that send or listen until the client has gone, and catch nothing."""

import asyncio

from fastapi import FastAPI
from fastapi import WebSocket as FastAPIWebSocket
from litestar import Litestar
from litestar import WebSocket as LitestarWebSocket
from litestar import websocket as litestar_route
from quart import Quart
from quart import websocket as quart_websocket
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute


async def push(send):
    while True:
        await send("x" * 1000)
        await asyncio.sleep(0.001)


async def starlette_pushes(socket):
    await socket.accept()
    await push(socket.send_text)


async def starlette_pushes_from_tasks(socket):
    await socket.accept()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(push(socket.send_text))


async def starlette_listens(socket):
    await socket.accept()
    await socket.send_text("x")
    while True:
        await socket.receive_text()


starlette = Starlette(
    routes=[
        WebSocketRoute("/pushes", starlette_pushes),
        WebSocketRoute("/tasks", starlette_pushes_from_tasks),
        WebSocketRoute("/listens", starlette_listens),
    ]
)

fastapi = FastAPI()


@fastapi.websocket("/pushes")
async def fastapi_pushes(socket: FastAPIWebSocket):
    await starlette_pushes(socket)


@fastapi.websocket("/tasks")
async def fastapi_pushes_from_tasks(socket: FastAPIWebSocket):
    await starlette_pushes_from_tasks(socket)


@fastapi.websocket("/listens")
async def fastapi_listens(socket: FastAPIWebSocket):
    await starlette_listens(socket)


@litestar_route("/pushes")
async def litestar_pushes(socket: LitestarWebSocket) -> None:
    await socket.accept()
    await push(socket.send_text)


@litestar_route("/tasks")
async def litestar_pushes_from_tasks(socket: LitestarWebSocket) -> None:
    await socket.accept()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(push(socket.send_text))


@litestar_route("/listens")
async def litestar_listens(socket: LitestarWebSocket) -> None:
    await socket.accept()
    await socket.send_text("x")
    while True:
        await socket.receive_text()


litestar = Litestar([litestar_pushes, litestar_pushes_from_tasks, litestar_listens])

quart = Quart(__name__)


@quart.websocket("/pushes")
async def quart_pushes():
    await push(quart_websocket.send)


@quart.websocket("/tasks")
async def quart_pushes_from_tasks():
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(push(quart_websocket.send))


@quart.websocket("/listens")
async def quart_listens():
    await quart_websocket.send("x")
    while True:
        await quart_websocket.receive()
