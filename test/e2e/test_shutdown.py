"""How a server stops: what clients and apps see, the exit status, and that all of it is bounded."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from clients import TEXT, RawHTTP, RawWebSocket, handshake_headers
from h2.errors import ErrorCodes
from harness import APPS, PYTHON, Node, Server, StartError, alive, eventually
from http2 import Http2
from terms import Atom, text

APP = "endings:application"

PATIENT = 60
"""Seconds for a node to be gone whose apps or clients do not help; the options ask for less."""

GOING_AWAY = (1001, "the server stops")


class Ending:
    """A node that serves by its configuration, and what its app has noted."""

    def __init__(self, tmp: Path, **options) -> None:
        self.notes = tmp / "notes"
        self.notes.touch()
        env = {"TRACE": str(self.notes)} | options.pop("env", {})
        given = {
            "app": APP,
            "bind": "127.0.0.1:0",
            "workers": 1,
            "python": PYTHON,
            "pythonpath": [APPS],
            "env": env,
        } | options
        pairs = text([(Atom(key), value) for key, value in given.items()])
        self.node = Node(tmp, hornbeam_config=pairs[1:-1])
        self.server: Server = self.node.running(tls="certfile" in options)

    def noted(self) -> Counter:
        """Count the first words of the notes."""
        return Counter(line.split()[0] for line in self.lines())

    def lines(self) -> list[str]:
        return self.notes.read_text().splitlines()

    def asked(self, target: str, *headers: str) -> RawHTTP:
        """Send a request and wait until the app has noted it."""
        before = self.noted()["asked"]
        http = RawHTTP(self.server)
        http.request("GET", target, *headers)
        eventually(lambda: self.noted()["asked"] > before)
        return http

    def terminate(self) -> None:
        self.node.process.send_signal(signal.SIGTERM)

    def release(self) -> None:
        """Let the app answer what is slow, once nobody is let in any more."""
        with pytest.raises(OSError):
            eventually(lambda: self.server.connect().close())
        self.notes.with_suffix(".released").touch()

    def status(self) -> int:
        """Wait until the node is gone and none of its processes is left."""
        status = self.node.process.wait(PATIENT)
        eventually(lambda: not self.node.python_pids())
        return status


@pytest.fixture
def begin(tmp_path) -> Iterator[Callable[..., Ending]]:
    """Start a node that serves; it is gone after the test."""
    begun: list[Ending] = []

    def begin_one(**options) -> Ending:
        begun.append(Ending(tmp_path, **options))
        return begun[-1]

    yield begin_one
    for ending in begun:
        ending.node.close()


def opened(server: Server, target: str = "/echo") -> tuple[RawWebSocket, int]:
    ws = RawWebSocket(server, target)
    return ws, int(ws.read_message())


def said_goodbye(ws: RawWebSocket) -> tuple[int, str]:
    """Read the close frame and go, as a client does."""
    close = ws.read_close()
    ws.socket.close()
    return close


# In order


def test_at_sigterm_clients_and_apps_are_told_and_the_status_is_0(begin):
    ending = begin(workers=2)
    sockets = [opened(ending.server)[0] for _ in range(6)]
    ending.terminate()
    assert [said_goodbye(ws) for ws in sockets] == [GOING_AWAY] * 6
    assert ending.status() == 0
    assert ending.lines().count("disconnect 1001") == 6
    assert ending.noted()["shutdown"] == 2


def test_clients_by_tls_are_told_too(begin, tls):
    ending = begin(**tls)
    ws, _ = opened(ending.server)
    ending.terminate()
    assert said_goodbye(ws) == GOING_AWAY
    assert ending.status() == 0


def test_stop_does_the_same_and_the_node_stays(begin):
    ending = begin(workers=2)
    ws, _ = opened(ending.server)
    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(ending.node.eval, "hornbeam:stop()")
        assert said_goodbye(ws) == GOING_AWAY
        assert stopped.result() == "ok"
    assert ending.noted() == {"disconnect": 1, "shutdown": 2}
    assert ending.node.eval("hornbeam:info()") == {}
    assert not ending.node.python_pids()


def test_a_request_in_flight_is_answered_and_new_ones_find_the_door_shut(begin):
    ending = begin()
    http = ending.asked("/slow")
    ending.terminate()
    ending.release()
    assert http.response().body == b"slow but whole"
    assert ending.status() == 0


def test_a_thousand_open_sockets_are_all_told(begin):
    with more_files(4096):
        ending = begin(workers=2)
        with ThreadPoolExecutor(16) as pool:
            sockets = list(pool.map(lambda _: opened(ending.server)[0], range(1000)))
            ending.terminate()
            assert Counter(pool.map(said_goodbye, sockets)) == {GOING_AWAY: 1000}
        assert ending.status() == 0
        assert ending.lines().count("disconnect 1001") == 1000


@contextlib.contextmanager
def more_files(number: int) -> Iterator[None]:
    """Let this process and the node that it starts have so many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, number), hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Those who do not help


