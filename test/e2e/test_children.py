"""The processes that an app starts end with their worker, whatever ends it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from clients import TEXT, RawWebSocket
from harness import alive, eventually, kill_quietly

APP = "families:application"


def family(server, target: str) -> tuple[RawWebSocket, int, list[int]]:
    """Have a worker start children; return the socket, the worker and the children."""
    ws = RawWebSocket(server, target)
    worker, *children = map(int, ws.read_message().split())
    assert children
    assert all(map(alive, children))
    return ws, worker, children


def is_killed(server, ws, worker: int) -> None:
    os.kill(worker, signal.SIGKILL)


def exits(server, ws, worker: int) -> None:
    ws.frame(TEXT, b"exit")


def is_stopped(server, ws, worker: int) -> None:
    server.stop()


def hangs(server, ws, worker: int) -> None:
    os.kill(worker, signal.SIGSTOP)


def is_reloaded(server, ws, worker: int) -> None:
    assert server.node.eval("hornbeam:reload()") == "ok"


def loses_its_process(server, ws, worker: int) -> None:
    server.node.eval("[exit(Pid, kill) || Pid <- maps:keys(hornbeam_pool:names())]")


def loses_its_node(server, ws, worker: int) -> None:
    server.node.kill()


ENDS = [is_killed, exits, is_stopped, hangs, is_reloaded, loses_its_process, loses_its_node]


@pytest.fixture
def own_server(own_node):
    return own_node.serve(APP, worker_hang_timeout=1000, drain_timeout=100, shutdown_timeout=2000)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("target", ["/executor", "/stubborn"])
def test_children_end_with_their_worker_when_it(own_server, target, end):
    ws, worker, children = family(own_server, target)
    end(own_server, ws, worker)
    eventually(lambda: not any(map(alive, [worker, *children])), 10)


def test_a_child_with_a_session_of_its_own_lives_on(own_server):
    ws, worker, (child,) = family(own_server, "/daemon")
    try:
        end_with_another(own_server, ws, worker)
        assert alive(child)
    finally:
        kill_quietly(child)


def end_with_another(server, ws, worker: int) -> None:
    """End a worker, and wait until what is killed with it is dead."""
    _, _, others = family(server, "/stubborn")
    is_killed(server, ws, worker)
    eventually(lambda: not any(map(alive, others)))


def test_a_worker_and_its_children_are_no_part_of_the_nodes_group(own_server):
    _, worker, children = family(own_server, "/stubborn")
    groups = {os.getpgid(pid) for pid in [worker, *children]}
    assert groups == {worker}
    assert os.getpgid(own_server.node.process.pid) != worker


def reapers(node) -> list[int]:
    """Find the processes that end groups, of a node."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and is_reaper(entry, node)
    ]


def is_reaper(entry: Path, node) -> bool:
    try:
        return (
            b"hornbeam-reaper" in (entry / "cmdline").read_bytes()
            and node.marker.encode() in (entry / "environ").read_bytes()
        )
    except OSError:
        return False


def test_who_ends_a_workers_group_is_replaced_when_it_is_killed(own_server):
    ws, worker, children = family(own_server, "/stubborn")
    (reaper,) = reapers(own_server.node)
    os.kill(reaper, signal.SIGKILL)
    eventually(lambda: reapers(own_server.node) not in ([], [reaper]))
    assert own_server.worker_pids() == [worker]
    is_killed(own_server, ws, worker)
    eventually(lambda: not any(map(alive, children)))


def test_no_reaper_is_left_of_a_worker_that_has_ended(own_server):
    for _ in range(3):
        assert own_server.node.eval("hornbeam:reload()") == "ok"
    eventually(lambda: len(reapers(own_server.node)) == 1)
    own_server.stop()
    eventually(lambda: not reapers(own_server.node))
