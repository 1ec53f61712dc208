"""OpenTelemetry in an app: the spans of its ASGI instrumentation, their parents, and their end."""

from __future__ import annotations

import json
import os
import signal
import ssl
from pathlib import Path

import httpx
import pytest
from harness import Server, eventually
from terms import Atom
from websockets.sync.client import connect

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=of-a-test"}


class Spans:
    """What the workers of a server have exported."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> list[dict]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def roots(self) -> list[dict]:
        """Return those whose parent is the client's span."""
        return [span for span in self.all() if span["parent"] == PARENT]


@pytest.fixture
def spans(tmp_path) -> Spans:
    path = tmp_path / "spans"
    path.touch()
    return Spans(path)


@pytest.fixture
def traced(serve, spans):
    def start(**options):
        return serve("traced:application", fresh=True, env={"SPANS": str(spans.path)}, **options)

    return start


@pytest.mark.parametrize("spoken", ["hornbeam", "cowboy", "http2"])
def test_a_request_is_a_span_of_its_clients_trace(traced, spans, tls, spoken):
    options = tls if spoken == "http2" else {"http_engine": Atom(spoken)}
    server = traced(**options)
    with httpx.Client(http2=spoken == "http2", verify=ssl.create_default_context()) as client:
        assert client.get(f"{server.http}/hello", headers=HEADERS).text == "hello"
    assert spans.all() == []
    server.stop()
    (root,) = spans.roots()
    assert (root["trace"], root["state"]) == (TRACE, "vendor=of-a-test")
    assert root["attributes"]["net.peer.ip"] == "127.0.0.1"
    (inside,) = (span for span in spans.all() if span["name"] == "inside")
    assert (inside["trace"], inside["parent"]) == (TRACE, root["id"])
    assert len(spans.all()) == 2


def test_the_client_of_a_span_is_the_one_behind_the_proxy(traced, spans):
    server = traced()
    headers = HEADERS | {"x-forwarded-for": "192.0.2.7"}
    httpx.get(f"{server.http}/hello", headers=headers)
    server.stop()
    (root,) = spans.roots()
    assert root["attributes"]["net.peer.ip"] == "192.0.2.7"


def test_a_websocket_is_one_span_however_much_is_said(traced, spans):
    server = traced()
    for count in (1, 200):
        with connect(f"{server.ws}/echo", additional_headers=HEADERS) as opened:
            for number in range(count):
                opened.send(str(number))
                assert opened.recv() == str(number)
    server.stop()
    assert len(spans.roots()) == len(spans.all()) == 2


def successor(server: Server, before: int) -> int:
    """Wait until there is one worker, which is another and ready; return its process."""

    def alone() -> int:
        workers = server.workers()
        ready = [worker["os_pid"] for worker in workers if worker["state"] == "ready"]
        return ready[0] if len(workers) == len(ready) == 1 and ready[0] != before else 0

    return eventually(alone)


def test_a_reload_loses_no_span_and_a_kill_only_its_workers(traced, spans):
    server = traced()
    (before,) = server.worker_pids()
    httpx.get(f"{server.http}/hello", headers=HEADERS)
    assert server.node.eval("hornbeam:reload()", 60) == "ok"
    eventually(lambda: len(spans.roots()) == 1)
    assert spans.roots()[0]["pid"] == before
    killed = successor(server, before)
    httpx.get(f"{server.http}/hello", headers=HEADERS)
    os.kill(killed, signal.SIGKILL)
    last = successor(server, killed)
    httpx.get(f"{server.http}/hello", headers=HEADERS)
    server.stop()
    assert [root["pid"] for root in spans.roots()] == [before, last]
