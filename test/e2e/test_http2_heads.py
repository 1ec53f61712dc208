"""Heads over HTTP/2 that no client should send: too large when decoded, endless, late, malformed.

What is refused with the connection
is counted like its brothers of HTTP/1.1, and the others at the server do not notice.
"""

from __future__ import annotations

import ast
import contextlib
import time
from collections.abc import Iterator

import httpx
import pytest
from clients import RawHTTP, bounded, journal
from h2.errors import ErrorCodes
from harness import Server, eventually
from http2 import Http2
from http2_raw import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    SETTINGS,
    Raw,
    bomb,
    cut,
    frame,
    head,
    literal,
)
from terms import Atom

MIB = 1024 * 1024

WAYS = ["plain", "tls"]


@pytest.fixture
def serve(reached):
    return reached


@pytest.fixture
def server(serve):
    return serve("exchanges:application", header_timeout=1000)


@pytest.fixture
def sockets(serve):
    return serve("sockets:application")


@contextlib.contextmanager
def refused(
    server: Server, counter: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR
) -> Iterator[Raw]:
    """Have a client whose head ends its connection, is counted once, and costs the node little."""
    before = server.info()["counters"][counter]
    with bounded(server), Raw(server) as raw:
        yield raw
        assert raw.ended() == code
    eventually(lambda: server.info()["counters"][counter] == before + 1)
    assert httpx.get(f"{server.http}/hello").text == "hello"


# Too large


@pytest.mark.parametrize("times", [300, 60_000, 134_000, 254_000, 2_000_000])
def test_a_field_that_is_repeated_by_a_byte_is_not_decoded(server, times):
    with refused(server, "fields_too_large") as raw:
        raw.pour(raw.request(1, *cut(bomb(raw.host, times))))


REPEATED = {
    "what the server knows already": b"\x90",
    "a name that the server knows already": b"\x0f\x01\x00",
    "parts of a cookie": b"\x0f\x11\x00",
    "a size for the table": b"\x20",
}


