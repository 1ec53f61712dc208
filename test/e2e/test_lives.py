"""How workers end and others take their place: deaths, hangs, recycling, reloads."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter

import httpx
import pytest
from clients import TEXT, RawWebSocket
from harness import APPS, DEADLINE, alive, eventually
from terms import Atom, text

MIB = 1 << 20


def opened(server, target: str) -> tuple[RawWebSocket, int]:
    """Open a WebSocket that says which process it is in; return both."""
    ws = RawWebSocket(server, target)
    return ws, int(ws.read_message())


def echoes(ws: RawWebSocket, data: bytes = b"still here") -> bool:
    ws.frame(TEXT, data)
    return ws.read_message() == data


def states_of(server) -> list[str]:
    return [worker["state"] for worker in server.workers()]


def ready(server) -> list[int]:
    return [worker["os_pid"] for worker in server.workers() if worker["state"] == "ready"]


def ended(server, reason: str) -> int:
    return server.info()["ended"].get(reason, 0)


class Visitors:
    """Requests without a pause from several clients, while something happens; what they got."""

    def __init__(self, server, target: str = "/who_am_i") -> None:
        self.url = server.http + target
        self.answers: Counter = Counter()
        self.texts: list[str] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.visit) for _ in range(3)]

    def visit(self) -> None:
        while not self.over.is_set():
            try:
                answer = httpx.get(self.url, timeout=DEADLINE)
                self.answers[answer.status_code] += 1
                self.texts.append(answer.text)
            except httpx.HTTPError as error:
                self.answers[repr(error)] += 1

    def __enter__(self) -> Visitors:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(DEADLINE)


# Deaths


def test_a_worker_that_segfaults_is_replaced_at_once(serve):
    server = serve("failures:application", fresh=True)
    ws, pid = opened(server, "/segfaults")
    ws.frame(TEXT, b"now")
    assert ws.read_close()[0] == 1012
    eventually(lambda: pid not in ready(server) and ready(server))
    (worker,) = server.workers()
    assert worker["restarts"] == 1
    assert worker["last_end"][1][0] == "exited"
    assert ended(server, "exited") == 1


def test_a_worker_that_grows_far_too_large_is_killed(serve):
    server = serve("failures:application", fresh=True, worker_max_rss=150 * MIB)
    ws, pid = opened(server, "/grows")
    ws.frame(TEXT, b"400")
    eventually(lambda: not alive(pid))
    # It may have said that it has grown, before it was seen.
    assert ws.read_close()[0] == 1012
    eventually(lambda: ended(server, "too_large") == 1)


# Hangs


@pytest.mark.parametrize("handler", ["blocks", "spins", "holds_the_gil"])
def test_a_worker_that_hangs_is_killed_and_the_log_says_where_it_hung(serve, handler):
    server = serve("failures:application", fresh=True, worker_hang_timeout=300)
    ws, pid = opened(server, f"/{handler}")
    ws.frame(TEXT, b"3600")
    if handler == "blocks":
        assert ws.read_message() == b"sleeping"
    assert ws.read_close()[0] == 1012
    eventually(lambda: not alive(pid))
    # The fields of a line come in any order.
    where = r"failures\.py.{0,40} in " + handler
    hung = r"(?=.*what: worker_hung)(?=.*at: .{0,9}File )(?=.*" + where + ")"
    server.node.wait_log(r"\[error\]" + hung)
    eventually(lambda: ready(server) and ready(server) != [pid])
    assert ended(server, "hung") == 1


def test_a_worker_that_turns_in_time_does_not_hang(serve):
    server = serve("failures:application", fresh=True, worker_hang_timeout=2000)
    ws, pid = opened(server, "/blocks")
    ws.frame(TEXT, b"1")
    assert ws.read_message() == b"sleeping"
    assert ws.read_message() == b"awake"
    assert ready(server) == [pid]


def test_new_sockets_avoid_a_worker_that_is_slow_to_turn(serve):
    server = serve("failures:application", fresh=True, workers=2)
    blocked, pid = opened(server, "/blocks")
    others = [opened(server, "/who") for _ in range(7)]
    for ws, other in others:
        if other == pid:
            ws.socket.close()
    eventually(lambda: sorted(worker["streams"] for worker in server.workers()) == [1, 4])
    blocked.frame(TEXT, b"5")
    assert blocked.read_message() == b"sleeping"
    eventually(lambda: [w["os_pid"] for w in server.workers() if w["slow"]] == [pid])
    assert {opened(server, "/who")[1] for _ in range(2)} == set(ready(server)) - {pid}
    assert blocked.read_message() == b"awake"
    eventually(lambda: not any(worker["slow"] for worker in server.workers()))


# Recycling


def test_a_worker_is_recycled_after_its_requests_and_no_request_is_lost(serve):
    server = serve("failures:application", fresh=True, max_requests=20)
    pids = ready(server)
    with Visitors(server, "/journal/0?x") as visitors:
        eventually(lambda: ended(server, "recycled") >= 2)
    assert list(visitors.answers) == [200]
    assert pids != ready(server)
    assert sum(visitors.answers.values()) >= 20


def test_messages_of_websockets_count_as_requests(serve):
    server = serve("failures:application", fresh=True, max_requests=30, drain_timeout=300)
    ws, pid = opened(server, "/who")
    for _ in range(28):
        assert echoes(ws)
    (worker,) = server.workers()
    assert (worker["requests"], worker["messages"], worker["os_pid"]) == (1, 28, pid)
    assert echoes(ws)
    assert ws.read_close()[0] == 1012
    eventually(lambda: len(server.workers()) == 1)
    eventually(lambda: ended(server, "recycled") == 1)


def test_a_socket_goes_on_in_a_worker_that_retires(serve):
    server = serve("failures:application", fresh=True, max_requests=3)
    ws, pid = opened(server, "/who")
    assert echoes(ws) and echoes(ws)
    states = eventually(
        lambda: (found := [w["state"] for w in server.workers()]) != ["ready"] and found
    )
    eventually(lambda: "retiring" in states_of(server))
    assert set(states) <= {"ready", "starting", "retiring"}
    assert echoes(ws)
    assert opened(server, "/who")[1] != pid
    assert ended(server, "recycled") == 0
    ws.socket.close()
    eventually(lambda: not alive(pid))
    eventually(lambda: ended(server, "recycled") == 1)


def test_a_worker_that_is_killed_while_it_retires_has_one_end(serve):
    server = serve("failures:application", fresh=True, max_requests=1)
    ws, pid = opened(server, "/who")
    eventually(lambda: "retiring" in states_of(server))
    os.kill(pid, signal.SIGKILL)
    assert ws.read_close()[0] == 1012
    eventually(lambda: server.info()["ended"] == {Atom("exited"): 1})


def test_a_recycled_worker_runs_its_lifespan_to_the_end(serve, tmp_path):
    trace = tmp_path / "trace"
    server = serve("lifespans:traced", fresh=True, env={"TRACE": str(trace)}, max_requests=1)
    httpx.get(server.http)
    eventually(lambda: "shutdown" in trace.read_text())
    # The successor was ready before the old one had anything to end.
    assert trace.read_text().split() == ["startup", "http", "startup", "shutdown"]


def test_a_worker_is_recycled_at_its_age(serve):
    server = serve("failures:application", fresh=True, worker_max_age=300)
    eventually(lambda: ended(server, "recycled") == 2)


def test_a_worker_that_grows_too_large_is_recycled(serve):
    server = serve("failures:application", fresh=True, worker_max_rss=150 * MIB)
    ws, pid = opened(server, "/grows")
    ws.frame(TEXT, b"200")
    assert ws.read_message() == b"grown"
    eventually(lambda: ready(server) and pid not in ready(server))
    (retiring,) = [worker for worker in server.workers() if worker["os_pid"] == pid]
    assert retiring["rss"] > 200 * MIB
    ws.socket.close()
    eventually(lambda: not alive(pid))
    eventually(lambda: ended(server, "recycled") == 1)


def test_no_two_workers_are_recycled_at_a_time(serve):
    server = serve("failures:application", fresh=True, workers=3, worker_max_age=100)
    counts = []

    def six_are_recycled() -> bool:
        counts.append(len(server.workers()))
        return ended(server, "recycled") >= 6

    eventually(six_are_recycled)
    assert max(counts) == 4


def test_a_worker_whose_successor_does_not_start_goes_on(serve, tmp_path):
    broken = tmp_path / "broken"
    server = serve("unstable:application", fresh=True, env={"BROKEN": str(broken)}, max_requests=1)
    pids = ready(server)
    broken.touch()
    ws = RawWebSocket(server, "/echo")
    assert echoes(ws)
    server.node.wait_log(r"worker_not_replaced")
    assert ready(server) == pids
    assert echoes(ws)
    broken.unlink()
    ws.socket.close()
    eventually(lambda: ended(server, "recycled") == 1)


# Reload

VERSIONED = """
VERSION = {version!r}

