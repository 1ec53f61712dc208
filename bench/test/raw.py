"""A server that is nothing but bytes: what no ASGI app can get wrong is said here by hand.

With a certificate it says the same over TLS, which it ends with a close_notify unless it hangs up
before or is told to leave it out.
"""

import os
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import Self

from servers.certificate import Certificate

Talk = Callable[[socket.socket], None]

UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Raw:
    """Lets a function talk on each connection, in a thread of its own; then hangs up."""

    def __init__(
        self, talk: Talk, certificate: Certificate | None = None, notifies: bool = True
    ) -> None:
        self._talk = talk
        self._notifies = notifies
        self.certificate = certificate
        self.pids = [os.getpid()]

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):  # the load may hang up
            if self.certificate:
                self._serve_tls(connection, self.certificate)
            else:
                self._talk(connection)

    def _serve_tls(self, connection: socket.socket, shown: Certificate) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(shown.chain, shown.key)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(connection, server_side=True) as secured:
            self._talk(secured)
            if self._notifies and secured.fileno() >= 0:
                secured.unwrap()


def read_request(connection: socket.socket) -> bytes:
    """The head of a request; EOFError when there is none."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read(connection, 1)
    return head


def read(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or EOFError."""
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def read_frame(connection: socket.socket) -> tuple[int, bytes]:
    """Opcode and payload of a client's short frame."""
    first, second = read(connection, 2)
    mask = read(connection, 4)
    payload = read(connection, second & 0x7F)
    return first & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def frame(opcode: int, payload: bytes) -> bytes:
    """A server's short frame."""
    return bytes((0x80 | opcode, len(payload))) + payload


def reset(connection: socket.socket) -> None:
    """Hang up without the end that TCP has for it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