def test_clients_that_never_answer_the_close_hold_up_neither_others_nor_the_stop(begin):
    ending = begin(shutdown_timeout=3000)
    silent = [opened(ending.server)[0] for _ in range(450)]
    ending.terminate()
    assert {ws.read_close() for ws in silent} == {GOING_AWAY}
    assert ending.status() == 0
    assert ending.lines().count("disconnect 1001") == 450


@pytest.mark.parametrize("kind", ["hornbeam", "cowboy", "tls"])
def test_a_client_that_does_not_read_does_not_hold_up_the_stop(begin, tls, kind):
    options = tls if kind == "tls" else {"http_engine": Atom(kind)}
    ending = begin(shutdown_timeout=500, **options)
    stuck = RawWebSocket(ending.server, "/floods")
    pending = "[C || #{unsent := U} = C <- hornbeam:connections(), U > 0]"
    eventually(lambda: ending.node.eval(pending))
    ending.terminate()
    assert ending.status() == 0
    stuck.socket.close()


def test_a_response_that_nobody_reads_does_not_hold_up_the_stop(begin):
    ending = begin(shutdown_timeout=500)
    stuck = RawHTTP(ending.server)
    stuck.request("GET", "/endless")
    eventually(lambda: ending.node.eval(UNSENT))
    ending.terminate()
    assert ending.status() == 0
    stuck.socket.close()


UNSENT = """
[P || P <- erlang:ports(), erlang:port_info(P, name) =:= {name, "tcp_inet"},
      {ok, [{send_pend, Bytes}]} <- [inet:getstat(P, [send_pend])], Bytes > 0]
"""
"""The sockets of a node with bytes that the other side has not taken."""


def test_what_a_client_leaves_that_was_cut_off_is_dropped(begin):
    ending = begin(websocket_timeout=400, websocket_ping_interval=100)
    stuck = RawWebSocket(ending.server, "/floods")
    eventually(lambda: ending.node.eval(UNSENT))
    eventually(lambda: ending.node.eval("hornbeam:connections()") == [])
    eventually(lambda: not ending.node.eval(UNSENT))
    stuck.socket.close()


def test_a_handler_that_never_ends_is_broken_off_and_killed(begin):
    ending = begin(shutdown_timeout=1000)
    http = RawHTTP(ending.server)
    http.request("GET", "/never")
    assert http.head().status == 200
    ending.terminate()
    assert ending.status() == 0
    assert ending.noted()["cancelled"] > 0


def test_a_request_that_is_not_answered_in_time_gets_a_503(begin):
    ending = begin(shutdown_timeout=500)
    http = ending.asked("/blocks")
    ending.terminate()
    assert http.response().status == 503
    assert ending.status() == 0


@pytest.mark.parametrize("target", ["/blocks", "/echo"])
def test_a_worker_that_does_not_listen_is_killed(begin, target):
    ending = begin(shutdown_timeout=500)
    (pid,) = ending.server.worker_pids()
    ws, _ = opened(ending.server)
    if target == "/blocks":
        ending.asked(target)
    else:
        os.kill(pid, signal.SIGSTOP)
    ending.terminate()
    assert said_goodbye(ws) == GOING_AWAY
    assert ending.status() == 0
    assert not alive(pid)


def test_a_lifespan_that_hangs_at_the_end_is_cut(begin):
    ending = begin(shutdown_timeout=1000, env={"LIFESPAN": "hangs"})
    ending.terminate()
    assert ending.status() == 0
    assert "the lifespan did not shut down within" in ending.node.log
    assert ending.noted()["shutdown"] == 0


def test_a_socket_that_waits_for_a_worker_is_told(begin):
    ending = begin(websocket_resume=True, shutdown_timeout=500)
    ws, _ = opened(ending.server)
    (first,) = ending.server.worker_pids()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: ending.server.worker_pids() not in ([], [first]))
    for starting in ending.server.worker_pids():
        os.kill(starting, signal.SIGSTOP)
    waits = "[ok || #{state := resuming} <- hornbeam:connections()]"
    eventually(lambda: ending.node.eval(waits))
    ending.terminate()
    assert said_goodbye(ws) == GOING_AWAY
    assert ending.status() == 0


def test_a_handshake_that_the_app_leaves_unanswered_gets_a_503(begin):
    ending = begin(shutdown_timeout=500)
    http = ending.asked("/undecided", *handshake_headers())
    ending.terminate()
    assert http.response().status == 503
    assert ending.status() == 0


