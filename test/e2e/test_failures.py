"""What breaks, how it looks from outside, and that the rest goes on."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import httpx
import pytest
from clients import PING, PONG, TEXT, RawWebSocket, quiet
from harness import APPS, PYTHON, alive, eventually, kill_quietly
from terms import text

TWO = {"workers": 2, "fresh": True}


@pytest.fixture
def server(serve):
    """Two workers that nobody else has touched."""
    return serve("failures:application", **TWO)


def elsewhere(server, pid: int) -> RawWebSocket:
    """Open an echo in another worker than `pid`."""
    ws, _ = opened_on(server, "/who", lambda other: other != pid)
    return ws


def opened_on(server, target: str, wanted) -> tuple[RawWebSocket, int]:
    """Open WebSockets until one is in a worker that is wanted; return it and the worker."""
    others = []
    try:
        while len(others) < 50:
            ws = RawWebSocket(server, target)
            pid = int(ws.read_message())
            if wanted(pid):
                return ws, pid
            others.append(ws)
    finally:
        for other in others:
            other.socket.close()
    raise AssertionError(f"no such worker among those of {len(others)} sockets")


def opened(server, target: str) -> tuple[RawWebSocket, int]:
    """Open a WebSocket; return it and the worker that it is in."""
    return opened_on(server, target, lambda _pid: True)


def echoes(ws: RawWebSocket, text: bytes = b"still here") -> bool:
    ws.frame(TEXT, text)
    return ws.read_message() == text


def replaced(server, pid: int) -> bool:
    """Wait until two workers are ready again and one of them serves a new socket."""
    eventually(
        lambda: (
            pid not in server.worker_pids()
            and [worker["state"] for worker in server.workers()] == ["ready", "ready"]
        )
    )
    return all(echoes(elsewhere(server, other)) for other in server.worker_pids())


# A worker dies


def test_a_killed_worker_takes_only_its_own_sockets_and_is_replaced(server):
    ws, pid = opened(server, "/who")
    other = elsewhere(server, pid)
    os.kill(pid, signal.SIGKILL)
    assert ws.read_close()[0] == 1012
    assert ws.ended()
    assert echoes(other)
    assert replaced(server, pid)
    assert echoes(other)


def test_a_handler_that_exits_takes_only_its_workers_sockets(server):
    ws, pid = opened(server, "/exits")
    other = elsewhere(server, pid)
    ws.frame(TEXT, b"now")
    assert ws.read_close()[0] == 1012
    assert echoes(other)
    assert replaced(server, pid)


@pytest.mark.parametrize(
    "rubbish",
    [
        pytest.param(b"\xff" * 64, id="a length beyond the limit"),
        pytest.param(b"\0\0\0\x03\xc1\xc1\xc1", id="not msgpack"),
        pytest.param(b"\0\0\0\x03\x92\x63\x00", id="an unknown code"),
        pytest.param(b"\0\0\0\x01\x01", id="not an array"),
        pytest.param(b"\0\0\0\x04\x93\x27\x01\xc0", id="a field of another type"),
        pytest.param(b"\0\0\0\0", id="nothing"),
        pytest.param(b"\0\0\0\x04\x92\x22\x00\x80", id="ready again"),
        pytest.param(b"\0\0\0\x04\x93\x10\x00\x7f", id="a heartbeat that nobody asked for"),
    ],
)
def test_rubbish_on_the_wire_costs_the_worker_and_nothing_else(server, rubbish):
    ws, pid = opened(server, "/rubbish")
    other = elsewhere(server, pid)
    ws.frame(TEXT, rubbish.hex().encode())
    assert ws.read_close()[0] in (1011, 1012)
    eventually(lambda: not alive(pid))
    server.node.wait_log(r"\[error\].*worker_broke_the_wire")
    assert echoes(other)
    assert replaced(server, pid)


def test_a_worker_that_closes_its_wire_is_replaced(server):
    ws, pid = opened(server, "/closes_the_wire")
    other = elsewhere(server, pid)
    ws.frame(TEXT, b"now")
    assert ws.read_close()[0] == 1012
    assert echoes(other)
    assert replaced(server, pid)


@pytest.mark.parametrize("how", [b"fork", b"exec"])
def test_a_grandchild_does_not_delay_the_news_of_the_death(server, how):
    ws, pid = opened(server, "/forks")
    other = elsewhere(server, pid)
    ws.frame(TEXT, how)
    grandchild = int(ws.read_message())
    try:
        ws.frame(TEXT, b"die")
        assert ws.read_close()[0] == 1012
        assert how == b"fork" or alive(grandchild)
        assert echoes(other)
        assert replaced(server, pid)
    finally:
        kill_quietly(grandchild)


def test_a_worker_that_cannot_come_back_leaves_the_others_alone_until_it_can(serve, tmp_path):
    broken = tmp_path / "broken"
    server = serve("unstable:application", env={"BROKEN": str(broken)}, **TWO)
    _, pid = opened(server, "/who")
    other = elsewhere(server, pid)
    broken.touch()
    os.kill(pid, signal.SIGKILL)
    server.node.wait_log(r"the import is broken now")
    assert echoes(other)
    assert echoes(elsewhere(server, 0))
    broken.unlink()
    assert replaced(server, pid)


def test_with_no_worker_left_requests_get_a_503_until_one_is_back(serve, tmp_path):
    broken = tmp_path / "broken"
    server = serve(
        "unstable:application", fresh=True, env={"BROKEN": str(broken)}, queue_timeout=100
    )
    (pid,) = server.worker_pids()
    failures = server.node.log.count("the import is broken now")
    broken.touch()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: server.node.log.count("the import is broken now") > failures)
    assert httpx.get(server.http).status_code == 503
    broken.unlink()
    eventually(lambda: httpx.get(f"{server.http}/journal/0?x").status_code == 200)


def test_a_worker_that_is_stopped_while_it_starts_is_no_error(server):
    before = server.node.log.count("[error]")
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    eventually(lambda: {worker["state"] for worker in server.workers()} == {"ready", "starting"})
    server.stop()
    assert server.node.log.count("[error]") == before


# A worker hangs


def test_a_handler_that_blocks_does_not_block_other_workers_nor_any_ping(server):
    blocked, pid = opened(server, "/blocks")
    other = elsewhere(server, pid)
    blocked.frame(TEXT, b"5")
    trips = 0
    while True:
        blocked.frame(PING, b"alive?")
        opcode, payload = blocked.read()
        if payload == b"awake":
            break
        if payload == b"sleeping":
            opcode, payload = blocked.read()
        assert (opcode, payload) == (PONG, b"alive?")
        other.frame(PING, b"you too?")
        assert other.read() == (PONG, b"you too?")
        assert echoes(other)
        trips += 1
    assert trips > 100


def test_a_new_socket_goes_to_the_worker_that_is_not_blocked(server):
    blocked, pid = opened(server, "/blocks")
    blocked.frame(TEXT, b"3")
    assert blocked.read_message() == b"sleeping"
    ws, other = opened(server, "/who")
    assert other != pid
    assert echoes(ws)
    assert quiet(blocked.socket)
    assert blocked.read_message() == b"awake"


@pytest.mark.parametrize("handler", ["blocks", "spins", "holds_the_gil", "swallows_cancellation"])
def test_a_worker_that_does_not_end_is_killed_at_the_stop(serve, handler):
    server = serve("failures:application", fresh=True, shutdown_timeout=500)
    ws, pid = opened(server, f"/{handler}")
    ws.frame(TEXT, b"3600")
    server.stop()
    eventually(lambda: not alive(pid))
    assert ws.read_close()[0] == 1001


# The node dies


def test_no_python_survives_a_node_that_was_killed(own_node):
    server = own_node.serve("failures:application", workers=4)
    sockets = {}
    for handler in ("spins", "holds_the_gil", "blocks", "echo"):
        if handler == "echo":
            sockets[handler] = elsewhere(server, 0), 0
            continue
        taken = {pid for _, pid in sockets.values()}
        ws, pid = opened_on(server, f"/{handler}", lambda pid, taken=taken: pid not in taken)
        ws.frame(TEXT, b"3600")
        sockets[handler] = ws, pid
    pids = server.worker_pids()
    eventually(lambda: all(map(busy, [sockets["spins"][1], sockets["holds_the_gil"][1]])))
    assert len(pids) == 4
    own_node.kill()
    eventually(lambda: not any(map(alive, pids)))
    eventually(lambda: not own_node.python_pids())


def busy(pid: int) -> bool:
    """Say whether a process has spent half a second of processor time since it started."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK") > 0.5