async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": VERSION.encode()}})
    elif scope["type"] == "websocket":
        await send({{"type": "websocket.accept"}})
        while (event := await receive())["type"] != "websocket.disconnect":
            if event["type"] == "websocket.receive":
                await send({{"type": "websocket.send", "text": VERSION}})
"""


@pytest.fixture
def versioned(serve, tmp_path):
    """Serve an app whose code a test can change."""

    def write(version: str, source: str = VERSIONED) -> None:
        (tmp_path / "versioned.py").write_text(source.format(version=version))

    write("one")
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    server = serve(
        "versioned:application", fresh=True, workers=2, pythonpath=[tmp_path, APPS], env=env
    )
    return server, write


def version(server) -> str:
    return httpx.get(server.http).text


def test_a_reload_serves_the_new_code_and_loses_no_request(versioned):
    server, write = versioned
    pids = ready(server)
    with Visitors(server, "/") as visitors:
        eventually(lambda: visitors.texts)
        write("two")
        assert server.node.eval("hornbeam:reload()") == "ok"
        assert version(server) == "two"
        eventually(lambda: "two" in visitors.texts)
    assert list(visitors.answers) == [200]
    assert set(visitors.texts) == {"one", "two"}
    eventually(lambda: len(server.workers()) == 2)
    assert not set(pids) & set(server.worker_pids())
    eventually(lambda: ended(server, "reloaded") == 2)


def test_a_socket_stays_with_the_old_code_until_it_closes(versioned):
    server, write = versioned
    ws = RawWebSocket(server, "/")
    write("two")
    server.node.eval("ok = hornbeam:reload()")
    ws.frame(TEXT, b"which?")
    assert ws.read_message() == b"one"
    assert sorted(worker["state"] for worker in server.workers()).count("retiring") == 1
    ws.socket.close()
    eventually(lambda: len(server.workers()) == 2)


def test_code_that_does_not_import_changes_nothing(versioned):
    server, write = versioned
    pids = server.worker_pids()
    write("", 'raise LookupError("not today")')
    kind, reason = server.node.eval("hornbeam:reload()")
    assert (kind, reason[0]) == ("error", "python")
    assert reason[1]["stage"] == "import"
    assert "not today" in reason[1]["traceback"]
    eventually(lambda: server.worker_pids() == pids)
    assert version(server) == "one"
    write("three")
    assert server.node.eval("hornbeam:reload()") == "ok"
    assert version(server) == "three"


def test_a_hang_up_reloads(versioned):
    server, write = versioned
    write("two")
    server.node.process.send_signal(signal.SIGHUP)
    eventually(lambda: version(server) == "two")
    server.node.wait_log(r"\[notice\].*reloaded")


def test_a_second_reload_is_told_of_the_first(versioned):
    server, _ = versioned
    answers = server.node.eval(
        "Me = self(),"
        "[spawn(fun() -> Me ! {reloaded, hornbeam:reload()} end) || _ <- [1, 2]],"
        "lists:sort([receive {reloaded, Answer} -> Answer end || _ <- [1, 2]])"
    )
    assert answers == ["ok", ("error", "reloading")]


def test_a_worker_that_dies_during_a_reload_is_no_loss(versioned):
    server, write = versioned
    write("two", "import time\ntime.sleep(1)\n" + VERSIONED)
    reload = threading.Thread(target=server.node.eval, args=("ok = hornbeam:reload()",))
    reload.start()
    eventually(lambda: "starting" in {worker["state"] for worker in server.workers()})
    killed = ready(server)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    # A request that a worker takes with it into its death is lost: 502.
    eventually(lambda: not set(killed) & set(server.worker_pids()))
    assert version(server) == "two"
    reload.join(DEADLINE)
    eventually(lambda: [worker["state"] for worker in server.workers()] == ["ready"] * 2)


def test_nothing_is_reloaded_when_nothing_is_served(shared):
    shared.stop()
    answer = shared.node.eval("{hornbeam:reload(), hornbeam:set_workers(2)}")
    assert answer == (("error", "not_serving"), ("error", "not_serving"))


# The number of workers


def test_more_workers_start_and_fewer_remain(serve):
    server = serve("failures:application", fresh=True)
    server.node.eval("ok = hornbeam:set_workers(3)")
    eventually(lambda: len(ready(server)) == 3)
    sockets = dict(reversed(opened(server, "/who")) for _ in range(3))
    assert set(sockets) == set(ready(server))
    server.node.eval("ok = hornbeam:set_workers(1)")
    assert [worker["name"] for worker in server.workers() if worker["state"] == "ready"] == [
        "worker-1"
    ]
    assert all(echoes(ws) for ws in sockets.values())
    for ws in sockets.values():
        ws.socket.close()
    eventually(lambda: len(server.workers()) == 1)
    eventually(lambda: ended(server, "shrunk") == 2)


def test_a_worker_that_is_too_many_before_it_is_ready_costs_nobody_else(serve):
    server = serve("failures:application", fresh=True)
    ws, _ = opened(server, "/who")
    server.node.eval("ok = hornbeam:set_workers(2), ok = hornbeam:set_workers(1)")
    eventually(lambda: [worker["state"] for worker in server.workers()] == ["ready"])
    assert echoes(ws)


@pytest.mark.parametrize("number", [0, -1, 1.5, Atom("many")])
def test_a_bad_number_of_workers_is_refused(serve, number):
    server = serve("failures:application")
    answer = server.node.eval(f"hornbeam:set_workers({text(number)})")
    assert answer == ("error", ("bad_option", "workers", number))


OWNER = """
Scope = #{http_version => <<"1.1">>, scheme => <<"ws">>, method => <<"GET">>,
          raw_path => <<"/echo">>, query_string => <<>>, headers => [], client => undefined,
          server => undefined, connect => undefined},
{ok, Handle} = hornbeam_pool_place:reserve(<<"/">>, none, infinity),
Stream = hornbeam_stream:open(Handle, websocket, fun(N) -> hornbeam_wire:open_websocket(N, Scope)
                                                 end),
