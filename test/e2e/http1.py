"""A client of HTTP/1.1 that takes no response which breaks RFC 9110 or RFC 9112.

Whatever a test asks for, the response is held here to what every server must keep to: the
grammar, one framing, `date` in its one format, no content where none may be, and over TLS the
alert before the end. So these rules hold in every case of the suites that are named after the
RFCs. Knows nothing of the server's inside.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from harness import DEADLINE, Server

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)")
FIELD_LINE = re.compile(rb"(" + TOKEN + rb"):([\t \x21-\x7e\x80-\xff]*)")
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]+")
DATE = re.compile(rb"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT")

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: test\r\n\r\n"
"""What follows a request that is refused, and must not be answered."""

ONE_BY_ONE = 600
"""So many bytes are sent each for itself where a test asks for that; then the rest."""


GONE = (ConnectionError, ssl.SSLError)
"""What is raised where the other side takes no more."""


class Incomplete(EOFError):
    """The connection ended before the response did."""


class Broken(AssertionError):
    """The server has said what no server may say."""


def request(
    target: str = "/seen",
    *fields: str,
    method: str = "GET",
    version: str = "HTTP/1.1",
    host: str | None = "host: test",
    body: bytes | str = b"",
) -> bytes:
    """Write a request; text is Latin-1."""
    lines = [f"{method} {target} {version}", *([host] if host is not None else []), *fields]
    head = "".join(f"{line}\r\n" for line in lines) + "\r\n"
    return head.encode("latin-1") + (body.encode("latin-1") if isinstance(body, str) else body)


def post(*fields: str, body: bytes | str = b"", target: str = "/seen", **more: Any) -> bytes:
    return request(target, *fields, method="POST", body=body, **more)


def chunked(body: bytes | str, *fields: str, **more: Any) -> bytes:
    return post("transfer-encoding: chunked", *fields, body=body, **more)


def says(
    status: int = 200,
    fields: Any = (),
    parts: Any = ("",),
    *,
    reads: bool = False,
    ends: bool = True,
) -> str:
    """Name the target whose app (mirrors:says) gives just this response, in these parts.

    A part is text in Latin-1, or the number of its zero bytes. `reads`: it takes the request's
    body first. `ends`: it says which part is the last.
    """
    wanted = {
        "status": status,
        "fields": list(fields),
        "parts": list(parts),
        "reads": reads,
        "ends": ends,
    }
    return "/says?" + json.dumps(wanted).encode().hex()


def fields_of(seen: dict[str, Any], name: str) -> list[str]:
    """Return the values of a field that mirrors:seen has seen."""
    return [value for key, value in seen["headers"] if key == name]


def table(name: str, cases: dict[str, Any]) -> pytest.MarkDecorator:
    """Make a test of each case, by its name."""
    return pytest.mark.parametrize(name, cases.values(), ids=cases.keys())


@dataclass
class Response:
    """A response as it stood on the wire."""

    status: int
    reason: bytes
    fields: list[tuple[bytes, bytes]]
    framing: str = "none"
    body: bytes = b""
    parts: list[bytes] = field(default_factory=list)

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name.encode()]

    def tokens(self, name: str) -> set[bytes]:
        listed = b",".join(self.all(name)).lower().split(b",")
        return {token.strip() for token in listed} - {b""}

    def closes(self) -> bool:
        return b"close" in self.tokens("connection")

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection: requests are written to it as they are, responses are read strictly."""

    def __init__(self, server: Server) -> None:
        self.socket = server.connect()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isinstance(self.socket, ssl.SSLSocket):
            # An end without the closure alert is an error, as a truncation would be.
            self.socket.suppress_ragged_eofs = False
        self.buffer = b""
        self.bytewise = False

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # Sending

    def send(self, data: bytes) -> None:
        """Send it all, byte by byte where the test is about that."""
        whole = data
        if self.bytewise:
            for at in range(min(len(data), ONE_BY_ONE)):
                self.socket.sendall(data[at : at + 1])
            whole = data[ONE_BY_ONE:]
        if whole:
            self.socket.sendall(whole)

    def ask(self, data: bytes, method: str = "GET", version: str = "1.1") -> Response:
        """Send a request and read its response."""
        self.send(data)
        return self.read(method, version)

    def seen(self, data: bytes, version: str = "1.1") -> dict[str, Any]:
        """Send a request to mirrors:seen and return what the app has seen."""
        response = self.ask(data, version=version)
        assert response.status == 200, response
        return response.json()

    def in_step(self) -> bool:
        """Say whether the connection takes a next request and answers that one."""
        target = f"/step/{id(self)}/{len(self.buffer)}"
        return self.seen(request(target))["path"] == target

    def refused(self, data: bytes, *statuses: int) -> Response:
        """Send what must be refused, with more behind it: one response, `close`, and the end."""
        self.send(data)
        with contextlib.suppress(*GONE):  # refused by its first bytes, and the lingering is over
            self.send(SMUGGLED)
        response = self.read()
        assert response.status in statuses, response
        assert response.closes(), response
        self.end()
        return response

    # Reading

    def more(self) -> bool:
        part = self.socket.recv(65536)
        self.buffer += part
        return bool(part)

    def line(self) -> bytes:
        while b"\n" not in self.buffer:
            if not self.more():
                raise Incomplete(self.buffer)
        line, self.buffer = self.buffer.split(b"\n", 1)
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise Broken(f"a line does not end with CRLF: {line!r}")
        return line[:-1]

    def take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self.more():
                raise Incomplete(self.buffer)
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def end(self) -> None:
        """Wait for the end of the connection: a clean one, and nothing before it."""
        while self.more():
            pass
        assert self.buffer == b"", f"more came: {self.buffer[:200]!r}"

    def head(self, version: str = "1.1") -> Response:
        """Read a status line and fields, and hold them to what they must be."""
        line = self.line()
        matched = STATUS_LINE.fullmatch(line)
        if not matched:
            raise Broken(f"no status line: {line!r}")
        fields = []
        while line := self.line():
            found = FIELD_LINE.fullmatch(line)
            if not found:
                raise Broken(f"no field line: {line!r}")
            fields.append((found[1], found[2].strip(b" \t")))
        response = Response(int(matched[1]), matched[2], fields)
        check(response, version)
        return response

    def read(self, method: str = "GET", version: str = "1.1") -> Response:
        """Read a response with its content (RFC 9112, 6.3)."""
        response = self.head(version)
        if method == "HEAD" or response.status < 200 or response.status in (204, 304):
            return response
        if response.all("transfer-encoding"):
            response.framing = "chunked"
            self.chunks(response)
        elif length := response.all("content-length"):
            response.framing = "length"
            response.body = self.take(int(length[0]))
        else:
            response.framing = "close"
            if version == "1.1" and not response.closes():
                raise Broken(f"a length that nobody can know: {response}")
            while self.more():
                pass
            response.body, self.buffer = self.buffer, b""
        return response

    def chunks(self, response: Response) -> None:
        while True:
            line = self.line()
            if not CHUNK_SIZE.fullmatch(line):
                raise Broken(f"no chunk size: {line!r}")
            if not (size := int(line, 16)):
                break
            response.parts.append(self.take(size))
            response.body += response.parts[-1]
            if self.line():
                raise Broken("a chunk is longer than it said")
        if line := self.line():
            raise Broken(f"a trailer: {line!r}")