def test_no_python_survives_a_node_that_ends(own_node):
    server = own_node.serve("failures:application", workers=2)
    ws, _ = opened(server, "/who")
    assert echoes(ws)
    pids = server.worker_pids()
    own_node.process.terminate()
    own_node.process.wait(30)
    eventually(lambda: not any(map(alive, pids)))


# Leaks


CYCLES = """
Options = #{{bind => "127.0.0.1:0", workers => 1, python => {python}, pythonpath => [{apps}]}},
[begin
     ok = hornbeam:start("failures:application", Options),
     ok = hornbeam:stop()
 end || _ <- lists:seq(1, {count})],
ok
"""

COUNTS = """
#{processes => length(erlang:processes()), ports => length(erlang:ports()),
  tables => length(ets:all()), atoms => erlang:system_info(atom_count),
  persistent_terms => maps:get(count, persistent_term:info()),
  fds => length(element(2, file:list_dir("/proc/self/fd")))}
"""


# What only a slow cycle gets to run is loaded then, atoms and all, and is no leak.
LOAD_ALL = """
[{module, _} = code:ensure_loaded(Module)
 || App <- [kernel, stdlib, ranch, cowlib, cowboy, hornbeam],
    ok <- [case application:load(App) of {error, {already_loaded, _}} -> ok; Done -> Done end],
    {ok, Modules} <- [application:get_key(App, modules)], Module <- Modules],
ok
"""


