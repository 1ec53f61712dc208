"""What is secret stands in no log, whatever crashes and whoever reports it."""

from __future__ import annotations

import pytest
from clients import RawWebSocket
from harness import EvalError, Server, eventually

SECRET = "a-secret-of-the-app"

FIND = """
Of = fun(Id, Sup) ->
    hd([Pid || {Child, Pid, _, _} <- supervisor:which_children(Sup),
               is_pid(Pid), Id =:= any orelse Id =:= Child])
end,
Pool = Of({hornbeam_pool_sup, <<"/">>}, hornbeam_server_sup),
Workers = Of(hornbeam_pool_workers_sup, Pool),
"""

PROCESSES = {
    "worker": "Of(any, Of(hornbeam_worker_sup, Workers))",
    "pool keeper": "Of(hornbeam_pool_keeper, Workers)",
    "pool dispatcher": "Of(hornbeam_pool_dispatcher, Pool)",
    "workers' supervisor": "Workers",
    "pool supervisor": "Pool",
    "listener": "Of(hornbeam_listener, hornbeam_server_sup)",
}

CRASH = """
Pid = PROCESS,
Ref = monitor(process, Pid),
Pid ! {'$gen_call', {self(), make_ref()}, no_such_call},
receive {'DOWN', Ref, _, _, _} -> ok end
"""

SETTLED = """
_ = supervisor:count_children(Of(hornbeam_worker_sup, Workers)),
ok =:= hornbeam_pool:await_ready(<<"/">>)
"""
"""Supervisors have reported what they say before they answer again."""


@pytest.fixture
def server(serve) -> Server:
    return serve("sockets:application", workers=1, fresh=True, env={"A_SECRET": SECRET})


def settled(server: Server) -> bool:
    try:
        return server.node.eval(FIND + SETTLED)
    except EvalError:
        return False


@pytest.mark.parametrize("process", PROCESSES)
def test_a_crash_prints_no_secret(server, process):
    ws = RawWebSocket(server, "/echo", f"Cookie: session={SECRET}")
    crashes = server.node.log.count("no_such_call")
    server.node.eval(FIND + CRASH.replace("PROCESS", PROCESSES[process]))
    eventually(lambda: server.node.log.count("no_such_call") > crashes)
    eventually(lambda: settled(server))
    ws.socket.close()
    bytes_of_it = ",".join(map(str, SECRET.encode()))
    assert SECRET not in server.node.log
    assert bytes_of_it not in server.node.log
