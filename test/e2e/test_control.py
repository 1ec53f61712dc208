"""Those who operate a server ask it by the command, beside the app that it serves."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from clients import RawWebSocket, frame, push_until_stuck
from crowds import Crowd
from harness import APPS, DEADLINE, PYTHON, Server, eventually
from operators import COMMAND, hornbeam, is_traced, listed, of, only
from terminals import Terminal
from terms import Atom
from visitors import at, environment, socket_of

CROWD = int(os.environ.get("HORNBEAM_CROWD", "2000"))
"""Open connections among which one is looked for; ten thousand need 4 GB and patience."""


@pytest.fixture
def server(serve) -> Server:
    return serve("sockets:application", workers=1)


# Seeing


def test_status_tells_what_is_served_in_80_columns_without_colours(server):
    told = of(server, "status", "--json").json
    assert told["apps"] == {"/": "sockets:application"}
    assert told["workers"][0]["name"] == "worker-1"
    assert told["os_pid"] > 0 and told["uptime"] >= 0
    shown = of(server, "status")
    assert "worker-1" in shown.out and "sockets:application at /" in shown.out
    assert "\x1b" not in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_a_node_tells_of_its_cluster_also_where_it_is_alone(server):
    told = of(server, "cluster", "--json").json
    assert (told["name"], told["peers"], told["losses"]) == ("hornbeam", [], {})
    assert "no other nodes" in of(server, "cluster").out


def test_a_connection_is_listed_shown_and_kicked(server):
    path = "/echo/" + "lang" * 30
    with RawWebSocket(server, "/echo?" + "x" * 50) as ws:
        number = only(server)
        ws.frame(1, b"hello")
        assert ws.read_message() == b"hello"
        shown = of(server, "connections").out
        assert shown.startswith("1 open, 1 shown")
        assert max(map(len, shown.splitlines())) <= 80
        one = of(server, "connection", number, "--json").json
        assert (one["path"], one["messages_in"], one["bytes_out"]) == ("/echo", 1, 5)
        assert "/echo" in of(server, "connection", number).out
        assert listed(server, "--path", path) == []
        assert len(listed(server, "--path", "/ec*")) == 1
        assert of(server, "kick", number, "--code", 4000, "--reason", "für dich").status == 0
        assert ws.read_close() == (4000, "für dich")
    assert eventually(lambda: listed(server) == [])


def test_what_cannot_be_done_is_said_with_a_status(server):
    for words, sentence in {
        ("connection", 1): "there is no open connection 1",
        ("kick", 1): "there is no open connection 1",
        ("trace", 1): "there is no open connection 1",
        ("kick", 1, "--code", 7): "7 is no code to close with",
        ("workers", 0): "expected a positive integer",
        ("workers", 10**9): "expected a positive integer, at most 1000",
        ("reload", "/nowhere"): "no app is being served",
        ("stacks", "worker-7"): "there is no worker worker-7",
    }.items():
        refused = of(server, *words)
        assert (refused.status, refused.out) == (1, ""), words
        assert refused.err.startswith("hornbeam: ") and sentence in refused.err
    for words in (
        ("kick",),
        ("connections", "--top", "gold"),
        ("status", "now"),
        ("log-level", "x"),
    ):
        assert of(server, *words).status == 2, words


def test_stacks_tell_where_a_handler_waits(server):
    with RawWebSocket(server, "/echo"):
        only(server)
        assert "in echo" in of(server, "stacks", "worker-1").out
        (worker,) = of(server, "stacks", "--json").json
        assert [stream["path"] for stream in worker["streams"]] == ["/echo"]


def test_stacks_of_a_worker_that_stands_still_say_so(serve):
    server = serve("sockets:application", workers=1, fresh=True)
    (pid,) = server.worker_pids()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert "does not answer: timeout" in of(server, "stacks").out
    finally:
        os.kill(pid, signal.SIGCONT)


# Telling


def test_workers_and_code_are_changed_while_it_serves(serve):
    server = serve("sockets:application", workers=1, fresh=True)
    before = server.worker_pids()
    assert of(server, "workers", 2).status == 0
    assert of(server, "workers", 2, "/nowhere").status == 1
    eventually(lambda: len(server.worker_pids()) == 2)
    assert of(server, "reload").status == 0
    eventually(lambda: not {*before} & {*server.worker_pids()})


def test_an_app_at_a_path_is_meant_by_it(own_node):
    server = own_node.start(
        'hornbeam:start(#{mounts => [#{path => "/a", app => "sockets:application"}, '
        '#{path => "/b", app => "failures:application"}], workers => 1, bind => "127.0.0.1:0", '
        f'pythonpath => ["{APPS}"], python => "{PYTHON}"}})'
    )
    several = of(server, "workers", 2)
    assert (several.status, "several apps" in several.err) == (1, True)
    assert of(server, "workers", 2, "/b").status == 0
    assert len(server.worker_pids()) == 3
    assert of(server, "reload", "/a").status == 0


def test_a_drain_is_seen_while_all_is_served(own_node):
    server = own_node.serve("sockets:application", workers=1, drain_delay=60_000)
    with RawWebSocket(server, "/echo") as ws:
        assert of(server, "drain").status == 0
        assert of(server, "status", "--json").json["health"]["status"] == "draining"
        assert "draining" in of(server, "status").out
        ws.frame(1, b"still here")
        assert ws.read_message() == b"still here"


def test_the_level_of_the_log_is_changed(serve):
    server = serve("sockets:application", workers=1, fresh=True)
    level = "maps:get(level, logger:get_primary_config())"
    before = server.node.eval(level)
    assert of(server, "log-level", "error").status == 0
    assert server.node.eval(level) == "error"
    assert of(server, "log-level", before).status == 0


# Which server


def test_the_server_is_found_by_its_folder_its_variable_or_its_process(server, tmp_path):
    pid = of(server, "status", "--json").json["os_pid"]
    for found in (
        hornbeam("status", env=at(server)),
        hornbeam("status", "--socket", pid, env=environment()),
        hornbeam("status", env=environment(), cwd=APPS),
    ):
        assert found.status in (0, 3), found.err
        assert found.status == 0 or "several servers" in found.err, found.err
    assert hornbeam("status", "--socket", pid, env=environment()).status == 0


def test_no_server_is_a_sentence_and_a_status(server, tmp_path):
    for words, sentence in {
        (): "HORNBEAM_SOCKET is off",
        ("--socket", tmp_path / "none"): "no server answers at",
        ("--socket", 999_999_999): "has the process id 999999999",
    }.items():
        none = hornbeam("status", *words)
        assert (none.status, none.out) == (3, "")
        assert sentence in none.err


def test_a_server_that_does_not_answer_is_waited_for_only_so_long(tmp_path):
    """One that listens, and one that lets in and then says nothing."""
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        deaf.listen()
        began = time.monotonic()
        assert hornbeam("status", "--socket", tmp_path / "deaf").status == 3
        assert time.monotonic() - began < DEADLINE


def test_a_server_that_stands_still_is_waited_for_only_so_long(server):
    path, pid = socket_of(server), of(server, "status", "--json").json["os_pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        late = hornbeam("status", "--socket", path)
        assert late.status == 3
        assert "timed out" in late.err
    finally:
        os.kill(pid, signal.SIGCONT)


# Finding the one among thousands


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, CROWD + 1000), hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
async def test_the_hot_and_the_stuck_one_are_found_among_thousands(many_files, serve, engine):
    """Each by one question, whose answer the command waits for as long as for any."""
    server = serve("sockets:application", workers=1, fresh=True, http_engine=Atom(engine))
    crowd = Crowd(server.host, server.port, "/echo", period=3600)
    await crowd.open(CROWD)
    try:
        with RawWebSocket(server, "/echo?hot") as hot, RawWebSocket(server, "/echo?stuck") as stuck:
            await asyncio.to_thread(make_stuck, stuck)
            heat = asyncio.create_task(asyncio.to_thread(keep_hot, hot, stop := [False]))
            sent = await asyncio.to_thread(top, server, "sent", "--during", 1)
            queue = await asyncio.to_thread(top, server, "queue")
            stop[0] = True
            await heat
            assert sent["open"] >= CROWD + 2 - sent["busy"]
            assert sent["connections"][0]["peer"][1] == hot.socket.getsockname()[1]
            assert queue["connections"][0]["peer"][1] == stuck.socket.getsockname()[1]
            assert queue["connections"][0]["unsent"] > 0

    finally:
        await crowd.leave()


def top(server: Server, by: str, *words: object) -> Any:
    return of(server, "connections", "--top", by, "-n", 3, "--json", *words).json


def make_stuck(ws: RawWebSocket) -> None:
    """Send, and read nothing of what comes back, until nothing more is taken."""
    push_until_stuck(ws.socket, frame(2, bytes(60_000)), 256 << 20)


def keep_hot(ws: RawWebSocket, stop: list[bool]) -> None:
    while not stop[0]:
        for _ in range(20):
            ws.frame(1, b"x" * 1000)
        for _ in range(20):
            ws.read_message()


# Live


def test_top_shows_the_server_until_a_key_ends_it(server):
    with RawWebSocket(server, "/echo"):
        only(server)
        terminal = Terminal([*COMMAND, "top", "--every", "0.2", "--socket", socket_of(server)],
                            {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"})  # fmt: skip
        try:
            terminal.shows(b"worker-1")
            terminal.shows(b"/echo")
            terminal.shows(b"by sent")
            terminal.types(b"q")
            terminal.shows(b"by queue")
            terminal.types(b"Q")
            assert terminal.status() == 0
        finally:
            terminal.close()


def test_top_needs_a_terminal(server):
    assert "for a terminal" in of(server, "top").err
    assert of(server, "top").status == 2


def test_doctor_reports_with_and_without_a_server(server):
    alone = hornbeam("doctor")
    assert alone.status == 0
    assert "No server is in this report" in alone.out and "hornbeam-erlang" in alone.out
    report = of(server, "doctor", "--json").json
    assert report["server"]["mounts"]["/"]["app"] == "sockets:application"
    assert report["server"]["versions"]["cowboy"]
    assert report["server"]["mounts"]["/"]["env"] == "hidden"
    assert report["no_server"] is None
    assert "## Recent errors" in of(server, "doctor").out


def test_an_app_is_served_though_a_word_is_the_name_of_its_module(tmp_path):
    (tmp_path / "status.py").write_text("raise SystemExit('imported')\n")
    refused = hornbeam("status:app", "--check-config", cwd=tmp_path)
    assert "status:app" in refused.err and refused.status == 0
    assert hornbeam("--workers", "1", "status", cwd=tmp_path).status == 2


def test_a_server_that_ends_meanwhile_is_told_of(own_node):
    server = own_node.serve("sockets:application", workers=1)
    with RawWebSocket(server, "/echo"):
        number = only(server)
        trace = subprocess.Popen(
            [*COMMAND, "trace", str(number), "--socket", socket_of(server)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=environment(),
        )
        eventually(lambda: is_traced(server))
        own_node.kill()
        _, said = trace.communicate(timeout=DEADLINE)
        assert trace.returncode == 3
        assert "is not there any more" in said


def test_those_that_look_cost_the_server_nothing_when_they_are_gone(serve):
    """Those that are killed in the middle of it leave no process and no trace."""
    server = serve("sockets:application", workers=1, fresh=True)
    with RawWebSocket(server, "/echo") as ws:
        number = only(server)
        before = server.node.eval("length(processes())")
        for _ in range(5):
            looking = [
                subprocess.Popen(
                    [*COMMAND, *words, "--socket", socket_of(server)],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment(),
                )
                for words in (["trace", str(number)], ["connections", "--during", "60"])
            ]
            eventually(lambda: server.node.eval("hornbeam_visitor_sup:count()") == 2)
            for process in looking:
                process.kill()
                process.wait()
            eventually(lambda: server.node.eval("hornbeam_visitor_sup:count()") == 0)
        eventually(lambda: server.node.eval("length(processes())") <= before)
        ws.frame(1, b"still here")
        assert ws.read_message() == b"still here"
