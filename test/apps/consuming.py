"""A Django project with Channels in one file: consumers of both kinds, views that speak to them.

`/async/ROOM` and `/sync/ROOM` are WebSockets that hear a room, and are told first in which process;
`/say/ROOM?text=…` sends to its group, and `/tell?channel=…&text=…` to one channel, from a thread.
"""

from __future__ import annotations

import os

import django
from asgiref.sync import async_to_sync
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of a test",
    CHANNEL_LAYERS={"default": {"BACKEND": "hornbeam_erlang.channels.HornbeamChannelLayer"}},
)
django.setup()


class Async(AsyncWebsocketConsumer):
    async def connect(self):
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()
        await self.send(f"{os.getpid()} {self.channel_name}")

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def said(self, event):
        await self.send(event["text"])


class Sync(WebsocketConsumer):
    def connect(self):
        self.room = self.scope["url_route"]["kwargs"]["room"]
        async_to_sync(self.channel_layer.group_add)(self.room, self.channel_name)
        self.accept()
        self.send(f"{os.getpid()} {self.channel_name}")

    def disconnect(self, code):
        async_to_sync(self.channel_layer.group_discard)(self.room, self.channel_name)

    def said(self, event):
        self.send(event["text"])


def say(request, room):
    message = {"type": "said", "text": request.GET["text"]}
    async_to_sync(get_channel_layer().group_send)(room, message)
    return HttpResponse(status=204)


def tell(request):
    message = {"type": "said", "text": request.GET["text"]}
    async_to_sync(get_channel_layer().send)(request.GET["channel"], message)
    return HttpResponse(status=204)


urlpatterns = [path("say/<str:room>", say), path("tell", tell)]

sockets = [path("async/<str:room>", Async.as_asgi()), path("sync/<str:room>", Sync.as_asgi())]
application = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter(sockets)},
)
wsgi = get_wsgi_application()
