"""Channels of Litestar: each client hears one, and says things in it."""

import os

from hornbeam_erlang.litestar import HornbeamChannelsBackend
from litestar import Litestar, WebSocket, get, websocket
from litestar.channels import ChannelsPlugin

plugin = ChannelsPlugin(
    backend=HornbeamChannelsBackend(),
    arbitrary_channels_allowed=True,
    create_ws_route_handlers=True,
    ws_handler_base_path="/hear",
)


@websocket("/say/{channel:str}")
async def say(socket: WebSocket, channel: str, channels: ChannelsPlugin) -> None:
    await socket.accept()
    async for text in socket.iter_data():
        await channels.wait_published(text, channel)
        await socket.send_text(str(os.getpid()))


@get("/worker")
async def worker() -> int:
    return os.getpid()


application = Litestar([say, worker], plugins=[plugin])
