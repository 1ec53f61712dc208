"""What is counted, under which names, and that nobody from outside makes it more."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from clients import RawHTTP, RawWebSocket, close_payload
from harness import APPS, PYTHON, ROOT, Server, eventually, written_address
from http2_raw import HEADERS, Raw, head
from scrapes import HERE, OPEN_METRICS, Scrape, operations
from terms import Atom

APP = "settings:application"
SOCKETS = "sockets:application"

TYPES = {"counter": "counter", "gauge": "gauge", "histogram": "histogram"}


@pytest.fixture
def metered(serve):
    """Serve with metrics, unless the test says how."""

    def start(app=APP, **options):
        return serve(app, **{"metrics": HERE} | options)

    return start


def table(node) -> dict[str, tuple[str, list[str], str]]:
    """Return the code's table: type, labels and help of each metric."""
    return {
        str(name): (str(kind), list(map(str, labels)), help_text)
        for name, kind, labels, help_text in node.eval("hornbeam_metrics:table()")
    }


# The formats


@pytest.mark.parametrize("accept", ["text/plain", OPEN_METRICS])
def test_both_formats_are_what_their_parsers_read(metered, accept):
    server = metered()
    httpx.get(server.http)
    scrape = Scrape(server, accept)
    assert scrape.content_type.split(";")[0] == accept.split(";")[0]
    assert scrape.value("hornbeam_http_requests_total", mount="/", method="GET", code="200") >= 1
    assert scrape.value("hornbeam_http_request_duration_seconds_bucket", mount="/", le="+Inf") >= 1
    assert scrape.sum("erlang_vm_memory_bytes_total") > 0


