"""The fan-out app for daphne: a consumer of Channels, in one group by channels_redis.

Plain Channels: no model, session or middleware of Django. Of the two layers in channels_redis
this is the one that sends by redis' own pub/sub and keeps the order of messages.
"""

import os
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter
from django.conf import settings

GROUP = "topic"

settings.configure(
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
        }
    }
)


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


application = ProtocolTypeRouter({"websocket": Consumer.as_asgi()})
