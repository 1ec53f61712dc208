"""Sessions that an app keeps in the memory of its worker: all requests of one go to that worker."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from harness import eventually
from terms import Atom, Expression
from websockets.asyncio.client import connect
from websockets.sync.client import connect as connect_now

APP = "sessions:application"
WORKERS = 4


@pytest.fixture(params=["hornbeam", "cowboy", "http2"])
def engine(request) -> str:
    return request.param


@pytest.fixture
def sticky(serve, tls):
    """Serve an app with an affinity, by 4 workers."""

    def serve_sticky(affinity, app=APP, **options):
        return serve(app, affinity=affinity, workers=WORKERS, fresh=True, **options)

    return serve_sticky


@pytest.fixture
def reach(sticky, engine, tls):
    """Serve and give clients of an engine."""
    clients = []

    def reached(affinity, **options):
        if engine == "cowboy":
            options["http_engine"] = Atom("cowboy")
        server = sticky(affinity, **options, **(tls if engine == "http2" else {}))

        def client(**more):
            clients.append(httpx.Client(base_url=server.http, http2=engine == "http2", **more))
            return clients[-1]

        return server, client

    yield reached
    for client in clients:
        client.close()


def pid(response):
    return response.raise_for_status().json()["pid"]


def pids(client, times=8, path="/who", **more):
    return {pid(client.get(path, **more)) for _ in range(times)}


def kill(server, worker):
    """Kill a worker and wait until another one serves in its place."""
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: worker not in server.worker_pids() and len(server.worker_pids()) == WORKERS)


def even(chosen, most=1.2):
    counts = Counter(chosen).values()
    assert len(counts) == WORKERS, counts
    assert max(counts) / min(counts) <= most, counts


# What names a session


def test_without_affinity_a_session_has_no_worker(serve):
    server = serve(APP, workers=WORKERS, fresh=True)
    with httpx.Client(base_url=server.http) as client:
        assert client.get("/who").headers.get("set-cookie") is None
    assert server.node.eval("ets:info(hornbeam_pool_bindings, size)") == 0


def test_a_header_keeps_its_requests_together_and_its_sockets(reach):
    server, client = reach(Expression('{header, "X-Session"}'))
    chosen = {}
    for name in map(str, range(20)):
        [chosen[name]] = pids(client(), headers={"x-session": name})
        with connect_now(f"{server.ws}/", additional_headers={"x-session": name}) as ws:
            assert int(ws.recv().split()[0]) == chosen[name]
    assert len(set(chosen.values())) == WORKERS


@pytest.mark.parametrize("name", ["one", "a%20b", "%ff", "%zz+", "x" * 5000])
def test_a_parameter_keeps_its_requests_together(sticky, name):
    server = sticky("query:session")
    with httpx.Client(base_url=server.http) as client:
        assert len(pids(client, path=f"/who?a=b&session={name}&session=other")) == 1
    if name != "one":
        return
    with connect_now(f"{server.ws}/?session=one") as ws:
        assert int(ws.recv().split()[0]) == pid(httpx.get(f"{server.http}/who?session=one"))


def test_a_clients_address_keeps_its_requests_together(sticky):
    server = sticky(Atom("client"))

    def of(address):
        return {"x-forwarded-for": address}

    with httpx.Client(base_url=server.http) as client:
        chosen = {n: pids(client, headers=of(f"203.0.113.{n}")) for n in range(1, 21)}
        assert all(len(one) == 1 for one in chosen.values())
        assert len(set.union(*chosen.values())) == WORKERS
        # One client of IPv6 changes its address as it likes.
        network = {pid(client.get("/who", headers=of(f"2001:db8:1:2:{n:x}::1"))) for n in range(8)}
        assert len(network) == 1


def test_a_cookie_of_ours_keeps_a_client_on_its_worker(reach, engine):
    server, client = reach("set-cookie:hornbeam")
    chosen = []
    for _ in range(8):
        one = client()
        first = one.get("/who")
        told = first.headers["set-cookie"]
        value = r"[0-9A-F]{8}\.[0-9A-F]{16}\.[0-9A-F]{24}"
        secure = "; Secure" if engine == "http2" else ""
        assert re.fullmatch(f"hornbeam={value}; Path=/; HttpOnly; SameSite=Lax{secure}", told)
        assert pids(one) == {pid(first)}
        assert "set-cookie" not in one.get("/who").headers
        cookie = told.partition(";")[0]
        with connect_now(f"{server.ws}/", additional_headers={"cookie": f"a=b; {cookie}"}) as ws:
            assert int(ws.recv().split()[0]) == pid(first)
        chosen.append(pid(first))
    even(chosen)
    assert server.node.eval("ets:info(hornbeam_pool_bindings, size)") == 0


def test_a_websocket_is_given_a_cookie_of_ours_too(reach):
    server, client = reach("set-cookie:hornbeam")
    with connect_now(f"{server.ws}/") as ws:
        [told] = ws.response.headers.get_all("set-cookie")
        worker = int(ws.recv().split()[0])
    assert pids(client(headers={"cookie": told.partition(";")[0]})) == {worker}


def test_a_cookie_of_ours_is_for_the_path_of_its_app(serve):
    server = serve(
        APP, affinity="set-cookie:place", workers=WORKERS, fresh=True,
        mounts=[{Atom("path"): "/below", Atom("app"): APP}],
    )  # fmt: skip
    with httpx.Client(base_url=server.http) as client:
        first, below = client.get("/who"), client.get("/below/who")
        assert "Path=/;" in first.headers["set-cookie"]
        assert "Path=/below;" in below.headers["set-cookie"]
        assert pids(client) == {pid(first)}
        assert pids(client, path="/below/who") == {pid(below)}
        assert "set-cookie" not in client.get("/below/who").headers


def test_what_a_cache_may_give_to_others_has_no_cookie_of_ours(sticky):
    server = sticky("set-cookie:hornbeam")
    assert "set-cookie" not in httpx.get(f"{server.http}/cached").headers


def test_a_cookie_of_the_app_is_learned_from_its_answer(reach):
    _, client = reach(Expression('{cookie, <<"sessionid">>}'))
    chosen = []
    for _ in range(8):
        one = client()
        worker = pid(one.get("/enter"))
        assert [one.get("/count").json()["count"] for _ in range(5)] == [1, 2, 3, 4, 5]
        assert pid(one.get("/enter?anew=1")) == worker
        assert one.get("/count").json() == {"pid": worker, "count": 6}
        chosen.append(worker)
    even(chosen)


def test_a_cookie_that_the_app_deletes_names_nothing(sticky):
    server = sticky("cookie:sessionid")
    with httpx.Client(base_url=server.http) as client:
        client.get("/leave")
    assert server.node.eval("ets:info(hornbeam_pool_bindings, size)") == 0


def test_an_id_of_engine_io_is_learned_from_the_open_packet(reach):
    _, client = reach(Atom("socketio"))
    one = client()
    chosen = []
    for _ in range(20):
        opened = one.get("/engine.io/?EIO=4&transport=polling")
        packet = opened.text[1:]
        sid = re.search(r'"sid": "(\w+)"', packet).group(1)
        chosen.append(int(re.search(r'"pid": (\d+)', packet).group(1)))
        path = f"/engine.io/?EIO=4&transport=polling&sid={sid}"
        assert [one.get(path).json()["count"] for _ in range(3)] == [1, 2, 3]
    even(chosen)


def test_an_id_of_mcp_is_learned_from_a_header(reach):
    _, client = reach(Atom("mcp"))
    one = client()
    chosen = []
    for _ in range(20):
        begun = one.post("/mcp").json()
        path = {"headers": {"mcp-session-id": begun["session"]}}
        assert [one.post("/mcp", **path).json()["count"] for _ in range(3)] == [1, 2, 3]
        chosen.append(begun["pid"])
    even(chosen)


def test_an_id_of_mcp_is_learned_from_the_first_event(reach):
    _, client = reach(Atom("mcp"))
    for _ in range(4):
        with client().stream("GET", "/sse") as stream:
            text = ""
            for part in stream.iter_text():
                text += part
                if text.endswith("\r\n\r\n"):
                    break
            target = re.search(r"data: (\S+)", text).group(1)
            other = client()
            assert [other.post(target).json()["count"] for _ in range(3)] == [1, 2, 3]


def test_what_nobody_has_named_a_session_is_none(sticky):
    server = sticky(Atom("socketio"))
    for n in range(50):
        httpx.get(f"{server.http}/engine.io/?EIO=4&transport=polling&sid=made-up-{n}")
    assert server.node.eval("ets:info(hornbeam_pool_bindings, size)") == 0


def test_a_wsgi_app_has_sessions_too(sticky):
    server = sticky("set-cookie:hornbeam", "sessions:wsgi", worker_class=Atom("wsgi"))
    chosen = []
    for _ in range(8):
        with httpx.Client(base_url=server.http) as client:
            [one] = pids(client)
            chosen.append(one)
    even(chosen)


# How they are spread


@pytest.mark.parametrize(
    "affinity", ["set-cookie:hornbeam", "header:x-session", "cookie:sessionid"]
)
def test_a_thousand_sessions_are_spread_evenly(sticky, affinity):
    server = sticky(affinity)

    def begin(name):
        with httpx.Client(base_url=server.http, headers={"x-session": str(name)}) as client:
            worker = pid(client.get("/enter"))
            assert pid(client.get("/count" if affinity.startswith("cookie") else "/who")) == worker
            return worker

    with ThreadPoolExecutor(16) as pool:
        even(pool.map(begin, range(1000)))


def test_more_workers_move_no_session_and_fewer_only_theirs(sticky):
    server = sticky("header:x-session")
    names = [str(n) for n in range(100)]

    def workers():
        return {name: pid(httpx.get(f"{server.http}/who", headers={"x-session": name}))
                for name in names}  # fmt: skip

    four = workers()
    server.node.eval("ok = hornbeam:set_workers(5)")
    eventually(lambda: len(server.worker_pids()) == 5)
    assert workers() == four
    server.node.eval("ok = hornbeam:set_workers(3)")
    eventually(lambda: len(server.worker_pids()) == 3)
    left, three = set(server.worker_pids()), workers()
    assert set(three.values()) == left
    assert {n: p for n, p in four.items() if p in left}.items() <= three.items()


# A worker that is busy


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_a_busy_worker_keeps_its_sessions_and_gets_no_new_ones(sticky, tmp_path, interface):
    app = {"asgi": APP, "wsgi": "sessions:wsgi"}[interface]
    server = sticky("header:x-session", app, worker_connections=1, worker_class=Atom(interface))

    def session(name, path="/who"):
        headers = {"x-session": name} if name else {}
        return httpx.get(f"{server.http}{path}", headers=headers, timeout=20)

    with ThreadPoolExecutor(8) as pool:
        busy = pid(session("one"))
        held = pool.submit(session, "one", f"/hold?until={tmp_path}/over")
        eventually(lambda: server.info()["streams"] == 1)
        waiting = [pool.submit(session, "one") for _ in range(3)]
        eventually(lambda: server.info()["waiting"] == 3)
        # Others, of a session or none, do not wait behind them, nor do they get what comes free.
        assert busy not in {pid(session(f"other-{n}")) for n in range(20)}
        assert busy not in {pid(session(None)) for _ in range(8)}
        assert not any(each.done() for each in waiting)
        (tmp_path / "over").touch()
        assert {pid(each.result()) for each in [held, *waiting]} == {busy}
    assert server.info()["waiting"] == 0


def test_a_request_waits_for_its_worker_no_longer_than_others_for_any(reach, tmp_path):
    server, client = reach("header:x-session", worker_connections=1, queue_timeout=300)
    mine = {"x-session": "one"}
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(client().get, f"/hold?until={tmp_path}/over", headers=mine, timeout=20)
        eventually(lambda: server.info()["streams"] == 1)
        assert client().get("/who", headers=mine).status_code == 503
        assert client().get("/who").status_code == 200
        (tmp_path / "over").touch()
        assert held.result().status_code == 200
    assert client().get("/who", headers=mine).status_code == 200


def test_who_waits_for_a_worker_that_dies_goes_elsewhere(reach, tmp_path):
    server, client = reach("header:x-session", worker_connections=1)
    before = moves(server)
    mine = {"x-session": "one"}
    with ThreadPoolExecutor(8) as pool:
        held = pool.submit(client().get, f"/hold?until={tmp_path}/never", headers=mine, timeout=20)
        eventually(lambda: server.info()["streams"] == 1)
        waiting = [pool.submit(client().get, "/who", headers=mine) for _ in range(3)]
        eventually(lambda: server.info()["waiting"] == 3)
        [busy] = [worker["os_pid"] for worker in server.workers() if worker["streams"]]
        os.kill(busy, signal.SIGKILL)
        assert held.result().status_code == 502
        [elsewhere] = {pid(each.result()) for each in waiting}
        assert elsewhere != busy
    assert moves(server) == before + 1


# A worker that goes


def moves(server):
    return server.node.log.count("session_moved")


@pytest.mark.parametrize(
    "affinity", ["header:x-session", "query:session", "set-cookie:hornbeam", "cookie:sessionid"]
)
def test_a_session_whose_worker_died_goes_elsewhere_and_the_log_says_so_once(sticky, affinity):
    server = sticky(affinity)
    before = moves(server)
    with httpx.Client(
        base_url=server.http, headers={"x-session": "s"}, params={"session": "s"}
    ) as client:
        dead = pid(client.get("/enter"))
        assert pids(client) == {dead}
        cookies = dict(client.cookies)
        os.kill(dead, signal.SIGKILL)
        eventually(lambda: dead not in server.worker_pids())

        # All at once, as a page does; also who has not been told of another place.
        def told_before():
            with httpx.Client(headers=client.headers, cookies=cookies) as other:
                return other.get(f"{server.http}/who?session=s")

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: pid(told_before()), range(32)))
        [elsewhere] = set(answers)
        assert elsewhere != dead
        eventually(lambda: len(server.worker_pids()) == WORKERS)
        assert pids(client) == {elsewhere}
    assert moves(server) == before + 1
    server.node.wait_log("from: (worker-|unknown)")


def test_a_reload_moves_each_session_once_and_keeps_them_apart_as_they_were(sticky):
    server = sticky("header:x-session")
    before = moves(server)
    names = [str(n) for n in range(12)]

    def groups():
        return [pid(httpx.get(f"{server.http}/who", headers={"x-session": n})) for n in names]

    first = groups()
    server.node.eval("ok = hornbeam:reload()")
    second = groups()
    assert groups() == second
    assert not set(first) & set(second)
    assert [first.index(p) for p in first] == [second.index(p) for p in second]
    assert moves(server) == before + len(names)


def test_many_sessions_that_move_have_a_few_lines_and_a_sum(sticky):
    server = sticky("header:x-session")

    def ask(name):
        return pid(httpx.get(f"{server.http}/who", headers={"x-session": str(name)}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(150)))
        before = moves(server)
        server.node.eval("ok = hornbeam:reload()")
        list(pool.map(ask, range(150)))
    assert moves(server) - before == 100
    server.node.eval('hornbeam_pool_affinity:sweep(<<"/">>, 3600000)')
    server.node.wait_log("times: 50")
    assert moves(server) - before == 101


def test_a_session_that_nobody_uses_is_forgotten(sticky):
    server = sticky("header:x-session", affinity_timeout=200)
    with httpx.Client(base_url=server.http, headers={"x-session": "s"}) as client:
        worker = pid(client.get("/who"))
        # As long as its connection is there, it is not.
        eventually(lambda: server.node.eval("timer:sleep(500), 1"))
        assert pids(client) == {worker}
    eventually(lambda: server.node.eval("ets:info(hornbeam_pool_bindings, size)") == 0)
    assert server.node.eval("ets:info(hornbeam_pool_bindings_order, size)") == 0


def test_a_client_cannot_have_more_sessions_than_a_share(sticky):
    server = sticky("query:s", affinity_max_sessions=200)
    with httpx.Client(base_url=server.http) as client:
        for n in range(300):
            client.get(f"/who?s={n}")
    assert server.node.eval("ets:info(hornbeam_pool_bindings, size)") == 100


@pytest.mark.parametrize("engine", ["hornbeam", "http2"], indirect=True)
@pytest.mark.parametrize("how", ["killed", "reloaded"])
async def test_a_socket_that_goes_on_does_so_where_its_session_is(reach, how):
    server, client = reach("set-cookie:hornbeam", websocket_resume=True)
    one = client()
    first = pid(one.get("/who"))
    cookie = "; ".join(f"{name}={value}" for name, value in one.cookies.items())
    async with connect(f"{server.ws}/", additional_headers={"cookie": cookie}) as ws:
        assert int((await ws.recv()).split()[0]) == first
        if how == "killed":
            os.kill(first, signal.SIGKILL)
        else:
            await asyncio.to_thread(server.node.eval, "ok = hornbeam:reload()")
        worker, resumed = (await asyncio.wait_for(ws.recv(), 20)).split()
        assert (int(worker) != first, resumed) == (True, "True")
        assert await asyncio.to_thread(pids, one) == {int(worker)}
        await ws.send("still here")
        assert await ws.recv() == f"{worker} still here"


def test_sessions_outlive_the_keeper_and_the_dispatcher(sticky):
    server = sticky("header:x-session")
    mine = {"headers": {"x-session": "s"}}
    with httpx.Client(base_url=server.http) as client:
        [worker] = pids(client, **mine)
        for process in ("keeper", "dispatcher"):
            killed(server, process)
            assert pids(client, **mine) == {worker}


def test_who_waits_for_a_worker_outlives_the_dispatcher(sticky, tmp_path):
    server = sticky("header:x-session", worker_connections=1)
    mine = {"x-session": "one"}

    def ask(path="/who"):
        return pid(httpx.get(f"{server.http}{path}", headers=mine, timeout=20))

    with ThreadPoolExecutor(4) as pool:
        held = pool.submit(ask, f"/hold?until={tmp_path}/over")
        eventually(lambda: server.info()["streams"] == 1)
        waiting = [pool.submit(ask) for _ in range(3)]
        eventually(lambda: server.info()["waiting"] == 3)
        killed(server, "dispatcher")
        (tmp_path / "over").touch()
        assert len({each.result() for each in [held, *waiting]}) == 1


def test_no_place_is_kept_for_those_who_left_while_there_was_no_dispatcher(sticky):
    server = sticky("header:x-session")
    server.node.eval(
        '{ok, Row} = hornbeam_pool_row:find(<<"/">>),'
        "[hornbeam_capacity:keep(Handle, 1) || Handle <- hornbeam_pool_row:handles(Row)]"
    )
    killed(server, "dispatcher")
    for n in range(8):
        pid(httpx.get(f"{server.http}/who", headers={"x-session": f"{n}"}, timeout=5))


def killed(server, process):
    server.node.eval(
        'Find = fun() -> {ok, Row} = hornbeam_pool_row:find(<<"/">>),'
        f"hornbeam_pool_row:{process}(Row) end,"
        "Old = Find(), exit(Old, kill), Old"
    )


def test_bad_affinities_are_refused(shared):
    texts = ["cookie", "cookie:", "cookie:a b", "header:x y", "nonsense:x", "query:"]
    terms = [7, Atom("sticky"), Expression("{cookie, 7}"), Expression('{session, "x"}')]
    for bad in texts + terms:
        error = shared.refused(APP, affinity=bad)
        assert error.reason[:2] == ("bad_option", "affinity")
        assert "set-cookie:NAME" in error.sentence
