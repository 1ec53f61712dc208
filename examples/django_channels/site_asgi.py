"""The project for a server of ASGI: pages by Django, WebSockets by Channels."""

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
pages = get_asgi_application()

from chat.consumers import ChatConsumer  # noqa: E402 - Django comes first

sockets = URLRouter([path("ws/chat/<str:room>/", ChatConsumer.as_asgi())])
application = ProtocolTypeRouter(
    {"http": pages, "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(sockets))}
)
