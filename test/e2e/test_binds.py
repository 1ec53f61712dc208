"""Several addresses that are one server: what they share, what a start or a stop does to all."""

from __future__ import annotations

import ast
import contextlib
import socket
from typing import Any

import httpx
import pytest
from harness import DEADLINE, Server, eventually, written_address

APP = "exchanges:application"


def reached(server: Server) -> list[Server]:
    """Return the server as it is seen at each of its addresses."""
    return [
        Server(server.node, port, 0, server.tls)
        if host == "local"
        else Server(server.node, written_address(host), port, server.tls)
        for host, port in server.info()["addresses"]
    ]


def get(server: Server, path: str) -> httpx.Response:
    transport = None if server.port else httpx.HTTPTransport(uds=server.host)
    url = server.http if server.port else "http://localhost"
    with httpx.Client(transport=transport, timeout=DEADLINE) as client:
        return client.get(url + path)


def scope(server: Server) -> dict[str, Any]:
    return ast.literal_eval(get(server, "/scope_of").text)


def client(server: Server) -> socket.socket:
    if server.port:
        return server.connect()
    opened = socket.socket(socket.AF_UNIX)
    opened.settimeout(DEADLINE)
    opened.connect(server.host)
    return opened


def refuses(server: Server) -> bool:
    with contextlib.suppress(OSError), client(server):
        return False
    return True


@pytest.fixture
def binds(tmp_path) -> list[str]:
    return ["127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/web.sock"]


def test_the_scope_names_the_address_that_was_reached(serve, binds, tmp_path):
    server = serve(APP, fresh=True, bind=binds)
    v4, v6, local = reached(server)
    assert server.info()["address"] == server.info()["addresses"][0]
    assert scope(v4)["server"] == ("127.0.0.1", v4.port)
    assert scope(v6)["server"] == ("::1", v6.port)
    assert scope(local)["server"] == (f"{tmp_path}/web.sock", None)


def test_they_have_one_limit_and_count_together(serve, binds):
    server = serve(APP, fresh=True, bind=binds, max_connections=2)
    v4, v6, local = reached(server)
    with client(v4), client(local):
        eventually(lambda: server.info()["sockets"] == 2)
        assert get(v6, "/hello").status_code == 503
    eventually(lambda: server.info()["sockets"] == 0)
    for each in (v4, v6, local):
        assert get(each, "/hello").status_code == 200
    assert server.info()["counters"]["http_requests"] == 3


def test_a_stop_waits_for_the_requests_of_all_and_lets_nobody_in(serve, binds, tmp_path):
    server = serve(APP, fresh=True, bind=binds)
    addresses = reached(server)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(each)) for each in addresses]
        for number, each in enumerate(clients):
            each.sendall(b"GET /parts?%d HTTP/1.1\r\nhost: x\r\n\r\n" % number)
        begun = [each.recv(1000) for each in clients]
        assert all(b"200 OK" in part for part in begun)
        server.node.eval("spawn(fun() -> hornbeam:stop() end)")
        eventually(lambda: all(map(refuses, addresses)))
        assert server.node.eval("whereis(hornbeam_listener) =/= undefined") is True
        for number in range(len(clients)):
            server.node.eval(f'hornbeam:call(<<"gallery">>, <<"open_gate">>, [<<"{number}">>])')
        assert all(to_the_end(each).endswith(b"three\r\n0\r\n\r\n") for each in clients)
    eventually(lambda: server.node.eval("whereis(hornbeam_server_sup)") == "undefined")
    assert not (tmp_path / "web.sock").exists()


def to_the_end(each: socket.socket) -> bytes:
    said = b""
    while part := each.recv(1000):
        said += part
    return said


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_that_cannot_be_listened_at_fails_the_start_and_leaves_none(shared, tmp_path, place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        name = f"127.0.0.1:{taken.getsockname()[1]}"
        binds = [f"unix:{tmp_path}/a", f"unix:{tmp_path}/b"]
        binds.insert(place, name)
        error = shared.refused(APP, bind=binds)
    assert error.sentence == f"cannot listen: address already in use (eaddrinuse): {name}"
    assert list(tmp_path.iterdir()) == []
    assert shared.node.eval("{whereis(hornbeam_server_sup), ranch:info()}") == ("undefined", {})


def test_the_same_unix_socket_twice_is_refused(shared, tmp_path):
    error = shared.refused(APP, bind=[f"unix:{tmp_path}/a"] * 2)
    assert (
        error.sentence == f"cannot listen: address already in use (eaddrinuse): unix:{tmp_path}/a"
    )
    assert list(tmp_path.iterdir()) == []


def test_all_addresses_of_both_families_may_have_one_port(serve):
    with socket.create_server(("0.0.0.0", 0)) as free:
        port = free.getsockname()[1]
    server = serve(APP, fresh=True, bind=[f"[::]:{port}", f"0.0.0.0:{port}"])
    v4, v6 = (Server(server.node, host, port) for host in ("127.0.0.1", "[::1]"))
    assert scope(v4)["server"] == ("127.0.0.1", port)
    assert scope(v6)["server"] == ("::1", port)


def test_the_listeners_crash_ends_no_connection_and_all_are_served_on(serve, binds):
    server = serve(APP, fresh=True, bind=binds)
    addresses = reached(server)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(each)) for each in addresses]
        before = server.node.eval("whereis(hornbeam_listener)")
        server.node.eval("exit(whereis(hornbeam_listener), kill)")
        eventually(lambda: server.node.eval("whereis(hornbeam_listener)")
                   not in (before, "undefined"))  # fmt: skip
        for each in clients:
            each.sendall(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert b"200 OK" in each.recv(1000)
    assert [get(each, "/hello").status_code for each in addresses] == [200, 200, 200]


def test_all_speak_tls_and_show_a_new_certificate(serve, tls):
    server = serve(APP, fresh=True, bind=["127.0.0.1:0", "127.0.0.1:0"], **tls)
    one, other = (Server(server.node, each.host, each.port, True) for each in reached(server))
    assert one.port != other.port
    assert [scope(each)["scheme"] for each in (one, other)] == ["https", "https"]
    assert server.node.eval("hornbeam:reload_certificate()") == "ok"
    assert [get(each, "/hello").status_code for each in (one, other)] == [200, 200]
