"""Clients that do what a library would not: raw HTTP and raw WebSocket frames.

Knows RFC 9112 and RFC 6455 as far as a test needs them, and nothing of the server's inside.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import ssl
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from harness import DEADLINE, PATIENCE, Server, exactly

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def journal(server: Server, key: str, count: int = 1) -> list[Any]:
    """Wait until the app's handlers have noted `count` things under the key."""
    try:
        answer = httpx.get(f"{server.http}/journal/{count}?{key}", timeout=PATIENCE)
    except httpx.ReadTimeout:
        noted = httpx.get(f"{server.http}/journal/0?{key}", timeout=PATIENCE).json()
        raise AssertionError(f"the app has noted only {noted}, not {count} things") from None
    return answer.raise_for_status().json()


def kept(server: Server) -> int:
    """Say how much the node keeps of the state of connections."""
    return server.node.eval("ets:info(hornbeam_connection_state, size)")


WATCH = """
Watch = fun Watch(Most) ->
    receive {most, From} -> From ! {most, Most}
    after 1 -> Watch(max(Most, erlang:memory(total)))
    end
end,
[erlang:garbage_collect(Pid) || Pid <- processes()],
Before = erlang:memory(total),
true = register(watch, spawn_opt(fun() -> Watch(Before) end, [{priority, high}])),
Before
"""

WATCHED = """
watch ! {most, self()},
receive {most, Most} -> Most after 10000 -> error(late) end
"""


@contextlib.contextmanager
def bounded(server: Server, most: int = 24 << 20) -> Iterator[None]:
    """Look at the node's memory all the while: it must never grow by so many bytes."""
    before = server.node.eval(WATCH)
    try:
        yield
    finally:
        grown = server.node.eval(WATCHED) - before
    assert grown < most, f"{grown >> 20} MiB more"


def release(server: Server, key: str) -> None:
    """Let the handlers go on that wait for the key."""
    httpx.get(f"{server.http}/release?{key}", timeout=DEADLINE).raise_for_status()


def quiet(connection: socket.socket, seconds: float = 0.15) -> bool:
    """Say whether nothing comes for a while."""
    before = connection.gettimeout()
    connection.settimeout(seconds)
    # TLS cannot look ahead; what comes all the same fails the test.
    flags = 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_PEEK
    try:
        return not connection.recv(1, flags) and False
    except TimeoutError:
        return True
    finally:
        connection.settimeout(before)


def still(number: Any, seconds: float = 0.5) -> Any:
    """Wait until what `number` returns has not changed for a while; return it."""
    end = time.monotonic() + DEADLINE
    last, since = number(), time.monotonic()
    while time.monotonic() < end:
        time.sleep(0.02)
        now = number()
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > seconds:
            return last
    raise TimeoutError(f"still moving, {last} now")


def push_until_stuck(connection: socket.socket, data: bytes, most: int) -> int:
    """Write again and again until the other side takes no more; return how many bytes went.

    Fails when more than `most` bytes went.
    """
    sent = 0
    connection.settimeout(1.0)
    while sent <= most:
        try:
            sent += connection.send(data[sent % len(data) :])
        except TimeoutError:
            connection.settimeout(DEADLINE)
            return sent
    raise AssertionError(f"{sent} bytes were taken, and nobody reads")


