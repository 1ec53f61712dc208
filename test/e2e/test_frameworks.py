"""Apps of several frameworks, where what the server does decides what they do."""

from __future__ import annotations

import httpx
import pytest
from clients import RawHTTP, RawWebSocket
from harness import eventually
from http2 import Http2
from terms import Atom

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


# What another server said of its connection


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
@pytest.mark.parametrize("app", ["starlette", "fastapi", "a2wsgi"])
def test_app_that_passes_on_another_servers_head_is_answered_by_ours(serve, app, engine):
    server = serve(f"passing:{app}", http_engine=Atom(engine))
    with RawHTTP(server) as raw:
        for _ in range(2):
            raw.request("GET", "/")
            response = raw.response()
            assert (response.status, response.body) == (200, b"hello")
            assert response.all("x-powered-by") == ["another"]
            assert not response.all("keep-alive") + response.all("upgrade")
            assert len(response.all("transfer-encoding") + response.all("content-length")) == 1
    with Http2(server) as http2:
        stream = http2.request("GET", "/")
        status, headers = stream.head()
        assert (status, stream.body(), dict(headers)["x-powered-by"]) == (200, b"hello", "another")
        assert not {"connection", "keep-alive", "transfer-encoding", "upgrade"} & set(dict(headers))


# The client of a stream leaves


def leaves(server, target: str, method: str = "GET") -> None:
    """Ask for a stream and go when its first part is there."""
    with RawHTTP(server) as raw:
        raw.request(method, target, body=b"body" if method == "POST" else b"")
        assert raw.head().status == 200
        raw.take(1)


STREAMING = ["starlette", "middleware", "fastapi", "litestar", "quart", "asgi_of_django"]


@pytest.mark.parametrize("app", STREAMING)
def test_generator_that_waits_is_cancelled_when_the_client_leaves(serve, app, key):
    server = serve(f"streamed:{app}")
    leaves(server, f"/waits?key={key}")
    assert httpx.get(f"{server.http}/journal/1?key={key}").json() == ["cancelled"]
    eventually(lambda: server.info()["streams"] == 0)
    assert "[error]" not in server.node.log


@pytest.mark.parametrize("app", ["starlette", "middleware"])
def test_generator_behind_a_body_that_nobody_read_is_cancelled_too(serve, app, key):
    server = serve(f"streamed:{app}")
    leaves(server, f"/waits?key={key}", "POST")
    assert httpx.get(f"{server.http}/journal/1?key={key}").json() == ["cancelled"]


@pytest.mark.parametrize("app", STREAMING)
def test_generator_that_goes_on_ends_without_an_error_when_the_client_leaves(serve, app, key):
    server = serve(f"streamed:{app}")
    leaves(server, f"/ticks?key={key}")
    eventually(lambda: server.info()["streams"] == 0)
    assert "[error]" not in server.node.log


@pytest.mark.parametrize("app", ["starlette", "fastapi", "litestar", "quart"])
@pytest.mark.parametrize("what", ["pushes", "tasks", "listens"])
def test_websocket_whose_handler_catches_nothing_ends_without_an_error(serve, app, what):
    server = serve(f"pushing:{app}")
    errors = server.node.log.count("[error]")
    ws = RawWebSocket(server, f"/{what}")
    ws.read_message()
    ws.socket.close()
    eventually(lambda: server.info()["streams"] == 0)
    assert server.node.log.count("[error]") == errors


def test_server_sent_events_of_litestar_are_cancelled_when_the_client_leaves(serve, key):
    server = serve("streamed:litestar")
    leaves(server, f"/events/waits?key={key}")
    assert httpx.get(f"{server.http}/journal/1?key={key}").json() == ["cancelled"]


def test_thread_of_a2wsgi_is_free_again_after_its_client_left(serve, key):
    server = serve("streamed:a2wsgi")
    for count in (1, 2, 3):
        leaves(server, f"/?{key}")
        assert httpx.get(f"{server.http}/journal/{count}?{key}").json() == ["ended"] * count
    eventually(lambda: server.info()["streams"] == 0)