def test_who_waits_in_line_is_answered_too(begin):
    ending = begin(worker_connections=1)
    first = ending.asked("/slow")
    second = in_line(ending)
    ending.terminate()
    ending.release()
    assert first.response().body == b"slow but whole"
    assert second.response().body == b"slow but whole"
    assert ending.status() == 0


def test_who_waits_in_vain_gets_a_503(begin):
    ending = begin(shutdown_timeout=500, worker_connections=1, queue_timeout=60_000)
    first = ending.asked("/blocks")
    second = in_line(ending)
    ending.terminate()
    assert second.response().status == 503
    assert first.response().status == 503
    assert ending.status() == 0


def in_line(ending: Ending) -> RawHTTP:
    """Send a request for which no worker has room."""
    http = RawHTTP(ending.server)
    http.request("GET", "/slow")
    eventually(lambda: ending.server.info()["waiting"] == 1)
    return http


def test_a_connection_that_is_kept_alive_ends_with_its_response(begin):
    ending = begin()
    http = ending.asked("/slow")
    ending.terminate()
    ending.release()
    response = http.response()
    assert response.all("connection") == ["close"]
    assert http.ended()
    assert ending.status() == 0


def test_a_second_signal_changes_nothing(begin):
    ending = begin()
    http = ending.asked("/slow")
    ending.terminate()
    ending.terminate()
    ending.release()
    assert http.response().body == b"slow but whole"
    assert ending.status() == 0


# Before it: the drain


DRAIN = {"health_path": "/healthz", "drain_delay": 3000}
"""Long enough for what a test does meanwhile on a machine that has much to do."""


def health(server: Server) -> tuple[int, str]:
    with RawHTTP(server) as http:
        http.request("GET", "/healthz")
        response = http.response()
    return response.status, json.loads(response.body)["status"]


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
def test_who_sends_clients_is_told_first_and_all_is_served_meanwhile(begin, engine):
    ending = begin(http_engine=Atom(engine), **DRAIN)
    assert health(ending.server) == (200, "ready")
    ws, _ = opened(ending.server)
    ending.terminate()
    eventually(lambda: health(ending.server) == (503, "draining"))
    late, _ = opened(ending.server)
    for each in (ws, late):
        each.frame(TEXT, b"still there")
        assert each.read_message() == b"still there"
    assert ending.server.info()["health"]["status"] == "draining"
    assert [said_goodbye(each) for each in (ws, late)] == [GOING_AWAY] * 2
    assert ending.status() == 0


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
def test_in_its_second_half_connections_end_with_their_responses(begin, engine):
    ending = begin(http_engine=Atom(engine), **DRAIN)
    http = RawHTTP(ending.server)
    assert asked_for_health(http) == []
    ending.terminate()
    eventually(lambda: asked_for_health(http) == ["close"])
    assert http.ended()
    assert health(ending.server) == (503, "draining")
    assert ending.status() == 0


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
def test_in_its_second_half_clients_of_http2_are_told_to_go_between_requests(begin, engine):
    ending = begin(http_engine=Atom(engine), **DRAIN)
    http = RawHTTP(ending.server)
    with Http2(ending.server) as http2, Http2(ending.server) as open_ended:
        websocket = open_ended.websocket("/echo")
        assert websocket.head()[0] == 200
        ending.terminate()
        eventually(lambda: asked_for_health(http) == ["close"])
        for connection in (http2, open_ended):
            stream = connection.request("GET", "/healthz")
            assert (stream.head()[0], bool(stream.body())) == (503, True)
        http2.wait(lambda: http2.goaway is not None)
        assert http2.goaway == ErrorCodes.NO_ERROR
        assert (open_ended.goaway, websocket.over) == (None, False)
        assert health(ending.server) == (503, "draining")
        assert ending.status() == 0


def asked_for_health(http: RawHTTP) -> list[str]:
    http.request("GET", "/healthz")
    return http.response().all("connection")


def test_drain_returns_at_once_and_stop_waits_for_the_rest(begin):
    ending = begin(**DRAIN)
    assert ending.node.eval("{hornbeam:drain(), hornbeam:drain()}") == ("ok", "ok")
    assert health(ending.server) == (503, "draining")
    assert ending.node.eval("hornbeam:stop()") == "ok"
    assert ending.node.eval("hornbeam:info()") == {}
    assert ending.node.eval("hornbeam:drain()") == ("error", "not_serving")
    assert ending.noted() == {"shutdown": 1}


def test_drain_stops_by_itself(begin):
    ending = begin(drain_delay=100)
    ws, _ = opened(ending.server)
    assert ending.node.eval("hornbeam:drain()") == "ok"
    assert said_goodbye(ws) == GOING_AWAY
    eventually(lambda: ending.node.eval("hornbeam:info()") == {})


