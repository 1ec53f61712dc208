"""Streams of several frameworks that wait for ever: what they hear when their client leaves.

Each app answers `GET /waits?KEY` with one part and then waits, and `GET /ticks?KEY` with parts
without end. The journal (`gallery`) under the key has how that ended: with "cancelled", with the
name of an exception, or "closed" for a generator that was.
"""

import asyncio
from contextlib import contextmanager

import django
from a2wsgi import WSGIMiddleware
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import StreamingHttpResponse
from django.urls import path
from fastapi import FastAPI
from fastapi.responses import StreamingResponse as FastStreamingResponse
from litestar import Litestar, get
from litestar.response import ServerSentEvent, Stream
from quart import Quart
from quart import request as quart_request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Route

from gallery import journal, note


def journaled(app):
    """Put the journal in front of an app."""

    async def application(scope, receive, send):
        if scope["type"] == "http" and scope["path"].startswith("/journal/"):
            await journal(scope, receive, send)
        else:
            await app(scope, receive, send)

    return application


@contextmanager
def noting(query: bytes):
    """Note how what is done inside ended."""
    scope = {"query_string": query}
    try:
        yield
    except asyncio.CancelledError:
        note(scope, "cancelled")
        raise
    except GeneratorExit:
        note(scope, "closed")
        raise
    except Exception as error:
        note(scope, type(error).__name__)
        raise


async def waits(query: bytes):
    with noting(query):
        yield b"first"
        await asyncio.Event().wait()


async def ticks(query: bytes):
    with noting(query):
        while True:
            yield b"tick"
            await asyncio.sleep(0.01)


PART = bytes(65536)

STREAMS = {"waits": waits, "ticks": ticks}


def by_name(name: str, query: bytes):
    return STREAMS[name](query)


# Starlette, also behind a middleware of the kind that wraps `receive` and `send`; FastAPI


async def stream(request):
    name = request.url.path[1:]
    return StreamingResponse(by_name(name, request.url.query.encode()))


async def passed_on(request, call_next):
    return await call_next(request)


ROUTES = [Route("/{name}", stream, methods=["GET", "POST"])]
starlette = journaled(Starlette(routes=ROUTES))
middleware = journaled(
    Starlette(routes=ROUTES, middleware=[Middleware(BaseHTTPMiddleware, dispatch=passed_on)])
)

fast = FastAPI()


@fast.get("/{name}")
def fast_stream(name: str, key: str):
    return FastStreamingResponse(by_name(name, f"key={key}".encode()))


fastapi = journaled(fast)

# Litestar


@get("/{name:str}")
async def lite_stream(name: str, key: str) -> Stream:
    return Stream(by_name(name, f"key={key}".encode()))


@get("/events/{name:str}")
async def lite_events(name: str, key: str) -> ServerSentEvent:
    return ServerSentEvent(by_name(name, f"key={key}".encode()))


litestar = journaled(Litestar([lite_stream, lite_events]))

# Quart

quart_app = Quart("streamed")


@quart_app.get("/<name>")
async def quart_stream(name: str):
    return by_name(name, quart_request.query_string)


quart = journaled(quart_app)

# Django


def django_stream(request, name):
    return StreamingHttpResponse(by_name(name, request.META["QUERY_STRING"].encode()))


urlpatterns = [path("<str:name>", django_stream)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test")
django.setup()
asgi_of_django = journaled(get_asgi_application())

# WSGI by a2wsgi: it has one thread here, which nothing can cancel, and a long response


def wsgi(environ, start_response):
    start_response("200 OK", [])
    for _ in range(200):
        yield PART
    note({"query_string": environ["QUERY_STRING"].encode()}, "ended")


a2wsgi = journaled(WSGIMiddleware(wsgi, workers=1))