@dataclass
class Response:
    """A response as it stood on the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    whole: bool = True
    parts: list[bytes] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class RawHTTP:
    """One connection on which requests are written byte by byte."""

    def __init__(self, server: Server) -> None:
        self.socket = server.connect()
        self.buffer = b""

    def __enter__(self) -> RawHTTP:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(self, method: str, target: str, *headers: str, body: bytes = b"") -> None:
        lines = [f"{method} {target} HTTP/1.1", "host: test", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)

    def read_more(self) -> bool:
        part = self.socket.recv(65536)
        self.buffer += part
        return bool(part)

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            if not self.read_more():
                raise EOFError(self.buffer)
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def take(self, size: int) -> bytes:
        """Take `size` bytes, or what comes before the end of the connection."""
        data, self.buffer = bytearray(self.buffer), b""
        while len(data) < size and (part := self.socket.recv(65536)):
            data += part
        self.buffer = bytes(data[size:])
        return bytes(data[:size])

    def head(self) -> Response:
        """Read a status line and headers."""
        status = int(self.line().split()[1])
        headers = []
        while line := self.line():
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name.lower(), value.strip()))
        return Response(status, headers)

    def response(self, method: str = "GET") -> Response:
        """Read a response with its body; `whole` says whether its end was a clean one."""
        response = self.head()
        if method == "HEAD" or response.status in (204, 304) or response.status < 200:
            return response
        if response.all("transfer-encoding") == ["chunked"]:
            self.chunks(response)
        elif length := response.all("content-length"):
            response.body = self.take(int(length[0]))
            response.whole = len(response.body) == int(length[0])
        else:
            while self.read_more():
                pass
            response.body, self.buffer = self.buffer, b""
        return response

    def chunks(self, response: Response) -> None:
        try:
            while size := int(self.line(), 16):
                part = self.take(size)
                response.parts.append(part)
                assert self.line() == b"" or len(part) < size
            assert self.line() == b""
        except (EOFError, ConnectionError):
            response.whole = False
        response.body = b"".join(response.parts)

    def ended(self) -> bool:
        """Wait for the end of the connection; say whether nothing came before it."""
        try:
            return not self.buffer and not self.read_more()
        except ConnectionResetError:
            return True


class RawWebSocket(RawHTTP):
    """A WebSocket client that answers nothing by itself, pings and closes included."""

    KEY = base64.b64encode(b"0123456789abcdef").decode()

    def __init__(self, server: Server, target: str, *headers: str) -> None:
        super().__init__(server)
        self.handshake(target, *headers)
        self.opening = self.head()
        if self.opening.status != 101:
            raise AssertionError(f"refused with {self.opening.status}")

    def handshake(self, target: str, *headers: str) -> None:
        self.request("GET", target, *handshake_headers(), *headers)

    def frame(self, opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> None:
        self.send(frame(opcode, payload, fin=fin, rsv=rsv))

    def read(self) -> tuple[int, bytes]:
        """Read one frame: opcode and payload."""
        first, second = self.need(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self.need(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self.need(8))
        return first & 0x0F, self.need(size)

    def need(self, size: int) -> bytes:
        if len(self.buffer) < size:
            got, self.buffer = self.buffer, b""
            return got + exactly(self.socket, size - len(got))
        return self.take(size)

    def read_message(self) -> bytes:
        """Read the next frame that is a message."""
        while True:
            opcode, payload = self.read()
            if opcode in (TEXT, BINARY):
                return payload
            assert opcode == PING, f"a message was due, not {opcode} {payload!r}"

    def read_close(self) -> tuple[int, str]:
        """Read until the close frame: code and reason."""
        while True:
            opcode, payload = self.read()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()


def handshake_headers(version: int = 13, key: str = RawWebSocket.KEY) -> list[str]:
    return [
        "connection: Upgrade",
        "upgrade: websocket",
        f"sec-websocket-version: {version}",
        f"sec-websocket-key: {key}",
    ]


def frame(
    opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bool = True
) -> bytes:
    """Write one frame as a client does, masked."""
    first = (fin << 7) | (rsv << 4) | opcode
    size = len(payload)
    if size < 126:
        length = struct.pack(">B", size | mask << 7)
    elif size < 65536:
        length = struct.pack(">BH", 126 | mask << 7, size)
    else:
        length = struct.pack(">BQ", 127 | mask << 7, size)
    if not mask:
        return bytes([first]) + length + payload
    key = os.urandom(4)
    return bytes([first]) + length + key + masked(payload, key)


def masked(payload: bytes, key: bytes) -> bytes:
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(
        len(payload), "big"
    )


def close_payload(code: int, reason: str = "") -> bytes:
    return struct.pack(">H", code) + reason.encode()


def deflated(payload: bytes) -> bytes:
    """Compress one message as permessage-deflate does (RFC 7692)."""
    squeeze = zlib.compressobj(wbits=-15)
    data = squeeze.compress(payload) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(b"\x00\x00\xff\xff")


def inflated(payload: bytes) -> bytes:
    """Read one compressed message that is the first of its connection."""
    return zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")


def no_traceback(body: bytes | str) -> bool:
    text = body if isinstance(body, str) else bytes(body).decode("latin-1")
    return not re.search(r"Traceback|LookupError|secret|File \"", text)
