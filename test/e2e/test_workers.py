"""How many streams a worker runs at once, who waits for a place, and for how long."""

from __future__ import annotations

import pytest
from clients import RawHTTP, RawWebSocket, handshake_headers, quiet
from harness import eventually
from terms import text

HTTP = "exchanges:application"


@pytest.fixture
def one_at_a_time(serve):
    """One worker with one place, for which two may wait."""
    return serve(HTTP, fresh=True, worker_connections=1, queue_max=2)


def held(server, key: str) -> RawHTTP:
    """Send a request that is answered when its gate is opened; return its connection."""
    connection = RawHTTP(server)
    connection.request("GET", f"/asks_late?{key}")
    return connection


def open_gate(server, key: str) -> None:
    """Let a handler go on; by a call, because a request would have to wait itself."""
    server.node.eval(f"{{ok, undefined}} = hornbeam:call(gallery, open_gate, [{text(key)}])")


def waiting(server) -> int:
    return server.info()["waiting"]


def streams(server) -> int:
    return server.info()["streams"]


def counter(server, name: str) -> int:
    return server.info()["counters"][name]


# A place on a worker


def test_a_worker_runs_as_many_streams_as_it_may_and_one_more_waits(serve):
    server = serve("sockets:application", fresh=True, worker_connections=2)
    first, second = (RawWebSocket(server, "/echo") for _ in range(2))
    with RawHTTP(server) as third:
        third.request("GET", "/echo", *handshake_headers())
        eventually(lambda: waiting(server) == 1)
        assert quiet(third.socket)
        first.socket.close()
        assert third.head().status == 101
    second.frame(1, b"x")
    assert second.read_message() == b"x"


def test_those_who_wait_are_served_in_their_order(one_at_a_time):
    server = one_at_a_time
    with held(server, "first") as first:
        eventually(lambda: streams(server) == 1)
        with held(server, "second") as second:
            eventually(lambda: waiting(server) == 1)
            with held(server, "third") as third:
                eventually(lambda: waiting(server) == 2)
                open_gate(server, "first")
                assert first.response().status == 200
                eventually(lambda: waiting(server) == 1)
                assert quiet(third.socket)
                open_gate(server, "second")
                assert second.response().status == 200
                open_gate(server, "third")
                assert third.response().status == 200
    assert waiting(server) == 0


def test_no_more_wait_than_the_queue_holds(one_at_a_time):
    server = one_at_a_time
    with held(server, "a") as first:
        eventually(lambda: streams(server) == 1)
        with held(server, "a"), held(server, "a"):
            eventually(lambda: waiting(server) == 2)
            with held(server, "a") as refused:
                response = refused.response()
                assert (response.status, response.all("retry-after")) == (503, ["1"])
        assert counter(server, "queue_full") == 1
        open_gate(server, "a")
        assert first.response().status == 200


def test_who_waits_too_long_gets_a_503(serve):
    server = serve(HTTP, fresh=True, worker_connections=1, queue_timeout=50)
    with held(server, "a") as first:
        eventually(lambda: streams(server) == 1)
        with held(server, "a") as late:
            response = late.response()
            assert (response.status, response.all("retry-after")) == (503, ["1"])
        assert counter(server, "queue_timeouts") == 1
        assert waiting(server) == 0
        open_gate(server, "a")
        assert first.response().status == 200


def test_a_client_that_leaves_the_queue_costs_no_place(one_at_a_time):
    server = one_at_a_time
    with held(server, "a") as first:
        eventually(lambda: streams(server) == 1)
        with held(server, "a"):
            eventually(lambda: waiting(server) == 1)
        eventually(lambda: waiting(server) == 0)
        open_gate(server, "a")
        assert first.response().status == 200
    eventually(lambda: streams(server) == 0)
    with held(server, "a") as next_one:
        assert next_one.response().status == 200


WAIT = """
Me = self(),
Fun = fun() ->
    Wait = hornbeam_pool_place:line_up(<<"/">>, none),
    {use}
end,
{{_, Monitor}} = spawn_monitor(fun() -> Me ! {{did, Fun()}} end),
Answer = receive {{did, Did}} -> Did after 5000 -> nothing end,
receive {{'DOWN', Monitor, process, _, _}} -> Answer end
"""


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(
            "_ = Wait, receive {hornbeam_pool, _, {ok, _}} -> given end",
            id="the holder of a place dies",
        ),
        pytest.param("hornbeam_pool_place:cancel(Wait), given", id="it is forgotten"),
        pytest.param(
            "_ = Wait, receive {hornbeam_pool, _, {ok, H}} -> hornbeam_capacity:give_back(H) end,"
            "given",
            id="it is given back",
        ),
    ],
)
def test_a_place_that_nobody_uses_is_free_again(one_at_a_time, use):
    server = one_at_a_time
    for _ in range(3):
        assert server.node.eval(WAIT.format(use=use)) == "given"
    eventually(lambda: streams(server) == 0)


# More than one pool

SECOND_POOL = """
{ok, #{start := {_, _, [First]}}} =
    supervisor:get_childspec(hornbeam_server_sup, {hornbeam_pool_sup, <<"/">>}),
Start = First#{name => <<"/second">>},
{ok, _} = supervisor:start_child(hornbeam_server_sup, #{
    id => {hornbeam_pool_sup, <<"/second">>}, type => supervisor,
    start => {hornbeam_pool_sup, start_link, [Start]}}),
hornbeam_pool:await_ready(<<"/second">>)
"""


@pytest.fixture
def two_pools(serve):
    server = serve("functions:application", fresh=True)
    assert server.node.eval(SECOND_POOL) == "ok"
    return server


def pids_by_pool(server):
    return {worker["pool"]: worker["os_pid"] for worker in server.workers()}


def test_info_lists_the_workers_of_all_pools_and_adds_up_the_rest(two_pools):
    app = "functions:application"
    info = two_pools.info()
    assert info["apps"] == {"/": app, "/second": app}
    assert set(pids_by_pool(two_pools)) == {"/", "/second"}
    assert (info["streams"], info["waiting"], info["restarts"], info["ended"]) == (0, 0, 0, {})


def test_a_call_among_several_pools_must_say_which(two_pools):
    eval_ = two_pools.node.eval
    assert eval_("hornbeam:call(os, getpid, [])") == ("error", "several_apps")
    assert eval_("hornbeam:cast(os, getpid, [])") == ("error", "several_apps")
    assert eval_(f"hornbeam:stacks({text('worker-1')})") == ("error", "several_apps")
    assert eval_("hornbeam:set_workers(2)") == ("error", "several_apps")
    for pool, pid in pids_by_pool(two_pools).items():
        for more in ("", ', worker => <<"worker-1">>'):
            options = f"#{{pool => {text(pool)}{more}}}"
            assert eval_(f"hornbeam:call(os, getpid, [], {options})") == ("ok", pid)


def test_a_reload_and_a_stop_are_for_all_pools(two_pools):
    before = pids_by_pool(two_pools)
    assert two_pools.node.eval("hornbeam:reload()") == "ok"
    eventually(lambda: len(two_pools.workers()) == 2)
    assert not set(before.values()) & set(pids_by_pool(two_pools).values())
    two_pools.stop()
    assert two_pools.node.eval("hornbeam:info()") == {}
    assert not two_pools.node.python_pids()
