"""The pool's processes crash: it costs no worker, no socket, no request, and nobody in line."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter

import httpx
import pytest
from clients import TEXT, RawHTTP, RawWebSocket, quiet
from harness import DEADLINE, EvalError, StartError, eventually
from terms import Atom, text

APP = "exchanges:application"

POOL = """
Child = fun(Id, Of) -> element(2, lists:keyfind(Id, 1, supervisor:which_children(Of))) end,
Pool = Child({hornbeam_pool_sup, <<"/">>}, hornbeam_server_sup),
Workers = fun() -> Child(hornbeam_pool_workers_sup, Pool) end
"""

SUPERVISORS = {"hornbeam_pool_keeper": "Workers()", "hornbeam_pool_dispatcher": "Pool"}
KEEPER, DISPATCHER = SUPERVISORS

KILL = "exit(Process, kill)"
RUBBISH = "Process ! {worker_failed, self(), rubbish}"
DOWN = "receive {'DOWN', Ref, process, _, _} -> ok end"


@pytest.fixture(params=[KILL, RUBBISH], ids=["killed", "crashed"])
def crash(request):
    """End the keeper and wait for the next one, in both ways that it can end in."""
    return lambda server: crashed(server, KEEPER, request.param)


@pytest.fixture(params=[KEEPER, DISPATCHER])
def crash_one(request):
    """End one of the pool's processes and wait for the next one."""
    return lambda server: crashed(server, request.param)


def crashed(server, name: str, how: str = KILL) -> None:
    before = server.node.eval(
        f"{POOL}, Process = Child({name}, {SUPERVISORS[name]}),"
        f"Ref = monitor(process, Process), {how}, {DOWN}, Process"
    )
    eventually(lambda: process(server, name) not in ("undefined", "restarting", before))


def process(server, name: str) -> str:
    return server.node.eval(f"{POOL}, Child({name}, {SUPERVISORS[name]})")


class Without:
    """A while in which one of the pool's processes is missing: its supervisor stands still."""

    def __init__(self, server, name: str) -> None:
        self.server = server
        self.name = name

    def __enter__(self) -> None:
        self.server.node.eval(
            f"{POOL}, Sup = {SUPERVISORS[self.name]}, Process = Child({self.name}, Sup),"
            f"ok = sys:suspend(Sup), Ref = monitor(process, Process), {KILL}, {DOWN}"
        )

    def __exit__(self, *_: object) -> None:
        self.server.node.eval(f"{POOL}, ok = sys:resume({SUPERVISORS[self.name]})")
        eventually(lambda: process(self.server, self.name).startswith("<"))


def held(server, key: str) -> RawHTTP:
    """Send a request that is answered when its gate is opened; return its connection."""
    connection = RawHTTP(server)
    connection.request("GET", f"/asks_late?{key}")
    return connection


def open_gate(server, key: str, module: str = "gallery") -> None:
    """Let handlers go on in all workers."""
    for worker in ready(server):
        server.node.eval(
            f"{{ok, undefined}} = hornbeam:call({module}, open_gate, [{text(key)}],"
            f"#{{worker => {text(worker['name'])}}})"
        )


def ready(server) -> list[dict]:
    return [worker for worker in server.workers() if worker["state"] == "ready"]


def streams(server) -> int:
    return server.info()["streams"]


def waiting(server) -> int:
    return server.info()["waiting"]


def echoes(ws: RawWebSocket, data: bytes = b"still here") -> bool:
    ws.frame(TEXT, data)
    return ws.read_message() == data


# The workers


def test_its_workers_serve_on(serve, crash, key):
    server = serve(APP, fresh=True, workers=2)
    before = sorted(server.worker_pids())
    with held(server, key) as first, held(server, key) as second:
        eventually(lambda: streams(server) == 2)
        crash(server)
        assert sorted(server.worker_pids()) == before
        assert httpx.get(f"{server.http}/hello").status_code == 200
        open_gate(server, key)
        assert (first.response().status, second.response().status) == (200, 200)
    assert server.info()["restarts"] == 0
    assert server.node.eval("hornbeam:reload()") == "ok"


def test_its_sockets_stay_open(serve, crash):
    server = serve("sockets:application", fresh=True, workers=2)
    sockets = [RawWebSocket(server, "/echo") for _ in range(4)]
    crash(server)
    assert all(map(echoes, sockets))
    assert echoes(RawWebSocket(server, "/echo"))