def test_whoever_takes_anything_gets_text(metered):
    answer = httpx.get(f"{operations(metered())}/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_bounds_of_buckets_are_written_as_prometheus_does(metered):
    bounds = re.findall(r'request_duration_seconds_bucket.*le="(.*?)"', Scrape(metered()).text)
    assert bounds == ["0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25",
                      "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "+Inf"]  # fmt: skip


def test_metrics_and_their_labels_are_those_of_the_table(metered):
    server = metered()
    httpx.get(server.http)
    scrape = Scrape(server)
    known = table(server.node)
    ours = {name: family for name, family in scrape.families.items() if name.startswith("hornbeam")}
    assert {name.removesuffix("_total") for name in known} == {
        name.removesuffix("_total") for name in ours
    }
    for name, (kind, labels, help_text) in known.items():
        family = scrape.families.get(name) or scrape.families[name.removesuffix("_total")]
        assert (family.type, family.documentation) == (TYPES[kind], help_text)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(labels), name


def operated(server) -> Server:
    """Return the listener of operations as if it were a server."""
    ip, port = server.info()["operations"]
    return Server(server.node, written_address(ip), port)


def test_who_asks_for_many_at_once_gets_one(metered):
    server = metered()
    request = b"GET /metrics HTTP/1.1\r\nhost: x\r\n"
    with operated(server).connect() as raw:
        raw.sendall((request + b"\r\n") * 99 + request + b"connection: close\r\n\r\n")
        answers = raw.makefile("rb").read()
    assert (answers.count(b"HTTP/1.1 200 "), answers.count(b"HTTP/1.1 429 ")) == (1, 99)
    with httpx.Client(base_url=operations(server)) as one_after_the_other:
        assert [one_after_the_other.get("/metrics").status_code for _ in range(20)] == [200] * 20


def test_over_http2_a_connection_has_a_few_at_once(metered):
    with Raw(operated(metered())) as raw:
        asked = head(raw.host, path=b"/metrics")
        raw.send(b"".join(raw.request(1 + 2 * number, asked) for number in range(100)))
        statuses = []
        while len(statuses) < 100:
            seen = raw.read()
            assert seen
            if seen[0] == HEADERS:
                statuses.append(dict(raw.decoder.decode(seen[3]))[":status"])
    assert set(statuses) == {"200", "429"}
    assert statuses.count("200") < 50


# Requests


def test_requests_are_counted_by_mount_method_and_status(metered):
    server = metered()
    before = Scrape(server)
    for method in ("GET", "GET", "POST", "BREW", "PROPFIND"):
        httpx.request(method, f"{server.http}/some/path?a=b", content=b"12345")
    after = Scrape(server)

    def more(method: str) -> float:
        labels = {"mount": "/", "method": method, "code": "200"}
        name = "hornbeam_http_requests_total"
        return after.value(name, **labels) - before.value(name, **labels)

    assert (more("GET"), more("POST"), more("other")) == (2, 1, 2)
    duration = "hornbeam_http_request_duration_seconds_count"
    assert after.value(duration, mount="/") - before.value(duration, mount="/") == 5


def test_bodies_are_counted_both_ways(metered):
    server = metered("threaded:application", fresh=True, worker_class=Atom("wsgi"))
    answer = httpx.post(f"{server.http}/digest", content=b"12345" * 1000)
    scrape = Scrape(server)
    assert scrape.value("hornbeam_http_request_body_bytes_total", mount="/") == 5000
    counted = scrape.value("hornbeam_http_response_body_bytes_total", mount="/")
    assert counted == len(answer.content)


def test_what_the_rules_refuse_is_counted(metered):
    server = metered(allowed_hosts=["example.org"])
    assert httpx.get(server.http).status_code == 400
    scrape = Scrape(server)
    assert scrape.value("hornbeam_http_requests_total", mount="/", method="GET", code="400") == 1
    assert scrape.value("hornbeam_limits_total", limit="host_refused") == 1


def test_each_mount_is_counted_by_itself(shared):
    shared.stop()
    server = shared.node.start(
        'hornbeam:start(#{bind => "127.0.0.1:0", metrics => "127.0.0.1:0", workers => 1,'
        f' python => "{PYTHON}", pythonpath => ["{APPS}"],'
        ' mounts => [#{path => "/a", app => "settings:application"},'
        ' #{path => "/b", app => "threaded:application", worker_class => wsgi}]})'
    )
    httpx.get(f"{server.http}/a/x")
    httpx.get(f"{server.http}/b/who")
    httpx.get(f"{server.http}/nowhere")
    scrape = Scrape(server)
    assert scrape.sum("hornbeam_http_requests_total", mount="/a") == 1
    assert scrape.sum("hornbeam_http_requests_total", mount="/b") == 1
    assert scrape.value("hornbeam_limits_total", limit="no_mount") == 1
    names = {dict(labels)["worker"] for labels in scrape.of("hornbeam_worker_up")}
    assert names == {"worker-1@/a", "worker-1@/b"}
    shared.stop()


def test_random_paths_methods_and_codes_add_no_series(metered):
    server = metered()
    httpx.get(server.http)
    httpx.request("BREW", server.http)
    eventually(lambda: Scrape(server).of("hornbeam_worker_loop_lag_seconds"))
    before = Scrape(server)
    batch = 500
    for _ in range(40):
        with socket.create_connection((server.host, server.port)) as raw:
            requests = [
                f"{''.join(random.choices('ABCDEFXYZ', k=9))} /{random.random()}?{random.random()} "
                f"HTTP/1.1\r\nhost: x{random.random()}\r\n\r\n"
                for _ in range(batch)
            ]
            with ThreadPoolExecutor(1) as pool:
                pool.submit(raw.sendall, "".join(requests).encode())
                answers = 0
                rest = b""
                while answers < batch:
                    part = raw.recv(1 << 20)
                    assert part
                    joined = rest + part
                    answers += joined.count(b"HTTP/1.1 200")
                    rest = joined[-11:] if b"HTTP/1.1 200" not in joined[-11:] else b""
    after = Scrape(server)
    assert after.keys() == before.keys()
    name = "hornbeam_http_requests_total"
    assert after.value(name, mount="/", method="other", code="200") == 20_000 + 1


def test_http2_and_cowboy_count_alike(serve, tls):
    server = serve(APP, metrics=HERE, http_engine=Atom("cowboy"), **tls)
    with httpx.Client(http2=True) as client:
        client.get(server.http)
    httpx.get(server.http)
    assert (
        Scrape(server).value("hornbeam_http_requests_total", mount="/", method="GET", code="200")
        == 2
    )


# WebSockets


def test_websockets_are_counted_by_codes_messages_and_bytes(metered):
    server = metered(SOCKETS, fresh=True)
    with RawWebSocket(server, "/echo") as ws:
        ws.frame(1, b"hello")
        ws.frame(1, b"you")
        assert (ws.read_message(), ws.read_message()) == (b"hello", b"you")
        assert Scrape(server).value("hornbeam_websockets_open", mount="/") == 1
        ws.frame(8, close_payload(1000))
        ws.read_close()
    with RawWebSocket(server, "/echo") as ws:
        ws.frame(8, close_payload(4321))
        ws.read_close()

    def closed() -> Scrape | None:
        scrape = Scrape(server)
        over = scrape.sum("hornbeam_websockets_closed_total", mount="/", by="client")
        return scrape if over == 2 else None

    scrape = eventually(closed)
    assert scrape.value("hornbeam_websockets_opened_total", mount="/") == 2
    assert scrape.value("hornbeam_websockets_open", mount="/") == 0
    assert (
        scrape.value("hornbeam_websockets_closed_total", mount="/", by="client", code="1000") == 1
    )
    assert (
        scrape.value("hornbeam_websockets_closed_total", mount="/", by="client", code="other") == 1
    )
    for way in ("received", "sent"):
        assert scrape.value(f"hornbeam_websocket_messages_{way}_total", mount="/") == 2
        assert scrape.value(f"hornbeam_websocket_{way}_bytes_total", mount="/") == 8


def test_a_dead_worker_closes_with_1012_and_a_resumed_one_has_a_gap(metered):
    server = metered(SOCKETS, fresh=True)
    with RawWebSocket(server, "/echo") as ws:
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        assert ws.read_close()[0] == 1012
    labels = {"mount": "/", "by": "server", "code": "1012"}
    eventually(lambda: Scrape(server).value("hornbeam_websockets_closed_total", **labels) == 1)


# Workers


RECYCLINGS = int(os.environ.get("RECYCLINGS", "16"))
"""How often both of a test's workers are replaced."""


def test_recycled_workers_leave_as_many_series_and_no_counter_goes_back(metered):
    server = metered(fresh=True, workers=2)

    def settled() -> Scrape | None:
        scrape = Scrape(server)
        lags = scrape.of("hornbeam_worker_loop_lag_seconds")
        return scrape if len(lags) == 2 else None

    def reloaded() -> None:
        assert server.node.eval("hornbeam:reload()", 60) == "ok"

    def ends() -> float:
        return Scrape(server).sum("hornbeam_worker_ends_total")

    reloaded()
    eventually(lambda: ends() == 2)
    first = eventually(settled)
    before: dict = {}
    for _ in range(RECYCLINGS - 1):
        assert httpx.get(server.http).status_code == 200
        reloaded()
        scrape = Scrape(server)
        counters = {
            key: value for key, value in scrape.items()
            if key[0].startswith("hornbeam") and key[0].endswith(("_total", "_count", "_bucket"))
        }  # fmt: skip
        assert {key for key, value in before.items() if counters.get(key, 0) < value} == set()
        before = counters
    eventually(lambda: ends() == 2 * RECYCLINGS)
    last = eventually(settled)
    answers = ("hornbeam_http_requests_total", frozenset(
        {("mount", "/"), ("method", "GET"), ("code", "200")}
    ))  # fmt: skip
    assert last.keys() - first.keys() == {answers}
    assert len(last.text) < len(first.text) * 1.1
    assert last.sum("hornbeam_worker_lives_total") >= 2 * RECYCLINGS
    assert last.sum("hornbeam_worker_requests_total") == RECYCLINGS - 1
    reloads = {"mount": "/", "reason": "reloaded"}
    assert last.value("hornbeam_worker_ends_total", **reloads) == 2 * RECYCLINGS


def test_a_killed_worker_is_told_by_its_reason(metered):
    server = metered(fresh=True)
    os.kill(server.worker_pids()[0], signal.SIGKILL)

    def told() -> bool:
        scrape = Scrape(server)
        return (
            scrape.value("hornbeam_worker_ends_total", mount="/", reason="exited") == 1
            and scrape.value("hornbeam_worker_up", mount="/", worker="worker-1") == 1
        )

    eventually(told)
    scrape = Scrape(server)
    assert scrape.value("hornbeam_worker_lives_total", mount="/", worker="worker-1") == 2
    assert (
        scrape.value("hornbeam_worker_resident_memory_bytes", mount="/", worker="worker-1")
        > 1 << 20
    )


def test_who_waits_for_a_worker_is_seen_waiting_and_how_long(metered):
    server = metered("threaded:application", fresh=True, worker_class=Atom("wsgi"), threads=1)
    with RawHTTP(server) as held, RawHTTP(server) as waiting:
        held.request("GET", "/hold?one")
        eventually(lambda: Scrape(server).value("hornbeam_http_requests_active", mount="/") == 1)
        waiting.request("GET", "/hold?two")
        eventually(lambda: Scrape(server).value("hornbeam_requests_waiting", mount="/") == 1)
        os.kill(server.worker_pids()[0], signal.SIGUSR1)
        assert held.response().status == 200
        waited = "hornbeam_queue_wait_seconds_count"
        eventually(lambda: Scrape(server).value(waited, mount="/") == 1)


# What apps do in the node


def test_ops_and_topics_are_counted(metered):
    server = metered("threaded:application", fresh=True, worker_class=Atom("wsgi"))
    httpx.get(f"{server.http}/remembers?key=7")
    server.node.eval('hornbeam:publish("nobody", 1)')
    scrape = Scrape(server)
    assert scrape.value("hornbeam_ops_total", op="state.set") >= 1
    assert scrape.value("hornbeam_ops_total", op="state.cas") == 0
    assert scrape.value("hornbeam_pubsub_published_total") >= 1
    assert scrape.value("hornbeam_pubsub_losses_total", reason="slow") == 0


def test_nothing_is_counted_where_nobody_asks(serve):
    server = serve(APP, fresh=True)
    httpx.get(server.http)
    assert server.node.eval("hornbeam_traffic:all()") == []
    assert server.node.eval("maps:size(maps:get(ops, hornbeam_api_counts:values()))") == 0


# The guide

TOOL = importlib.util.spec_from_file_location("metrics_table", ROOT / "tools" / "metrics_table.py")
metrics_table = importlib.util.module_from_spec(TOOL)
TOOL.loader.exec_module(metrics_table)


def test_the_guide_has_the_codes_table():
    page = metrics_table.PAGE.read_text(encoding="utf-8")
    assert page == metrics_table.page(), "run tools/metrics_table.py"