def test_a_request_on_a_connection_that_was_idle_is_answered(begin):
    """Whatever moment of the stop it comes in, until the connection is closed."""
    ending = begin()
    first = ending.asked("/slow")
    idle = RawHTTP(ending.server)
    idle.request("GET", "/pid")
    assert idle.response().status == 200
    ending.terminate()
    with pytest.raises(OSError):
        eventually(lambda: ending.server.connect().close())
    idle.request("GET", "/pid")
    response = idle.response()
    assert (response.status, response.all("connection")) == (200, ["close"])
    ending.notes.with_suffix(".released").touch()
    assert first.response().body == b"slow but whole"
    assert ending.status() == 0


# Ranch 1 tells of its listeners in a list, Ranch 2 in a map.
ACCEPTORS = """
    lists:append([ranch:procs(Name, acceptors)
                  || {Name, _} <- case ranch:info() of
                                      Map when is_map(Map) -> maps:to_list(Map);
                                      List -> List
                                  end])
"""

HOLD = f"""
    Self = self(),
    Holder = spawn(fun() ->
        register(holder, self()),
        lists:foreach(fun erlang:suspend_process/1, {ACCEPTORS}),
        Self ! held,
        receive go -> ok end
    end),
    receive held -> ok end
"""

ACCEPTED = f"lists:sum([element(2, process_info(Pid, message_queue_len)) || Pid <- {ACCEPTORS}])"

STOPS_LISTENING = """
    {current_stacktrace, Stack} = process_info(whereis(hornbeam_listener), current_stacktrace),
    [suspend_listener || {hornbeam_transport, suspend_listener, _, _} <- Stack] =/= []
"""


def test_who_was_accepted_just_now_is_served(begin):
    """The process that has accepted him has not handed him on yet."""
    ending = begin()
    assert ending.node.eval(HOLD) == "ok"
    http = RawHTTP(ending.server)
    http.request("GET", "/pid")
    eventually(lambda: ending.node.eval(ACCEPTED) == 1)
    ending.terminate()
    eventually(lambda: ending.node.eval(STOPS_LISTENING))
    assert ending.node.eval("holder ! go, ok") == "ok"
    assert http.response().status == 200
    assert ending.status() == 0


# Its bound


def blocked(ending: Ending) -> list[RawHTTP]:
    return [ending.asked("/blocks")]


def stopped(ending: Ending) -> list[RawHTTP]:
    ws, _ = opened(ending.server)
    os.kill(ending.server.worker_pids()[0], signal.SIGSTOP)
    return [ws]


def unread(ending: Ending) -> list[RawHTTP]:
    http = RawHTTP(ending.server)
    http.request("GET", "/endless")
    stuck = [http, RawWebSocket(ending.server, "/floods")]
    eventually(lambda: len(ending.node.eval(UNSENT)) == 2)
    return stuck


def signalled_twice(ending: Ending) -> list[RawHTTP]:
    http = ending.asked("/slow")
    ending.terminate()
    return [http]


@pytest.mark.parametrize("trouble", [blocked, stopped, unread, signalled_twice])
def test_the_whole_stop_is_bounded_by_its_options(begin, trouble):
    drain, shutdown = 300, 1000
    ending = begin(drain_delay=drain, shutdown_timeout=shutdown)
    clients = trouble(ending)
    began = time.monotonic()
    ending.terminate()
    assert ending.status() == 0
    assert time.monotonic() - began < (drain + 2 * shutdown) / 1000 + 5
    for client in clients:
        client.socket.close()


# During a start


@pytest.fixture
def importing(tmp_path) -> Iterator[tuple[Node, Future[Server]]]:
    """Start an app whose import takes as long as a file is there; the start is under way."""
    (held := tmp_path / "held").touch()
    options = {
        "python": PYTHON,
        "pythonpath": [APPS],
        "env": {"HELD": str(held)},
        "startup_timeout": 3_600_000,
    }
    pairs = text([(Atom(key), value) for key, value in options.items()])
    node = Node(tmp_path, hornbeam_config=pairs[1:-1])
    with ThreadPoolExecutor() as pool:
        start = pool.submit(node.start, 'hornbeam:start("held_import:application")')
        eventually(lambda: node.eval("hornbeam_pool:info()").get("workers"))
        yield node, start
        node.close()


def test_a_stop_ends_a_start_that_is_under_way(importing):
    node, start = importing
    assert node.eval("hornbeam:stop()") == "ok"
    with pytest.raises(StartError, match="start"):
        start.result(PATIENT)
    assert node.eval("hornbeam:info()") == {}
    assert not node.python_pids()


def test_a_signal_ends_a_start_that_is_under_way(importing):
    node, start = importing
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(PATIENT) == 0
    eventually(lambda: not node.python_pids())
    assert start.exception(PATIENT)