def test_a_hundred_starts_and_stops_leave_nothing_behind(own_node):
    assert own_node.eval(LOAD_ALL) == "ok"

    def cycle(count):
        loop = CYCLES.format(count=count, python=text(PYTHON), apps=text(APPS))
        assert own_node.eval(loop, deadline=120) == "ok"
        return eventually_settled(lambda: own_node.eval(COUNTS))

    warm = cycle(3)
    after = cycle(100)
    assert after == warm or eventually(lambda: own_node.eval(COUNTS) == warm)
    assert not own_node.python_pids()


def test_sockets_that_come_and_go_leave_nothing_behind(server):
    counts = "[length(erlang:processes()), length(erlang:ports()), length(ets:all())]"

    def come_and_go(number):
        sockets = [RawWebSocket(server, "/echo") for _ in range(number)]
        assert all(map(echoes, sockets))
        for ws in sockets:
            ws.socket.close()
        eventually(lambda: server.info()["streams"] == 0)

    come_and_go(20)
    before = eventually_settled(lambda: server.node.eval(counts))
    come_and_go(100)
    eventually(lambda: server.node.eval(counts) == before)


def eventually_settled(value):
    """Read a value until it is twice the same."""
    seen = [value()]

    def settled():
        seen.append(value())
        return seen[-1] == seen[-2]

    eventually(settled)
    return seen[-1]


# What the app says


def test_what_the_app_prints_and_logs_is_in_the_log_with_worker_and_level(server):
    assert httpx.get(f"{server.http}/says_things").text == "said"
    (one, two) = [worker["name"] for worker in server.workers()]
    worker = f"({one}|{two})"
    for line in (
        r"\[notice\] %s .*: printed to stdout",
        r"\[(warning|error)\] %s .*: printed to stderr",
        r"\[notice\] %s .*: two",
        r"\[notice\] %s .*: lines",
        r"\[notice\] %s .*: surrogate .* and snowman (☃|.x\{2603\})",
        r"\[info\] %s uvicorn\.error: logged as info",
        r"\[warning\] %s shop\.orders: logged as warning",
        r"\[error\] %s shop\.orders: logged as error",
        r"\[critical\] %s shop\.orders: logged as critical",
        r"\[error\] %s shop\.orders: logged with traceback.*Traceback.*KeyError: 'handled badly'",
        r"\[warning\] %s stderr: .*UserWarning: old ways",
        r"\[error\] %s .*Traceback.*LookupError: in a thread",
    ):
        server.node.wait_log(line % worker)