def test_what_its_places_have_seen_is_known_to_the_next_one(serve, crash):
    server = serve(APP, fresh=True)
    (pid,) = server.worker_pids()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: [worker["restarts"] for worker in ready(server)] == [1])
    before = server.info()
    crash(server)
    after = server.info()
    assert (after["restarts"], after["ended"]) == (before["restarts"], before["ended"])
    assert after["workers"][0]["last_end"] == before["workers"][0]["last_end"]


def test_a_worker_that_ends_afterwards_is_replaced(serve, crash):
    server = serve(APP, fresh=True, workers=2)
    pids = server.worker_pids()
    crash(server)
    os.kill(pids[0], signal.SIGKILL)
    eventually(lambda: len(ready(server)) == 2 and pids[0] not in server.worker_pids())
    assert server.info()["ended"] == {Atom("exited"): 1}


def test_a_worker_that_ended_meanwhile_is_replaced(serve):
    server = serve(APP, fresh=True, workers=2)
    pids = server.worker_pids()
    with Without(server, KEEPER):
        os.kill(pids[0], signal.SIGKILL)
        eventually(lambda: server.worker_pids() == pids[1:])
        assert httpx.get(f"{server.http}/hello").status_code in (200, 502)
        assert httpx.get(f"{server.http}/hello").status_code in (200, 502)
    eventually(lambda: len(ready(server)) == 2)
    assert pids[1] in server.worker_pids()


def test_a_worker_that_became_ready_meanwhile_serves(serve, tmp_path):
    held_file = tmp_path / "held"
    server = serve("held_import:application", fresh=True, env={"HELD": str(held_file)})
    held_file.touch()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    eventually(lambda: [worker["state"] for worker in server.workers()] == ["starting"])
    (pid,) = server.worker_pids()
    with Without(server, KEEPER):
        held_file.unlink()
        eventually(lambda: ready(server))
    assert httpx.get(f"{server.http}/hello").status_code == 200
    assert server.worker_pids() == [pid]


def test_a_worker_that_starts_at_the_crash_serves_when_it_is_ready(serve, crash, tmp_path):
    held_file = tmp_path / "held"
    server = serve("held_import:application", fresh=True, env={"HELD": str(held_file)})
    held_file.touch()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    eventually(lambda: [worker["state"] for worker in server.workers()] == ["starting"])
    (pid,) = server.worker_pids()
    crash(server)
    held_file.unlink()
    assert httpx.get(f"{server.http}/hello").status_code == 200
    assert server.worker_pids() == [pid]


def test_a_place_whose_worker_does_not_start_is_tried_again(serve, crash, tmp_path):
    broken = tmp_path / "broken"
    server = serve("unstable:application", fresh=True, env={"BROKEN": str(broken)})
    failures = server.node.log.count("the import is broken now")
    broken.touch()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    eventually(lambda: server.node.log.count("the import is broken now") > failures)
    crash(server)
    broken.unlink()
    eventually(lambda: ready(server))
    assert httpx.get(f"{server.http}/journal/0?x").status_code == 200


def test_a_worker_that_retires_finishes_what_it_runs(serve, crash, key):
    server = serve(APP, fresh=True)
    (pid,) = server.worker_pids()
    with held(server, key) as old:
        eventually(lambda: streams(server) == 1)
        assert server.node.eval("hornbeam:reload()") == "ok"
        crash(server)
        states = {worker["os_pid"]: worker["state"] for worker in server.workers()}
        assert states.pop(pid) == "retiring"
        assert list(states.values()) == ["ready"]
        assert httpx.get(f"{server.http}/hello").status_code == 200
        name = "[P || {P, _} <- maps:to_list(hornbeam_pool:names()),"
        name += f"{{ok, #{{os_pid := {pid}}}}} <- [hornbeam_worker:describe(P)]]"
        server.node.eval(
            f"[Old] = {name}, {{ok, undefined}} ="
            f"hornbeam:call(gallery, open_gate, [{text(key)}], #{{worker => Old}})"
        )
        assert old.response().status == 200
    eventually(lambda: pid not in server.worker_pids())
    assert len(ready(server)) == 1


def test_who_is_on_a_worker_hears_of_its_death_from_the_next_one(serve, crash, key):
    server = serve(APP, fresh=True)
    with held(server, key) as request:
        eventually(lambda: streams(server) == 1)
        crash(server)
        adopted = "[hornbeam_worker:describe(Pid) || Pid <- Pids]"
        pids = "Pids = maps:keys(hornbeam_pool:names())"
        server.node.eval(f"{pids}, {adopted}, [exit(Pid, kill) || Pid <- Pids]")
        assert request.response().status == 502