@pytest.mark.parametrize("field", REPEATED.values(), ids=REPEATED)
def test_fields_without_end_are_not_decoded(server, field):
    with refused(server, "fields_too_large") as raw:
        raw.pour(raw.request(1, *cut(head(raw.host) + field * (80_000 // len(field)))))


def test_a_field_of_the_table_under_many_names_is_not_decoded(server):
    names = b"".join(literal(b"n%d" % count, b"x" * 40, kept=True) for count in range(40))
    with refused(server, "fields_too_large") as raw:
        block = head(raw.host) + names + bytes(range(0xBE, 0xE0)) * 1500
        raw.pour(raw.request(1, *cut(block)))


def test_a_field_that_one_head_kept_is_not_repeated_by_the_next(server):
    with refused(server, "fields_too_large") as raw:
        raw.send(raw.request(1, head(raw.host) + literal(b"a", b"x" * 4000, kept=True)))
        assert raw.answer(1) == ("status", 200)
        raw.pour(raw.request(3, head(raw.host) + b"\xbe" * 1000))


def test_trailers_are_held_to_the_same(server):
    with refused(server, "fields_too_large") as raw:
        raw.send(raw.request(1, head(raw.host, path=b"/echo", method=b"POST"), flags=0))
        raw.pour(raw.request(1, *cut(bomb(b"", 60_000)[len(head(b"")) :])))


def test_a_field_that_is_repeated_within_the_limits_is_answered_431(server):
    with bounded(server), Raw(server) as raw:
        raw.send(raw.request(1, bomb(raw.host, 200)))
        assert raw.answer(1) == ("status", 431)
        raw.send(raw.request(3, head(raw.host)))
        assert raw.answer(3) == ("status", 200)


@pytest.mark.parametrize("size", [0, 1, 16384])
def test_continuations_without_end_are_cut(server, size):
    with refused(server, "fields_too_large") as raw:
        raw.send(frame(HEADERS, 0, 1, head(raw.host)))
        more = frame(CONTINUATION, 0, 1, bytes(size)) * max(1, MIB // (size + 9))
        assert not all(raw.pour(more) for _ in range(48))


def test_a_head_may_come_in_many_frames_and_in_bytes(server):
    with Raw(server) as raw:
        block = head(raw.host, (b"x", b"y" * 60))
        raw.send(raw.request(1, *cut(block, len(block) // 60 + 1)))
        assert raw.answer(1) == ("status", 200)
        for byte in raw.request(3, *cut(block, 50)):
            raw.send(bytes([byte]))
        assert raw.answer(3) == ("status", 200)


def test_padding_and_priority_are_no_part_of_a_head(server):
    with Raw(server) as raw:
        for stream, flags, before, behind in (
            (1, PADDED, b"\x03", bytes(3)),
            (3, PRIORITY, bytes(4) + b"\x10", b""),
            (5, PADDED | PRIORITY, b"\x02" + bytes(4) + b"\x10", bytes(2)),
        ):
            payload = before + head(raw.host) + behind
            raw.send(frame(HEADERS, END_HEADERS | END_STREAM | flags, stream, payload))
            assert raw.answer(stream) == ("status", 200)


# Late


def test_a_head_that_stays_away_ends_its_connection(server):
    with refused(server, "head_timeouts") as raw:
        raw.send(frame(HEADERS, 0, 1, head(raw.host)))


def test_a_frame_that_stays_away_ends_its_connection(server):
    with refused(server, "head_timeouts") as raw:
        raw.send(raw.request(1, head(raw.host))[:20])


def test_a_head_of_which_a_byte_comes_now_and_then_is_late(server):
    with refused(server, "head_timeouts") as raw:
        raw.send(frame(HEADERS, 0, 1, head(raw.host)))
        drip(raw, frame(CONTINUATION, 0, 1, bytes(16384)))


def drip(raw: Raw, data: bytes) -> None:
    """Send a byte at a time until the server has something to say."""
    for byte in data:
        raw.send(bytes([byte]))
        raw.socket.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            while raw.read_some():
                return
        raw.socket.settimeout(None)


def test_heads_of_which_each_write_has_the_end_of_one_are_not_late(server):
    with Raw(server) as raw:
        rest, stream, end = b"", 1, time.monotonic() + 2
        while time.monotonic() < end:
            more = raw.request(stream, head(raw.host))
            raw.send(rest + more[:20])
            rest = more[20:]
            if stream > 1:
                assert raw.answer(stream - 2) == ("status", 200)
            stream += 2


def test_a_body_and_a_silence_are_not_late_heads(server, key):
    with Raw(server) as raw:
        raw.send(raw.request(1, head(raw.host, path=b"/echo", method=b"POST"), flags=0))
        other = Raw(server)
        other.send(frame(HEADERS, 0, 1, head(raw.host)))
        assert other.ended() is not None
        raw.send(frame(DATA, END_STREAM, 1, b"x"))
        assert raw.answer(1) == ("status", 200)


# Malformed


BLOCKS = {
    "a number without end": b"\xff" * 60_000,
    "a number of more than 28 bits": b"\xff\x80\x80\x80\x80\x01",
    "a string without end": b"\x00\x7f" + b"\xff" * 60_000,
    "a string that is not there": b"\x00\x05abc",
    "a field that nobody has": b"\x80",
    "half a field": b"\x00\x01a",
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_block_that_is_none_ends_the_connection(server, block):
    with refused(server, "bad_requests", ErrorCodes.COMPRESSION_ERROR) as raw:
        raw.pour(raw.request(1, *cut(head(raw.host) + block)))


FRAMES = {
    "too much padding": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05abc"), 1),
    "no room for a priority": (frame(HEADERS, END_HEADERS | PRIORITY, 1, b"abc"), 6),
    "another frame within a head": (frame(HEADERS, 0, 1) + frame(PING, 0, 0, bytes(8)), 1),
    "a head within a head": (frame(HEADERS, 0, 1) + frame(HEADERS, END_HEADERS, 3), 1),
}
"""Frames, and the code with which the connection ends."""


@pytest.mark.parametrize(("frames", "code"), FRAMES.values(), ids=FRAMES)
def test_frames_that_are_none_end_the_connection(server, frames, code):
    with refused(server, "bad_requests", ErrorCodes(code)) as raw:
        raw.pour(frames)


# Trailers


POST = {"path": b"/echo", "method": b"POST"}

TRAILER = literal(b"x", b"1")

BODIES = {"no data": [], "an empty part": [b""], "a part": [b"x"], "parts": [b"x" * 16384] * 3}


def trailed(raw: Raw, stream: int, *parts: bytes, **pseudo: bytes) -> bytes:
    """Return a request whose body of some parts ends with trailers in two frames."""
    data = b"".join(frame(DATA, 0, stream, part) for part in parts)
    begun = raw.request(stream, head(raw.host, **(POST | pseudo)), flags=0)
    return begun + data + raw.request(stream, TRAILER, literal(b"y", b"2"))


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
@pytest.mark.parametrize("parts", BODIES.values(), ids=BODIES)
def test_trailers_end_a_body(serve, parts, engine):
    server = serve("exchanges:application", http_engine=Atom(engine), timeout=5000)
    with Raw(server) as raw:
        raw.send(trailed(raw, 1, *parts))
        assert raw.bodies(1).get(1, b"") == b"".join(parts)


def test_trailers_end_a_body_whatever_pieces_they_come_in(server):
    with Raw(server) as raw:
        for byte in trailed(raw, 1, b"x"):
            raw.send(bytes([byte]))
        assert raw.bodies(1) == {1: b"x"}


def test_trailers_end_their_own_body_and_no_other(server):
    with Raw(server) as raw:
        raw.send(raw.request(1, head(raw.host, **POST), flags=0) + frame(DATA, 0, 1, b"x"))
        others = range(3, 43, 2)
        raw.send(b"".join(trailed(raw, stream, b"%d" % stream) for stream in others))
        assert raw.bodies(len(others)) == {stream: b"%d" % stream for stream in others}
        raw.send(frame(DATA, 0, 1, b"x") + raw.request(1, TRAILER))
        assert raw.bodies(1) == {1: b"xx"}


def test_trailers_behind_less_than_was_announced_reset_the_stream(server):
    with Raw(server) as raw:
        raw.send(raw.request(1, head(raw.host, (b"content-length", b"5"), **POST), flags=0))
        raw.send(frame(DATA, 0, 1, b"x") + raw.request(1, TRAILER))
        assert raw.answer(1) == ("reset", ErrorCodes.PROTOCOL_ERROR)
        raw.send(trailed(raw, 3, b"y"))
        assert raw.bodies(1) == {3: b"y"}


def test_trailers_that_end_nothing_end_the_connection(server):
    with Raw(server) as raw:
        raw.send(raw.request(1, head(raw.host, **POST), flags=0))
        raw.send(raw.request(1, TRAILER, flags=0))
        assert raw.ended() == ErrorCodes.PROTOCOL_ERROR


def test_trailers_of_a_request_that_never_reaches_an_app_are_not_logged(serve):
    server = serve("exchanges:application")
    with Raw(server) as raw:
        raw.send(trailed(raw, 1, method=b"TRACE"))
        assert raw.answer(1) == ("status", 501)
        raw.send(trailed(raw, 3, b"y"))
        assert raw.bodies(2)[3] == b"y"
    assert "unknown stream" not in server.node.log


def test_trailers_end_the_clients_half_of_a_websocket(sockets, key):
    with Http2(sockets) as http2:
        stream = http2.websocket(f"/farewell?{key}")
        assert stream.head()[0] == 200
        with http2.changed:
            http2.h2.send_headers(stream.number, [("x", "1")], end_stream=True)
            http2.flush()
        assert journal(sockets, key)[0]["code"] == 1006


# Requests that are none (RFC 9113, 8.2 and 8.3)

PSEUDO = {
    "a method with a target": {"method": b"GET /a HTTP/1.1"},
    "a method with a line": {"method": b"GET\r\n"},
    "a method of nothing": {"method": b""},
    "a method that is no token": {"method": b"G\xc3\x89T"},
    "no method": {"method": None},
    "a path with a space": {"path": b"/hello y"},
    "a path with a line": {"path": b"/hello HTTP/1.1\r\nhost: b\r\n\r\n"},
    "a path with a control": {"path": b"/hello\x7f"},
    "a path with a nul": {"path": b"/hello\0"},
    "a path that is no ASCII": {"path": b"/\xc3\xa9"},
    "a query with a space": {"path": b"/hello?x y"},
    "a query with a line": {"path": b"/hello?\n"},
    "a path without slash": {"path": b"hello"},
    "a whole target": {"path": b"http://test/hello"},
    "an asterisk with GET": {"path": b"*"},
    "a path of nothing": {"path": b""},
    "no path": {"path": None},
    "a scheme with a line": {"scheme": b"http\r\nx: y"},
    "a scheme of no web": {"scheme": b"ftp"},
    "a scheme in capitals": {"scheme": b"HTTP"},
    "a scheme of nothing": {"scheme": b""},
    "no scheme": {"scheme": None},
    "an authority with a user": {"authority": b"user@test"},
    "an authority with a user and a password": {"authority": b"user:secret@test"},
    "an authority with a path": {"authority": b"test/hello"},
    "an authority with a line": {"authority": b"test\r\nx: y"},
    "an authority with a space": {"authority": b"a b"},
    "two authorities": {"authority": b"test,other"},
    "an authority of nothing": {"authority": b""},
    "an authority with another port than any": {"authority": b"test:65536"},
    "no authority and no host": {"authority": None},
    "an unknown one": {"other": b"x"},
}

FIELDS = {
    "a name in capitals": [(b"X-A", b"1")],
    "a name with a space": [(b"x a", b"1")],
    "a name with a space before": [(b" a", b"1")],
    "a name with a space behind": [(b"a ", b"1")],
    "a name with a colon": [(b"a:b", b"1")],
    "a name with a line": [(b"a\r\nb", b"1")],
    "a name with a nul": [(b"a\0", b"1")],
    "a name that is no ASCII": [(b"\xc3\xa9", b"1")],
    "a name of nothing": [(b"", b"1")],
    "a value with a space before": [(b"x-a", b" 1")],
    "a value with a space behind": [(b"x-a", b"1 ")],
    "a value with a tab before": [(b"x-a", b"\t1")],
    "a value with a tab behind": [(b"x-a", b"1\t")],
    "a value with a line": [(b"x-a", b"1\r\nx-b: 2")],
    "a value with half a line": [(b"x-a", b"1\n2")],
    "a value with a carriage return": [(b"x-a", b"1\r2")],
    "a value with a nul": [(b"x-a", b"1\x002")],
    "a value with an escape": [(b"x-a", b"\x1b[0m")],
    "a connection": [(b"connection", b"close")],
    "a connection to a proxy": [(b"proxy-connection", b"close")],
    "a keep-alive": [(b"keep-alive", b"timeout=5")],
    "an upgrade": [(b"upgrade", b"websocket")],
    "a transfer encoding": [(b"transfer-encoding", b"chunked")],
    "other trailers than trailers": [(b"te", b"trailers, gzip")],
    "two lengths": [(b"content-length", b"0"), (b"content-length", b"0")],
    "a list of lengths": [(b"content-length", b"0, 0")],
    "a length with a sign": [(b"content-length", b"+0")],
    "a length below nothing": [(b"content-length", b"-0")],
    "a length of nothing": [(b"content-length", b"")],
    "a length in hexadecimal": [(b"content-length", b"0x0")],
    "a length of many digits": [(b"content-length", b"0" * 1000)],
    "a pseudo-header behind a field": [(b"x-a", b"1"), (b":path", b"/hello")],
    "a second path": [(b":path", b"/hello")],
    "another host": [(b"host", b"other")],
    "another port": [(b"host", b"test:81")],
    "two hosts": [(b"host", b"test"), (b"host", b"test")],
    "two hosts that differ": [(b"host", b"test"), (b"host", b"other")],
    "a host of nothing": [(b"host", b"")],
    "a host with a user": [(b"host", b"user@test")],
}


@pytest.fixture
def told(serve, key) -> Iterator[Server]:
    """Have a server whose app does not hear of a request."""
    server = serve("exchanges:application")
    yield server
    assert journal(server, key, 0) == []


def turned_down(server: Server, path: bytes, block: bytes, flags: int = END_STREAM) -> None:
    """Have a head refused, and the next request of its connection served."""
    with Raw(server) as raw:
        raw.send(raw.request(1, block, flags=flags))
        assert raw.answer(1) in [("status", 400), ("reset", ErrorCodes.PROTOCOL_ERROR)]
        raw.send(raw.request(3, head(b"test")))
        assert raw.answer(3) == ("status", 200)


def noting(key: str) -> bytes:
    """Return the path of what notes that it was asked."""
    return f"/waits?{key}".encode()


@pytest.mark.parametrize("pseudo", PSEUDO.values(), ids=PSEUDO)
def test_a_pseudo_header_that_is_none_is_refused(told, key, pseudo):
    turned_down(told, noting(key), head(**({"host": b"test", "path": noting(key)} | pseudo)))


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_a_field_that_is_none_is_refused(told, key, fields):
    turned_down(told, noting(key), head(b"test", *fields, path=noting(key)))


GOOD = {
    "as a client has it": head(b"test"),
    "an asterisk with OPTIONS": head(b"test", method=b"OPTIONS", path=b"*"),
    "any method": head(b"test", method=b"m-search!"),
    "a query of all kinds": head(b"test", path=b"/hello?a=/?:@[]~!$&'()*+,;=%20\"<>\\^`{|}"),
    "trailers": head(b"test", (b"te", b"trailers")),
    "a host that is the authority": head(b"test", (b"host", b"test")),
    "a host for the authority": head(b"", (b"host", b"test"), authority=None),
    "an empty value": head(b"test", (b"x-a", b"")),
    "two empty values": head(b"test", (b"x-a", b"1"), (b"x-a", b"")),
    "a cookie that ends with nothing": head(b"test", (b"cookie", b"a=1"), (b"cookie", b"")),
    "a value of all kinds": head(b"test", (b"x-a", b"a \t\xff")),
}


@pytest.mark.parametrize("block", GOOD.values(), ids=GOOD)
def test_what_a_client_may_write_is_served(server, block):
    with Raw(server) as raw:
        raw.send(raw.request(1, block))
        kind, status = raw.answer(1)
        assert kind == "status"
        assert status != 400


SAME = {
    "capitals": head(b"test", (b"host", b"TEST")),
    "the port of its scheme": head(b"test", (b"host", b"test:80")),
    "without the port of its scheme": head(b"test:80", (b"host", b"test")),
}


@pytest.mark.parametrize("block", SAME.values(), ids=SAME)
def test_a_host_that_is_the_authority_in_other_words_is_served(server, block):
    with Raw(server) as raw:
        raw.send(raw.request(1, block))
        # Newer versions of Cowlib compare the bytes.
        assert raw.answer(1) in [("status", 200), ("reset", ErrorCodes.PROTOCOL_ERROR)]


def connect(host: bytes, *fields: tuple[bytes, bytes], **pseudo: bytes) -> bytes:
    """Return the head of a handshake (RFC 8441, 5)."""
    named = {"method": b"CONNECT", "protocol": b"websocket", "path": b"/echo"} | pseudo
    return head(host, (b"sec-websocket-version", b"13"), *fields, **named)


FOREIGN = {
    "another host": connect(b"test", (b"host", b"other"), (b"origin", b"http://other")),
    "another authority": connect(b"other", (b"host", b"test"), (b"origin", b"http://test")),
    "two hosts": connect(b"test", (b"host", b"test"), (b"host", b"other")),
    "a user": connect(b"test@other", (b"origin", b"http://test")),
    "a method with a target": connect(b"test", method=b"CONNECT /echo HTTP/1.1"),
    "a path with a space": connect(b"test", path=b"/echo x"),
    "a scheme with a line": connect(b"test", scheme=b"http\r\nhost: other"),
    "a value with a line": connect(b"test", (b"x-a", b"1\r\norigin: http://test")),
}


@pytest.mark.parametrize("block", FOREIGN.values(), ids=FOREIGN)
def test_a_handshake_is_held_to_the_same(sockets, block):
    with Raw(sockets) as raw:
        raw.send(raw.request(1, block, flags=0))
        assert raw.answer(1) in [("status", 400), ("reset", ErrorCodes.PROTOCOL_ERROR)]
        raw.send(raw.request(3, connect(b"test", (b"origin", b"http://test")), flags=0))
        assert raw.answer(3) == ("status", 200)


def test_a_handshake_comes_from_the_host_that_its_authority_names(sockets):
    with Raw(sockets) as raw:
        raw.send(raw.request(1, connect(b"test", (b"origin", b"http://other")), flags=0))
        assert raw.answer(1) == ("status", 403)


@pytest.mark.parametrize(
    ("named", "fields", "status"),
    [
        pytest.param(b"good.test", [], 200, id="the host"),
        pytest.param(b"other", [], 400, id="another one"),
        pytest.param(b"other", [(b"host", b"good.test")], 400, id="another one with the host"),
        pytest.param(b"good.test", [(b"host", b"other")], 400, id="the host with another one"),
    ],
)
def test_the_authority_is_looked_up_in_allowed_hosts(serve, named, fields, status):
    server = serve("exchanges:application", allowed_hosts=["good.test"])
    with Raw(server) as raw:
        raw.send(raw.request(1, head(named, *fields)))
        wanted = [("status", status)] + [("reset", ErrorCodes.PROTOCOL_ERROR)] * (status == 400)
        assert raw.answer(1) in wanted


def test_the_scope_has_the_host_of_the_authority_once(server, key):
    with Http2(server) as http2:
        body = http2.request("GET", "/scope_of", ("host", http2.authority)).body().decode()
    hosts = [value for name, value in ast.literal_eval(body)["headers"] if name == b"host"]
    assert hosts == [http2.authority.encode()]


# HTTP/1.1 by Cowboy


@pytest.fixture
def cowboy(serve):
    return serve("exchanges:application", http_engine=Atom("cowboy"), header_timeout=1000)


def test_cowboys_engine_reads_heads_of_http2_by_the_same_rules(cowboy):
    with refused(cowboy, "fields_too_large") as raw:
        raw.pour(raw.request(1, *cut(bomb(raw.host, 60_000))))


def test_http2_may_begin_byte_by_byte(cowboy):
    with Raw(cowboy) as raw:
        raw.send(raw.request(1, head(raw.host)))
        assert raw.answer(1) == ("status", 200)
    with cowboy.connect(alpn="h2") as client:
        for byte in PREFACE + frame(SETTINGS, 0, 0):
            client.sendall(bytes([byte]))
        assert client.recv(9)[3] == SETTINGS


def test_a_connection_of_http1_does_not_become_one_of_http2(cowboy):
    with RawHTTP(cowboy) as raw:
        raw.request("GET", "/hello")
        assert raw.response().body == b"hello"
        raw.send(PREFACE + frame(SETTINGS, 0, 0))
        assert raw.response().status == 400


def test_what_comes_behind_a_wish_for_http2_is_not_decoded(cowboy):
    host = f"{cowboy.host}:{cowboy.port}".encode()
    behind = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 5, 3, bomb(host, 12_000))
    with bounded(cowboy), RawHTTP(cowboy) as raw:
        raw.request(
            "GET", "/hello", "connection: upgrade, http2-settings", "upgrade: h2c",
            "http2-settings: AAMAAABkAAQAAP__", body=behind,
        )  # fmt: skip
        assert raw.response().status == 400
        assert raw.ended()
    assert httpx.get(f"{cowboy.http}/hello").text == "hello"
