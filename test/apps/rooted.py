"""Apps of frameworks that are served below a path: what they route, and the links that they make.

Each answers at `/items/NAME`, where it mounts something, with the name and a link to itself.
"""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import include, path, reverse
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

# Starlette


async def item(request):
    name = request.path_params["name"]
    return PlainTextResponse(f"{name} {request.url_for('items:item', name=name).path}")


async def named(websocket):
    await websocket.accept()
    name = websocket.path_params["name"]
    await websocket.send_text(f"{name} {websocket.url_for('items:named', name=name).path}")
    await websocket.close()


starlette = Starlette(
    routes=[
        Mount(
            "/items",
            name="items",
            routes=[
                Route("/{name}", item, name="item"),
                WebSocketRoute("/{name}/socket", named, name="named"),
            ],
        )
    ]
)

# FastAPI: one that is told its root by the server, one that says it itself


def serving(api):
    items = FastAPI()

    @items.get("/{name}", name="item")
    async def read(request: Request, name: str):
        return PlainTextResponse(f"{name} {request.url_for('item', name=name).path}")

    api.mount("/items", items)
    return api


fastapi = serving(FastAPI())
fastapi_rooted = serving(FastAPI(root_path="/api"))

# Django


def read(request, name):
    return HttpResponse(f"{name} {reverse('item', args=[name])}", content_type="text/plain")


urlpatterns = [path("items/", include([path("<str:name>", read, name="item")]))]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test")
django.setup()
asgi_of_django = get_asgi_application()
