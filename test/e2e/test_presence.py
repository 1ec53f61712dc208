"""Who is present, through real sockets: what clients are told, and whose end nobody can hide."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
from pathlib import Path

import httpx
import pytest
from browsers import node_command, npm_install
from clients import RawWebSocket
from harness import DEADLINE, Server, eventually
from httpx_sse import connect_sse
from websockets.asyncio.client import connect


@pytest.fixture
def server(serve) -> Server:
    return serve("present:application", workers=2, websocket_resume=True, fresh=True)


def joining(server, topic, name="ada"):
    return connect(f"{server.ws}/joins/{name}?{topic}")


def watching(server, topic, how="watches"):
    return connect(f"{server.ws}/{how}?{topic}")


async def told(ws):
    return json.loads(await asyncio.wait_for(ws.recv(), DEADLINE))


async def asked(ws, *what):
    await ws.send(json.dumps(what))
    return await told(ws)


def listed(server, topic):
    """Who is present, how many keys, and how many sockets are counted."""
    return httpx.get(f"{server.http}/lists?{topic}", timeout=DEADLINE).json()


def tracking(topic):
    """A process of Erlang's that is present from now on."""
    track = f'hornbeam_presence:track(<<"{topic}">>, <<"erlang">>, #{{a => [b, 1]}})'
    return f"spawn(fun() -> {{ok, _}} = {track}, receive stop -> ok end end)"


def names(diff):
    return sorted(diff["joins"]), sorted(diff["leaves"])


def metas(members, name):
    return [{**meta} for meta in members[name]["metas"]]


async def test_who_joins_is_seen_by_those_who_watch_from_any_worker(server, key):
    async with watching(server, key) as one, watching(server, key) as other:
        for ws in (one, other):
            assert names(await told(ws)) == ([], [])
        async with joining(server, key) as ada:
            ref = (await told(ada))["ref"]
            for ws in (one, other):
                diff = await told(ws)
                assert diff == {
                    "joins": {"ada": {"metas": [{"n": 0, "phx_ref": ref}]}},
                    "leaves": {},
                }
            second = await asked(ada, "update", {"n": 1})
            for ws in (one, other):
                diff = await told(ws)
                (joined,), (left,) = metas(diff["joins"], "ada"), metas(diff["leaves"], "ada")
                assert joined == {"n": 1, "phx_ref": second, "phx_ref_prev": ref}
                assert left == {"n": 0, "phx_ref": ref}
        for ws in (one, other):
            assert names(await told(ws)) == ([], ["ada"])
    assert listed(server, key) == [{}, 0, 0]


async def test_a_client_is_told_by_the_node_and_python_does_not_wake(server, key):
    async with joining(server, key) as ada:
        await told(ada)
        async with watching(server, key, "forwards") as ws:
            state = await told(ws)
            assert (state["topic"], state["event"]) == (key, "presence_state")
            assert [*state["payload"]] == ["ada"]
            mine = await told(ws)
            assert (mine["event"], names(mine["payload"])) == ("presence_diff", (["watcher"], []))
            for worker in server.worker_pids():
                os.kill(worker, signal.SIGSTOP)
            try:
                server.node.eval(tracking(key))
                come = await told(ws)
                assert "erlang" in come["payload"]["joins"]
            finally:
                for worker in server.worker_pids():
                    os.kill(worker, signal.SIGCONT)


def test_an_event_stream_is_told_too(server, key):
    with (
        httpx.Client(timeout=DEADLINE) as client,
        connect_sse(client, "GET", f"{server.http}/forwards?{key}") as source,
    ):
        events = source.iter_sse()
        assert json.loads(next(events).data)["event"] == "presence_state"
        ws = RawWebSocket(server, f"/joins/ada?{key}")
        assert names(json.loads(next(events).data)["payload"]) == (["ada"], [])
        ws.socket.close()
        assert names(json.loads(next(events).data)["payload"]) == ([], ["ada"])


PHOENIX = """
const { Presence } = require(process.argv[2]);
let state = {};
for (const line of require("fs").readFileSync(0, "utf8").trim().split("\\n")) {
  const { event, payload } = JSON.parse(line);
  state = event === "presence_state"
    ? Presence.syncState(state, payload) : Presence.syncDiff(state, payload);
}
const refs = ([key, { metas }]) => [key, metas.map(({ phx_ref }) => phx_ref).sort()];
console.log(JSON.stringify(Object.fromEntries(Object.entries(state).map(refs))));
"""


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory) -> Path:
    """The client that pages of Phoenix have, for Node.js."""
    folder = tmp_path_factory.mktemp("phoenix")
    return npm_install(folder, "phoenix@1.7") / "phoenix/priv/static/phoenix.cjs.js"


async def test_phoenix_own_client_shows_who_is_there(server, key, phoenix, tmp_path):
    """It is given what a client was told while people came, changed and left, and a worker died."""
    said = []
    async with watching(server, key, "forwards") as ws, contextlib.AsyncExitStack() as people:
        for n in range(6):
            person = await people.enter_async_context(joining(server, key, f"user{n % 4}"))
            pid = (await told(person))["pid"]
            for value in range(3):
                await asked(person, "update", {"n": value})
            if n == 2:
                await person.close()
        os.kill(pid, signal.SIGKILL)
        await told(person)
        await asked(person, "track", "last", {})
        members = listed(server, key)[0]
        assert sorted(members) == ["last", "user0", "user1", "user3", "watcher"]
        while not said or '"last"' not in json.dumps(said[-1]):
            said.append(await told(ws))
    (tmp_path / "script.cjs").write_text(PHOENIX)
    shown = subprocess.run(
        node_command("node", str(tmp_path / "script.cjs"), str(phoenix)),
        input="\n".join(map(json.dumps, said)), check=True, capture_output=True, text=True,
        timeout=DEADLINE,
    )  # fmt: skip
    assert json.loads(shown.stdout) == {
        name: sorted(meta["phx_ref"] for meta in metas(members, name)) for name in members
    }


