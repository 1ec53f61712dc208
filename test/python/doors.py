"""A node's local socket for the tests: a thread that lets in and says what the test wants.

Speaks msgpack by itself, as beam.py does.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
from beam import CODES, NAMES
from hornbeam_erlang._wire.values import pack

CONFIG = {
    "worker_window": 1 << 20,
    "tell_window": 16,
    "op_timeout": 5000,
    "pubsub_queue_messages": 1000,
    "pubsub_queue_bytes": 1 << 20,
    "apps": [["shop:app", "/srv/shop"]],
}

Say = Callable[..., None]


class Door:
    """A socket at which a test lets processes in; `heard` is what they have said, by name."""

    def __init__(self, path: Path, **config: Any) -> None:
        self.path = path
        self.config = CONFIG | config
        self.heard: list[tuple[str, list[Any]]] = []
        self.connections: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def answer(self, say: Say, name: str, fields: list[Any]) -> None:
        """Let in who says hello, and answer each op with the packed name of its number."""
        match name:
            case "hello":
                say("start", self.config)
            case "op":
                say("reply", fields[0], 0, pack(f"op {fields[1]}"))

    def close(self) -> None:
        """End the server and all of its connections."""
        for connection in (self._listening, *self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        def say(name: str, *fields: Any) -> None:
            with contextlib.suppress(OSError):  # a node reads on when nobody hears it any more
                connection.sendall(msgpack.packb([CODES[name], 0, *fields]))

        with contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while len(head := stream.read(4)) == 4:
                code, _, *fields = msgpack.unpackb(stream.read(*struct.unpack(">I", head)))
                self.heard.append((NAMES[code], fields))
                self.answer(say, NAMES[code], fields)
        connection.close()


class Scripted(Door):
    """One that says something else than a node does, and then closes or waits."""

    def __init__(self, path: Path, says: bytes, *, closes: bool = True) -> None:
        self._says = says
        self._closes = closes
        super().__init__(path)

    def _serve(self, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(self._says)
        if self._closes:
            connection.close()
