"""The fan-out app by a channel layer: a consumer of Channels, in one group.

Plain Channels: no model, session or middleware of Django. The variable CHANNEL_LAYER names the
layer: of the two in channels_redis, `core` keeps queues in redis and `pubsub` sends by redis' own
pub/sub; `nats` is channels-nats; `hornbeam` is ours. `/receive` is the last without a consumer: a
handler that receives from the layer by itself.
"""

import asyncio
import os
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path

GROUP = "topic"

LAYERS: dict[str, dict[str, Any]] = {
    "core": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [os.environ.get("REDIS_URL")], "capacity": 1000},
    },
    "pubsub": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [os.environ.get("REDIS_URL")]},
    },
    "nats": {
        "BACKEND": "channels_nats.NatsChannelLayer",
        "CONFIG": {"servers": [os.environ.get("NATS_URL")]},
    },
    "hornbeam": {
        "BACKEND": "hornbeam_erlang.channels.HornbeamChannelLayer",
        "CONFIG": {"capacity": 1000},
    },
}

settings.configure(CHANNEL_LAYERS={"default": LAYERS[os.environ["CHANNEL_LAYER"]]})


class Consumer(AsyncWebsocketConsumer):
    """Serves `/subscribe`, which gets every message, and `/publish`, which sends them."""

    async def connect(self) -> None:
        """Join the group, unless the client is to publish."""
        await self.accept()
        if self.scope["path"] == "/subscribe":
            await self.channel_layer.group_add(GROUP, self.channel_name)
            await self.send(text_data="subscribed")

    async def disconnect(self, code: int) -> None:
        """Leave the group."""
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Publish each text that the client sends."""
        await self.channel_layer.group_send(GROUP, {"type": "published", "text": text_data})

    async def published(self, event: dict[str, Any]) -> None:
        """Send what was published."""
        await self.send(text_data=event["text"])


async def receiving(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Send every message of the group to the client until it leaves."""
    layer = get_channel_layer()
    await receive()
    await send({"type": "websocket.accept"})
    name = await layer.new_channel()
    await layer.group_add(GROUP, name)
    await send({"type": "websocket.send", "text": "subscribed"})
    forwarder = asyncio.create_task(forward(layer, name, send))
    try:
        while (await receive())["type"] != "websocket.disconnect":
            pass
    finally:
        forwarder.cancel()
        await layer.group_discard(GROUP, name)


async def forward(layer: Any, name: str, send: Any) -> None:
    """Send what comes to a channel."""
    while True:
        message = await layer.receive(name)
        await send({"type": "websocket.send", "text": message["text"]})


application = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [
                path("receive", receiving),
                path("subscribe", Consumer.as_asgi()),
                path("publish", Consumer.as_asgi()),
            ]
        )
    }
)
