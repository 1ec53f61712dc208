"""HTTP/2 as no library would write it: frames and heads by the byte, good and bad.

Knows RFC 9113 and RFC 7541 as far as a test needs them, and nothing of the server's inside.
"""

from __future__ import annotations

from harness import Server
from hpack import Decoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9

ACK, END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return b"".join(
        [len(payload).to_bytes(3, "big"), bytes([kind, flags]), stream.to_bytes(4, "big"), payload]
    )


def number(value: int, bits: int, first: int = 0) -> bytes:
    """Write a number behind some bits (RFC 7541, 5.1)."""
    full = (1 << bits) - 1
    if value < full:
        return bytes([first | value])
    value, written = value - full, [first | full]
    while value >= 128:
        written.append(128 | value & 127)
        value >>= 7
    return bytes([*written, value])


def literal(name: bytes, value: bytes, *, kept: bool = False) -> bytes:
    """Write a field as it is; `kept` in the table of the server, too."""
    written = b"".join(number(len(text), 7) + text for text in (name, value))
    return (b"\x40" if kept else b"\x00") + written


def head(host: bytes, *fields: tuple[bytes, bytes], **pseudo: bytes) -> bytes:
    named = {b"method": b"GET", b"scheme": b"http", b"authority": host, b"path": b"/hello"}
    named |= {name.encode(): value for name, value in pseudo.items()}
    every = [(b":" + name, value) for name, value in named.items() if value is not None]
    return b"".join(literal(name, value) for name, value in [*every, *fields])


class Raw:
    """A connection of HTTP/2 to which anything may be written."""

    def __init__(self, server: Server) -> None:
        self.socket = server.connect(alpn="h2")
        self.host = f"{server.host}:{server.port}".encode()
        self.buffer = b""
        self.decoder = Decoder()
        self.send(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def pour(self, data: bytes) -> bool:
        """Write, and say whether the server took it all."""
        try:
            self.send(data)
        except OSError:
            return False
        return True

    def read(self) -> tuple[int, int, int, bytes] | None:
        """Read a frame; nothing at the end."""
        start = self.need(9)
        if start is None:
            return None
        payload = self.need(int.from_bytes(start[:3], "big"))
        stream = int.from_bytes(start[5:9], "big") & 0x7FFFFFFF
        return None if payload is None else (start[3], start[4], stream, payload)

    def need(self, size: int) -> bytes | None:
        while len(self.buffer) < size:
            try:
                part = self.socket.recv(65536)
            except TimeoutError:
                raise
            except OSError:  # a reset, or TLS without its last word
                return None
            if not part:
                return None
            self.buffer += part
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read_some(self) -> bool:
        """Read what there is; say whether the connection's end is told."""
        self.buffer += self.socket.recv(65536)
        return frame(GOAWAY, 0, 0)[3:] in self.buffer

    def request(self, stream: int, *blocks: bytes, flags: int = END_STREAM) -> bytes:
        """Return the frames of a head in so many blocks."""
        kinds = [HEADERS] + [CONTINUATION] * (len(blocks) - 1)
        ends = [0] * (len(blocks) - 1) + [END_HEADERS]
        firsts = [flags] + [0] * (len(blocks) - 1)
        written = zip(kinds, ends, firsts, blocks, strict=True)
        return b"".join(frame(kind, end | first, stream, x) for kind, end, first, x in written)

    def ended(self) -> int | None:
        """Wait for the end of the connection; say with which code."""
        code = None
        while seen := self.read():
            kind, _, _, payload = seen
            assert kind != HEADERS, "there was an answer"
            if kind == GOAWAY:
                code = int.from_bytes(payload[4:8], "big")
        return code

    def answer(self, stream: int) -> tuple[str, int]:
        """Wait for what a stream is answered: a status, or the code of its reset."""
        while seen := self.read():
            kind, _, number, payload = seen
            if kind == HEADERS:
                status = dict(self.decoder.decode(payload))[":status"]
                if number == stream:
                    return "status", int(status)
            if kind == RST_STREAM and number == stream:
                return "reset", int.from_bytes(payload, "big")
            if kind == GOAWAY:
                return "goaway", int.from_bytes(payload[4:8], "big")
        raise AssertionError("the connection ended")

    def bodies(self, count: int) -> dict[int, bytes]:
        """Wait for the whole bodies of so many streams, whatever their heads say."""
        parts: dict[int, bytes] = {}
        ended = 0
        while ended < count:
            seen = self.read()
            assert seen, "the connection ended"
            kind, flags, number, payload = seen
            assert kind not in (RST_STREAM, GOAWAY), payload
            if kind == DATA:
                parts[number] = parts.get(number, b"") + payload
            ended += kind in (DATA, HEADERS) and flags & END_STREAM
        return parts


def cut(block: bytes, size: int = 16384) -> list[bytes]:
    return [block[at : at + size] for at in range(0, len(block), size)]


def bomb(host: bytes, times: int) -> bytes:
    """Put a field into the server's table, and name it again and again with a byte."""
    return head(host) + literal(b"a", bytes(b"x" * 4000), kept=True) + b"\xbe" * times
