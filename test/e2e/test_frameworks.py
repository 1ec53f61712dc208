"""Apps of several frameworks, where what the server does decides what they do."""

from __future__ import annotations

import httpx
import pytest
from clients import RawWebSocket

# Below a path, which a proxy has taken off


@pytest.mark.parametrize("app", ["starlette", "fastapi", "fastapi_rooted", "asgi_of_django"])
def test_app_below_a_path_finds_its_routes_and_links_to_itself(serve, app):
    server = serve(f"rooted:{app}", root_path="/api")
    assert httpx.get(f"{server.http}/items/one").text == "one /api/items/one"
    assert httpx.get(f"{server.http}/items/tw%C3%B6").text.startswith("twö /api/items/tw")
    assert httpx.get(f"{server.http}/one").status_code == 404


@pytest.mark.parametrize("app", ["starlette", "fastapi", "asgi_of_django"])
def test_app_at_the_root_finds_its_routes_and_links_to_itself(serve, app):
    server = serve(f"rooted:{app}")
    assert httpx.get(f"{server.http}/items/one").text == "one /items/one"


def test_websocket_below_a_path_finds_its_route(serve):
    ws = RawWebSocket(serve("rooted:starlette", root_path="/api"), "/items/one/socket")
    assert ws.read_message() == b"one /api/items/one/socket"
