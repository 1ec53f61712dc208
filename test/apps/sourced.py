"""The same event stream in several frameworks, each as its users write it.

`GET /events?key=KEY` forwards what is published under the key, says who serves and with which
`Last-Event-ID` it was asked, and then waits.
"""

from __future__ import annotations

import asyncio
import os
import time

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import StreamingHttpResponse
from django.urls import path
from fastapi import FastAPI, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from flask import Flask, Response
from flask import request as flask_request
from hornbeam_erlang import subscribe
from sse_starlette import EventSourceResponse as SseStarletteResponse
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route


def first(last: str) -> dict[str, str]:
    return {"event": "hello", "id": str(os.getpid()), "data": last}


def as_text(event: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in event.items()) + "\n"


async def events(key: str, last: str):
    subscribe(key, forward=True)
    yield first(last)
    await asyncio.Event().wait()


async def texts(key: str, last: str):
    async for event in events(key, last):
        yield as_text(event)


def asked(request) -> tuple[str, str]:
    return request.query_params["key"], request.headers.get("last-event-id", "")


# FastAPI's own

fastapi = FastAPI()


@fastapi.get("/events", response_class=EventSourceResponse)
async def of_fastapi(request: Request):
    key, last = asked(request)
    async for event in events(key, last):
        yield ServerSentEvent(event=event["event"], id=event["id"], raw_data=event["data"])


# sse-starlette, and Starlette alone


async def of_sse_starlette(request):
    return SseStarletteResponse(events(*asked(request)))


async def of_starlette(request):
    return StreamingResponse(texts(*asked(request)), media_type="text/event-stream")


sse_starlette = Starlette(routes=[Route("/events", of_sse_starlette)])
starlette = Starlette(routes=[Route("/events", of_starlette)])

# Django

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="of a test")
django.setup()


async def of_django(request):
    key, last = request.GET["key"], request.headers.get("last-event-id", "")
    return StreamingHttpResponse(texts(key, last), content_type="text/event-stream")


urlpatterns = [path("events", of_django)]
asgi_of_django = get_asgi_application()

# Flask, whose thread waits with it

flask = Flask(__name__)


@flask.get("/events")
def of_flask():
    def stream(key: str, last: str):
        subscribe(key, forward=True)
        yield as_text(first(last))
        while True:
            time.sleep(0.05)
            yield ": a comment, by which the thread hears of its client's end\n\n"

    key, last = flask_request.args["key"], flask_request.headers.get("last-event-id", "")
    return Response(stream(key, last), mimetype="text/event-stream")
