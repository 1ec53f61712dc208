"""The WebSocket guide's snippets run as printed, against a real node."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import runpy
import shutil
import time
from collections import Counter

import pytest
import websockets
from clients import BINARY, TEXT, RawWebSocket, frame, journal
from harness import APPS, PYTHON, eventually
from terms import Atom, text
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

GUIDE = APPS / "guide"
MIB = 1024 * 1024


def printed() -> dict[str, str]:
    """The guide's snippets as its page shows them, without indentation."""
    sections = (GUIDE / "guide.txt").read_text().split("=== ")[1:]
    return dict(section.split("\n", 1) for section in sections)


def run_together(source: str) -> str:
    return "".join(source.split())


@pytest.fixture
def guided(serve):
    return serve("guided:application", workers=2)


@pytest.fixture
def stored(guided):
    """Read Erlang's side of the state."""

    def get(key):
        return guided.node.eval(f"hornbeam_state:get({text(key)})")

    return get


@pytest.fixture
def printed_start(shared, tmp_path):
    """Evaluate one of the guide's own calls, in a folder where app.py is its first snippet."""
    shutil.copy(GUIDE / "basic.py", tmp_path / "app.py")
    environment = {"bind": "127.0.0.1:0", "python": PYTHON, "chdir": tmp_path, "workers": 1}
    settings = {Atom(key): value for key, value in environment.items()}
    shared.stop()

    def start(snippet: str):
        pairs = text(list(settings.items()))
        shared.node.eval(f"[application:set_env(hornbeam, K, V) || {{K, V}} <- {pairs}]")
        shared.server = shared.node.start((GUIDE / snippet).read_text())
        shared.fresh = True
        return shared.server

    yield start
    keys = text(list(settings))
    shared.node.eval(f"[application:unset_env(hornbeam, K) || K <- {keys}]")


async def close_code(ws):
    with pytest.raises(ConnectionClosed) as end:
        await ws.recv()
    return end.value.rcvd.code, end.value.rcvd.reason


@pytest.mark.parametrize("name", sorted(printed()))
def test_the_file_is_the_guides_snippet_with_its_indentation(name):
    assert run_together((GUIDE / name).read_text()) == run_together(printed()[name])


async def test_the_first_line_serves_the_basic_echo(printed_start):
    server = printed_start("start.erl.txt")
    async with connect(f"{server.ws}/anywhere") as ws:
        await ws.send("Hello!")
        assert await ws.recv() == "Echo: Hello!"
        await ws.send("☃")
        assert await ws.recv() == "Echo: ☃"
        await ws.send(b"bytes have no text")
        assert await ws.recv() == "Echo: "


async def test_the_scope_is_the_guides_table(serve):
    server = serve("sockets:application")
    async with connect(f"{server.ws}/scope_of?room=1", subprotocols=["json"]) as ws:
        scope = ast.literal_eval(await ws.recv())
        client = ws.local_address[:2]
    table = {
        "type": "websocket",
        "path": "/scope_of",
        "query_string": b"room=1",
        "headers": scope["headers"],
        "subprotocols": ["json"],
        "client": client,
        "server": (server.host, server.port),
    }
    found = {name: scope[name] for name in table}
    assert found == table
    assert {name: type(value) for name, value in found.items()} == {
        "type": str,
        "path": str,
        "query_string": bytes,
        "headers": list,
        "subprotocols": list,
        "client": tuple,
        "server": tuple,
    }


async def test_binary_data_is_processed_and_text_is_echoed(guided):
    async with connect(f"{guided.ws}/binary") as ws:
        await ws.send(b"\x00\xfe\xff")
        assert await ws.recv() == b"\xff\xfe\x00"
        await ws.send("text")
        assert await ws.recv() == "text"


@pytest.mark.parametrize(
    ("asked", "chosen", "handler"),
    [
        (["json", "graphql-ws"], "graphql-ws", "graphql"),
        (["other", "json"], "json", "generic"),
        (["other"], None, "generic"),
        (None, None, "generic"),
    ],
)
async def test_subprotocols_are_chosen(guided, asked, chosen, handler):
    async with connect(f"{guided.ws}/subprotocols", subprotocols=asked) as ws:
        assert ws.subprotocol == chosen
        assert await ws.recv() == handler


async def test_the_dashboard_pushes_what_stands_in_the_state(guided):
    async with connect(f"{guided.ws}/dashboard") as ws:
        first = json.loads(await ws.recv())
        assert sorted(first) == ["errors", "latency_p99", "requests"]
        requests = f"hornbeam_state:incr({text('metrics:requests')}, 42)"
        assert await asyncio.to_thread(guided.node.eval, requests) == first["requests"] + 42
        assert json.loads(await ws.recv()) == first | {"requests": first["requests"] + 42}


async def said_by_everybody(ws, speakers):
    """Read messages until there is one of each speaker; return how many each has."""
    heard = Counter()
    while len(heard) < speakers:
        message = json.loads(await ws.recv())
        if message["type"] == "message":
            assert message["text"] == f"I am {message['user']}"
            heard[message["user"]] += 1
    return heard


