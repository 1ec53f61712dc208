"""Apps of several frameworks that pass on the head of another server's answer, as a proxy does."""

from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

HEADERS = {
    "Connection": "keep-alive",
    "Keep-Alive": "timeout=5, max=100",
    "Transfer-Encoding": "chunked",
    "Upgrade": "h2,h2c",
    "X-Powered-By": " another \t",
}


async def answer(request):
    return PlainTextResponse("hello", headers=HEADERS)


def wsgi(environ, start_response):
    start_response("200 OK", list(HEADERS.items()))
    return [b"hel", b"lo"]


starlette = Starlette(routes=[Route("/", answer)])

fastapi = FastAPI()


@fastapi.get("/")
async def fast_answer():
    return PlainTextResponse("hello", headers=HEADERS)


a2wsgi = WSGIMiddleware(wsgi)
