"""A client of HTTP/2 by hand, and a bridge over which clients of HTTP/1.1 speak it.

Knows RFC 9113 and RFC 8441 as far as a test needs them, by way of the package `h2`. A reader gives
the peer no more room than it has read, so that a test that does not read is a slow client.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import h2.connection
import h2.events
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from harness import DEADLINE, Server

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Stream:
    """One request of a connection, and what came back."""

    def __init__(self, connection: Http2, number: int) -> None:
        self.connection, self.number = connection, number
        self.headers: list[tuple[str, str]] | None = None
        self.data = bytearray()
        self.ended = False
        self.code: int | None = None

    @property
    def over(self) -> bool:
        return self.ended or self.code is not None or self.connection.closed

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        """Wait for the response: its status and headers."""
        self.connection.wait(lambda: self.headers is not None or self.over)
        if self.headers is None:
            raise ConnectionError(f"stream {self.number} ended with {self.code}")
        status, *headers = self.headers
        return int(status[1]), headers

    def read(self, size: int = 65536) -> bytes:
        """Read up to `size` bytes; nothing at the end. A reset is an error."""
        self.connection.wait(lambda: self.data or self.over)
        with self.connection.changed:
            part = bytes(self.data[:size])
            del self.data[:size]
            if not part and not self.ended:
                raise ConnectionResetError(f"reset with {self.code}")
            if part and not self.connection.closed:
                self.connection.h2.acknowledge_received_data(len(part), self.number)
                self.connection.flush()
        return part

    def body(self) -> bytes:
        return b"".join(iter(self.read, b""))

    def send(self, data: bytes, *, end: bool = False) -> None:
        """Write as the peer's windows allow, and wait for them."""
        while data:
            data = data[self.send_some(data) :]
        if end:
            self.end()

    def send_some(self, data: bytes, deadline: float = DEADLINE) -> int:
        """Write what one frame and the peer's windows take; say how much."""
        connection = self.connection
        connection.wait(lambda: self.over or connection.room(self.number) > 0, deadline)
        with connection.changed:
            if self.over:
                raise ConnectionResetError(f"reset with {self.code}")
            size = min(len(data), connection.room(self.number))
            connection.h2.send_data(self.number, data[:size])
            connection.flush()
        return size

    def end(self) -> None:
        with self.connection.changed:
            if not self.connection.closed and self.code is None:
                self.connection.h2.end_stream(self.number)
                self.connection.flush()

    def reset(self, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        with self.connection.changed, contextlib.suppress(ProtocolError, OSError):
            self.connection.h2.reset_stream(self.number, code)
            self.connection.flush()


class Http2:
    """A connection of HTTP/2: by ALPN where the server speaks TLS, else by prior knowledge."""

    def __init__(self, server: Server) -> None:
        self.socket = server.connect(alpn="h2")
        self.socket.setblocking(False)
        self.authority = f"{server.host}:{server.port}"
        self.scheme = "https" if server.tls else "http"
        self.h2 = h2.connection.H2Connection(H2Configuration(header_encoding="utf-8"))
        self.changed = threading.Condition()
        self.streams: dict[int, Stream] = {}
        self.settings: dict[Any, int] = {}
        self.goaway: int | None = None
        self.pings = 0
        self.closed = False
        with self.changed:
            self.h2.initiate_connection()
            self.flush()
        threading.Thread(target=self.listen, daemon=True).start()
        self.wait(lambda: self.settings or self.closed)

    def __enter__(self) -> Http2:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def wait(self, condition: Callable[[], Any], deadline: float = DEADLINE) -> None:
        with self.changed:
            if not self.changed.wait_for(condition, deadline):
                raise TimeoutError("nothing came over HTTP/2")

    def flush(self) -> None:
        """Write what is due; the caller has the lock, which TLS needs for each call."""
        data = self.h2.data_to_send()
        while data:
            try:
                data = data[self.socket.send(data) :]
            except WOULD_BLOCK:
                select.select([], [self.socket], [], DEADLINE)

    def receive(self) -> bytes:
        """Wait for what the peer writes; nothing at its end."""
        while True:
            with self.changed, contextlib.suppress(*WOULD_BLOCK):
                return self.socket.recv(65536)
            select.select([self.socket], [], [])

    def room(self, number: int) -> int:
        try:
            return min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
        except ProtocolError:
            return 0

    def request(
        self, method: str, path: str, *headers: tuple[str, str], end: bool = True, **pseudo: str
    ) -> Stream:
        """Open a stream; with `end` its request has no body."""
        named = {
            "method": method, "scheme": self.scheme, "authority": self.authority, "path": path,
        } | pseudo  # fmt: skip
        with self.changed:
            number = self.h2.get_next_available_stream_id()
            stream = self.streams[number] = Stream(self, number)
            fields = [(f":{name}", value) for name, value in named.items()]
            self.h2.send_headers(number, [*fields, *headers], end_stream=end)
            self.flush()
        return stream

    def allow(self, streams: int) -> None:
        """Open so many streams at a time, whatever the server asks for."""
        with self.changed:
            self.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = streams
            self.h2.remote_settings.acknowledge()

    def websocket(self, path: str, *headers: tuple[str, str]) -> Stream:
        """Ask for a WebSocket as RFC 8441 does."""
        assert self.settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1
        return self.request(
            "CONNECT", path, ("sec-websocket-version", "13"), *headers,
            end=False, protocol="websocket",
        )  # fmt: skip

    def listen(self) -> None:
        try:
            while data := self.receive():
                with self.changed:
                    for event in self.h2.receive_data(data):
                        self.happened(event)
                    self.flush()
                    self.changed.notify_all()
        except (OSError, ProtocolError, ValueError):
            pass
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def happened(self, event: h2.events.Event) -> None:
        stream = self.streams.get(getattr(event, "stream_id", None) or 0)
        match event:
            case h2.events.RemoteSettingsChanged():
                changed = event.changed_settings.items()
                self.settings |= {code: setting.new_value for code, setting in changed}
            case h2.events.ConnectionTerminated():
                self.goaway = event.error_code
            case h2.events.PingReceived():
                self.pings += 1
            case h2.events.ResponseReceived() if stream:
                stream.headers = list(event.headers)
            case h2.events.DataReceived() if stream:
                stream.data += event.data
                if padding := event.flow_controlled_length - len(event.data):
                    self.h2.acknowledge_received_data(padding, event.stream_id)
            case h2.events.StreamEnded() if stream:
                stream.ended = True
            case h2.events.StreamReset() if stream:
                stream.code = event.error_code


class Bridge:
    """A door for clients of HTTP/1.1 to WebSockets over HTTP/2, one connection for each.

    It passes on frames as they are. The end of a TCP connection is that of a stream's half, and
    its reset is one of the stream, as RFC 8441, 5 has it.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.door.shutdown(socket.SHUT_RDWR)
        self.door.close()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.door.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client: socket.socket) -> None:
        with client, Http2(self.server) as http2, contextlib.suppress(OSError):
            target, key, headers, rest = asked(client)
            stream = http2.websocket(target, *headers)
            # A client that leaves while the app decides is heard, too.
            up = threading.Thread(target=carry_up, args=(client, stream, rest), daemon=True)
            up.start()
            answer(client, stream, key)
            with contextlib.suppress(OSError):
                while part := stream.read():
                    client.sendall(part)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)
            up.join(DEADLINE)


def carry_up(client: socket.socket, stream: Stream, rest: bytes) -> None:
    try:
        stream.send(rest)
        while part := client.recv(65536):
            stream.send(part)
        stream.end()
    except (OSError, ProtocolError):
        stream.reset()


def asked(client: socket.socket) -> tuple[str, str, list[tuple[str, str]], bytes]:
    """Read a handshake: its target, its key, the headers that HTTP/2 has, and what follows."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        if not part:
            raise EOFError("no handshake")
        data += part
    head, rest = data.split(b"\r\n\r\n", 1)
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = [(name.lower(), value.strip()) for name, value in (x.split(":", 1) for x in lines)]
    key = dict(fields)["sec-websocket-key"]
    ours = ("host", "connection", "upgrade", "sec-websocket-key", "sec-websocket-version")
    return first.split()[1], key, [field for field in fields if field[0] not in ours], rest


def answer(client: socket.socket, stream: Stream, key: str) -> None:
    """Write the response as HTTP/1.1 would have it, 101 where the WebSocket is open."""
    status, headers = stream.head()
    if status == 200:
        accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        opened = [("connection", "Upgrade"), ("upgrade", "websocket")]
        client.sendall(written(101, [*opened, ("sec-websocket-accept", accept), *headers]))
    else:
        body = stream.body()
        others = [field for field in headers if field[0] != "content-length"]
        client.sendall(written(status, [*others, ("content-length", str(len(body)))]) + body)


def written(status: int, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")
