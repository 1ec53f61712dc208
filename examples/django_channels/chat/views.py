"""The pages, and an ordinary view that says something in a room."""

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def index(request: HttpRequest) -> HttpResponse:
    """Return the page that asks for a room."""
    return render(request, "chat/index.html")


def room(request: HttpRequest, room: str) -> HttpResponse:
    """Return the page of a room."""
    return render(request, "chat/room.html", {"room": room})


def announce(request: HttpRequest, room: str) -> HttpResponse:
    """Say something in a room, from a thread of a sync view."""
    say(room, "announcer", request.GET.get("text", "Hello, all"))
    return HttpResponse(status=204)


def say(room: str, by: str, text: str) -> None:
    """Send a message to the group of a room."""
    message = {"type": "chat.message", "by": by, "text": text}
    async_to_sync(get_channel_layer().group_send)(f"chat_{room}", message)
