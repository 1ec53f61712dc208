"""The HTTP load believes no response: each way in which one can go wrong stops it."""

import socket
from collections.abc import Iterator

import pytest
import raw
from faulty import Faulty

from harness.load import LoadError, window
from servers.certificate import Certificate

LOAD: dict[str, str | float] = {
    "path": "/items/#",
    "expect": '{"id":#,"name":"item #"}',
    "sockets": 3,
    "warmup": 0,
    "seconds": 0.2,
}
FAULTY_REQUEST = 20  # of each connection
HEAD = b"HTTP/1.1 200 OK\r\n"
# What is wrong with a response to which {"id":7,…} is due, and what the load says of it.
FAULTS = {
    "status": "not HTTP/1.1 200: HTTP/1.1 503 Service Unavailable",
    "version": "not HTTP/1.1 200: HTTP/1.0 200 OK",
    "changed": "expected [0-9]+ bytes: .*, got",
    "other": "expected [0-9]+ bytes: .*, got",
    "shorter": "expected [0-9]+ bytes: .*, got",
    "longer": "expected [0-9]+ bytes: .*, got",
    "endless": "a body that is longer than what is due",
    "twice": "a body without one length",
    "no length": "a body without one length",
    "odd length": "a length that is no number: 1x",
    "coding": "a coding that was not asked for: gzip",
    "ends": "the server ends the connection: Connection: close",
    "chunk size": "a wrong chunk: zz",
    "chunk end": "a chunk without its end",
    "trailer": "a chunk without its end, or a trailer",
    "doubled": "a response to nothing",
    "cut": "the server hung up: end of file",
    "silent": "no response for 5000 ms with [1-3] in flight",
}


def whole(body: bytes, head: bytes = HEAD, more: bytes = b"") -> bytes:
    return head + b"Content-Length: %d\r\n%s\r\n%s" % (len(body), more, body)


def chunked(body: bytes) -> bytes:
    parts = (b"%x;by=hand\r\n%s\r\n" % (len(part), part) for part in (body[:5], body[5:]))
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"".join(parts) + b"0\r\n\r\n"


def response(fault: str, body: bytes) -> bytes:
    """What the faulty server sends where this body is due."""
    table = {
        "whole": whole(body),
        "chunked": chunked(body),
        "status": whole(body, b"HTTP/1.1 503 Service Unavailable\r\n"),
        "version": whole(body, b"HTTP/1.0 200 OK\r\n"),
        "changed": whole(body[:-2] + b"?}"),
        "other": whole(b'{"id":1000000,"name":"item 1000000"}'),
        "shorter": whole(body[:-1]),
        "longer": whole(body + b" "),
        "endless": whole(body)[: -len(body)].replace(b"Length: ", b"Length: 99999"),
        "twice": whole(body, more=b"Content-Length: 1\r\n"),
        "no length": HEAD + b"\r\n" + body,
        "odd length": HEAD + b"Content-Length: 1x\r\n\r\n" + body,
        "coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + body,
        "ends": whole(body, more=b"Connection: close\r\n"),
        "chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "chunk end": chunked(body).replace(body[5:] + b"\r\n", body[5:] + b"!!"),
        "trailer": chunked(body)[:-2] + b"Etag: 1\r\n\r\n",
        "doubled": whole(body) * 2,
        "cut": whole(body)[:-3],
        "silent": b"",
    }
    return table[fault]


def bodies(connection: socket.socket) -> Iterator[bytes]:
    """The body that is due for each request of a connection."""
    while request := raw.read_request(connection):
        number = request.split()[1].removeprefix(b"/items/")
        yield b'{"id":%s,"name":"item %s"}' % (number, number)


def wrong_once(fault: str) -> raw.Talk:
    def talk(connection: socket.socket) -> None:
        for count, body in enumerate(bodies(connection), start=1):
            faulty = count == FAULTY_REQUEST
            connection.sendall(response(fault if faulty else "whole", body))
            if faulty and fault == "cut":
                return

    return talk


def byte_by_byte(framing: str) -> raw.Talk:
    def talk(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for body in bodies(connection):
            for byte in response(framing, body):
                connection.send(bytes((byte,)))

    return talk


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_response_is_an_error(fault: str, shown: Certificate | None) -> None:
    with raw.Raw(wrong_once(fault), shown) as server, pytest.raises(LoadError, match=FAULTS[fault]):
        window(server, "http", **LOAD)


@pytest.mark.parametrize("framing", ["whole", "chunked"])
def test_a_right_response_may_come_byte_by_byte(framing: str, shown: Certificate | None) -> None:
    with raw.Raw(byte_by_byte(framing), shown) as server:
        figures = window(server, "http", **LOAD)
    assert figures["messages"] > 10


def test_right_responses_are_counted_and_paid_for(shown: Certificate | None) -> None:
    with Faulty("wrong_http", "none", shown) as server:
        figures = window(server, "http", **LOAD)
    assert figures["messages"] > 100
    assert figures["cpu_us"] > 0
    assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["max_us"] * 1.02


def test_requests_in_a_row_are_answered_in_their_order(shown: Certificate | None) -> None:
    with Faulty("wrong_http", "none", shown) as server:
        figures = window(server, "http", **LOAD | {"depth": 4})
    assert figures["messages"] > 100


@pytest.mark.parametrize("order", ["right", "wrong"])
def test_so_many_requests_are_on_their_way_and_their_order_counts(order: str) -> None:
    def talk(connection: socket.socket) -> None:
        due = bodies(connection)
        while True:
            four = [whole(next(due)) for _ in range(4)]
            connection.sendall(b"".join(four if order == "right" else reversed(four)))

    with raw.Raw(talk) as server:
        if order == "right":
            assert window(server, "http", **LOAD | {"depth": 4})["messages"] > 100
            return
        with pytest.raises(LoadError, match=r"expected [0-9]+ bytes: .*, got"):
            window(server, "http", **LOAD | {"depth": 4})


@pytest.mark.parametrize("fault", ["none", "changed"])
def test_the_body_of_a_post_must_come_back(fault: str) -> None:
    post = {"size": 1024, "sockets": 3, "warmup": 0, "seconds": 0.2}
    with Faulty("wrong_http", fault) as server:
        if fault == "none":
            assert window(server, "http", **post)["messages"] > 100
            return
        with pytest.raises(LoadError, match="expected 1024 bytes"):
            window(server, "http", **post)


def test_a_server_that_is_gone_is_an_error() -> None:
    with raw.Raw(byte_by_byte("whole")) as server:
        pass
    with pytest.raises(LoadError, match="cannot connect"):
        window(server, "http", **LOAD)