def check(response: Response, version: str) -> None:
    """Hold a head to the rules that depend on nothing but the request's version."""
    lengths, codings = response.all("content-length"), response.all("transfer-encoding")
    rules = {
        "1xx is sent to HTTP/1.0": response.status >= 200 or version != "1.0",
        "a length and a coding": not (lengths and codings),
        "several lengths": len(lengths) <= 1,
        "a length that is no number": all(re.fullmatch(rb"[0-9]+", it) for it in lengths),
        "a coding but chunked, or twice": codings in ([], [b"chunked"]),
        "a coding for HTTP/1.0": not codings or version != "1.0",
        "a length or a coding where no content can be": not (lengths or codings)
        or (response.status >= 200 and response.status != 204),
        "no one date": len(response.all("date")) == 1 or not 200 <= response.status < 500,
        "several dates": len(response.all("date")) <= 1,
        "a date in another format": all(map(is_date, response.all("date"))),
        "an upgrade that is no connection option": not response.all("upgrade")
        or b"upgrade" in response.tokens("connection"),
        "405 without allow": response.status != 405 or response.all("allow"),
        "426 without upgrade": response.status not in (101, 426) or response.all("upgrade"),
    }
    for broken in (rule for rule, holds in rules.items() if not holds):
        raise Broken(f"{broken}: {response}")


def is_date(value: bytes) -> bool:
    """Say whether it is an IMF-fixdate (RFC 9110, 5.6.7), the day of the week included."""
    if not DATE.fullmatch(value):
        return False
    text = value.decode()
    try:
        return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").strftime("%a") == text[:3]
    except ValueError:
        return False


def still_sending(wire: Wire, size: int) -> None:
    """Send so much more, in parts; raise one of `GONE` if the server does not take it."""
    wire.socket.settimeout(DEADLINE)
    part = bytes(16384)
    for _ in range(size // len(part)):
        wire.socket.sendall(part)