async def test_a_killed_worker_is_noticed_by_nobody_who_watches(server, key):
    """The sockets go on with another worker: who was present still is, and no pair says so."""
    async with (
        watching(server, key, "forwards") as ws,
        joining(server, key) as ada,
        joining(server, key, "bob") as bob,
    ):
        refs = {(await told(each))["ref"] for each in (ada, bob)}
        eventually(lambda: "watcher" in listed(server, key)[0])
        before = listed(server, key)
        assert {
            meta["phx_ref"] for name in ("ada", "bob") for meta in metas(before[0], name)
        } == refs
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        assert {(await told(each))["ref"] for each in (ada, bob)} == refs
        assert (await asked(ada, "track", "last", {})) != ""
        news = []
        while not news or "last" not in news[-1]["payload"].get("joins", {}):
            news.append(await told(ws))
        left = [each["payload"]["leaves"] for each in news if each["event"] == "presence_diff"]
        assert [leaves for leaves in left if leaves] == []
        assert sorted(listed(server, key)[0]) == ["ada", "bob", "last", "watcher"]


async def test_without_resume_who_was_in_a_killed_worker_leaves(serve, key):
    server = serve("present:application", workers=1, fresh=True)
    async with joining(server, key) as ada:
        pid = (await told(ada))["pid"]
        os.kill(pid, signal.SIGKILL)
        await ada.wait_closed()
    eventually(lambda: listed(server, key) == [{}, 0, 0])


async def test_a_reload_is_noticed_by_nobody_who_watches(server, key):
    async with watching(server, key, "forwards") as ws, joining(server, key) as ada:
        ref = (await told(ada))["ref"]
        server.node.eval("hornbeam:reload()", deadline=60)
        assert (await told(ada))["ref"] == ref
        await asked(ada, "track", "last", {})
        news = []
        while not news or "last" not in news[-1]["payload"].get("joins", {}):
            news.append(await told(ws))
        left = [each["payload"]["leaves"] for each in news if each["event"] == "presence_diff"]
        assert [leaves for leaves in left if leaves] == []


@pytest.mark.parametrize("how", ["closes", "is reset", "is killed"])
async def test_whatever_ends_a_client_it_is_present_no_more(server, key, how):
    async with watching(server, key) as ws:
        await told(ws)
        client = await asyncio.to_thread(ended_client, server, key, how)
        assert names(await told(ws)) == (["ada"], [])
        client()
        assert names(await told(ws)) == ([], ["ada"])
    eventually(lambda: listed(server, key) == [{}, 0, 0])


def ended_client(server, key, how):
    """A client that is present, and what ends it."""
    if how == "is killed":
        return killed_client(server, key)
    ws = RawWebSocket(server, f"/joins/ada?{key}")
    ws.read()

    def end():
        if how == "is reset":
            linger = struct.pack("ii", 1, 0)
            ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        ws.socket.close()

    return end


def killed_client(server, key):
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ws = RawWebSocket(server, f"/joins/ada?{key}")
            ws.read()
            os.write(done, b"1")
            signal.pause()
        finally:
            os._exit(1)
    os.read(ready, 1)
    os.close(ready)
    os.close(done)

    def end():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    return end


async def test_erlang_sees_apps_and_apps_see_erlang(server, key):
    async with joining(server, key) as ada:
        ref = (await told(ada))["ref"]
        listed_by = f'hornbeam_presence:list(<<"{key}">>)'
        found = f'maps:get(<<"metas">>, maps:get(<<"ada">>, {listed_by}))'
        assert server.node.eval(f'[maps:get(<<"phx_ref">>, Meta) || Meta <- {found}]') == [ref]
        server.node.eval(tracking(key))
        eventually(lambda: listed(server, key)[1] == 2)
        (meta,) = metas(listed(server, key)[0], "erlang")
        assert meta["a"] == ["b", 1]


async def test_counters_of_all_nodes_lose_what_connections_have_added(server, key):
    async with joining(server, key) as one, joining(server, key, "bob") as other:
        await told(one)
        await told(other)
        assert listed(server, key)[2] == 2
    eventually(lambda: listed(server, key)[2] == 0)
    for n in range(1, 4):
        assert httpx.get(f"{server.http}/counts?{key}", timeout=DEADLINE).json() == n
    assert server.node.eval(f'hornbeam_cluster_counter:get({{<<"{key}">>, <<"visits">>}})') == 3


async def test_a_socket_that_goes_on_is_counted_twice_only_if_it_says_so(server, key):
    """The app counts where it comes to the socket: what was counted by it before still is."""
    async with joining(server, key) as ada:
        pid = (await told(ada))["pid"]
        os.kill(pid, signal.SIGKILL)
        await told(ada)
        assert listed(server, key)[2] == 2
    eventually(lambda: listed(server, key)[2] == 0)


async def test_a_list_that_is_too_long_for_a_client_is_an_error(serve, key):
    server = serve("present:application", workers=1, pubsub_queue_bytes=1000, fresh=True)
    async with joining(server, key) as ada:
        await told(ada)
        for n in range(40):
            await asked(ada, "track", f"user {n}", {"n": n})
        async with watching(server, key, "forwards") as ws:
            await ws.wait_closed()
    server.node.wait_log(
        "LimitExceeded: who is present there is more than the option "
        "pubsub_queue_bytes, which is 1000"
    )
