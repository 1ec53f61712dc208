"""RFC 9110 (HTTP semantics), each demand on an origin server: over TCP and TLS, first and later.

`http1.Wire` holds every response to the demands on what a server sends (2.2, 5.1, 5.5, 5.6.7,
6.4.1, 6.6.1, 7.6.1, 7.8, 8.6, 15.2). What is about the wire format stands in test_rfc9112.

What is not here, and why:
- 2.5 a higher minor version SHOULD be served as the highest that is known: HTTP/1.2 does not exist.
- 3.3 no two requests need come from one user agent: nothing is kept from one to the next.
- 4.3, 7.1, 7.3, 7.5: demands on clients.
- 5.6.7 recipients of dates, 6.6.2, 8.3-8.5, 8.7, 8.8, 9.2, 9.3.3-9.3.5, 10.2.1-10.2.3, 11 to 14:
  what fields and methods mean is the app's matter; the server reads and adds none of them.
- 6.5 trailers that are kept: a recipient MAY drop them; we do (test_rfc9112).
- 6.6.1 an origin server without a clock: we have one.
- 7.6.2, 7.6.3, 7.7, 9.3.8 with Max-Forwards, 11.7, 15.6.3: intermediaries.
- 7.8 a 100 before a 101 for a request with both Expect and Upgrade: a handshake has no content, and
  a client MUST NOT expect a 100 without (10.1.1).
- 8.6 a length in a 2xx to CONNECT, 9.3.6 tunnels: CONNECT is refused.
- 15.3.6 content of a 205, 15.4, 15.5: the app says what goes with its status; 405 and 426 of ours
  are held to Allow and Upgrade by `http1.check`.
- 16, 17: registries, and advice.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from clients import handshake_headers, journal, quiet, release
from http1 import SMUGGLED, Wire, fields_of, is_date, post, request, says, table

WAYS = ["plain", "tls"]

APP = "mirrors:application"


@pytest.fixture
def serve(reached):
    return reached


@pytest.fixture
def server(serve):
    return serve(APP)


# 2.5 Protocol version


def test_http_1_0_is_answered_in_the_version_of_the_server(wire):
    """2.5: a server SHOULD send the highest version that it conforms to of that major one."""
    assert wire.ask(request("/a", version="HTTP/1.0"), version="1.0").status == 200
    # Wire knows no status line of another version.


# 4.2 http and https


@pytest.mark.parametrize("target", ["http:///a", "http://:80/a", "http://", "http://?q"])
def test_a_uri_without_host_is_refused(paced, target):
    """4.2.1: a recipient MUST reject it as invalid."""
    paced.refused(request(target), 400)


@pytest.mark.parametrize("target", ["http://u@test/a", "http://u:p@test/a", "http://@test/a"])
def test_a_user_in_a_uri_is_an_error(paced, target):
    """4.2.4: a recipient SHOULD treat it as one."""
    paced.refused(request(target), 400)


# 5.1 Field names


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title, str.swapcase])
def test_field_names_are_in_any_case(paced, case):
    """5.1: field names are case-insensitive; ASGI has them in lower case."""
    fields = [case(name) + value for name, value in [("content-length", ": 5"), ("x-Abc", ": V")]]
    data = post(*fields, host=case("host") + ": test", body="hello")
    seen = paced.seen(data)
    assert seen["body"] == "hello"
    assert seen["headers"] == [["host", "test"], ["content-length", "5"], ["x-abc", "V"]]
    assert paced.in_step()


@pytest.mark.parametrize("case", [str.upper, str.title])
def test_names_of_framing_fields_are_in_any_case(paced, case):
    """5.1"""
    coding = case("transfer-encoding") + ": chunked"
    assert paced.seen(post(coding, body="5\r\nhello\r\n0\r\n\r\n"))["body"] == "hello"
    response = paced.ask(request("/a", case("connection") + ": close"))
    assert response.closes()
    paced.end()


def test_unknown_fields_are_no_obstacle(paced):
    """5.1: a recipient SHOULD ignore what it does not know."""
    fields = [f"x{char}y: {char}" for char in "!#$%&'*+-.^_`|~09"]
    seen = paced.seen(request("/a", *fields))
    assert [f"{name}: {value}" for name, value in seen["headers"][1:]] == fields


# 5.2 and 5.3 Field lines and their order


def test_field_lines_keep_their_order_and_are_not_joined(paced):
    """5.3: the order of lines of one name MUST NOT be changed."""
    fields = ["x-b: 1", "x-a: 2", "x-b: 3", "cookie: a=1", "x-b:", "cookie: b=2", "x-b: 1, 2"]
    for extra in ([], ["accept: a", "accept: b"]):
        seen = paced.seen(request("/a", *fields, *extra))
        assert [f"{n}: {v}".rstrip() for n, v in seen["headers"]] == ["host: test", *fields, *extra]


def test_no_app_is_called_before_the_head_is_whole(server, wire, key):
    """5.3: a server MUST NOT apply a request until it has the entire header section."""
    head = request(f"/events?{key}", "x: 1", "y: 2")
    wire.send(head[:-2])
    with Wire(server) as other:
        assert other.ask(request(f"/journal/0?{key}")).json() == []
    wire.send(head[-2:])
    assert wire.read().body == b"whole"
    assert journal(server, key) == ["called", "whole"]


@pytest.mark.parametrize("last", ["host: other", "content-length: x", "x : 1", "x"])
def test_a_bad_last_field_keeps_the_request_from_the_app(server, paced, key, last):
    """5.3: later field lines might be misleading duplicates."""
    paced.refused(request(f"/events?{key}", "x: 1", last), 400)
    with Wire(server) as other:
        assert other.ask(request(f"/journal/0?{key}")).json() == []


@pytest.mark.parametrize("name", ["date", "Date", "DATE"])
def test_a_date_of_the_app_is_the_only_one(wire, name):
    """5.3: a sender MUST NOT generate several lines of a field that is no list."""
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert wire.ask(request(says(200, [(name, date)]))).all("date") == [date.encode()]


@pytest.mark.parametrize("name", ["server", "Server"])
def test_a_server_field_of_the_app_is_the_only_one(wire, name):
    """5.3 and 10.2.4"""
    assert wire.ask(request(says(200, [(name, "mine")]))).all("server") == [b"mine"]


def test_response_fields_are_sent_as_the_app_gave_them(wire):
    """5.3: and set-cookie is never combined (5.2)."""
    fields = [
        ("x-b", "1"), ("x-a", "2"), ("x-b", "3"), ("set-cookie", "a=1"), ("x-empty", ""),
        ("www-authenticate", "Basic"), ("set-cookie", "b=2"), ("www-authenticate", "Bearer"),
    ]  # fmt: skip
    response = wire.ask(request(says(401, fields)))
    given = [(name.encode(), value.encode()) for name, value in fields]
    assert [field for field in response.fields if field[0] in dict(given)] == given


# 5.4 Field limits


@pytest.mark.parametrize(
    "fields",
    [
        ["x: " + "v" * 20_000],
        ["x" * 20_000 + ": v"],
        [f"x-{n}: v" for n in range(200)],
        [f"x-{n}: " + "v" * 10_000 for n in range(10)],
        ["x: " + "v" * 100] * 1000,
        ["x:" + " " * 100_000],
    ],
    ids=["a value", "a name", "many", "all together", "one repeated", "white space"],
)
def test_fields_that_are_too_large_are_a_431(wire, fields):
    """5.4: a server MUST respond with an appropriate 4xx."""
    wire.refused(request("/a", *fields), 431)


def test_fields_of_a_usual_size_are_taken(wire):
    """2.3: a recipient MUST be able to parse values of reasonable length."""
    fields = [f"x-{n}: " + "v" * 500 for n in range(80)]
    assert len(wire.seen(request("/a", *fields, "cookie: " + "c" * 8000))["headers"]) == 82


# 5.5 Field values


@pytest.mark.parametrize("byte", [*range(0x09), *range(0x0A, 0x20), 0x7F])
@pytest.mark.parametrize("place_of", ["alone", "within", "first", "last"])
def test_a_control_in_a_value_is_refused(wire, byte, place_of):
    """5.5: a recipient of CR, LF or NUL MUST reject the message (or replace them); others are
    invalid too."""
    char = chr(byte)
    value = {"alone": char, "within": f"a{char}b", "first": f"{char}a", "last": f"a{char}"}
    wire.refused(request("/a", f"x: {value[place_of]}", "y: 1"), 400)


@pytest.mark.parametrize("name", ["x", "host", "cookie", "user-agent", "accept", "connection"])
def test_a_nul_is_refused_in_any_field(wire, name):
    """5.5: and in every field, whether the server reads it or not."""
    others = [] if name == "host" else ["host: test"]
    data = request("/a", f"{name}: \x00", *others, host="x: 1")
    wire.refused(data, 400)


@pytest.mark.parametrize("byte", [0x09, 0x20, 0x21, 0x22, 0x2C, 0x3A, 0x5C, 0x7E, 0x80, 0xA0, 0xFF])
def test_what_a_value_may_have_in_it_is_left_alone(paced, byte):
    """5.5: field-content; obs-text SHOULD be opaque."""
    value = f"a{chr(byte)}{chr(byte)}b"
    assert fields_of(paced.seen(request("/a", f"x: {value}")), "x") == [value]


@pytest.mark.parametrize("byte", [0x09, 0x20, 0x22, 0x2C, 0x80, 0xE9, 0xFF])
def test_what_a_response_value_may_have_in_it_is_left_alone(wire, byte):
    """5.5"""
    value = f"a{chr(byte)}b"
    assert wire.ask(request(says(200, [("x", value)]))).all("x") == [value.encode("latin-1")]


# 5.6 Common rules


@pytest.mark.parametrize("value", [", close", "close,", ",,, close ,,", "x,, close", ",\t,close"])
def test_empty_elements_of_a_list_are_ignored(paced, value):
    """5.6.1.2: a recipient MUST parse and ignore a reasonable number of them."""
    assert paced.ask(request("/a", f"connection: {value}")).closes()
    paced.end()


@pytest.mark.parametrize("value", ["", ",", " , ,"])
def test_a_list_without_elements_is_one_of_none(paced, value):
    """5.6.1.2"""
    assert paced.ask(request("/a", f"connection: {value}")).status == 200
    assert paced.in_step()


# 6.4 Content


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ([], [""]),
        ([], ["null"]),
        ([], ["a", "b", ""]),
        ([("content-length", "4")], ["null"]),
        ([("content-length", "0")], [""]),
        ([("content-type", "text/plain")], [100_000]),
    ],
)
def test_204_and_304_have_no_content(wire, status, fields, parts):
    """6.4.1, 15.3.5, 15.4.5: what the app gives all the same is dropped."""
    wire.send(request(says(status, fields, parts)) + request("/next"))
    assert wire.read().status == status
    assert wire.read().json()["path"] == "/next"


def test_205_has_a_length(wire):
    """15.3.6: it has no content, and its framing says so, unlike that of a 204."""
    response = wire.ask(request(says(205)))
    assert (response.status, response.body) == (205, b"")
    assert response.framing in ("length", "chunked")
    assert wire.in_step()


# 6.6.1 Date


@pytest.mark.parametrize("status", [200, 201, 204, 206, 301, 304, 400, 404, 451, 500, 503])
def test_a_response_has_the_date_of_now(wire, status):
    """6.6.1: an origin server with a clock MUST generate one in all 2xx, 3xx and 4xx."""
    (date,) = wire.ask(request(says(status))).all("date")
    assert is_date(date)
    said = datetime.strptime(date.decode(), "%a, %d %b %Y %H:%M:%S GMT")
    said = said.replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - said) < timedelta(seconds=15)


def test_a_refusal_has_a_date_too(wire):
    """6.6.1: all 4xx, whoever generates them."""
    assert wire.refused(b"nonsense\r\n\r\n", 400).all("date")


# 7.2 Host: see test_rfc9112, 3.2

# 7.4 Rejecting misdirected requests


def test_a_target_of_https_is_refused_on_a_connection_without_tls(serve, way, place):
    """7.4: unless it comes from a trusted gateway, a server MUST reject it."""
    with Wire(serve(APP, forwarded_allow_ips=[])) as wire:
        if place == "later":
            assert wire.in_step()
        data = request("https://127.0.0.1/a", host="host: 127.0.0.1")
        if way == "tls":
            assert wire.seen(data)["scheme"] == "https"
        else:
            wire.send(data)
            assert wire.read().status in (400, 421)


@pytest.mark.parametrize("target", ["http://test/a", "https://test/a"])
def test_a_target_cannot_change_the_scheme(wire, way, target):
    """7.4 and 4.2.2: the connection is secured or it is not."""
    response = wire.ask(request(target))
    if response.status == 200:
        assert response.json()["scheme"] == ("https" if way == "tls" else "http")
    else:
        assert response.status in (400, 421)


# 7.6.1 Connection


@pytest.mark.parametrize("option", ["keep-alive", "x", "te", "host", "content-length", "cookie"])
def test_a_connection_option_takes_no_field_away(paced, option):
    """7.6.1: that is for intermediaries; the app sees what came."""
    seen = paced.seen(request("/a", f"connection: {option}", "x: 1", "te: trailers", "cookie: a"))
    assert [name for name, _ in seen["headers"]] == ["host", "connection", "x", "te", "cookie"]
    assert paced.in_step()


# 7.8 Upgrade


def websocket(target: str, *fields: str, version: str = "HTTP/1.1") -> bytes:
    return request(target, *handshake_headers(), *fields, version=version)


@pytest.mark.parametrize("protocol", ["websocket", "WebSocket", "WEBSOCKET", "websocket, x"])
def test_a_switch_of_protocols_is_named(paced, protocol):
    """7.8: a 101 MUST have an Upgrade field; and the option in Connection (7.6.1)."""
    fields = [it if it[:7] != "upgrade" else f"Upgrade: {protocol}" for it in handshake_headers()]
    response = paced.ask(request(says(101), *fields))
    if response.status != 101:
        assert protocol == "websocket, x"
        return
    assert response.tokens("upgrade") == {b"websocket"}
    assert b"upgrade" in response.tokens("connection")


UPGRADES = {
    "h2c": ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk"),
    "TLS": ("connection: upgrade", "upgrade: TLS/1.0, HTTP/1.1"),
    "the version that is spoken": ("connection: upgrade", "upgrade: HTTP/1.1"),
    "one that nobody knows": ("connection: Upgrade", "upgrade: x/1"),
    "one like ours": ("connection: Upgrade", "upgrade: websocket2"),
    "a version of ours": ("connection: Upgrade", "upgrade: websocket/13"),
    "none": ("connection: upgrade",),
    "an empty one": ("connection: upgrade", "upgrade:"),
    "without option": ("upgrade: h2c",),
    "several": ("connection: upgrade", "upgrade: h2c, x", "upgrade: y"),
}


@table("fields", UPGRADES)
def test_an_upgrade_to_what_is_not_spoken_is_ignored(paced, fields):
    """7.8: a server MAY ignore it; it MUST NOT switch to what was not indicated."""
    for _ in range(2):
        assert paced.seen(request("/a", *fields))["path"] == "/a"
    assert paced.seen(post(*fields, "content-length: 5", body="hello"))["body"] == "hello"
    assert paced.in_step()


def test_a_preface_of_http_2_behind_an_upgrade_is_none(wire):
    """7.8: h2c was not taken, so the connection goes on in HTTP/1.1."""
    assert wire.seen(request("/a", *UPGRADES["h2c"]))["version"] == "1.1"
    wire.refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 505)


def test_an_upgrade_in_http_1_0_is_ignored(paced):
    """7.8: a server MUST ignore it."""
    data = websocket(says(200, parts=["plain"]), version="HTTP/1.0")
    response = paced.ask(data, version="1.0")
    assert (response.status, response.body) == (200, b"plain")


def test_a_handshake_without_the_option_is_none(paced):
    """7.8: a sender of Upgrade MUST send the option in Connection too."""
    fields = [line for line in handshake_headers() if not line.startswith("connection")]
    response = paced.ask(request(says(200, parts=["plain"]), *fields))
    assert response.status in (200, 400, 426)


# 8.6 Content-Length


@pytest.mark.parametrize("parts", [["hello"], ["hello", ""], ["he", "llo"]])
def test_a_length_of_the_app_is_sent_once(wire, parts):
    """8.6"""
    response = wire.ask(request(says(200, [("Content-Length", "5")], parts)))
    assert (response.framing, response.body) == ("length", b"hello")
    assert wire.in_step()


@pytest.mark.parametrize(("part", "length"), [("", 0), ("hello", 5), (1_000_000, 1_000_000)])
def test_a_response_whose_length_is_known_says_it(wire, part, length):
    """8.6: an origin server SHOULD send Content-Length when it is known before the head."""
    response = wire.ask(request(says(200, [], [part])))
    assert (response.framing, len(response.body)) == ("length", length)


@pytest.mark.parametrize("status", [200, 404, 500])
def test_head_has_the_length_that_get_would_have_or_none(wire, status):
    """8.6: a server MUST NOT send another one."""
    for fields in ([], [("content-length", "5")]):
        got = wire.ask(request(says(status, fields, ["hello"])))
        head = wire.ask(request(says(status, fields, ["hello"]), method="HEAD"), "HEAD")
        assert head.all("content-length") in ([], got.all("content-length"))
        assert not fields or head.all("content-length") == [b"5"]


def test_head_of_an_app_that_sends_no_body_has_no_length_of_nothing(wire):
    """8.6: an app may know that it is HEAD; 0 would be a lie about GET."""
    target = says(200, [("content-length", "1000")], [""])
    assert wire.ask(request(target, method="HEAD"), "HEAD").all("content-length") == [b"1000"]
    assert wire.in_step()


@pytest.mark.parametrize("length", ["5", "0"])
def test_304_has_the_length_that_200_would_have_or_none(wire, length):
    """8.6: what the app says of it may stay."""
    response = wire.ask(request(says(304, [("content-length", length)])))
    assert response.all("content-length") in ([], [length.encode()])
    assert wire.in_step()


# 9 Methods


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_get_and_head_are_supported(paced, method):
    """9.1: all general-purpose servers MUST support them."""
    assert paced.ask(request("/a", method=method), method).status == 200
    assert paced.in_step()


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ([("content-length", "5")], ["hello"]),
        ([("content-length", "5")], ["he", "llo"]),
        ([("content-length", "100000")], [50_000, 50_000]),
        ([], ["hello"]),
        ([], ["he", "llo"]),
        ([], [50_000] * 5),
        ([], [""]),
    ],
)
def test_head_has_no_content(wire, fields, parts):
    """9.3.2: the server MUST NOT send content; and the connection goes on."""
    for _ in range(2):
        wire.send(request(says(200, fields, parts), method="HEAD") + request("/next"))
        assert wire.read("HEAD").status == 200
        assert wire.read().json()["path"] == "/next"


def test_head_of_http_1_0_has_no_content(wire):
    """9.3.2"""
    wire.send(request(says(200, [], ["hello", "you"]), method="HEAD", version="HTTP/1.0"))
    assert wire.read("HEAD", version="1.0").status == 200
    wire.end()


def test_a_refusal_of_head_has_no_content(wire):
    """9.3.2: whoever answers it."""
    wire.send(request("/a", "nonsense", method="HEAD") + SMUGGLED)
    assert wire.read("HEAD").status == 400
    wire.end()


def test_head_has_the_fields_of_get(wire):
    """9.3.2: the server SHOULD send the same header fields."""
    fields = [("x-b", "1"), ("x-a", "2"), ("x-b", "3"), ("content-length", "5")]
    target = says(200, fields, ["hello"])
    got = wire.ask(request(target))
    head = wire.ask(request(target, method="HEAD"), "HEAD")
    without_date = [[field for field in it.fields if field[0] != b"date"] for it in (got, head)]
    assert without_date[0] == without_date[1]


@pytest.mark.parametrize("field", ["content-length: 5", "transfer-encoding: chunked"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_content_of_a_method_that_has_none_is_no_next_request(wire, method, field):
    """9.3.1, 9.3.2, 9.3.5: it has no meaning; but it has its length."""
    body = SMUGGLED
    if field[0] == "c":
        field = f"content-length: {len(body)}"
    else:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    wire.send(request("/a", field, method=method, body=body) + request("/next"))
    assert wire.read(method).status == 200
    assert wire.read().json()["path"] == "/next"


@pytest.mark.parametrize("target", ["test", "test:", "test:x", "test:99999", "test:-1", ":80"])
def test_connect_to_no_port_is_refused(paced, target):
    """9.3.6: a server MUST reject a CONNECT that targets an empty or invalid port."""
    paced.refused(request(target, method="CONNECT"), 400, 501)


def test_trace_says_nothing_of_what_came(paced):
    """9.3.8: a server SHOULD leave out what is sensitive; we do not implement TRACE."""
    response = paced.refused(
        request("/a", "cookie: secret", "authorization: secret", method="TRACE"), 405, 501
    )
    assert b"secret" not in response.body


# 10.1.1 Expect


@pytest.mark.parametrize("value", ["100-continue", "100-Continue", "100-CONTINUE"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_100_is_sent_before_the_content_has_come(paced, value, framing):
    """10.1.1: an origin server MUST send it, and MUST NOT wait for the content."""
    field, body = {
        "length": ("content-length: 5", b"hello"),
        "chunks": ("transfer-encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    }[framing]
    paced.send(post(field, f"Expect: {value}"))
    interim = paced.read()
    assert (interim.status, interim.fields) == (100, [])
    paced.send(body)
    response = paced.read()
    assert (response.status, response.json()["body"]) == (200, "hello")
    assert paced.in_step()


def test_100_is_sent_when_the_app_wants_the_content(server, wire, key):
    """10.1.1: it is the app that knows whether it does."""
    wire.send(post("content-length: 5", "expect: 100-continue", target=f"/held?{key}"))
    assert journal(server, key) == ["called"]
    assert quiet(wire.socket, 0.1)
    release(server, key)
    assert wire.read().status == 100
    wire.send(b"hello")
    assert wire.read().body == b"hello"
    assert wire.in_step()


@pytest.mark.parametrize("status", [200, 404, 413, 417])
@pytest.mark.parametrize("field", ["content-length: 38", "transfer-encoding: chunked"])
def test_a_final_status_may_come_instead_and_says_whether_more_is_read(wire, status, field):
    """10.1.1: the server SHOULD say whether it closes or reads on."""
    target = says(status, [("content-length", "2")], ["no"])
    wire.send(post(field, "expect: 100-continue", target=target))
    response = wire.read()
    assert (response.status, response.body) == (status, b"no")
    if response.closes():
        wire.send(SMUGGLED)
        wire.end()
    elif field[0] == "c":
        wire.send(SMUGGLED)
        assert wire.in_step()
    else:
        wire.send(b"26\r\n" + SMUGGLED + b"\r\n0\r\n\r\n")
        assert wire.in_step()


def test_a_refusal_may_come_instead_of_a_100(wire):
    """10.1.1: an immediate response, by the head alone."""
    wire.send(post("content-length: x", "expect: 100-continue"))
    response = wire.read()
    assert (response.status, response.closes()) == (400, True)
    wire.end()


def test_no_100_is_sent_when_the_content_is_there(wire):
    """10.1.1: a server MAY omit it; if it sends one, a final status MUST follow."""
    wire.send(post("content-length: 5", "expect: 100-continue", body="hello"))
    response = wire.read()
    if response.status == 100:
        response = wire.read()
    assert response.json()["body"] == "hello"
    assert wire.in_step()


def test_no_100_is_sent_without_being_expected(paced):
    """10.1.1 and 15.2.1"""
    paced.send(post("content-length: 5", body="hello"))
    assert paced.read().status == 200


@pytest.mark.parametrize("field", [(), ("content-length: 0",)])
def test_no_100_is_needed_without_content(wire, field):
    """10.1.1: a server MAY omit it if there is no content; a final status follows."""
    wire.send(post(*field, "expect: 100-continue"))
    response = wire.read()
    if response.status == 100:
        response = wire.read()
    assert response.status == 200
    assert wire.in_step()


def test_http_1_0_gets_no_100(paced):
    """10.1.1: the server MUST ignore the expectation; 15.2: no 1xx to HTTP/1.0."""
    paced.send(post("content-length: 5", "expect: 100-continue", version="HTTP/1.0"))
    paced.send(b"hello")
    response = paced.read(version="1.0")
    assert (response.status, response.json()["body"]) == (200, "hello")


@pytest.mark.parametrize("value", ["x", "100-continue, x", "200-ok", ""])
def test_another_expectation_is_ignored_or_a_417(wire, value):
    """10.1.1: a server MAY respond with 417."""
    wire.send(post("content-length: 5", f"expect: {value}", body="hello"))
    response = wire.read()
    if response.status == 100:
        response = wire.read()
    assert response.status in (200, 417)


# 10.1.4 TE, 10.2.4 Server


def test_te_means_nothing_to_responses_without_trailers(paced):
    """10.1.4: trailers may be sent, and need not."""
    target = says(200, parts=["one ", "two"])
    response = paced.ask(request(target, "te: trailers, gzip;q=0.5", "connection: te"))
    assert (response.framing, response.body) == ("chunked", b"one two")
    assert paced.in_step()


def test_the_server_names_itself_without_details(wire):
    """10.2.4: an origin server SHOULD NOT tell needlessly fine-grained details."""
    assert wire.ask(request("/a")).all("server") == [b"hornbeam"]
    assert wire.refused(b"nonsense\r\n\r\n", 400).all("server") in ([b"hornbeam"], [])


# 14.2 Range


def test_a_range_is_the_apps_matter(paced):
    """14.2: a server MAY ignore the Range field."""
    seen = paced.ask(request("/a", "range: bytes=0-1", "if-range: x"))
    assert seen.status == 200
    assert seen.json()["path"] == "/a"


# 15 Status codes


@pytest.mark.parametrize("status", [99, 600, 1000, 0, -1, 100, 101, 102, 103, 199])
def test_a_status_that_can_be_no_response_is_a_500(wire, status):
    """15: valid status codes are 100 to 599; 15.2: and a 1xx is none that ends."""
    response = wire.ask(request(says(status)))
    assert response.status in (500, 502)


@pytest.mark.parametrize("status", [200, 226, 299, 300, 399, 418, 499, 511, 599])
def test_a_status_that_nobody_knows_is_sent_as_it_is(wire, status):
    """15: status codes are extensible."""
    assert wire.ask(request(says(status))).status == status
    assert wire.in_step()


def other_version(version: str) -> bytes:
    fields = [line for line in handshake_headers() if "version" not in line]
    return request(says(101), *fields, f"sec-websocket-version: {version}")


@pytest.mark.parametrize("version", ["0", "7", "12", "14"])
def test_a_version_of_websocket_that_is_not_spoken_is_told_the_one_that_is(wire, version):
    """15.5.22: a 426 MUST have an Upgrade field; RFC 6455, 4.4: and the version that is spoken."""
    response = wire.ask(other_version(version))
    assert response.status in (400, 426)
    assert response.all("sec-websocket-version") == [b"13"]


@pytest.mark.parametrize("version", ["x", "13, 14", "", "013", "+13"])
def test_a_version_of_websocket_that_is_none_is_refused(wire, version):
    """7.8: a server MUST NOT switch to what was not indicated."""
    assert wire.ask(other_version(version)).status in (400, 426)