def test_the_number_of_workers_survives(serve, crash):
    server = serve(APP, fresh=True, workers=1)
    assert server.node.eval("hornbeam:set_workers(2)") == "ok"
    eventually(lambda: len(ready(server)) == 2)
    crash(server)
    os.kill(server.worker_pids()[1], signal.SIGKILL)
    eventually(lambda: len(ready(server)) == 2)
    server.node.eval(f"{POOL}, exit(Pool, kill)")
    eventually(lambda: len(ready(server)) == 2)
    assert httpx.get(f"{server.http}/hello").status_code == 200


def test_a_stop_forgets_the_number_of_workers(serve, crash):
    server = serve(APP, fresh=True, workers=1)
    assert server.node.eval("hornbeam:set_workers(2)") == "ok"
    crash(server)
    server.stop()
    assert server.node.eval("hornbeam:info()") == {}
    server = serve(APP, fresh=True, workers=1)
    assert len(server.workers()) == 1


# Who waits


def test_who_waits_is_served_in_his_order(serve, crash_one):
    server = serve(APP, fresh=True, worker_connections=1)
    with held(server, "first") as first:
        eventually(lambda: streams(server) == 1)
        with held(server, "second") as second:
            eventually(lambda: waiting(server) == 1)
            with held(server, "third") as third:
                eventually(lambda: waiting(server) == 2)
                crash_one(server)
                assert waiting(server) == 2
                open_gate(server, "first")
                assert first.response().status == 200
                eventually(lambda: waiting(server) == 1)
                assert quiet(third.socket)
                open_gate(server, "second")
                assert second.response().status == 200
                open_gate(server, "third")
                assert third.response().status == 200
    eventually(lambda: streams(server) == 0)


def test_who_came_meanwhile_is_served_and_who_left_is_forgotten(serve):
    server = serve(APP, fresh=True, worker_connections=1, queue_max=2)
    in_line = "ets:info(hornbeam_pool_waiting, size)"
    with held(server, "a") as first, RawHTTP(server) as third:
        eventually(lambda: streams(server) == 1)
        with held(server, "b") as second:
            eventually(lambda: waiting(server) == 1)
            leaves = held(server, "never")
            eventually(lambda: waiting(server) == 2)
            with Without(server, DISPATCHER):
                leaves.socket.close()
                third.request("GET", "/asks_late?b")
                eventually(lambda: server.node.eval(in_line) == 3)
                open_gate(server, "a")
                assert first.response().status == 200
            open_gate(server, "b")
            assert second.response().status == 200
            assert third.response().status == 200
    eventually(lambda: (streams(server), waiting(server)) == (0, 0))
    assert server.node.eval("ets:info(hornbeam_pool_waiting, size)") == 0
    assert server.info()["counters"]["queue_full"] == 0


def test_who_waits_too_long_gets_a_503_and_no_later_for_a_crash(serve, crash_one):
    server = serve(APP, fresh=True, worker_connections=1, queue_timeout=1500)
    with held(server, "a") as first:
        eventually(lambda: streams(server) == 1)
        began = time.monotonic()
        with held(server, "a") as late:
            eventually(lambda: waiting(server) == 1)
            for _ in range(3):
                crash_one(server)
            assert late.response().status == 503
            assert 1.4 < time.monotonic() - began < 2.5
        assert server.info()["counters"]["queue_timeouts"] == 1
        open_gate(server, "a")
        assert first.response().status == 200


def test_a_place_that_was_given_to_one_who_left_meanwhile_is_free_again(serve):
    server = serve(APP, fresh=True, worker_connections=1)
    with Without(server, DISPATCHER):
        server.node.eval(
            "Me = self(), Waiter = spawn(fun() ->"
            'Wait = hornbeam_pool_place:line_up(<<"/">>, none),'
            "hornbeam_pool_place:cancel(Wait), Me ! left, receive stop -> ok end end),"
            "receive left -> true = register(waiter_that_left, Waiter) end"
        )
    assert httpx.get(f"{server.http}/hello").status_code == 200
    assert server.node.eval('hornbeam_pool_waiting:left(<<"/">>)') == []
    server.node.eval("waiter_that_left ! stop, ok")


