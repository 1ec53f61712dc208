"""WSGI apps: frameworks as their users write them, and what becomes of threads at each event."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from clients import RawHTTP, bounded, handshake_headers
from commands import Running, closing
from harness import APPS, DEADLINE, Node, alive, eventually
from http2 import Http2
from terms import Atom

WSGI = {"worker_class": Atom("wsgi")}


@pytest.fixture
def wsgi(serve):
    """Serve a WSGI app."""
    return lambda app, **options: serve(app, **(WSGI | options))


# Frameworks


@pytest.mark.parametrize("app", ["flasked:app", "djangos:application"])
class TestFramework:
    def test_routes_and_links(self, wsgi, app):
        server = wsgi(app)
        answer = httpx.get(f"{server.http}/items/one?q=%C3%BC")
        assert (answer.status_code, answer.text) == (200, "one /items/one ü")
        assert httpx.get(f"{server.http}/absent").status_code == 404

    def test_below_a_path(self, wsgi, app):
        server = wsgi(app, root_path="/api")
        assert httpx.get(f"{server.http}/items/one").text == "one /api/items/one "

    @pytest.mark.parametrize("size", [10, 3_000_000])
    def test_forms_and_files(self, wsgi, app, size):
        server = wsgi(app)
        answer = httpx.post(f"{server.http}/form", data={"a": "ü"}, files={"f": bytes(size)})
        assert answer.json() == {"form": {"a": "ü"}, "files": {"f": size}}

    def test_sessions(self, wsgi, app):
        server = wsgi(app)
        with httpx.Client(base_url=server.http) as client:
            assert [client.get("/visits").text for _ in range(3)] == ["1", "2", "3"]

    def test_streams_and_files(self, wsgi, app):
        server = wsgi(app)
        lines = httpx.get(f"{server.http}/stream").text.splitlines()
        assert [line.split()[0] for line in lines] == ["0", "1", "2"]
        source = (APPS / f"{app.partition(':')[0]}.py").read_bytes()
        assert httpx.get(f"{server.http}/file").content == source
        head = httpx.head(f"{server.http}/file")
        assert (head.headers["content-length"], head.content) == (str(len(source)), b"")

    def test_exceptions_are_answered_with_500_and_logged(self, wsgi, app):
        server = wsgi(app)
        assert httpx.get(f"{server.http}/fails").status_code == 500
        server.node.wait_log("the app's own")


def test_flask_reads_a_body_without_a_length(wsgi):
    server = wsgi("flasked:app")
    headers = {"content-type": "application/json"}
    body = json.dumps({"a": 1}).encode()
    answer = httpx.post(f"{server.http}/json", content=iter([body[:3], body[3:]]), headers=headers)
    assert answer.json() == {"a": 1}


def test_flask_sees_the_client_as_a_proxy_tells(wsgi):
    server = wsgi("flasked:app", root_path="/api")
    headers = {"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "https", "host": "shop.example"}
    assert httpx.get(f"{server.http}/user/a%2Fb", headers=headers).json() == {
        "where": "a/b",
        "root": "/api",
        "scheme": "https",
        "address": "192.0.2.1",
        "host": "shop.example",
    }


def test_flask_calls_erlang_from_several_threads_at_once(wsgi, key):
    server = wsgi("flasked:app", threads=4)
    url = f"{server.http}/counts?key={key}"
    with ThreadPoolExecutor(8) as clients:
        answers = [*clients.map(lambda _: httpx.get(url).text, range(40))]
    assert sorted(map(int, answers)) == [*range(1, 41)]


def test_factory_of_a_flask_app(wsgi):
    server = wsgi("flasked:create_app", factory=True)
    assert httpx.get(f"{server.http}/items/one").status_code == 200


def test_dash_shows_its_page_and_calls_back(wsgi):
    server = wsgi("dashed:application")
    page = httpx.get(server.http, timeout=DEADLINE)
    assert page.status_code == 200 and "_dash-config" in page.text
    layout = httpx.get(f"{server.http}/_dash-layout").json()
    assert [child["props"]["id"] for child in layout["props"]["children"]] == ["field", "text"]
    asked = {
        "output": "text.children",
        "outputs": {"id": "text", "property": "children"},
        "inputs": [{"id": "field", "property": "value", "value": "hello"}],
        "changedPropIds": ["field.value"],
    }
    answer = httpx.post(f"{server.http}/_dash-update-component", json=asked)
    assert answer.json()["response"] == {"text": {"children": "you wrote hello"}}


# What an app is told, and may say

APP = "threaded:application"


def get(server, target: str) -> str:
    return httpx.get(f"{server.http}/{target}", timeout=DEADLINE).text


def notes(server, key: str, count: int) -> list[str]:
    """Wait until the app has noted so much under a key."""

    def noted():
        found = json.loads(get(server, f"notes?{key}"))
        return found if len(found) >= count else None

    return eventually(noted)


def test_environ_says_how_the_app_is_called(wsgi):
    server = wsgi(APP, threads=3)
    seen = httpx.get(f"{server.http}/seen?a=%20b", headers=[("x-a", "1"), ("x-a", "2")]).json()
    expected = {
        "PATH_INFO": "/seen",
        "QUERY_STRING": "a=%20b",
        "RAW_URI": "/seen?a=%20b",
        "SERVER_NAME": server.host,
        "SERVER_PORT": str(server.port),
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_X_A": "1,2",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    assert {name: seen[name] for name in expected} == expected
    alone = wsgi(APP, threads=1)
    assert httpx.get(f"{alone.http}/seen").json()["wsgi.multithread"] is False


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
def test_websocket_is_refused(wsgi, engine):
    server = wsgi(APP, http_engine=Atom(engine))
    with RawHTTP(server) as http:
        http.request("GET", "/who", *handshake_headers())
        response = http.response()
        assert (response.status, response.body) == (403, b"WSGI apps have no WebSockets.\n")
    assert get(server, "who") == str(server.worker_pids()[0])


def test_websocket_over_http2_is_refused(wsgi):
    server = wsgi(APP)
    with Http2(server) as http2:
        assert http2.websocket("/who").head()[0] == 403


@pytest.mark.parametrize("status", [204, 304])
def test_answer_without_a_body(wsgi, status):
    server = wsgi(APP)
    with RawHTTP(server) as http:
        for _ in range(2):
            http.request("GET", f"/empty?{status}")
            assert http.response().status == status


def test_answer_that_breaks_is_not_taken_for_a_whole_one(wsgi):
    server = wsgi(APP)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.http}/breaks")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.http}/short")
    assert httpx.get(f"{server.http}/fails").status_code == 500
    server.node.wait_log("1 bytes shorter than promised")


def test_large_body_streams_past_the_node(wsgi):
    server = wsgi(APP)
    block = os.urandom(1 << 20)
    found = hashlib.sha256()

    def blocks():
        for _ in range(64):
            found.update(block)
            yield block

    with bounded(server):
        answer = httpx.post(f"{server.http}/digest", content=blocks(), timeout=DEADLINE)
    assert answer.text == f"{64 << 20} {found.hexdigest()}"


def test_body_over_http2_needs_no_length(wsgi):
    server = wsgi(APP)
    with Http2(server) as http2:
        stream = http2.request("POST", "/digest", end=False)
        stream.send(b"a body", end=True)
        assert stream.head()[0] == 200
        assert stream.body().decode() == f"6 {hashlib.sha256(b'a body').hexdigest()}"


def test_client_that_holds_its_body_back_is_asked_for_it_when_the_app_reads(wsgi):
    server = wsgi(APP)
    with RawHTTP(server) as http:
        http.request("POST", "/ignores", "content-length: 4", "expect: 100-continue")
        assert http.head().status == 413
    with RawHTTP(server) as http:
        http.request("POST", "/digest", "content-length: 4", "expect: 100-continue")
        assert http.head().status == 100
        http.send(b"body")
        assert http.response().body.startswith(b"4 ")


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
def test_clients_that_hold_their_bodies_back_take_no_threads(wsgi, engine):
    server = wsgi(APP, threads=2, http_engine=Atom(engine))
    slow = [RawHTTP(server) for _ in range(6)]
    lengths = ["content-length: 10", "transfer-encoding: chunked"] * 3
    for http, length in zip(slow, lengths, strict=True):
        http.request("POST", "/digest", length)
        http.send(b"5\r\n12345\r\n" if "chunked" in length else b"12345")
    for _ in range(3):
        assert get(server, "who") == str(server.worker_pids()[0])
    assert server.workers()[0]["streams"] == 0
    for http, rest in zip(slow, [b"67890", b"5\r\n67890\r\n0\r\n\r\n"] * 3, strict=True):
        http.send(rest)
        assert http.response().body.decode() == f"10 {hashlib.sha256(b'1234567890').hexdigest()}"


def test_streams_of_http2_that_hold_their_bodies_back_take_no_threads(wsgi):
    server = wsgi(APP, threads=2)
    with Http2(server) as http2:
        slow = [http2.request("POST", "/digest", end=False) for _ in range(6)]
        for stream in slow:
            stream.send(b"12345")
        assert get(server, "who") == str(server.worker_pids()[0])
        for stream in slow:
            stream.send(b"67890", end=True)
            assert stream.head()[0] == 200
            assert stream.body().startswith(b"10 ")


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
def test_body_that_does_not_come_is_answered_with_408(wsgi, engine):
    server = wsgi(APP, timeout=300, http_engine=Atom(engine))
    with RawHTTP(server) as http:
        http.request("POST", "/digest", "content-length: 10")
        http.send(b"12345")
        assert http.response().status == 408
    assert get(server, "who") == str(server.worker_pids()[0])


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
@pytest.mark.parametrize("size", [65_534, 65_535, 65_536, 65_537, 131_072, 200_000])
def test_body_of_any_size_comes_whole(wsgi, engine, size):
    """Also where it ends just where the node gathers no more of it."""
    server = wsgi(APP, http_engine=Atom(engine))
    body = os.urandom(size)
    found = f"{size} {hashlib.sha256(body).hexdigest()}"
    assert httpx.post(f"{server.http}/digest", content=body, timeout=DEADLINE).text == found
    parts = [body[:10], body[10:65_535], body[65_535:]]
    assert httpx.post(f"{server.http}/digest", content=iter(parts), timeout=DEADLINE).text == found


def test_stop_answers_who_still_sends_a_body(tmp_path):
    node = Node(tmp_path)
    try:
        server = node.serve(APP, **WSGI)
        http = RawHTTP(server)
        http.request("POST", "/digest", "content-length: 10")
        http.send(b"12345")
        assert get(server, "who") == str(server.worker_pids()[0])
        server.stop()
        assert http.response().status == 503
    finally:
        assert not node.close()


# Threads


def test_requests_without_a_thread_wait_in_the_node(wsgi, key):
    server = wsgi(APP, fresh=True, threads=2)
    with ThreadPoolExecutor(5) as clients:
        held = [clients.submit(get, server, f"hold?{key}") for _ in range(5)]
        eventually(lambda: server.info()["waiting"] == 3)
        assert server.workers()[0]["streams"] == 2
        open_gates(server)
        assert {future.result(DEADLINE)[:4] for future in held} == {"held"}


def open_gates(server) -> None:
    """Let all requests of the one worker go on that are held."""
    (pid,) = server.worker_pids()
    os.kill(pid, signal.SIGUSR1)


def test_threads_of_200_clients_that_left_are_free_again(wsgi, key):
    server = wsgi(APP, fresh=True, threads=2)
    errors = server.node.log.count("[error]")
    for _ in range(200):
        with RawHTTP(server) as http:
            http.request("GET", f"/endless?{key}")
            assert http.head().status == 200
            http.take(1)
    assert notes(server, key, 200) == ["closed"] * 200
    eventually(lambda: server.info()["streams"] == 0)
    with ThreadPoolExecutor(2) as clients:
        held = [clients.submit(get, server, f"hold?{key}") for _ in range(2)]
        eventually(lambda: server.workers()[0]["streams"] == 2)
        open_gates(server)
        assert {future.result(DEADLINE)[:4] for future in held} == {"held"}
    assert server.node.log.count("[error]") == errors


def test_client_that_leaves_while_the_app_thinks_leaves_its_thread_to_the_app(wsgi, key):
    server = wsgi(APP, fresh=True, threads=1)
    with RawHTTP(server) as http:
        http.request("GET", f"/hold?{key}")
        eventually(lambda: server.workers()[0]["streams"] == 1)
    with ThreadPoolExecutor(1) as clients:
        waiting = clients.submit(get, server, "who")
        eventually(lambda: server.info()["waiting"] == 1)
        open_gates(server)
        assert waiting.result(DEADLINE) == str(server.worker_pids()[0])


def stick(server, count: int, key: str) -> list[RawHTTP]:
    """Send requests that never come back; wait until the app has them."""
    stuck = [RawHTTP(server) for _ in range(count)]
    for http in stuck:
        http.request("GET", f"/stuck?{key}")
    eventually(lambda: server.workers()[0]["streams"] == count)
    return stuck


def test_worker_all_of_whose_threads_are_stuck_is_replaced_and_the_log_says_where(wsgi, key):
    server = wsgi(APP, fresh=True, threads=2, worker_hang_timeout=400)
    (pid,) = server.worker_pids()
    stuck = stick(server, 2, key)
    assert [http.response().status for http in stuck] == [502, 502]
    where = r"(?=.*at: .{0,9}File .{0,200}threaded\.py.{0,40} in stuck)"
    server.node.wait_log(r"\[error\](?=.*what: worker_hung)" + where)
    eventually(lambda: get(server, "who") not in ("", str(pid)))
    assert not alive(pid)
    assert server.info()["ended"]["hung"] == 1


def test_worker_with_a_free_thread_does_not_hang(wsgi, key):
    server = wsgi(APP, fresh=True, threads=4, worker_hang_timeout=400)
    pids = server.worker_pids()
    stuck = stick(server, 2, key)
    assert get(server, "sleeps?1.5") == "awake"  # several times the limit
    assert server.worker_pids() == pids
    assert all(http.socket.fileno() >= 0 for http in stuck)


def test_worker_whose_threads_go_on_now_and_then_does_not_hang(wsgi, key):
    server = wsgi(APP, fresh=True, threads=2, worker_hang_timeout=2000)
    pids = server.worker_pids()
    with ThreadPoolExecutor(2) as clients:
        for _ in range(3):
            assert [*clients.map(lambda _: get(server, "sleeps?1"), range(2))] == ["awake"] * 2
    assert server.worker_pids() == pids


# The life of workers


def test_killed_worker_breaks_its_requests_off_and_the_next_one_serves(wsgi, key):
    server = wsgi(APP, fresh=True, threads=2)
    (pid,) = server.worker_pids()
    with RawHTTP(server) as begun, RawHTTP(server) as held:
        begun.request("GET", f"/begun?{key}")
        assert begun.head().status == 200
        held.request("GET", f"/hold?{key}")
        eventually(lambda: server.workers()[0]["streams"] == 2)
        os.kill(pid, signal.SIGKILL)
        assert held.response().status == 502
        begun.take(6)
        assert begun.ended()
    assert get(server, "who") not in ("", str(pid))


def test_reload_lets_requests_finish_where_they_are(wsgi, key):
    server = wsgi(APP, fresh=True, threads=2)
    (pid,) = server.worker_pids()
    with ThreadPoolExecutor(1) as clients:
        held = clients.submit(get, server, f"hold?{key}")
        eventually(lambda: server.workers()[0]["streams"] == 1)
        assert server.node.eval("hornbeam:reload()") == "ok"
        assert get(server, "who") != str(pid)
        assert not held.done()
        # The one that has the request is called no more: only its own thread can end it.
        os.kill(pid, signal.SIGUSR1)
        assert held.result(DEADLINE) == f"held by {pid}"
    eventually(lambda: not alive(pid))


def test_stop_waits_for_threads_that_run(tmp_path):
    node = Node(tmp_path)
    try:
        server = node.serve(APP, **WSGI)
        (pid,) = server.worker_pids()
        http = RawHTTP(server)
        http.request("GET", "/begun?key")
        assert http.head().status == 200
        with ThreadPoolExecutor(1) as stopping:
            stopped = stopping.submit(server.stop)
            eventually(lambda: not listens(server))
            os.kill(pid, signal.SIGUSR1)
            assert http.take(12) == b"first second"
            stopped.result(DEADLINE)
        assert not alive(pid)
    finally:
        assert not node.close()


def listens(server) -> bool:
    try:
        socket.create_connection((server.host, server.port), 1).close()
    except OSError:
        return False
    return True


def test_stop_ends_past_a_thread_that_is_stuck(tmp_path):
    node = Node(tmp_path)
    try:
        server = node.serve(APP, **WSGI, shutdown_timeout=500)
        (pid,) = server.worker_pids()
        (http,) = stick(server, 1, "key")
        server.stop()
        assert http.response().status == 503
        assert not alive(pid)
    finally:
        assert not node.close()


# How it is started


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"threads": 0, **WSGI}, "threads"),
        ({"threads": 1001, **WSGI}, "threads"),
        ({"threads": 2}, "threads"),
        ({"lifespan": Atom("on"), **WSGI}, "lifespan"),
    ],
)
def test_options_that_do_not_fit_are_refused(shared, options, key):
    error = shared.refused(APP, **options)
    assert error.reason[:2] == ("bad_option", key)
    assert "wsgi" in error.sentence


@pytest.mark.parametrize(
    ("app", "options", "part"),
    [
        ("flasked:app", {}, "say --interface wsgi"),
        ("guided:application", WSGI, "takes three arguments, as ASGI apps do"),
        ("flasked:create_app", WSGI, "say --factory"),
    ],
)
def test_app_of_another_interface_does_not_start(shared, app, options, part):
    assert part in shared.refused(app, **options).sentence


@pytest.mark.parametrize("words", [("--interface", "wsgi"), ("-k", "wsgi")])
def test_command_serves_a_wsgi_app(tmp_path, words):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "main.py").write_text((APPS / "flasked.py").read_text())
    with closing(Running(folder, "main:app", "--port", "0", *words, "--threads", "3")) as running:
        assert running.get("/items/one").text == "one /items/one "