def test_a_traceback_of_a_handler_is_in_the_log(server):
    assert httpx.get(f"{server.http}/raises").status_code == 500
    server.node.wait_log(r"\[error\] .*Traceback.*LookupError: in a handler")


FORGED = (
    "%0a=ERROR%20REPORT====%201-Jan-2030::00:00:00%20===%0d%0aforged%20%1b[31mred%c2%9b%e2%80%a8"
)


def test_what_a_client_sent_is_no_line_of_the_log_and_does_not_reach_the_terminal(own_node):
    lines = "logger:update_formatter_config(default, #{single_line => false})"
    assert own_node.eval(lines) == "ok"
    server = own_node.serve("failures:application")
    assert httpx.get(f"{server.http}/forges/{FORGED}").status_code == 500
    for event in (
        r"stdout: /forges/",
        r"shop\.orders: told /forges/\n    =ERROR",
        r"exception in thread /forges/\n    =ERROR",
        r"LookupError: /forges/\n    =ERROR",
        r"hornbeam\.app: http /forges/\\n=ERROR REPORT==== .*forged \\x1b\[31mred.* failed\n",
    ):
        own_node.wait_log(event)
    assert not re.search(r"^(=ERROR|forged)", own_node.log, re.MULTILINE)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028]", own_node.log)


def test_a_traceback_of_a_websockets_handler_is_in_the_log(server):
    ws, _ = opened(server, "/raises")
    ws.frame(TEXT, b"now")
    assert ws.read_close()[0] == 1011
    server.node.wait_log(r"\[error\] .*Traceback.*LookupError: in a handler")


def left(serve, handler: str):
    """Open a WebSocket, let its handler go on, and leave; return the server once that has ended."""
    server = serve("failures:application", fresh=True)
    with RawWebSocket(server, f"/{handler}") as ws:
        ws.read_message()
        ws.frame(TEXT, b"now")
        if "flood" in handler:
            ws.read_message()
    eventually(lambda: server.info()["streams"] == 0)
    return server


def test_a_group_of_tasks_that_send_to_a_client_that_left_is_no_error(serve):
    server = left(serve, "floods_in_a_group")
    assert echoes(elsewhere(server, 0))
    assert "failed, + Exception" not in server.node.log


def test_what_else_failed_in_such_a_group_is_in_the_log(serve):
    left(serve, "fails_in_a_group").node.wait_log(r"ExceptionGroup.*LookupError: beside a flood")


def test_an_exception_that_is_its_own_cause_is_in_the_log(serve):
    server = left(serve, "raises_in_a_circle")
    server.node.wait_log(r"Traceback.*LookupError: in a circle")
    assert echoes(elsewhere(server, 0))


def test_tracebacks_of_tasks_and_callbacks_are_in_the_log(server):
    assert httpx.get(f"{server.http}/leaves_a_task").text == "left"
    server.node.wait_log(r"\[error\] .*Traceback.*LookupError: in a task")
    server.node.wait_log(r"\[error\] .*Traceback.*LookupError: in a callback")


def test_native_writes_to_the_standard_descriptors_do_no_harm(server):
    ws, pid = opened(server, "/writes_natively")
    ws.frame(TEXT, b"now")
    assert ws.read_message() == b"written"
    assert pid in server.worker_pids()
    assert echoes(elsewhere(server, 0))


def test_an_app_that_prints_much_neither_hangs_nor_fills_the_node(server):
    assert httpx.get(f"{server.http}/prints_much", timeout=30).text == "printed"
    assert server.node.eval("erlang:memory(total)") < 200 * 1024 * 1024
    assert echoes(elsewhere(server, 0))


def test_standard_input_is_empty(server):
    assert httpx.get(f"{server.http}/reads_stdin", timeout=10).text == "''"