def test_sockets_that_wait_for_a_worker_go_on_waiting(serve, crash_one, tmp_path):
    broken = tmp_path / "broken"
    server = serve(
        "unstable:application", fresh=True, env={"BROKEN": str(broken)}, websocket_resume=True
    )
    failures = server.node.log.count("the import is broken now")
    sockets = [RawWebSocket(server, "/echo") for _ in range(3)]
    assert all(map(echoes, sockets))
    broken.touch()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    eventually(lambda: server.node.log.count("the import is broken now") > failures)
    eventually(lambda: waiting(server) == 3)
    crash_one(server)
    assert waiting(server) == 3
    broken.unlink()
    assert all(map(echoes, sockets))
    assert server.info()["counters"]["resumes"] == 3


def test_a_socket_that_waits_longer_than_it_may_is_closed(serve, crash_one, tmp_path):
    broken = tmp_path / "broken"
    server = serve(
        "unstable:application",
        fresh=True,
        env={"BROKEN": str(broken)},
        websocket_resume=True,
        websocket_resume_timeout=1500,
    )
    ws = RawWebSocket(server, "/echo")
    assert echoes(ws)
    broken.touch()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    eventually(lambda: waiting(server) == 1)
    crash_one(server)
    assert ws.read_close()[0] == 1012
    eventually(lambda: waiting(server) == 0)


def test_the_crash_of_all_the_pool_costs_no_socket_that_goes_on(serve):
    server = serve("sockets:application", fresh=True, workers=2, websocket_resume=True)
    sockets = [RawWebSocket(server, "/echo") for _ in range(4)]
    assert all(map(echoes, sockets))
    server.node.eval(f"{POOL}, exit(Pool, kill)")
    assert all(map(echoes, sockets))
    server.node.eval(f"{POOL}, exit(Child(hornbeam_worker_sup, Workers()), kill)")
    assert all(map(echoes, sockets))
    eventually(lambda: len(ready(server)) == 2)


# Who wants a change


def asked(server, call: str) -> tuple[threading.Thread, list]:
    """Evaluate a call that takes its time; return its thread and where its value will be."""
    values: list = []

    def ask() -> None:
        try:
            values.append(server.node.eval(call))
        except EvalError as error:
            values.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, values


def test_a_reload_that_it_interrupts_says_so_and_leaves_no_successor(serve, crash, tmp_path):
    held_file = tmp_path / "held"
    server = serve("held_import:application", fresh=True, workers=2, env={"HELD": str(held_file)})
    before = sorted(server.worker_pids())
    held_file.touch()
    thread, values = asked(server, "hornbeam:reload()")
    eventually(lambda: len(server.workers()) == 4)
    crash(server)
    thread.join(DEADLINE)
    assert values == [("error", "interrupted")]
    held_file.unlink()
    eventually(lambda: sorted(server.worker_pids()) == before)
    assert server.node.eval("hornbeam:reload()") == "ok"
    assert not set(before) & {worker["os_pid"] for worker in ready(server)}


def test_a_start_that_it_interrupts_fails_and_leaves_nothing(serve, node, tmp_path):
    held_file = tmp_path / "held"
    held_file.touch()
    failures: list = []

    def start() -> None:
        try:
            serve("held_import:application", fresh=True, env={"HELD": str(held_file)})
        except StartError as error:
            failures.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    eventually(lambda: node.eval("hornbeam_pool:info()").get("workers"))
    node.eval(f"{POOL}, Process = Child({KEEPER}, Workers()), {KILL}")
    thread.join(DEADLINE)
    (failure,) = failures
    assert failure.reason[0] == "worker"
    assert "ended during the start" in failure.sentence
    assert node.eval("hornbeam:info()") == {}
    held_file.unlink()
    assert serve("held_import:application", fresh=True, env={"HELD": str(held_file)}).workers()


# Under load


def test_it_costs_nothing_under_load(serve, crash_one):
    server = serve(APP, fresh=True, workers=2, worker_connections=2)
    answers: Counter = Counter()
    over = threading.Event()

    def visit() -> None:
        while not over.is_set():
            answers[httpx.get(f"{server.http}/hello", timeout=DEADLINE).status_code] += 1

    threads = [threading.Thread(target=visit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        already = sum(answers.values())
        eventually(lambda already=already: sum(answers.values()) > already + 20)
        crash_one(server)
    already = sum(answers.values())
    eventually(lambda: sum(answers.values()) > already + 20)
    over.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert set(answers) == {200}
    eventually(lambda: (streams(server), waiting(server)) == (0, 0))
