"""What the server itself says of its health: who is told, what, and by which way they come."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from clients import RawHTTP, handshake_headers
from commands import Running, closing
from harness import eventually
from http2 import Http2
from terms import Atom

APP = "exchanges:application"

NAMING = "naming:application"

HEALTH = {"health_path": "/healthz"}

READY = (200, {"status": "ready", "reasons": []})


def asked(server, target="/healthz", method="GET", *headers, host="test"):
    with RawHTTP(server) as raw:
        lines = [f"{method} {target} HTTP/1.1", f"host: {host}", *headers, "", ""]
        raw.send("\r\n".join(lines).encode("latin-1"))
        return raw.response(method)


def health(server, target="/healthz"):
    response = asked(server, target)
    return response.status, json.loads(response.body)


# Who is told


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
def test_it_is_told_by_get_and_by_head_and_the_connection_is_kept(serve, engine):
    server = serve(APP, http_engine=Atom(engine), **HEALTH)
    with RawHTTP(server) as raw:
        for _ in range(2):
            raw.request("GET", "/healthz")
            response = raw.response()
            assert (response.status, json.loads(response.body)) == READY
            assert response.all("cache-control") == ["no-store"]
            assert response.all("content-type") == ["application/json"]
        raw.request("HEAD", "/healthz")
        head = raw.response("HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.all("content-length") == response.all("content-length")
        raw.request("GET", "/hello")
        assert raw.response().status == 200
        raw.request("POST", "/healthz", "content-length: 2", body=b"hi")
        refused = raw.response()
        assert (refused.status, refused.all("allow")) == (405, ["GET, HEAD"])


def test_it_is_told_over_http2(serve):
    with Http2(serve(APP, **HEALTH)) as connection:
        stream = connection.request("GET", "/healthz")
        status, headers = stream.head()
        assert (status, json.loads(stream.body())) == READY
        assert ("cache-control", "no-store") in headers


def test_it_is_told_by_tls(serve, tls):
    assert health(serve(APP, **HEALTH, **tls)) == READY


def test_requests_that_follow_each_other_are_answered_in_their_order(serve):
    with RawHTTP(serve(APP, **HEALTH)) as raw:
        for target in ("/hello", "/healthz", "/hello"):
            raw.send(f"GET {target} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
        bodies = [raw.response().body for _ in range(3)]
    assert bodies[0] == bodies[2]
    assert json.loads(bodies[1])["status"] == "ready"


def test_without_the_option_the_path_is_the_apps(serve):
    assert b"reasons" not in asked(serve(NAMING), "/healthz").body


@pytest.mark.parametrize("target", ["/healthz/", "/healthz/x", "/healthzz", "/HEALTHZ"])
def test_other_paths_are_the_apps(serve, target):
    assert b"reasons" not in asked(serve(NAMING, **HEALTH), target).body


def test_a_path_that_is_encoded_is_the_same(serve):
    assert health(serve(APP, **HEALTH), "/%68ealthz") == READY


def test_a_probe_may_name_any_host_and_come_by_any_proxy(serve):
    server = serve(APP, allowed_hosts=["example.org"], **HEALTH)
    assert asked(server, host="10.1.2.3:8000").status == 200
    assert asked(server, "/hello", host="10.1.2.3:8000").status == 400
    assert asked(server, "/healthz", "GET", "x-forwarded-for: nonsense,").status == 200


def test_it_comes_before_mounts(serve):
    mounts = [
        {Atom("path"): "/healthz", Atom("app"): APP},
        {Atom("path"): "/b", Atom("app"): APP},
    ]
    server = serve(APP, mounts=mounts, **HEALTH)
    assert health(server) == READY
    assert asked(server, "/healthz/hello").status == 200


def test_a_websocket_is_not_opened_there(serve):
    server = serve(APP, **HEALTH)
    assert asked(server, "/healthz", "GET", *handshake_headers()).status == 200


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_a_server_that_has_no_room_for_a_connection_is_still_asked(serve, tls, scheme):
    server = serve(APP, max_connections=1, **HEALTH, **(tls if scheme == "tls" else {}))
    with RawHTTP(server) as only:
        only.request("GET", "/hello")
        assert only.response().status == 200
        for target, status in (("/healthz", 200), ("/hello", 503), ("/healthz?live", 200)):
            with RawHTTP(server) as other:
                other.request("GET", target)
                response = other.response()
                assert (response.status, response.all("connection")) == (status, ["close"])
                assert other.ended()
    eventually(lambda: server.info()["sockets"] == 0)


@pytest.mark.parametrize("wrong", ["healthz", "/", "/a?b", "/a b\n", "/a/", 7])
def test_a_path_that_is_none_is_refused(shared, wrong):
    assert "health_path" in shared.refused(APP, health_path=wrong).sentence


def test_the_access_log_has_none_of_it(tmp_path):
    words = ("naming:application", "--port", 0, "--lifespan", "off", "--health-path", "/healthz")
    with closing(Running(tmp_path, *words)) as running:
        assert running.get("/healthz").json() == READY[1]
        assert running.get("/seen").status_code == 200
        eventually(lambda: "/seen" in running.printed)
        assert "healthz" not in running.printed


# What is told


def reasons(server, target="/healthz"):
    status, told = health(server, target)
    return status, told["status"], [why["reason"] for why in told["reasons"]]


def test_a_pool_that_lacks_workers_is_degraded_and_serves(serve):
    server = serve(APP, workers=2, fresh=True, startup_timeout=600_000, **HEALTH)
    first = server.worker_pids()[0]
    with stopped_at_birth(server):
        os.kill(first, signal.SIGKILL)
        eventually(lambda: reasons(server) == (200, "degraded", ["workers_missing"]))
        assert asked(server, "/hello").status == 200
        (why,) = health(server)[1]["reasons"]
        assert why == {"mount": "/", "reason": "workers_missing", "count": 1, "of": 2}
    eventually(lambda: health(server) == READY)


def test_a_pool_without_a_worker_is_not_ready_but_alive(serve):
    server = serve(APP, fresh=True, startup_timeout=600_000, **HEALTH)
    (only,) = server.worker_pids()
    with stopped_at_birth(server):
        os.kill(only, signal.SIGKILL)
        eventually(lambda: reasons(server) == (503, "degraded", ["no_worker"]))
        assert reasons(server, "/healthz?live") == (200, "degraded", ["no_worker"])
    eventually(lambda: health(server) == READY)


@contextlib.contextmanager
def stopped_at_birth(server):
    """Have the next worker that starts stand still before it is ready, until the end."""
    before = set(server.node.python_pids())

    def halt():
        pid = eventually(lambda: [p for p in server.node.python_pids() if p not in before])[0]
        os.kill(pid, signal.SIGSTOP)
        return pid

    with ThreadPoolExecutor(1) as pool:
        halted = pool.submit(halt)
        yield
        os.kill(halted.result(), signal.SIGCONT)


def test_a_worker_that_stands_still_is_slow_and_the_answer_does_not_wait_for_it(serve):
    server = serve(APP, fresh=True, **HEALTH)
    (pid,) = server.worker_pids()
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: reasons(server) == (200, "degraded", ["workers_slow"]))
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: health(server) == READY)


def test_a_queue_that_is_full_is_degraded_and_serves(serve, key):
    server = serve(APP, worker_connections=1, queue_max=1, **HEALTH)
    with RawHTTP(server) as first, RawHTTP(server) as second:
        first.request("GET", f"/waits?{key}")
        eventually(lambda: server.info()["streams"] == 1)
        second.request("GET", f"/waits?{key}")
        eventually(lambda: reasons(server) == (200, "degraded", ["queue_full"]))
