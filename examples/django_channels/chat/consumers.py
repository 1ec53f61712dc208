"""Who is in a room hears what is said there."""

import json
import os
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer


class ChatConsumer(AsyncWebsocketConsumer):
    """One client in one room."""

    async def connect(self) -> None:
        """Join the room's group, and tell the client who it is."""
        self.group = f"chat_{self.scope['url_route']['kwargs']['room']}"
        self.name = self.scope["user"].username or "somebody"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.send(text_data=json.dumps({"you": self.name, "worker": os.getpid()}))

    async def disconnect(self, code: int) -> None:
        """Leave the group."""
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Pass on what the client says."""
        text = json.loads(text_data or "{}")["message"]
        message = {"type": "chat.message", "by": self.name, "text": text}
        await self.channel_layer.group_send(self.group, message)

    async def chat_message(self, event: dict[str, Any]) -> None:
        """Tell the client what somebody has said."""
        await self.send(text_data=json.dumps({"by": event["by"], "text": event["text"]}))