async def test_fifty_people_in_two_workers_hear_everybody_once(guided, key):
    """2500 of 2500, and what ten more hear who never send."""
    async with contextlib.AsyncExitStack() as connections:
        everybody = [
            await connections.enter_async_context(connect(f"{guided.ws}/chat/{key}"))
            for _ in range(60)
        ]
        assert sorted(worker["streams"] for worker in guided.workers()) == [30, 30]
        probe = f"hornbeam:publish({text(f'chat:{key}')}, #{{type => probe}})"
        await asyncio.to_thread(eventually, lambda: guided.node.eval(probe) == 60)
        speakers = everybody[:50]
        reading = [asyncio.create_task(said_by_everybody(ws, 50)) for ws in everybody]
        await asyncio.gather(
            *(ws.send(f'{{"user": "{n}", "text": "I am {n}"}}') for n, ws in enumerate(speakers))
        )
        heard = await asyncio.gather(*reading)
        assert sum(counter.total() for counter in heard[:50]) == 2500
        assert heard == [Counter(map(str, range(50)))] * 60
        last = f"hornbeam:publish({text(f'chat:{key}')}, #{{type => last}})"
        await asyncio.to_thread(guided.node.eval, last)
        for ws in everybody:
            while (message := json.loads(await ws.recv()))["type"] != "last":
                assert message["type"] == "probe"


async def test_chat_rooms_are_apart(guided, key):
    async with connect(f"{guided.ws}/chat/{key}") as ws:
        async with connect(f"{guided.ws}/chat/{key}-next-door") as other:
            await other.send('{"user": "Eve", "text": "psst"}')
            assert json.loads(await other.recv())["text"] == "psst"
        await ws.send('{"text": "hello"}')
        assert json.loads(await ws.recv()) == {
            "type": "message",
            "user": "anonymous",
            "text": "hello",
        }


async def test_connections_are_counted_in_the_state(guided, stored):
    before = stored("ws:active_connections")
    before = 0 if before == "undefined" else before
    clients = f"hornbeam_state:items({text('ws:client:')})"
    async with connect(f"{guided.ws}/ets_state"), connect(f"{guided.ws}/ets_state/second"):
        await asyncio.to_thread(eventually, lambda: stored("ws:active_connections") == before + 2)
        registered = dict(guided.node.eval(clients))
        assert sorted(client["path"] for client in registered.values()) == [
            "/ets_state",
            "/ets_state/second",
        ]
        assert all(abs(c["connected_at"] - time.time()) < 60 for c in registered.values())
    await asyncio.to_thread(eventually, lambda: stored("ws:active_connections") == before)
    assert guided.node.eval(clients) == []


async def test_error_handling_closes_with_1011_and_the_reason(guided):
    async with connect(f"{guided.ws}/error_handling") as ws:
        await ws.send("fail")
        assert await close_code(ws) == (1011, "Internal server error")


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1008, 1011])
async def test_the_close_codes_of_the_table_reach_the_client(serve, key, code):
    server = serve("sockets:application")
    async with connect(f"{server.ws}/closes?{key}") as ws:
        await ws.send(json.dumps({"code": code, "reason": "as the table says"}))
        assert await close_code(ws) == (code, "as the table says")


async def test_the_printed_configuration_takes_16_mib_and_not_a_byte_more(printed_start):
    server = printed_start("configuration.erl.txt")
    async with connect(f"{server.ws}/", max_size=None, compression=None) as ws:
        await ws.send("x" * (16 * MIB))
        echo = await ws.recv()
        assert echo == "Echo: " + "x" * (16 * MIB)
    with RawWebSocket(server, "/") as ws:
        too_big = frame(TEXT, b"x" * (16 * MIB + 1))
        ws.send(too_big[: 2 * MIB])
        assert ws.read_close()[0] == 1009


def test_websocket_timeout_cuts_an_idle_client(serve, key):
    server = serve("sockets:application", websocket_timeout=300)
    with RawWebSocket(server, f"/farewell?{key}"):
        assert journal(server, key)[0]["type"] == "websocket.disconnect"


def test_websocket_max_frame_size_is_a_limit_in_bytes(serve):
    server = serve("sockets:application", websocket_max_frame_size=125)
    with RawWebSocket(server, "/echo") as ws:
        ws.frame(BINARY, b"x" * 125)
        assert ws.read_message() == b"x" * 125
        ws.frame(BINARY, b"x" * 126)
        assert ws.read_close()[0] == 1009


async def test_fastapi_counts_its_users_and_answers(guided, stored, key):
    users = f"room:{key}:users"
    async with connect(f"{guided.ws}/fastapi/ws/{key}") as ws:
        await ws.send("hello")
        assert await ws.recv() == f"Room {key}: hello"
        assert stored(users) == 1
    await asyncio.to_thread(eventually, lambda: stored(users) == 0)


async def test_starlette_echoes(guided):
    async with connect(f"{guided.ws}/starlette/ws") as ws:
        await ws.send("hello")
        assert await ws.recv() == "Echo: hello"


def test_the_guides_python_client_prints_the_echo(serve, monkeypatch, capsys):
    server = serve("guide.starlette_websocket:app")

    def connect_here(address):
        assert address.startswith("ws://localhost:8000/")
        return connect(address.replace("localhost:8000", f"{server.host}:{server.port}"))

    monkeypatch.setattr(websockets, "connect", connect_here)
    runpy.run_path(str(GUIDE / "client.py"))
    assert capsys.readouterr().out == "Echo: Hello!\n"