Number = hornbeam_stream:number(Stream),
receive {stream, Number, _Accept} -> ok end,
hornbeam_stream:bind(Stream),
ok = hornbeam:reload(),
receive {retiring, Number, Reason} -> Reason after 5000 -> nothing end
"""


def test_the_owners_of_sockets_are_told_that_their_worker_retires(serve):
    server = serve("sockets:application", fresh=True)
    assert server.node.eval(OWNER) == "reloaded"
    eventually(lambda: len(server.workers()) == 1)


def test_sockets_that_may_resume_all_move_to_the_new_workers(serve):
    server = serve("resuming:application", fresh=True, workers=2, websocket_resume=True)
    old = set(ready(server))
    sockets = [RawWebSocket(server, "/names") for _ in range(250)]  # more than a batch
    assert all(json.loads(ws.read_message())["pid"] in old for ws in sockets)
    server.node.eval("ok = hornbeam:reload()")
    for ws in sockets:
        told = json.loads(ws.read_message())
        assert told["resume"] == {"attempt": 1, "reason": "reloaded"}
        assert told["pid"] not in old
        ws.frame(TEXT, b"hello")
        assert ws.read_message() == f"{told['pid']} hello".encode()
    eventually(lambda: not any(map(alive, old)))


# What a worker is doing


def test_stacks_say_what_each_handler_waits_for(serve):
    server = serve("sockets:application", fresh=True)
    with RawWebSocket(server, "/echo"):
        answer, stacks = server.node.eval(f"hornbeam:stacks({text('worker-1')})")
        assert answer == "ok"
        (stream,) = stacks["streams"]
        assert (stream["number"], stream["type"], stream["path"]) == (1, "websocket", "/echo")
        assert "in echo" in stream["stack"] and "_wait_for_event" in stream["stack"]
        assert "MainThread" in {thread["name"] for thread in stacks["threads"]}
        assert server.node.eval(f"hornbeam:stacks({text('worker-9')})") == ("error", "no_worker")


def test_info_tells_how_a_worker_is(serve):
    server = serve("failures:application", fresh=True)
    eventually(lambda: isinstance(server.workers()[0]["latency"], int))
    (worker,) = server.workers()
    assert worker["rss"] > MIB
    assert (worker["slow"], worker["restarts"], worker["last_end"]) == (False, 0, "none")
