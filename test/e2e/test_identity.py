"""One client's state is never another's, wherever a handler's code runs."""

from __future__ import annotations

import json

import httpx
import pytest
from websockets.asyncio.client import connect

KEEPING = ["here", "aio_here", "task", "to_thread", "thread_with_context"]
LOSING = ["executor", "thread"]


@pytest.fixture
def server(serve):
    return serve("strangers:application")


def get(server, path: str):
    return httpx.get(f"{server.http}{path}").raise_for_status().json()


@pytest.mark.parametrize("how", KEEPING)
def test_request_does_not_see_what_another_has_kept(server, how):
    assert [get(server, f"/raw/{how}/{name}") for name in ("alice", "bob")] == [{}, {}]


@pytest.mark.parametrize("how", LOSING)
def test_thread_without_a_context_is_refused_and_told_how_to_get_one(server, how):
    for name in ("alice", "bob"):
        found = get(server, f"/raw/{how}/{name}")
        assert found["raised"][0] == "NotConnected"
        assert "contextvars.copy_context().run" in found["text"]
        assert "asyncio.to_thread" in found["text"]


@pytest.mark.parametrize("app", ["fastapi", "starlette", "wsgi"])
def test_threads_of_frameworks_keep_to_the_request_that_they_serve(server, app):
    names = ("alice", "bob", "carol")
    assert [get(server, f"/{app}/{name}") for name in names] == [{}, {}, {}]


@pytest.mark.parametrize("how", KEEPING + LOSING)
async def test_websockets_see_each_their_own_state(server, how):
    url = f"{server.ws}/socket/{how}"
    async with connect(url) as alice, connect(url) as bob:
        found = []
        for _ in range(2):
            for name, ws in (("alice", alice), ("bob", bob)):
                await ws.send(name)
                found.append(json.loads(await ws.recv()))
    if how in KEEPING:
        assert found == [{}, {}, {"name": "alice"}, {"name": "bob"}]
    else:
        assert [each["raised"][0] for each in found] == ["NotConnected"] * 4


async def test_task_that_outlives_its_handler_hears_that_its_connection_is_over(serve):
    server = serve("strangers:application", fresh=True)
    async with connect(f"{server.ws}/socket/here") as bob:
        await bob.send("bob")
        assert await bob.recv() == "{}"
        assert get(server, "/begin/alice") == {}
        for found in get(server, "/late"):
            assert found["raised"][0] == "ConnectionEnded"
            assert {"ConnectionError", "HornbeamError"} <= {*found["raised"]}
        assert get(server, "/worker/carol") == {}
        await bob.send("bob")
        assert json.loads(await bob.recv()) == {"name": "bob"}


def test_lifespans_tasks_call_for_the_worker_and_nobody_else_does(serve):
    server = serve("strangers:application", fresh=True)
    assert get(server, "/worker/first") == {}
    assert get(server, "/raw/here/alice") == {}
    assert get(server, "/raw/executor/bob")["raised"][0] == "NotConnected"
    assert get(server, "/worker/second") == {"name": "first"}


def test_threads_take_over_no_context_whatever_the_python(serve, consoles):
    (console,) = consoles(serve("console:application"))
    assert console("__import__('sys')._xoptions") == {"thread_inherit_context": "0"}
