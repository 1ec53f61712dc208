"""What a visitor and a node tell each other first, on a socket that is still blocking.

Knows sockets and the wire's first messages; must not know how a socket was found.
"""

import os
import platform
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.endpoint import Endpoint
from hornbeam_erlang.exceptions import NotConnected, ProtocolError

# How long a node may take to let us in (seconds).
PATIENCE = 5.0

READ_SIZE = 65_536


@dataclass(frozen=True, slots=True)
class Config:
    """What the node says of itself; docs/wire.md has the meaning of each key."""

    worker_window: int
    tell_window: int
    op_timeout: int
    pubsub_queue_messages: int
    pubsub_queue_bytes: int
    apps: list[list[str]]

    @classmethod
    def from_map(cls, given: dict[str, Any]) -> Self:
        """Check a map from the wire; raises `ProtocolError`."""
        try:
            return cls(**given)
        except TypeError as error:
            raise ProtocolError(f"not the config of this version: {error}") from error

    @property
    def folders(self) -> list[str]:
        return [folder for _, folder in self.apps]

    def __str__(self) -> str:
        return ", ".join(f"{app} in {folder}" for app, folder in self.apps)


@dataclass(frozen=True, slots=True)
class Greeting:
    """A node that has let us in, at the end of a socket of its own."""

    path: Path
    socket: socket.socket
    endpoint: Endpoint
    config: Config


def greet(path: Path, version: str, folders: Sequence[str]) -> Greeting:
    """Connect and say hello, as a package of that version.

    Raises `OSError` where nobody listens, and `NotConnected` where one does who does not let us in.
    """
    connection, endpoint, told = connect(path, version, folders, "ops")
    try:
        config = Config.from_map(told)
        connection.setblocking(False)
    except BaseException:
        connection.close()
        raise
    endpoint.open_window(config.worker_window)
    endpoint.tells = config.tell_window
    return Greeting(path, connection, endpoint, config)


def connect(
    path: Path, version: str, folders: Sequence[str], wants: str
) -> tuple[socket.socket, Endpoint, dict[str, Any]]:
    """Say hello and what is wanted; return the socket, its end of the wire, and what the node says.

    Raises as `greet` does.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _connect(connection, path)
        connection.settimeout(PATIENCE)
        endpoint = Endpoint()
        endpoint.send(packets.encode_hello(packets.VERSION, _about(version, folders, wants)))
        connection.sendall(endpoint.take())
        return connection, endpoint, _hear(connection, endpoint, path)
    except BaseException:
        connection.close()
        raise


def _connect(connection: socket.socket, path: Path) -> None:
    """Connect, and wait where many others do: a socket with a timeout would fail at once.

    The system ends the wait as it would that of a send.
    """
    patience = struct.pack("ll", int(PATIENCE), 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
    connection.connect(os.fspath(path))


def _about(version: str, folders: Sequence[str], wants: str) -> dict[str, Any]:
    return {
        "os_pid": os.getpid(),
        "python": platform.python_version(),
        "package": version,
        "wants": wants,
        "folders": list(folders),
    }


def _hear(connection: socket.socket, endpoint: Endpoint, path: Path) -> dict[str, Any]:
    while data := connection.recv(READ_SIZE):
        for message in endpoint.receive(data):
            packets.check(message)
            match message:
                case [packets.START, _, config]:
                    return dict(config)
                case [packets.REFUSED, _, sentence]:
                    raise NotConnected(f"the server at {path} does not let us in: {sentence}")
                case _:
                    raise ProtocolError(f"message {message[0]} comes before start")
    raise NotConnected(f"the server at {path} has closed the connection")
