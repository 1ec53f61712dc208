"""Sockets that outlive their worker: what the client sees, what the app gets, what is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal

import pytest
from clients import (
    BINARY,
    TEXT,
    RawHTTP,
    RawWebSocket,
    frame,
    handshake_headers,
    kept,
    push_until_stuck,
)
from consoles import ready
from crowds import Crowd
from harness import Server, eventually
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

MIB = 1 << 20


@pytest.fixture
def server(serve) -> Server:
    return serve("resuming:application", websocket_resume=True, workers=2, fresh=True)


async def heard(ws) -> str:
    return await asyncio.wait_for(ws.recv(), 20)


async def told(ws) -> dict:
    return json.loads(await heard(ws))


def bound(server, key) -> connect:
    return connect(f"{server.ws}/bound?{key}", subprotocols=["first", "another"])


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def close_of(ws) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await heard(ws)
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def test_a_socket_goes_on_when_its_worker_is_killed(server):
    async with connect(f"{server.ws}/names") as ws:
        first = await told(ws)
        assert first["resume"] is None
        await ws.send("one")
        assert await heard(ws) == f"{first['pid']} one"
        kill(first["pid"])
        second = await told(ws)
        assert second["pid"] != first["pid"]
        assert second["resume"] == {"attempt": 1, "reason": "died"}
        await ws.send("two")
        assert await heard(ws) == f"{second['pid']} two"
        kill(second["pid"])
        assert (await told(ws))["resume"] == {"attempt": 2, "reason": "died"}
    assert server.info()["counters"]["resumes"] == 2


async def test_what_the_app_had_not_taken_comes_once_and_in_order(server):
    async with connect(f"{server.ws}/names") as ws:
        pid = (await told(ws))["pid"]
        os.kill(pid, signal.SIGSTOP)
        for number in range(50):
            await ws.send(str(number))
        kill(pid)
        other = (await told(ws))["pid"]
        answers = [await heard(ws) for _ in range(50)]
        assert answers == [f"{other} {number}" for number in range(50)]


async def test_what_the_app_has_taken_does_not_come_again(server):
    async with connect(f"{server.ws}/lazy") as ws:
        (pid,) = [w["os_pid"] for w in server.workers() if w["streams"]]
        for number in range(20):
            await ws.send(str(number))
        heard_before = [await heard(ws) for _ in range(5)]
        kill(pid)
        rest = [await heard(ws) for _ in range(15)]
        assert heard_before + rest == [str(number) for number in range(20)]


async def test_a_client_that_sends_on_is_stopped_and_nothing_is_lost(serve, key):
    server = serve("resuming:application", websocket_resume=True, workers=1, fresh=True)
    with RawWebSocket(server, "/numbers") as ws:
        (pid,) = server.worker_pids()
        os.kill(pid, signal.SIGSTOP)
        message = frame(TEXT, b"x" * 65536, mask=True)
        before = server.node.eval("erlang:memory(total)")
        sent = push_until_stuck(ws.socket, message, 64 * MIB)
        assert server.node.eval("erlang:memory(total)") - before < 32 * MIB
        kill(pid)
        missing = -sent % len(message)
        ws.send(message[len(message) - missing :])
        for _ in range((sent + missing) // len(message)):
            assert len(ws.read_message()) == 65536


async def test_binary_and_text_are_what_they_were(server):
    async with connect(f"{server.ws}/echo") as ws:
        (pid,) = [w["os_pid"] for w in server.workers() if w["streams"]]
        os.kill(pid, signal.SIGSTOP)
        await ws.send(b"\xff\x00")
        await ws.send("größe")
        kill(pid)
        assert [await heard(ws), await heard(ws)] == [b"\xff\x00", "größe"]


async def test_what_is_bound_to_the_connection_stays(server, key):
    def value() -> int:
        return server.node.eval(f'hornbeam_state:get(<<"{key}">>)')

    async with bound(server, key) as ws:
        assert ws.subprotocol == "first"
        assert await told(ws) is None
        (pid,) = [w["os_pid"] for w in server.workers() if w["streams"]]
        kill(pid)
        assert await told(ws) == {"attempt": 1, "reason": "died"}
        assert value() == 1
        for topic in (key, f"{key} forwarded"):
            assert server.node.eval(f'hornbeam:publish(<<"{topic}">>, <<"hello">>)') == 1
        assert {await heard(ws), await heard(ws)} == {"hello", json.dumps([key, "hello"])}
    eventually(lambda: value() == 0)
    assert server.node.eval(f'hornbeam:publish(<<"{key}">>, 1)') == 0


async def test_the_connections_state_outlives_the_worker_and_ends_with_the_socket(server):
    async with connect(f"{server.ws}/counting") as ws:
        pid, state = await told(ws)
        assert state == {}
        for number in (1, 2, 3):
            await ws.send("one more")
            assert await told(ws) == number
        assert kept(server) > 0
        kill(pid)
        other, state = await told(ws)
        assert other != pid
        assert state == {"messages": 3}
        await ws.send("one more")
        assert await told(ws) == 4
        async with connect(f"{server.ws}/counting") as neighbour:
            assert (await told(neighbour))[1] == {}
    await asyncio.to_thread(eventually, lambda: kept(server) == 0)


async def test_the_connections_state_ends_with_a_client_that_leaves_meanwhile(serve):
    server = serve("resuming:application", websocket_resume=True, workers=1, fresh=True)
    sockets = [await connect(f"{server.ws}/counting") for _ in range(20)]
    for ws in sockets:
        await told(ws)
        await ws.send("one more")
        await told(ws)
    kill(server.worker_pids()[0])
    for ws in sockets:
        ws.transport.abort()
    await asyncio.to_thread(eventually, lambda: kept(server) == 0)


@pytest.mark.parametrize("how", ["close", "response"])
def test_the_connections_state_ends_with_a_refused_handshake(server, how):
    with RawHTTP(server) as client:  # which keeps its side of the connection open
        client.request("GET", f"/unwanted/{how}", *handshake_headers())
        assert client.response().status == 403
        eventually(lambda: kept(server) == 0)


async def test_forwarded_messages_come_while_no_worker_is_there(serve, key):
    server = serve("resuming:application", websocket_resume=True, workers=1, fresh=True)
    async with bound(server, key) as ws:
        await told(ws)
        kill(server.worker_pids()[0])
        for number in range(100):
            server.node.eval(f'hornbeam:publish(<<"{key} forwarded">>, {number})')
        said = [await told(ws) for _ in range(101)]
        assert [n for n in said if isinstance(n, int)] == list(range(100))


async def test_an_app_that_dies_again_and_again_is_cut_off(serve):
    server = serve(
        "resuming:application",
        websocket_resume=True,
        websocket_resume_attempts=2,
        workers=2,
        fresh=True,
    )
    async with connect(f"{server.ws}/deadly") as ws:
        await ws.send("die")
        assert await close_of(ws) == (1011, "the app's process ends again and again")
    async with connect(f"{server.ws}/names") as ws:
        assert (await told(ws))["resume"] is None


@pytest.mark.parametrize(("message", "workers"), [("die", 1), ("die", 2), ("hang", 1)])
def test_a_message_that_ends_every_worker_costs_hardly_anybody_but_its_sender(
    serve, message, workers
):
    server = serve(
        "resuming:application",
        websocket_resume=True,
        websocket_resume_timeout=5000,
        worker_hang_timeout=2000,
        workers=workers,
        fresh=True,
    )

    async def story() -> None:
        crowd = Crowd(server.host, server.port, "/echo", period=0.2)
        await crowd.open(100)
        async with connect(f"{server.ws}/fatal") as ws:
            await ws.send(message)
            assert await close_of(ws) == (1011, "the app's process ends again and again")
        await crowd.all_heard()
        # Who stands beside it by chance again and again is closed, too: nobody, as a rule.
        assert len(crowd.closes) <= 5

    asyncio.run(story())


async def test_without_a_worker_in_time_the_socket_is_closed(serve, tmp_path):
    server = serve(
        "unstable:application",
        websocket_resume=True,
        websocket_resume_timeout=300,
        workers=1,
        env={"BROKEN": str(tmp_path / "broken")},
        fresh=True,
    )
    async with connect(f"{server.ws}/echo") as ws:
        (tmp_path / "broken").touch()
        kill(server.worker_pids()[0])
        assert await close_of(ws) == (1012, "no process of the app goes on")


@pytest.mark.parametrize(
    ("how", "code"), [("close", 4321), ("response", 1008), ("failure", 1011), ("return", 1011)]
)
async def test_an_app_may_refuse_to_go_on(server, how, code):
    async with connect(f"{server.ws}/refusing/{how}") as ws:
        await ws.send("die")
        assert (await close_of(ws))[0] == code


async def test_a_client_that_leaves_meanwhile_leaves_nothing_behind(serve, key):
    server = serve("resuming:application", websocket_resume=True, workers=1, fresh=True)
    sockets = [await bound(server, key) for _ in range(20)]
    for ws in sockets:
        await told(ws)
    kill(server.worker_pids()[0])
    await asyncio.gather(*[ws.close() for ws in sockets])
    eventually(lambda: server.node.eval(f'hornbeam_state:get(<<"{key}">>)') == 0)
    ready(server, 1)
    eventually(lambda: [worker["streams"] for worker in server.workers()] == [0])


async def test_a_socket_that_waits_for_a_worker_is_pinged_and_may_close(serve):
    server = serve(
        "resuming:application",
        websocket_resume=True,
        websocket_ping_interval=50,
        workers=1,
        fresh=True,
    )
    with RawWebSocket(server, "/numbers") as ws:
        (pid,) = server.worker_pids()
        os.kill(pid, signal.SIGSTOP)
        assert ws.read()[0] == 9
        kill(pid)
        ws.frame(BINARY, b"x")
        assert ws.read()[0] == 9
        ws.frame(8, (1000).to_bytes(2, "big"))
        assert ws.read_close()[0] == 1000


async def test_a_worker_that_stands_still_does_not_keep_its_sockets_from_a_reload(serve):
    server = serve(
        "resuming:application",
        websocket_resume=True,
        workers=2,
        drain_timeout=300,
        shutdown_timeout=300,
        fresh=True,
    )
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connect(f"{server.ws}/names")) for _ in range(6)]
        first = [await told(ws) for ws in sockets]
        still = first[0]["pid"]
        os.kill(still, signal.SIGSTOP)
        await asyncio.gather(*[ws.send("untaken") for ws in sockets])
        await asyncio.to_thread(server.node.eval, "ok = hornbeam:reload()")
        for ws, before in zip(sockets, first, strict=True):
            said = await heard(ws)
            while said == f"{before['pid']} untaken":  # by a worker that was not still
                said = await heard(ws)
            after = json.loads(said)
            assert after["resume"] == {"attempt": 1, "reason": "reloaded"}
            if before["pid"] == still:
                assert await heard(ws) == f"{after['pid']} untaken"
    eventually(lambda: still not in server.worker_pids())
