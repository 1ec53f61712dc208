"""Over TLS a load believes one certificate, and takes records in whatever pieces they come."""

import socket
import ssl
from contextlib import suppress
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import raw
from faulty import Faulty

from harness.load import LoadError, window
from servers.certificate import Certificate, made

LOADS: dict[str, dict[str, str | float]] = {
    "http": {"path": "/", "expect": "Hello, World!", "sockets": 3},
    "echo": {"sockets": 3, "size": 40},
    "connect": {"lives": 3, "size": 40},
}
TIMES = {"warmup": 0, "seconds": 0.2}
ALL = pytest.mark.parametrize("generator", LOADS)


def taken_for(server: Any, certificate: Certificate) -> Any:
    """The server as a load sees it that was told of this certificate."""
    return SimpleNamespace(port=server.port, pids=server.pids, certificate=certificate)


@ALL
def test_another_certificate_is_an_error(generator: str, certificate: Certificate) -> None:
    with (
        made() as other,
        Faulty("wrong_echo", "none", other) as server,
        pytest.raises(LoadError, match=r"the handshake of TLS failed: .*rejected"),
    ):
        window(taken_for(server, certificate), generator, **LOADS[generator], **TIMES)


@ALL
def test_a_server_without_tls_is_an_error(generator: str, certificate: Certificate) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with (
        raw.Raw(talk) as server,
        pytest.raises(LoadError, match="the handshake of TLS failed: wrong version"),
    ):
        window(taken_for(server, certificate), generator, **LOADS[generator], **TIMES)


@ALL
def test_an_older_tls_is_an_error(generator: str, certificate: Certificate) -> None:
    def talk(connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.wrap_socket(connection, server_side=True)

    with (
        raw.Raw(talk) as server,
        pytest.raises(LoadError, match=r"the handshake of TLS failed: .*version"),
    ):
        window(taken_for(server, certificate), generator, **LOADS[generator], **TIMES)


@ALL
def test_a_handshake_that_breaks_off_is_an_error(generator: str, certificate: Certificate) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(4096)

    with (
        raw.Raw(talk) as server,
        pytest.raises(LoadError, match="the handshake of TLS failed: end of file"),
    ):
        window(taken_for(server, certificate), generator, **LOADS[generator], **TIMES)


@pytest.mark.parametrize("generator", ["echo", "connect"])
def test_records_may_come_in_pieces(generator: str, certificate: Certificate) -> None:
    with (
        Faulty("wrong_echo", "none", certificate) as server,
        raw.Raw(cut_up(server.port)) as relay,
    ):
        assert (
            window(taken_for(relay, certificate), generator, **LOADS[generator], **TIMES)[
                "messages"
            ]
            > 3
        )


def cut_up(port: int) -> raw.Talk:
    """A relay that passes on what a server says by seven bytes."""

    def talk(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with socket.create_connection(("127.0.0.1", port)) as server:
            Thread(target=pass_on, args=(connection, server, 65536), daemon=True).start()
            pass_on(server, connection, 7)

    return talk


def pass_on(source: socket.socket, sink: socket.socket, at_once: int) -> None:
    with suppress(OSError):
        while data := source.recv(at_once):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def test_what_does_not_go_out_at_once_goes_out_later(certificate: Certificate) -> None:
    size = 8 * 1024 * 1024
    with Faulty("wrong_http", "none", certificate) as server:
        figures = window(server, "http", path="/", size=size, sockets=2, depth=2, **TIMES)
    assert figures["messages"] >= 4
