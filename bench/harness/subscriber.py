"""One who subscribes and reads what comes: as a WebSocket's client, or as redis's.

Its CPU is the harness's own.
"""

import base64
import os
import socket
import threading
from types import TracebackType
from typing import Self

from harness.load import LoadError


class Subscriber:
    """Reads until the block is left; `opening` is what asks for it, `begun` what is said then."""

    def __init__(self, address: tuple[str, int], opening: bytes, begun: bytes) -> None:
        self._socket = socket.create_connection(address)
        self._socket.sendall(opening)
        came = b""
        while begun not in came:
            if not (data := self._socket.recv(65_536)):
                raise LoadError(f"no subscription: {came!r}")
            came += data
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self._socket.recv(1 << 20):
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


def websocket(host: str, port: int, path: str) -> Subscriber:
    """Subscribe to what a server sends a client of this path, once it has said "subscribed"."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", "", ""]
    return Subscriber((host, port), "\r\n".join(lines).encode(), b"subscribed")


def redis(host: str, port: int, topic: str) -> Subscriber:
    """Subscribe to a channel of a redis-server."""
    return Subscriber((host, port), f"SUBSCRIBE {topic}\r\n".encode(), b":1\r\n")
