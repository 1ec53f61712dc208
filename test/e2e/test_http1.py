"""HTTP/1.1 as real clients use it: uploads, header order, upgrades, pipelines, HTTP/1.0, 100.

What the RFCs demand in each point stands in test_rfc9110 and test_rfc9112; here are the uses that
went wrong, over TCP and TLS, and after each of them the connection is asked for more.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time

import pytest
from clients import handshake_headers, journal, quiet, release
from http1 import (
    GONE,
    SMUGGLED,
    Incomplete,
    Wire,
    chunked,
    fields_of,
    post,
    request,
    says,
    still_sending,
    table,
)

WAYS = ["plain", "tls"]

APP = "mirrors:application"

SIZES = [70_000, 100_000, 131_072, 200_000, 262_144, 400_000, 524_288, 1_000_000]

BOUND = 1_000_000
"""So much of a body that nobody reads is read away to keep the connection."""


@pytest.fixture
def serve(reached):
    return reached


@pytest.fixture
def server(serve):
    return serve(APP)


def data_of(size: int) -> bytes:
    return hashlib.sha256(str(size).encode()).digest() * (size // 32) + b"x" * (size % 32)


def digest_of(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


def in_chunks(data: bytes, size: int) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


# Uploads


@pytest.mark.parametrize("size", SIZES)
def test_the_connection_goes_on_after_an_upload(wire, size):
    data = data_of(size)
    for _ in range(3):
        response = wire.ask(post(f"content-length: {size}", target="/digest", body=data))
        assert response.body.decode() == digest_of(data)
        assert wire.in_step()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chunk", [1000, 16_384, 65_536, 2_000_000])
def test_the_connection_goes_on_after_an_upload_in_chunks(wire, size, chunk):
    data = data_of(size)
    response = wire.ask(chunked(in_chunks(data, chunk), target="/digest"))
    assert response.body.decode() == digest_of(data)
    assert wire.in_step()


@pytest.mark.parametrize("size", SIZES)
def test_a_request_may_stand_behind_an_upload(wire, size):
    data = data_of(size)
    wire.send(post(f"content-length: {size}", target="/digest", body=data) + request("/next"))
    assert wire.read().body.decode() == digest_of(data)
    assert wire.read().json()["path"] == "/next"


def test_an_upload_may_stop_anywhere_and_go_on(wire):
    data = data_of(300_000)
    wire.send(post(f"content-length: {len(data)}", target="/digest"))
    for begin, end in [(0, 1), (1, 65_537), (65_537, 65_538), (65_538, 299_999)]:
        wire.send(data[begin:end])
        assert quiet(wire.socket, 0.05)
    wire.send(data[-1:])
    assert wire.read().body.decode() == digest_of(data)
    assert wire.in_step()


# Bodies that the app does not read


@pytest.mark.parametrize("size", [1, 70_000, 200_000, BOUND])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_body_that_was_not_read_does_not_hold_up_the_next_request(server, wire, key, size, when):
    """Whether it has come before the response, or comes after it."""
    body = data_of(size)
    wire.send(post(f"content-length: {size}", target=f"/unread?{key}"))
    assert journal(server, key) == ["called"]
    if when == "before":
        wire.send(body)
    release(server, key)
    response = wire.read()
    assert (response.status, response.body) == (404, b"not here")
    if when == "after" and not response.closes():
        wire.send(body)
    if response.closes():
        still_sending(wire, 100_000)
        wire.end()
    else:
        assert wire.in_step()


@pytest.mark.parametrize("size", [500_000, 5_000_000])
def test_a_chunked_body_that_was_not_read_ends_no_response(wire, size):
    """However long it is, its client sends it all and gets its response; a long one is the last."""
    wire.send(post("transfer-encoding: chunked", target=says(404, [], ["no"])))
    part = data_of(50_000)
    for _ in range(size // len(part)):
        wire.send(b"%x\r\n%b\r\n" % (len(part), part))
    wire.send(b"0\r\n\r\n")
    response = wire.read()
    assert (response.status, response.body) == (404, b"no")
    if size > BOUND:
        wire.end()
    else:
        assert wire.in_step()


def test_a_body_of_200_kb_that_was_not_read_is_read_away(wire):
    """It is small enough, and so the connection goes on: nobody has to connect again."""
    data = data_of(200_000)
    wire.send(post(f"content-length: {len(data)}", target=says(404, [], ["no"]), body=data))
    response = wire.read()
    assert (response.status, response.closes()) == (404, False)
    assert wire.in_step()


@pytest.mark.parametrize("expects", [(), ("expect: 100-continue",)])
def test_a_body_that_is_too_large_to_read_away_closes_the_connection(wire, expects):
    target = says(404, [], ["no"])
    wire.send(post(f"content-length: {BOUND * 100}", *expects, target=target))
    response = wire.read()
    assert (response.status, response.body, response.closes()) == (404, b"no", True)
    still_sending(wire, 500_000)
    wire.end()


def test_chunks_that_go_on_too_long_end_the_connection(wire):
    """Nobody can know it when the response begins; more than the bound is not waited for."""
    wire.send(chunked("5\r\nhello\r\n", target=says(404, [], ["no"])))
    assert wire.read().status == 404
    with contextlib.suppress(*GONE):
        for _ in range(100):
            wire.send(b"%x\r\n%s\r\n" % (BOUND, bytes(BOUND)))
        wire.end()


@pytest.mark.parametrize("sent", [0, 200_000])
def test_a_refusal_of_the_app_that_closes_reaches_a_client_that_is_still_sending(wire, sent):
    """A 413 with `connection: close` whose client sends on: it arrives whole, then the end."""
    fields = [("connection", "close"), ("content-length", "9")]
    wire.send(post("content-length: 200000000", target=says(413, fields, ["too large"])))
    still_sending(wire, sent)
    response = wire.read()
    assert (response.status, response.body) == (413, b"too large")
    assert response.closes()
    still_sending(wire, 500_000)
    wire.end()


@pytest.mark.parametrize("fields", [[], [("content-length", "9")]])
def test_an_app_that_says_close_gets_it(wire, fields):
    response = wire.ask(request(says(200, [("connection", "close"), *fields], ["too large"])))
    assert response.all("connection") == [b"close"]
    assert response.body == b"too large"
    wire.end()


# Chunk extensions and trailers


def test_chunk_extensions_and_trailers_are_taken(paced):
    response = paced.seen(chunked("5;ext=1\r\nhello\r\n0\r\nX-T: t\r\n\r\n"))
    assert response["body"] == "hello"
    assert fields_of(response, "x-t") == []
    assert paced.in_step()


def test_trailers_do_not_reach_the_next_request(paced):
    first = chunked("1\r\nx\r\n0;last\r\nx-t: 1\r\nhost: other\r\n\r\n")
    paced.send(first + request("/next"))
    assert paced.read().json()["body"] == "x"
    assert paced.read().json()["headers"] == [["host", "test"]]


# The order of headers

GIVEN = [
    ("x-b", "1"), ("x-a", "2"), ("x-b", "3"), ("set-cookie", "a=1; Path=/"), ("X-Case", "K"),
    ("www-authenticate", "Basic"), ("set-cookie", "b=2, c"), ("www-authenticate", "Bearer x"),
    ("x-empty", ""), ("x-latin", "caf\xe9"), ("x-b", "1"),
]  # fmt: skip


def given(response) -> list[tuple[str, str]]:
    names = {name.lower().encode() for name, _ in GIVEN}
    return [
        (name.decode(), value.decode("latin-1"))
        for name, value in response.fields
        if name.lower() in names
    ]


def as_sent(fields) -> list[tuple[str, str]]:
    """ASGI has names in lower case; an app that has not is forgiven."""
    return [(name.lower(), value) for name, value in fields]


@pytest.mark.parametrize(
    ("status", "parts"), [(200, ["x"]), (401, ["no"]), (200, ["a", "b"]), (204, [""]), (304, [""])]
)
def test_response_headers_keep_their_order_and_repetition(wire, status, parts):
    for _ in range(2):
        assert as_sent(given(wire.ask(request(says(status, GIVEN, parts))))) == as_sent(GIVEN)


def test_head_keeps_them_too(wire):
    response = wire.ask(request(says(200, GIVEN, ["x"]), method="HEAD"), "HEAD")
    assert as_sent(given(response)) == as_sent(GIVEN)


@pytest.mark.parametrize("status", [401, 403])
def test_headers_of_a_denied_websocket_keep_their_order_and_repetition(wire, status):
    response = wire.ask(request(says(status, GIVEN, ["no"]), *handshake_headers()))
    assert (response.status, response.body) == (status, b"no")
    assert as_sent(given(response)) == as_sent(GIVEN)


def test_headers_of_an_accepted_websocket_keep_their_order_and_repetition(wire):
    response = wire.ask(request(says(101, GIVEN), *handshake_headers()))
    assert response.status == 101
    assert as_sent(given(response)) == as_sent(GIVEN)


REQUESTS = [
    ["x-b: 1", "x-a: 2", "x-b: 3"],
    ["cookie: a=1", "x: 1", "cookie: b=2"],
    ["accept: a", "accept: b", "Accept: c", "accept:"],
    ["x-latin: caf\xe9\xff", "x-comma: a, b", "x-comma: c", 'x-quote: "a, \\"b"'],
    ["z: 1", "y: 2", "x: 3", "connection: keep-alive", "w: 4"],
    ["content-length: 0", "x: 1", "content-type: text/plain", "x: 2"],
    [f"x-{n % 7}: {n}" for n in range(60)],
]


@pytest.mark.parametrize("fields", REQUESTS)
def test_request_headers_keep_their_order_and_repetition_and_bytes(paced, fields):
    """Also where those of the request before were the same, or nearly."""
    wanted = [
        ["host", "test"],
        *([n.lower(), v.strip()] for n, v in (f.split(":") for f in fields)),
    ]
    for _ in range(2):
        assert paced.seen(request("/a", *fields))["headers"] == wanted
    assert paced.seen(request("/a", *reversed(fields)))["headers"][1:] == wanted[:0:-1]
    assert paced.seen(request("/a"))["headers"] == [["host", "test"]]


def test_host_stands_where_the_client_put_it(paced):
    seen = paced.seen(request("/a", "host: test", "y: 2", host="x: 1"))
    assert seen["headers"] == [["x", "1"], ["host", "test"], ["y", "2"]]


# Responses without content


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("fields", [[], [("content-length", "4")]])
@pytest.mark.parametrize("parts", [["null"], ["nu", "ll"], [200_000], [""]])
def test_a_body_where_none_may_be_is_dropped_and_the_connection_in_step(
    wire, status, fields, parts
):
    for _ in range(3):
        response = wire.ask(request(says(status, fields, parts)))
        assert response.status == status
        assert not response.all("transfer-encoding")
        assert wire.in_step()


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ([("content-length", "300000")], [100_000] * 3),
        ([("content-length", "5")], ["hello", ""]),
        ([], [100_000] * 3),
        ([], ["hello"]),
    ],
)
def test_head_of_a_stream_leaves_the_connection_in_step(paced, fields, parts):
    for _ in range(2):
        response = paced.ask(request(says(200, fields, parts), method="HEAD"), "HEAD")
        assert response.status == 200
        assert response.all("content-length") in (
            [value.encode() for _, value in fields],
            [] if fields else [b"5"],
        )
        assert paced.in_step()


# Upgrades

H2C = ["connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__"]


@pytest.mark.parametrize(
    "fields",
    [
        H2C,
        ["connection: upgrade", "upgrade: h2c"],
        ["connection: keep-alive, Upgrade", "Upgrade: TLS/1.3"],
        ["connection: upgrade", "upgrade: foo/2, bar"],
        ["connection: upgrade, close-not", "upgrade: h2c, websocket2"],
        ["upgrade: websocket"],
    ],
)
def test_an_upgrade_to_anything_else_is_no_obstacle(paced, fields):
    for _ in range(2):
        assert paced.seen(request("/a", *fields))["version"] == "1.1"
    assert paced.seen(post("content-length: 5", *fields, body="hello"))["body"] == "hello"
    assert paced.seen(chunked("5\r\nhello\r\n0\r\n\r\n", *fields))["body"] == "hello"
    assert paced.in_step()


def test_a_websocket_may_be_opened_behind_other_requests(wire):
    """Also where its handshake comes in one packet with the request before it."""
    for size in (5, 70_000):
        assert wire.ask(post(f"content-length: {size}", body=bytes(size))).status == 200
    wire.send(request("/next") + request(says(101), *handshake_headers()))
    assert wire.read().json()["path"] == "/next"
    assert wire.read().status == 101


# Pipelines


def numbered(number: int) -> tuple[bytes, str]:
    """Write one of several kinds of request, and say its method."""
    body = f"body {number}".encode()
    kinds = [
        (request(f"/{number}"), "GET"),
        (post(f"content-length: {len(body)}", target=f"/{number}", body=body), "POST"),
        (request(says(200, [("x-n", f"{number}")], ["x"]), method="HEAD"), "HEAD"),
        (chunked(in_chunks(body, 3), target=f"/{number}"), "POST"),
        (request(says(204, [("x-n", f"{number}")])), "GET"),
        (request(says(200, [("x-n", f"{number}")], ["a", "b"])), "GET"),
        (request(says(304, [("x-n", f"{number}")], ["dropped"])), "GET"),
        (post("content-length: 4", target=says(404, [("x-n", f"{number}")]), body=b"left"), "POST"),
    ]
    return kinds[number % len(kinds)]


def number_of(response) -> int:
    if named := response.all("x-n"):
        return int(named[0])
    return int(response.json()["path"][1:])


@pytest.mark.parametrize("count", [2, 20, 200])
def test_requests_in_one_packet_are_answered_in_order(wire, count):
    kinds = [numbered(number) for number in range(count)]
    wire.send(b"".join(data for data, _ in kinds))
    assert [number_of(wire.read(method)) for _, method in kinds] == list(range(count))
    assert wire.in_step()


@pytest.mark.parametrize("kind", range(8))
def test_twenty_of_a_kind_in_one_packet_are_answered_in_order(wire, kind):
    kinds = [numbered(number) for number in range(kind, 160, 8)]
    wire.send(b"".join(data for data, _ in kinds))
    assert [number_of(wire.read(method)) for _, method in kinds] == [*range(kind, 160, 8)]


def test_requests_that_come_byte_by_byte_are_answered_in_order(wire):
    wire.bytewise = True
    for number in range(8):
        data, method = numbered(number)
        wire.send(data)
        assert number_of(wire.read(method)) == number


@pytest.mark.parametrize("cut", [1, 7, 64, 100, 1460])
def test_requests_that_are_cut_anywhere_are_answered_in_order(wire, cut):
    kinds = [numbered(number) for number in range(40)]
    data = b"".join(data for data, _ in kinds)
    for at in range(0, len(data), cut):
        wire.socket.sendall(data[at : at + cut])
    assert [number_of(wire.read(method)) for _, method in kinds] == list(range(40))


BAD = {
    "no request": (b"nonsense\r\n\r\n", 400),
    "no host": (request("/bad", host=None), 400),
    "two lengths": (post("content-length: 1", "content-length: 2", body=b"xx"), 400),
    "a bare LF": (b"GET /bad HTTP/1.1\nhost: test\r\n\r\n", 400),
    "another version": (request("/bad", version="HTTP/2.0"), 505),
    "too long a target": (request("/" + "x" * 20_000), 414),
    "too large a field": (request("/bad", "x: " + "x" * 20_000), 431),
    "a bad chunk": (chunked("x\r\n"), 400),
}


@table("case", BAD)
def test_good_requests_are_answered_before_a_bad_one_behind_them(wire, case):
    """Then the refusal, whole, and the end; what stands behind it is not read."""
    bad, status = case
    kinds = [numbered(number) for number in range(10)]
    wire.send(b"".join(data for data, _ in kinds) + bad + SMUGGLED)
    assert [number_of(wire.read(method)) for _, method in kinds] == list(range(10))
    response = wire.read()
    assert (response.status, response.closes()) == (status, True)
    still_sending(wire, 100_000)
    wire.end()


@pytest.mark.parametrize("parts", [["begun"], [100_000]])
def test_what_was_answered_before_a_response_that_is_cut_short_is_read(wire, parts):
    """A chunk is bad when the app has begun to answer: nobody knows what would follow."""
    kinds = [numbered(number) for number in range(10)]
    target = says(200, [("x-n", "10")], parts, ends=False)
    wire.send(b"".join(data for data, _ in kinds) + chunked("1\r\nx\r\n", target=target))
    assert [number_of(wire.read(method)) for _, method in kinds] == list(range(10))
    response = wire.head()
    assert number_of(response) == 10
    wire.send(b"nonsense\r\n" + SMUGGLED)
    still_sending(wire, 100_000)
    with pytest.raises(Incomplete):
        wire.chunks(response)


def test_a_bad_request_waits_for_the_good_one_before_it(server, wire, key):
    wire.send(request(f"/held?{key}") + b"nonsense\r\n\r\n")
    assert journal(server, key) == ["called"]
    assert quiet(wire.socket, 0.1)
    release(server, key)
    assert wire.read().status == 200
    assert wire.read().status == 400
    wire.end()


def test_what_is_behind_a_request_that_closes_is_not_read(wire):
    wire.send(request("/a", "connection: close") + b"nonsense\r\n\r\n" + SMUGGLED)
    assert wire.read().json()["path"] == "/a"
    still_sending(wire, 100_000)
    wire.end()


# HTTP/1.0


@pytest.mark.parametrize("kept", [False, True])
def test_http_1_0_with_and_without_keep_alive(paced, kept):
    fields = ["connection: keep-alive"] if kept else []
    for _ in range(2 if kept else 1):
        response = paced.ask(request("/a", *fields, version="HTTP/1.0"), version="1.0")
        assert (response.status, response.json()["version"]) == (200, "1.0")
        assert response.framing == "length"
    if kept:
        assert b"keep-alive" in response.tokens("connection")
        assert paced.in_step()
    else:
        paced.end()


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("size", [5, 200_000])
def test_http_1_0_uploads(wire, kept, size):
    fields = ["connection: Keep-Alive"] if kept else []
    data = data_of(size)
    head = post(f"content-length: {size}", *fields, version="HTTP/1.0", target="/digest")
    response = wire.ask(head + data, version="1.0")
    assert response.body.decode() == digest_of(data)


def test_a_stream_of_http_1_0_ends_with_the_connection(paced):
    target = says(200, parts=["one ", "two ", 100_000])
    response = paced.ask(request(target, version="HTTP/1.0"), version="1.0")
    assert response.framing == "close"
    assert response.body == b"one two " + bytes(100_000)


# 100-continue


def test_100_comes_when_the_app_first_receives_and_once(server, wire, key):
    wire.send(post("content-length: 10", "expect: 100-continue", target=f"/held?{key}"))
    assert journal(server, key) == ["called"]
    assert quiet(wire.socket, 0.1)
    release(server, key)
    assert wire.read().status == 100
    for part in (b"hello", b"hello"):
        assert quiet(wire.socket, 0.05)
        wire.send(part)
    response = wire.read()
    assert (response.status, response.body) == (200, b"hellohello")
    assert wire.in_step()


@pytest.mark.parametrize("size", [5, 200_000, 10_000_000])
def test_100_never_comes_when_the_app_answers_without_reading(server, wire, key, size):
    """Then the connection is closed, or in step once the client has sent its body or nothing."""
    head = post(f"content-length: {size}", "expect: 100-continue", target=f"/unread?{key}")
    wire.send(head)
    assert journal(server, key) == ["called"]
    release(server, key)
    response = wire.read()
    assert (response.status, response.body) == (404, b"not here")
    if response.closes():
        wire.end()
    else:
        wire.send(bytes(size))
        assert wire.in_step()


def test_100_comes_again_on_the_next_request(wire):
    for _ in range(3):
        wire.send(post("content-length: 5", "expect: 100-continue"))
        assert wire.read().status == 100
        wire.send(b"hello")
        assert wire.read().json()["body"] == "hello"


# Frameworks


@pytest.mark.parametrize("size", SIZES)
def test_fastapi_takes_files_and_the_connection_goes_on(serve, place, size):
    data = data_of(size)
    form = (
        b'--limit\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n'
        b"content-type: application/octet-stream\r\n\r\n" + data + b"\r\n--limit--\r\n"
    )
    fields = ["content-type: multipart/form-data; boundary=limit"]
    with Wire(serve("uploads:app")) as wire:
        if place == "later":
            assert wire.ask(request("/hello")).json() == "hello"
        for body in (
            post(f"content-length: {len(form)}", *fields, target="/upload", body=form),
            chunked(in_chunks(form, 10_000), *fields, target="/upload"),
        ):
            assert wire.ask(body).json() == digest_of(data)
            assert wire.ask(request("/hello")).json() == "hello"


def test_fastapi_refuses_a_file_unread_and_the_connection_goes_on(serve, place):
    with Wire(serve("uploads:app")) as wire:
        if place == "later":
            assert wire.ask(request("/hello")).json() == "hello"
        response = wire.ask(post("content-length: 200000", target="/no", body=bytes(200_000)))
        assert response.status == 404
        assert json.loads(response.body) == {"detail": "Not Found"}
        if response.closes():
            wire.end()
        else:
            assert wire.ask(request("/hello")).json() == "hello"


# Time

TIMEOUT = 1000


@pytest.fixture
def connect(serve, place):
    """Connect to a server whose app may take a second."""
    server = serve(APP, timeout=TIMEOUT)

    @contextlib.contextmanager
    def connected():
        with Wire(server) as wire:
            if place == "later":
                assert wire.in_step()
            yield wire

    return connected


@pytest.fixture
def hasty(connect):
    with connect() as wire:
        yield wire


def slowly(wire: Wire, parts: int) -> bool:
    """Send so many bytes, ten a second; say whether we ourselves were never late with one."""
    last, latest = time.monotonic(), 0.0
    for _ in range(parts):
        time.sleep(0.1)
        wire.socket.sendall(b"x")
        now = time.monotonic()
        last, latest = now, max(latest, now - last)
    return latest < TIMEOUT / 2000


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        (post("content-length: 16", target="/digest"), b""),
        (chunked("10\r\n", target="/digest"), b"\r\n0\r\n\r\n"),
    ],
    ids=["length", "chunk"],
)
def test_an_upload_whose_bytes_flow_is_not_cut(connect, head, tail):
    """`timeout` counts from the last byte of the body, not from the request."""
    for _ in range(5):
        with connect() as wire:
            wire.send(head)
            try:
                in_time = slowly(wire, 16)
                wire.send(tail)
                response = wire.read()
            except (*GONE, EOFError):
                in_time, response = True, None
            if in_time:
                assert response is not None and response.status == 200
                assert response.body.startswith(b"16 ")
                assert wire.in_step()
                return
    pytest.skip("this machine is too busy to send a byte every tenth of a second")


@pytest.mark.parametrize("sent", [0, 5])
def test_an_upload_that_stalls_is_a_504(hasty, sent):
    hasty.send(post("content-length: 10", target="/digest", body=bytes(sent)))
    response = hasty.read()
    assert (response.status, response.closes()) == (504, True)
    hasty.end()


def test_an_app_that_stalls_after_its_body_is_a_504(hasty, key):
    hasty.send(post("content-length: 5", target=f"/held?{key}", body="hello"))
    response = hasty.read()
    assert response.status == 504
    if response.closes():
        hasty.end()
    else:
        assert hasty.in_step()
