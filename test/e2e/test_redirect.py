"""The listener that sends HTTP to HTTPS: where to, whom, and whom not."""

from __future__ import annotations

import socket

import httpx
import pytest
from harness import DEADLINE, Server, eventually
from terms import Atom

APP = "exchanges:application"


def redirecting(server: Server) -> int:
    return server.info()["redirect_http"][1]


def answer(port: int, request: bytes) -> httpx.Response:
    """Return the answer to a request that is sent as it is; the connection ends with it."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
        client.sendall(request)
        said = b""
        while part := client.recv(65536):
            said += part
    head, _, body = said.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (field.partition(": ") for field in fields)]
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


@pytest.fixture(params=["hornbeam", "cowboy"])
def server(serve, tls, request) -> Server:
    engine = Atom(request.param)
    return serve(APP, redirect_http="127.0.0.1:0", http_engine=engine, redirect_port=443, **tls)


REQUESTS = {
    b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n": "https://a.example/",
    b"GET /a%20b?c=d&e HTTP/1.1\r\nhost: A.example:8080\r\n\r\n": "https://a.example/a%20b?c=d&e",
    b"POST /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: 3\r\n\r\nabc": "https://a.example/x",
    b"GET //b.example/x HTTP/1.1\r\nhost: a.example\r\n\r\n": "https://a.example//b.example/x",
    b"GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n": "https://[::1]/",
    b"HEAD / HTTP/1.1\r\nhost: a.example\r\n\r\n": "https://a.example/",
    b"GET http://a.example/x HTTP/1.1\r\nhost: a.example\r\n\r\n": "https://a.example/x",
    b"OPTIONS * HTTP/1.1\r\nhost: a.example\r\n\r\n": "https://a.example/",
    b"GET /ws HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n":
        "https://a.example/ws",
}  # fmt: skip


@pytest.mark.parametrize(
    "request_line", REQUESTS, ids=lambda line: line.split(b" HTTP")[0].decode()
)
def test_a_request_is_sent_to_the_same_page_over_tls(server, request_line):
    close = request_line.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
    request = request_line if b"upgrade" in request_line else close
    got = answer(redirecting(server), request)
    assert (got.status_code, got.headers["location"]) == (308, REQUESTS[request_line])
    assert got.headers["server"] == "hornbeam"


@pytest.mark.parametrize("host", [
    b"", b"host: a b\r\n", b"host: a.example/x\r\n", b"host: u@a.example\r\n", b"host: \r\n",
    b"host: a.example\r\nhost: b.example\r\n", b"host: a.example:x\r\n", b"host: a\\b\r\n",
])  # fmt: skip
def test_who_names_no_host_is_sent_nowhere(server, host):
    got = answer(redirecting(server), b"GET / HTTP/1.1\r\n" + host + b"connection: close\r\n\r\n")
    assert got.status_code == 400
    assert "location" not in got.headers


def test_only_hosts_that_are_served_are_sent_to(serve, tls):
    hosts = ["a.example"]
    server = serve(APP, fresh=True, redirect_http="127.0.0.1:0", allowed_hosts=hosts, **tls)
    request = b"GET / HTTP/1.1\r\nhost: %s\r\n\r\n"
    good, bad = (
        answer(redirecting(server), request % host) for host in (b"a.example", b"b.example")
    )
    assert good.headers["location"] == f"https://a.example:{server.port}/"
    assert (bad.status_code, "location" in bad.headers) == (400, False)
    counters = server.info()["counters"]
    assert (counters["redirected"], counters["host_refused"], counters["http_requests"]) == (
        1,
        1,
        0,
    )


def test_limits_timeouts_and_the_stop_are_the_servers(serve, tls):
    options = {"header_timeout": 300, "max_connections": 1, "redirect_http": "127.0.0.1:0"}
    server = serve(APP, fresh=True, limit_request_line=100, **options, **tls)
    port = redirecting(server)
    assert answer(port, b"GET /" + bytes([97]) * 100 + b" HTTP/1.1\r\n").status_code == 414
    eventually(lambda: server.info()["sockets"] == 0)
    assert answer(port, b"GET / HTTP/1.1\r\n").status_code == 408
    eventually(lambda: server.info()["sockets"] == 0)
    with socket.create_connection(("127.0.0.1", port), DEADLINE):
        eventually(lambda: server.info()["sockets"] == 1)
        assert answer(port, b"").status_code == 503
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), DEADLINE)


def test_http2_without_tls_is_sent_on_too(server):
    with httpx.Client(http1=False, http2=True) as client:
        got = client.get(f"http://localhost:{redirecting(server)}/x?y")
    assert (got.status_code, got.http_version) == (308, "HTTP/2")
    assert got.headers["location"] == "https://localhost/x?y"


def test_a_client_that_follows_arrives(serve, tls):
    server = serve(APP, fresh=True, redirect_http="127.0.0.1:0", **tls)
    got = httpx.get(f"http://127.0.0.1:{redirecting(server)}/hello", follow_redirects=True)
    assert (got.status_code, got.text, got.url.scheme) == (200, "hello", "https")


def test_one_that_cannot_be_listened_at_fails_the_start(shared, tls):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        name = f"127.0.0.1:{taken.getsockname()[1]}"
        error = shared.refused(APP, redirect_http=name, **tls)
    assert error.sentence == f"cannot listen: address already in use (eaddrinuse): {name}"
    assert shared.node.eval("ranch:info()") == {}


def test_without_tls_or_a_port_of_it_there_is_nowhere_to_send_to(shared, tls, tmp_path):
    error = shared.refused(APP, redirect_http="127.0.0.1:0")
    assert error.sentence.startswith("option certfile has the value undefined; expected ")
    error = shared.refused(APP, redirect_http="127.0.0.1:0", bind=f"unix:{tmp_path}/s", **tls)
    assert error.sentence.startswith("option redirect_port has the value undefined; expected ")
