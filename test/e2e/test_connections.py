"""The open WebSockets as an operator sees them: listed, filtered, closed."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack

import httpx
import pytest
from clients import RawWebSocket
from harness import eventually
from terms import text
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


@pytest.fixture
def server(serve):
    return serve("resuming:application", websocket_resume=True, workers=2, fresh=True)


def connections(server, filter: str = "#{}") -> list[dict]:
    return server.node.eval(f"hornbeam:connections({filter})")


async def test_a_connection_is_listed_with_what_went_through_it(server):
    async with connect(f"{server.ws}/echo?a=b") as ws:
        for message in ("one", "größe", b"\xff" * 10):
            await ws.send(message)
            assert await ws.recv() == message
        host, port = ws.local_address
        (listed,) = connections(server)
        worker = [w["name"] for w in server.workers() if w["streams"]]
        assert listed["peer"] == (host, port)
        assert listed["path"] == "/echo"
        assert [listed["worker"]] == worker
        assert listed["state"] == "open" and listed["resume"] == "none"
        assert listed["messages_in"] == 3 and listed["bytes_in"] == 3 + 7 + 10
        assert listed["messages_out"] == 3 and listed["bytes_out"] == 3 + 7 + 10
        assert listed["unsent"] == 0 and listed["subscriptions"] == []
        assert 0 <= listed["seconds"] < 20
    eventually(lambda: connections(server) == [])


async def test_subscriptions_and_what_was_forwarded_are_listed(server, key):
    async with connect(f"{server.ws}/bound?{key}", subprotocols=["first"]) as ws:
        await ws.recv()
        server.node.eval(f'hornbeam:publish({text(f"{key} forwarded")}, <<"hello">>)')
        assert await ws.recv() == "hello"
        (listed,) = connections(server)
        assert sorted(listed["subscriptions"]) == [key, f"{key} forwarded"]
        assert listed["messages_out"] == 2


async def test_a_filter_is_a_map_or_a_fun(server):
    async with AsyncExitStack() as stack:
        for path, messages in (("numbers", 2), ("lazy", 1)):
            ws = await stack.enter_async_context(connect(f"{server.ws}/{path}"))
            for _ in range(messages):  # by its answer a connection is listed
                await ws.send("x")
                await ws.recv()
        ids = [listed["id"] for listed in connections(server)]
        assert len(ids) == 2 and ids == sorted(ids)
        assert [c["id"] for c in connections(server, '#{path => <<"/lazy">>}')] == ids[1:]
        assert connections(server, "#{path => <<>>}") == []
        busy = "fun(#{messages_in := N}) -> N > 1 end"
        assert [c["id"] for c in connections(server, busy)] == ids[:1]


async def test_a_kick_closes_one_connection_with_code_and_reason(server):
    async with connect(f"{server.ws}/numbers") as one, connect(f"{server.ws}/numbers") as other:
        # A client has its 101 a moment before its connection is listed.
        await asyncio.to_thread(eventually, lambda: len(connections(server)) == 2)
        first = connections(server)[0]["id"]
        assert server.node.eval(f'hornbeam:kick({first}, 4000, "für immer")') == "ok"
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(one.recv(), 20)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "für immer")
        await other.send("still here")
        assert await other.recv() == "still here"
    assert server.info()["counters"]["kicked"] == 1
    eventually(lambda: connections(server) == [])
    assert server.node.eval(f"hornbeam:kick({first}, 4000, <<>>)") == ("error", "not_found")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("1005, <<>>", ("bad_code", 1005)),
        ("999, <<>>", ("bad_code", 999)),
        ("normal, <<>>", ("bad_code", "normal")),
        ("1000, <<0:992>>", ("bad_reason", bytes(124).decode())),
        ("1000, <<255>>", None),
        ("1000, 7", ("bad_reason", 7)),
    ],
)
def test_a_kick_with_what_no_close_frame_carries_is_refused(server, arguments, error):
    outcome, reason = server.node.eval(f"hornbeam:kick(1, {arguments})")
    assert outcome == "error" and (error is None or reason == error)


async def test_a_socket_without_a_worker_is_listed_and_told_of_the_stop(serve, tmp_path):
    server = serve(
        "unstable:application",
        websocket_resume=True,
        workers=1,
        env={"BROKEN": str(tmp_path / "broken")},
        fresh=True,
    )
    with RawWebSocket(server, "/echo") as ws:
        (tmp_path / "broken").touch()
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        eventually(lambda: [c["state"] for c in connections(server)] == ["resuming"])
        server.stop()
        assert ws.read_close()[0] == 1001


LISTEN = """
spawn(fun() ->
    register({name}, self()),
    Events = [[hornbeam, websocket, Kind] || Kind <- [open, resume, close]],
    Me = self(),
    Handler = fun(Event, Measured, About, _) -> Me ! {{Event, Measured, About}} end,
    [ok = hornbeam_telemetry:attach({{{name}, E}}, E, Handler, none) || E <- Events],
    Loop = fun Loop(Heard) ->
        receive
            {{ask, From}} -> From ! {{heard, lists:reverse(Heard)}}, Loop(Heard);
            Event -> Loop([Event | Heard])
        end
    end,
    Loop([])
end), ok
"""
ASK = "{name} ! {{ask, self()}}, receive {{heard, Heard}} -> Heard end"


async def test_the_life_of_a_socket_is_told_by_events(server, key):
    name = f"e{key}"
    server.node.eval(LISTEN.format(name=name))
    eventually(lambda: server.node.eval(f"whereis({name}) =/= undefined"))

    def heard() -> list:
        return server.node.eval(ASK.format(name=name))

    async with connect(f"{server.ws}/names") as ws:
        await ws.recv()
        (pid,) = [w["os_pid"] for w in server.workers() if w["streams"]]
        os.kill(pid, signal.SIGKILL)
        await ws.recv()
        (listed,) = connections(server)
    eventually(lambda: len(heard()) == 3)
    opened, resumed, closed = heard()
    about = {"id": listed["id"], "mount": "/", "path": "/names", "client": listed["peer"]}
    assert opened == (["hornbeam", "websocket", "open"], {"count": 1}, about)
    assert resumed[1]["attempt"] == 1 and resumed[1]["gap_ms"] == listed["resume"]["gap_ms"]
    assert closed[2] == about | {"code": 1000}
    assert closed[1]["messages_out"] == 2 and closed[1]["messages_in"] == 0


def test_requests_limits_and_workers_are_told_by_events(serve, key):
    server = serve("exchanges:application", websocket_max_frame_size=10, fresh=True)
    name = f"e{key}"
    kinds = "[[http, stop], [limit, hit], [worker, ready], [worker, down]]"
    listen = LISTEN.replace(
        "[[hornbeam, websocket, Kind] || Kind <- [open, resume, close]]",
        f"[[hornbeam | Kind] || Kind <- {kinds}]",
    )
    server.node.eval(listen.format(name=name))
    eventually(lambda: server.node.eval(f"whereis({name}) =/= undefined"))

    def heard(*event: str) -> list:
        events = server.node.eval(ASK.format(name=name))
        return [(measured, about) for kind, measured, about in events if kind == [*event]]

    assert httpx.get(f"{server.http}/hello?a").status_code == 200
    ((measured, about),) = eventually(lambda: heard("hornbeam", "http", "stop"))
    host, port = about.pop("client")
    assert host == "127.0.0.1" and 0 < port < 65536
    told = {"method": "GET", "mount": "/", "path": "/hello", "status": 200, "whole": True}
    assert about == told | {"scheme": "http"}
    assert measured["microseconds"] > 0
    with server.connect() as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        assert b" 400 " in raw.recv(100)
    assert heard("hornbeam", "limit", "hit") == [({"count": 1}, {"limit": "bad_requests"})]
    (pid,) = server.worker_pids()
    os.kill(pid, signal.SIGKILL)
    ((lived, down),) = eventually(lambda: heard("hornbeam", "worker", "down"))
    assert down["worker"] == "worker-1" and lived["seconds"] >= 0
    ((took, ready),) = eventually(lambda: heard("hornbeam", "worker", "ready"))
    assert ready["os_pid"] != pid and took["milliseconds"] > 0


async def test_an_idle_connection_takes_little_memory_whatever_it_did_before(serve):
    server = serve("resuming:application", websocket_ping_interval=100)

    def resources() -> tuple[int, int]:
        """Bytes of the process, and of the buffer into which the next read goes."""
        return server.node.eval(
            "[Pid] = hornbeam_connection_registry:owners(), "
            "{memory, Memory} = process_info(Pid, memory), "
            "{links, Links} = process_info(Pid, links), "
            "[Socket] = [Link || Link <- Links, is_port(Link)], "
            "{ok, [{buffer, Buffer}]} = inet:getopts(Socket, [buffer]), {Memory, Buffer}"
        )

    def is_little() -> bool:
        memory, buffer = resources()
        return memory < 4000 and buffer == 1024

    async with connect(f"{server.ws}/echo", compression=None) as ws:
        await asyncio.to_thread(eventually, is_little)
        await ws.send("x" * 100_000)
        assert await ws.recv() == "x" * 100_000
        await asyncio.to_thread(eventually, is_little)
