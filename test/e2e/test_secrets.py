"""What is secret stands in no log, whatever crashes and whoever reports it."""

from __future__ import annotations

import pytest
from clients import RawHTTP, RawWebSocket
from harness import EvalError, Server, eventually
from operators import of
from terms import Atom

SECRET = "a-secret-of-the-app"

CREDENTIALS = (
    f"Cookie: session={SECRET}",
    f"Authorization: Bearer {SECRET}",
    f"X-Api-Key: {SECRET}",
)

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
    ws = RawWebSocket(server, "/echo", *CREDENTIALS)
    crashes = server.node.log.count("no_such_call")
    server.node.eval(FIND + CRASH.replace("PROCESS", PROCESSES[process]))
    eventually(lambda: server.node.log.count("no_such_call") > crashes)
    eventually(lambda: settled(server))
    ws.socket.close()
    assert_nothing_is_told(server)


def assert_nothing_is_told(server: Server) -> None:
    """The whole log, what the doctor reports, and what the states of all processes look like."""
    states = server.node.eval(STATES)
    for told in (server.node.log, of(server, "doctor", "--json").out, states):
        assert SECRET not in told
        assert ",".join(map(str, SECRET.encode())) not in told
        assert SECRET.encode().hex() not in told.lower()


STATES = """
Of = fun(Pid) -> try sys:get_status(Pid, 500) catch _:_ -> none end end,
iolist_to_binary(io_lib:format("~p", [[Of(Pid) || Pid <- [hornbeam_listener | Kept]]]))
""".replace(
    "Kept",
    "[P || {_, P, _, _} <- supervisor:which_children(hornbeam_server_sup), is_pid(P)]",
)
"""Of processes that hold what was configured; those of clients hold what these have sent."""


# Connections, with what their clients have sent

LATE = """
Pid = PROCESS,
Ref = monitor(process, Pid),
true = erlang:suspend_process(Pid),
Pid ! {tcp, none, <<"SECRET">>},
Pid ! {'$gen_call', {self(), make_ref()}, "SECRET"},
Pid ! CRASH,
true = erlang:resume_process(Pid),
receive {'DOWN', Ref, _, _, _} -> ok after 10000 -> still_there end
""".replace("SECRET", SECRET)

OPEN = "hd(hornbeam_connection_registry:owners())"
ASKING = "hd(ranch:procs(hornbeam, connections))"

# A close that cannot be encoded; a system message that ends.
BAD_CLOSE = f'{{kick, no_such_call, <<"{SECRET}">>}}'
TERMINATE = "{system, {self(), make_ref()}, {terminate, {no_such_call, 1}}}"


@pytest.fixture(params=["hornbeam", "cowboy"])
def engine(request) -> Atom:
    return Atom(request.param)


def crash(server: Server, process: str, how: str) -> None:
    crashes = server.node.log.count("no_such_call")
    source = LATE.replace("PROCESS", process).replace("CRASH", how)
    assert server.node.eval(source) == "ok"
    eventually(lambda: server.node.log.count("no_such_call") > crashes)


def test_a_websocket_that_crashes_prints_nothing_of_its_client(serve, engine):
    server = serve(
        "sockets:application",
        workers=1,
        fresh=True,
        env={"A_SECRET": SECRET},
        http_engine=engine,
    )
    ws = RawWebSocket(server, f"/echo?token={SECRET}", *CREDENTIALS)
    eventually(lambda: server.node.eval("length(hornbeam_connection_registry:owners())") == 1)
    ws.frame(1, SECRET.encode())
    ws.read_message()
    crash(server, OPEN, BAD_CLOSE)
    ws.socket.close()
    assert_nothing_is_told(server)


def test_a_request_that_crashes_prints_nothing_of_its_client(serve):
    server = serve("sockets:application", workers=1, fresh=True, env={"A_SECRET": SECRET})
    with RawHTTP(server) as http:
        http.send(f"GET /silent?token={SECRET} HTTP/1.1\r\nHost: x\r\n".encode())
        http.send("".join(f"{line}\r\n" for line in CREDENTIALS).encode())
        eventually(lambda: server.node.eval("length(ranch:procs(hornbeam, connections))") == 1)
        crash(server, ASKING, TERMINATE)
    assert_nothing_is_told(server)


def test_an_on_connect_that_fails_prints_no_credentials(serve):
    server = serve(
        "sockets:application",
        workers=1,
        fresh=True,
        on_connect=(Atom("erlang"), Atom("list_to_tuple")),
    )
    with RawHTTP(server) as http:
        http.request("GET", f"/?token={SECRET}", *CREDENTIALS)
        assert http.response().status == 500
    server.node.wait_log("list_to_tuple.*authorization.*hidden.*on_connect_failed")
    assert_nothing_is_told(server)


def test_the_password_of_a_key_is_told_nowhere(serve, identity, tmp_path):
    server = serve(
        "sockets:application",
        workers=1,
        fresh=True,
        certfile=identity.certfile,
        keyfile=identity.keyfile,
        keyfile_password=SECRET,
    )
    server.node.eval(FIND + CRASH.replace("PROCESS", PROCESSES["listener"]))
    eventually(lambda: "no_such_call" in server.node.log)
    eventually(lambda: settled(server))
    assert_nothing_is_told(server)


def test_an_emulators_report_prints_nothing_either(serve):
    """A process that nobody sees to, of ours: the emulator itself says how it ended."""
    server = serve("sockets:application", workers=1, fresh=True)
    server.node.eval(
        f'spawn(fun() -> hornbeam_mounts:find({{no_such_call, <<"{SECRET}">>}}, none) end), ok'
    )
    server.node.wait_log("no_such_call")
    assert_nothing_is_told(server)
