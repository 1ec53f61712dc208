"""RFC 9112 (HTTP/1.1), each demand on an origin server: over TCP and TLS, first and later requests.

`http1.Wire` holds every response to the demands on what a server sends (2.2, 4, 5, 5.2, 6.1, 6.2,
6.3, 7.1, 9.8). Where the RFC leaves a choice, the tests name ours.

What is not here, and why:
- 2.2 a lone LF as a line's end, 3 lenient white space in a request line, 5.2 folds replaced by
  spaces, 6.3 equal lengths taken as one: each MAY be taken; we refuse them all, as tested.
- 2.3 HTTP/1.2 SHOULD be served as HTTP/1.1 (9110, 2.5): it does not exist, and is refused.
- 3 methods that are not implemented: all tokens are methods, and the app answers.
- 3.2.4 OPTIONS with an empty absolute path, 5.2 and 6.1 and 7.1.2 forwarding: proxies.
- 3.3 the target URI: what the server knows of it goes into the scope (test_http).
- 6.1 other codings than chunked, 7.2, 7.3: none is implemented, and none is sent.
- 6.1 a coding in a 2xx to CONNECT: CONNECT is refused.
- 6.3 411 for a body without length: a server MAY; such a request has no body.
- 7.1.2 trailers that are kept or merged: a recipient MAY drop them; we do.
- 7.4 TE, 9.2, 9.3.1, 9.4, 9.7: demands on clients. Responses have no trailers, so TE means nothing.
- 9.5 no idle connection MUST be kept or closed at any time: test_limits has our timeouts.
- 10 message/http: for TRACE, which is refused.
- 11.3, 11.4 integrity and confidentiality: test_tls.
"""

from __future__ import annotations

import pytest
from clients import journal, release
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

MIB = 1024 * 1024


@pytest.fixture
def serve(reached):
    return reached


@pytest.fixture
def server(serve):
    return serve(APP)


# 2.2 Message parsing


@pytest.mark.parametrize("byte", [0x80, 0x9F, 0xE9, 0xFE, 0xFF])
def test_octets_beyond_ascii_are_opaque(paced, byte):
    """2.2: an HTTP message MUST be parsed as octets in a superset of US-ASCII."""
    seen = paced.seen(request("/seen", f"x-latin: a{chr(byte)}b{chr(byte)}"))
    assert fields_of(seen, "x-latin") == [f"a{chr(byte)}b{chr(byte)}"]


BARE_CR = {
    "in the target": b"GET /a\rb HTTP/1.1\r\nhost: test\r\n\r\n",
    "in the method": b"GE\rT /a HTTP/1.1\r\nhost: test\r\n\r\n",
    "in the version": b"GET /a HTTP/1.1\rx\r\nhost: test\r\n\r\n",
    "before the request line's end": b"GET /a HTTP/1.1\r\r\nhost: test\r\n\r\n",
    "before a request line": b"\rGET /a HTTP/1.1\r\nhost: test\r\n\r\n",
    "as a line's end": b"GET /a HTTP/1.1\rhost: test\r\r\n\r\n",
    "in a name": request("/a", "x\ry: 1"),
    "before a value": request("/a", "x:\r1"),
    "in a value": request("/a", "x: 1\r2"),
    "before a field": request("/a", "x: 1\rcontent-length: 40"),
    "at a value's end": request("/a", "x: 1\r"),
    "before the head's end": b"GET /a HTTP/1.1\r\nhost: test\r\n\r\r\n",
    "as the head's end": b"GET /a HTTP/1.1\r\nhost: test\r\n\rx",
}


@table("data", BARE_CR)
def test_a_bare_cr_is_refused(paced, data):
    """2.2: a recipient of a bare CR MUST consider that element to be invalid (or a space)."""
    paced.refused(data, 400)


BARE_LF = {
    "everywhere": request().replace(b"\r\n", b"\n"),
    "after the request line": b"GET /a HTTP/1.1\nhost: test\r\n\r\n",
    "after a field": b"GET /a HTTP/1.1\r\nx: 1\nhost: test\r\n\r\n",
    "after the last field": b"GET /a HTTP/1.1\r\nhost: test\n\r\n",
    "at the head's end": b"GET /a HTTP/1.1\r\nhost: test\r\n\n",
    "twice at the end": b"GET /a HTTP/1.1\r\nhost: test\n\n",
    "before a length": request("/a", "x: 1\ncontent-length: 40"),
    "before a coding": request("/a", "x: 1\ntransfer-encoding: chunked"),
    "before a request line": b"\n" + request("/a"),
    "in the target": request("/a\nb"),
    "in a name": request("/a", "x\ny: 1"),
    "before a colon": request("/a", "x\n: 1"),
}


@table("data", BARE_LF)
def test_a_bare_lf_ends_no_line(paced, data):
    """2.2: a recipient MAY take it for a line's end; we refuse it."""
    paced.refused(data, 400)


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_empty_lines_before_a_request_are_skipped(paced, lines):
    """2.2: a server SHOULD ignore at least one empty line before a request line."""
    assert paced.seen(b"\r\n" * lines + request("/a"))["path"] == "/a"
    assert paced.in_step()


def test_an_empty_line_after_a_body_is_skipped(paced):
    """2.2: old user agents send one; the next request is the next request."""
    assert paced.seen(post("content-length: 5", body="hello\r\n"))["body"] == "hello"
    assert paced.in_step()


@pytest.mark.parametrize("space", [" ", "\t", "  "], ids=["space", "tab", "spaces"])
@pytest.mark.parametrize("rest", ["", "x: 1", "content-length: 40", "host: test"])
def test_white_space_before_the_first_field_is_refused(paced, space, rest):
    """2.2: such a message MUST be rejected (or such lines not processed)."""
    paced.refused(request("/a", "host: test", host=f"{space}{rest}"), 400)


NOT_HTTP = {
    "a word": b"nonsense\r\n\r\n",
    "an HTTP/0.9 request": b"GET /a\r\n\r\n",
    "a TLS hello": bytes.fromhex("1603010200010001fc0303") + bytes(40) + b"\r\n\r\n",
    "another protocol": b"GET /a SPDY/3\r\nhost: test\r\n\r\n",
    "a response": b"HTTP/1.1 200 OK\r\nhost: test\r\n\r\n",
    "a field alone": b"host: test\r\n\r\n",
    "NULs": bytes(20) + b"\r\n\r\n",
    "all octets": bytes(range(256)) + b"\r\n\r\n",
    "a request behind noise": b"\xff\xfe" + request("/a"),
    "an e-mail": b"EHLO test\r\nMAIL FROM:<a@b>\r\n\r\n",
}


@table("data", NOT_HTTP)
def test_what_is_no_http_is_a_400_and_the_end(wire, data):
    """2.2: a server SHOULD respond with 400 and close the connection."""
    wire.refused(data, 400)


# 2.3 HTTP version

BAD_VERSIONS = [
    "http/1.1", "Http/1.1", "HTTP/1.1x", "HTTP/1.10", "HTTP/11", "HTTP/01.1", "HTTP/1", "HTTP/1.",
    "HTTP/.1", "HTTP/1,1", "HTTP/1.1.1", "HTTP/1. 1", "HTTP/ 1.1", "HTTP /1.1", "HTTP/1.\xb9",
    "HTTP/a.b", "HTTP/+1.1", "HTTP/-1.1", "HTTP/1.-1", "XHTTP/1.1", "HTTPS/1.1", "HTTP", "HTTP/",
    "HTTP/1.1\t", "HTTP/1.1\x00", "HTTP/0x1.1",
]  # fmt: skip


@pytest.mark.parametrize("version", BAD_VERSIONS)
def test_a_malformed_version_is_a_400(paced, version):
    """2.3: the grammar of HTTP-version, which is case-sensitive."""
    paced.refused(request("/a", version=version), 400)


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/2.1", "HTTP/3.0"])
def test_a_major_version_that_is_not_spoken_so_is_a_505(paced, version):
    """2.3 and RFC 9110, 15.6.6: no HTTP/1.1 message has such a version."""
    paced.refused(request("/a", version=version), 505)


@pytest.mark.parametrize("version", ["HTTP/0.9", "HTTP/0.0", "HTTP/1.2", "HTTP/1.9", "HTTP/9.9"])
def test_a_version_that_does_not_exist_is_refused(paced, version):
    """2.3: whether it is taken for malformed or for one that is not supported."""
    paced.refused(request("/a", version=version), 400, 505)


# 3 Request line

BAD_REQUEST_LINES = {
    "two spaces before the target": "GET  /a HTTP/1.1",
    "two spaces before the version": "GET /a  HTTP/1.1",
    "a tab before the target": "GET\t/a HTTP/1.1",
    "a tab before the version": "GET /a\tHTTP/1.1",
    "a vertical tab": "GET /a\x0bHTTP/1.1",
    "a form feed": "GET\x0c/a HTTP/1.1",
    "a space before the method": " GET /a HTTP/1.1",
    "a space after the version": "GET /a HTTP/1.1 ",
    "more behind the version": "GET /a HTTP/1.1 x",
    "a space in the target": "GET /a b HTTP/1.1",
    "no target": "GET HTTP/1.1",
    "an empty target": "GET  HTTP/1.1",
    "no method": "/a HTTP/1.1",
    "an empty method": " /a HTTP/1.1",
    "no version": "GET /a",
    "an empty version": "GET /a ",
    "a method that is no token": "GE(T /a HTTP/1.1",
    "a colon in the method": "GE:T /a HTTP/1.1",
    "a slash in the method": "GE/T /a HTTP/1.1",
    "a NUL in the method": "GE\x00T /a HTTP/1.1",
    "a control in the method": "GE\x7fT /a HTTP/1.1",
    "a method beyond ASCII": "GE\xc9T /a HTTP/1.1",
    "a NUL in the target": "GET /a\x00b HTTP/1.1",
    "a control in the target": "GET /a\x01b HTTP/1.1",
    "a tab in the target": "GET /a\tb HTTP/1.1",
    "DEL in the target": "GET /a\x7fb HTTP/1.1",
}


@table("line", BAD_REQUEST_LINES)
def test_an_invalid_request_line_is_a_400(paced, line):
    """3: recipients of an invalid request-line SHOULD respond with 400, and not mend it."""
    paced.refused(line.encode("latin-1") + b"\r\nhost: test\r\n\r\n", 400)


def test_a_request_line_of_8000_octets_is_served(wire):
    """3: it is RECOMMENDED that at least so much is supported."""
    query = "x" * (8000 - len("GET /a? HTTP/1.1"))
    assert wire.seen(request(f"/a?{query}"))["query"] == query


@pytest.mark.parametrize("size", [20_000, 200_000])
def test_a_target_that_is_too_long_is_a_414(wire, size):
    """3: a server MUST respond with 414 to a request-target that it does not wish to parse."""
    wire.refused(request("/a?" + "x" * size), 414)


# 3.1 Method


@pytest.mark.parametrize("method", ["PROPFIND", "M-SEARCH", "A", "!#$%&'*+-.^_`|~09Az"])
def test_every_token_is_a_method(paced, method):
    """3.1: method = token; which it implements, the app knows."""
    assert paced.seen(request("/a", method=method))["method"].upper() == method.upper()
    assert paced.in_step()


@pytest.mark.parametrize("method", ["head", "Head", "HEADS", "HEA"])
def test_only_head_is_head(paced, method):
    """3.1: the method is case-sensitive."""
    response = paced.ask(request("/a", method=method))
    assert (response.status, response.json()["path"]) == (200, "/a")
    assert paced.in_step()


@pytest.mark.parametrize("method", ["connect", "Connect"])
def test_only_connect_is_connect(paced, method):
    """3.1: the method is case-sensitive."""
    assert paced.seen(request("/a", method=method))["path"] == "/a"


# 3.2 Request target and Host

BAD_HOSTS = {
    "a space": "host: a b",
    "a slash": "host: a/b",
    "a user": "host: u@a",
    "a question": "host: a?b",
    "a fragment": "host: a#b",
    "a backslash": "host: a\\b",
    "a quote": 'host: "a"',
    "angle brackets": "host: <a>",
    "a port that is no number": "host: a:b",
    "a negative port": "host: a:-1",
    "two ports": "host: a:80:80",
    "an address without brackets": "host: ::1",
    "an open bracket": "host: [::1",
    "a closed bracket": "host: ::1]",
    "more behind the bracket": "host: [::1]x",
    "no address in brackets": "host: [g]",
    "a percent sign": "host: a%zz",
    "beyond ASCII": "host: \xe9",
    "a NUL": "host: a\x00b",
    "a control": "host: a\x01b",
    "a tab": "host: a\tb",
    "a scheme": "host: http://a",
}

BAD_HOST = {
    "none": request("/a", host=None),
    "none, but one like it": request("/a", "x-host: test", host=None),
    "two": request("/a", "host: other"),
    "two that are equal": request("/a", "host: test"),
    "two in other case": request("/a", "HOST: other"),
    "two that are far apart": request("/a", "x: 1", "y: 2", "host: other"),
    "two, one of them empty": request("/a", "host:"),
    "two of HTTP/1.0": request("/a", "host: other", version="HTTP/1.0"),
    "a bad one of HTTP/1.0": request("/a", version="HTTP/1.0", host="host: a/b"),
    "a list": request("/a", host="host: a, b"),
    "none beside an absolute target": request("http://test/a", host=None),
    "two beside an absolute target": request("http://test/a", "host: test"),
    "a bad one beside an absolute target": request("http://test/a", host="host: a/b"),
} | {name: request("/a", host=host) for name, host in BAD_HOSTS.items()}


@table("data", BAD_HOST)
def test_no_host_or_two_or_a_bad_one_is_a_400(paced, data):
    """3.2: a server MUST respond with 400 to each of these."""
    paced.refused(data, 400)


@pytest.mark.parametrize(
    "host",
    ["test", "TEST", "test:", "test:80", "[::1]", "[::1]:8000", "[2001:db8::1.2.3.4]", "192.0.2.1",
     "a_b.test", "test.", "xn--caf-dma.test", "a%41.test", "a!$&'()*+;=b"],
)  # fmt: skip
def test_a_host_is_what_the_grammar_of_uris_allows(wire, host):
    """3.2: Host = uri-host [ ":" port ]"""
    assert fields_of(wire.seen(request("/a", host=f"host: {host}")), "host") == [host]


def test_http_1_0_needs_no_host(paced):
    """3.2: it is HTTP/1.1 that demands one."""
    seen = paced.seen(request("/a", version="HTTP/1.0", host=None), version="1.0")
    assert (seen["path"], seen["version"]) == ("/a", "1.0")


# 3.2.1 Origin form


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a?", "/a", ""),
        ("/a?b?c=/&d", "/a", "b?c=/&d"),
        ("//", "//", ""),
        ("//a//", "//a//", ""),
        ("/a/../b/./c", "/a/../b/./c", ""),
        ("/a:b@c;d=e,f!$&'()*+", "/a:b@c;d=e,f!$&'()*+", ""),
        ("/http://other/", "/http://other/", ""),
        ("/a%2Fb%3Fc", "/a%2Fb%3Fc", ""),
        ("/?", "/", ""),
    ],
)
def test_the_origin_form_is_path_and_query_as_they_came(paced, target, path, query):
    """3.2.1"""
    seen = paced.seen(request(target))
    assert (seen["raw_path"], seen["query"]) == (path, query)


# 3.2.2 Absolute form

ABSOLUTE = {
    "path and port": ("http://h:81/p", "/p", "", "h:81"),
    "path and query": ("http://h/p?q=1", "/p", "q=1", "h"),
    "neither": ("http://h", "/", "", "h"),
    "a query alone": ("http://h?q", "/", "q", "h"),
    "a scheme in capitals": ("HTTP://h/p", "/p", "", "h"),
    "an address": ("http://[::1]:8000/p", "/p", "", "[::1]:8000"),
    "a path with everything": ("http://h//p/../http://x/?http://y/", "//p/../http://x/",
                               "http://y/", "h"),
}  # fmt: skip


@table("case", ABSOLUTE)
def test_an_absolute_target_is_taken_and_its_host_is_the_host(paced, case):
    """3.2.2: a server MUST accept it, and an origin server MUST ignore Host beside it."""
    target, path, query, host = case
    seen = paced.seen(request(target, "x: 1", host="Host: other"))
    assert (seen["raw_path"], seen["query"]) == (path, query)
    assert fields_of(seen, "host") == [host]
    assert paced.in_step()


def test_an_absolute_target_is_taken_of_http_1_0(wire):
    """3.2.2: a server MUST accept the absolute-form in requests, whoever sends it."""
    seen = wire.seen(request("http://h/p", version="HTTP/1.0", host=None), version="1.0")
    assert seen["path"] == "/p"


@pytest.mark.parametrize(
    "target",
    ["a", "a/b", "?a", "#a", "http:", "http:/a", "http:a", "://a/", "http//a/", "test:80",
     "ftp://test/a", "http://test:x/a", "http://te st/a", "http://test\\a", "javascript:a", "**",
     "*a", "http://[::1/a", "http://te<st/a"],
)  # fmt: skip
def test_a_target_in_no_form_is_a_400(paced, target):
    """3.2: request-target has four forms."""
    paced.refused(request(target), 400)


# 3.2.3 and 3.2.4 Authority and asterisk forms


@pytest.mark.parametrize("target", ["test:80", "/a", "*", "http://test/"])
def test_connect_is_refused(paced, target):
    """3.2.3: only CONNECT has the authority form, and an origin server need not implement it."""
    paced.refused(request(target, method="CONNECT"), 501, *([400] if target != "test:80" else []))


@pytest.mark.parametrize("method", ["GET", "POST", "options"])
def test_the_asterisk_is_for_options_only(paced, method):
    """3.2.4"""
    paced.refused(request("*", method=method), 400)


def test_options_of_the_server_as_a_whole_reach_the_app(paced):
    """3.2.4: the asterisk form."""
    seen = paced.seen(request("*", method="OPTIONS"))
    assert (seen["method"], seen["path"]) == ("OPTIONS", "*")
    assert paced.in_step()


# 4 Status line


@pytest.mark.parametrize("status", [200, 299, 418, 499, 599])
def test_the_space_before_the_reason_is_there_without_a_reason_too(wire, status):
    """4: a server MUST send that space."""
    response = wire.ask(request(says(status)))
    assert response.status == status  # Wire knows no status line without the space


# 5 Field syntax

BAD_FIELDS = {
    "no colon": "nonsense",
    "no name": ": 1",
    "a space before the colon": "x : 1",
    "a tab before the colon": "x\t: 1",
    "a space in the name": "x y: 1",
    "a length with a space": "content-length : 40",
    "a coding with a space": "transfer-encoding : chunked",
    "a host with a space": "x-host : test",
    "a bracket in the name": "x(y): 1",
    "a slash in the name": "x/y: 1",
    "an at sign in the name": "x@y: 1",
    "a quote in the name": 'x"y: 1',
    "braces in the name": "{x}: 1",
    "a comma in the name": "x,y: 1",
    "a semicolon in the name": "x;y: 1",
    "an equals sign in the name": "x=y: 1",
    "a backslash in the name": "x\\y: 1",
    "a NUL in the name": "x\x00y: 1",
    "a control in the name": "x\x01y: 1",
    "DEL in the name": "x\x7fy: 1",
    "a name beyond ASCII": "x\xe9: 1",
    "a colon alone": ":",
}


@table("line", BAD_FIELDS)
def test_a_line_that_is_no_field_is_a_400(paced, line):
    """5 and 5.1: white space before the colon MUST be rejected with a 400."""
    paced.refused(request("/a", line, "y: 2"), 400)


@table("line", BAD_FIELDS)
def test_a_last_line_that_is_no_field_is_a_400(wire, line):
    """5 and 5.1"""
    wire.refused(request("/a", "y: 2", line), 400)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("x:v", "v"),
        ("x: v", "v"),
        ("x:\tv\t", "v"),
        ("x: \t  v  \t ", "v"),
        ("x: v w\tx  y ", "v w\tx  y"),
        ("x:", ""),
        ("x: ", ""),
        ("x: \t \t", ""),
        ("x: :", ":"),
        ("x::v", ":v"),
        ("x: v:w", "v:w"),
        ('x: "a, b", c', '"a, b", c'),
    ],
)
def test_white_space_around_a_value_is_no_part_of_it(paced, line, value):
    """5.1: it is excluded by the field parsing algorithm."""
    assert fields_of(paced.seen(request("/a", line, "y: 2")), "x") == [value]


FOLDS = {
    "by a space": request("/a", "x: 1", " 2"),
    "by a tab": request("/a", "x: 1", "\t2"),
    "of nothing": request("/a", "x: 1", " "),
    "that looks like a field": request("/a", "x: 1", " content-length: 40"),
    "of the last field": request("/a", "x: 1", " 2", "\t3"),
    "of a length": post("content-length:", " 5", body="hello"),
    "of a coding": post("transfer-encoding:", "\tchunked", body="0\r\n\r\n"),
    "of the host": request("/a", host="host:\r\n test"),
    "before a field": request("/a", " x", "y: 2"),
}


@table("data", FOLDS)
def test_a_folded_line_is_a_400(paced, data):
    """5.2: a server that receives one MUST reject it with 400 (or unfold it)."""
    paced.refused(data, 400)


# 6 Message body


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_a_request_without_length_and_coding_has_no_body(paced, method):
    """6 and 6.3, 7: its body length is zero."""
    paced.send(request("/a", method=method) + request("/b"))
    assert paced.read().json()["body"] == ""
    assert paced.read().json()["path"] == "/b"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "PATCH", "X"])
@pytest.mark.parametrize(
    ("field", "body"),
    [("content-length: 5", "hello"), ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")],
    ids=["length", "chunks"],
)
def test_a_request_with_length_or_coding_has_a_body_whatever_its_method(wire, method, field, body):
    """6: request framing is independent of method semantics."""
    wire.send(request("/a", field, method=method, body=body) + request("/b"))
    assert wire.read().json()["body"] == "hello"
    assert wire.read().json()["path"] == "/b"


# 6.1 Transfer-Encoding


@pytest.mark.parametrize("coding", ["chunked", "Chunked", "CHUNKED", "chunked ", "\tchunked"])
def test_the_name_of_a_coding_is_in_any_case(paced, coding):
    """6.1 and 7: a recipient MUST parse chunked; names are case-insensitive."""
    field = f"Transfer-Encoding: {coding}"
    assert paced.seen(post(field, body="5\r\nhello\r\n0\r\n\r\n"))["body"] == "hello"
    assert paced.in_step()


BOTH = {
    "length and coding": post("content-length: 5", "transfer-encoding: chunked", body="0\r\n\r\n"),
    "coding and length": post("transfer-encoding: chunked", "content-length: 5", body="0\r\n\r\n"),
    "a length of nothing": post(
        "content-length: 0", "transfer-encoding: chunked", body="0\r\n\r\n"
    ),
    "the right length": chunked("0\r\n\r\n", "content-length: 5"),
    "others between": chunked("0\r\n\r\n", "x: 1", "y: 2", "Content-Length: 5"),
    "a bad length": chunked("0\r\n\r\n", "content-length: x"),
    "an unknown coding": post("transfer-encoding: x", "content-length: 0"),
    "an empty coding": post("transfer-encoding:", "content-length: 0"),
    "a bad coding": post("transfer-encoding: \x0bchunked", "content-length: 0"),
}


@table("data", BOTH)
def test_both_a_length_and_a_coding_are_a_400_and_the_end(paced, data):
    """6.1: a server MAY reject it, and MUST close the connection in any case."""
    paced.refused(data, 400, *([501] if b": x\r\n" in data else []))


@pytest.mark.parametrize("fields", [(), ("connection: keep-alive",), ("content-length: 5",)])
def test_a_coding_in_http_1_0_is_a_400_and_the_end(paced, fields):
    """6.1: it MUST be treated as faulty framing, and the connection closed."""
    paced.refused(chunked("0\r\n\r\n", *fields, version="HTTP/1.0"), 400)


NOT_AT_LAST = [
    "gzip", "identity", "chunked, gzip", "chunked, identity", "xchunked", "chunkedx", "chunk",
    "chunked x", "x chunked", '"chunked"', "", "chunked\x0b", "\x0bchunked", "chunked; gzip",
    "chunked/1", "'chunked'", "chunke\xe4",
]  # fmt: skip


@pytest.mark.parametrize("coding", NOT_AT_LAST)
def test_a_coding_that_does_not_end_with_chunked_is_a_400_or_a_501(paced, coding):
    """6.3, 4: a server MUST respond with 400 and close; 6.1: with 501 to an unknown coding."""
    paced.refused(post(f"transfer-encoding: {coding}", body="5\r\nhello\r\n0\r\n\r\n"), 400, 501)


@pytest.mark.parametrize(
    "fields",
    [
        ("transfer-encoding: gzip, chunked",),
        ("transfer-encoding: x, chunked",),
        ("transfer-encoding: identity, chunked",),
        ("transfer-encoding: chunked, chunked",),
        ("transfer-encoding: gzip", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "transfer-encoding:"),
        ("transfer-encoding: chunked", "Transfer-Encoding: identity"),
    ],
)
def test_more_codings_than_chunked_are_a_501_or_a_400(paced, fields):
    """6.1: a server SHOULD respond with 501 to a coding that it does not understand."""
    paced.refused(post(*fields, body="5\r\nhello\r\n0\r\n\r\n"), 400, 501)


def test_a_parameter_of_chunked_is_an_error(paced):
    """7.1: its presence SHOULD be treated as one."""
    paced.refused(post("transfer-encoding: chunked;q=1", body="0\r\n\r\n"), 400, 501)


def test_http_1_0_gets_no_coding(paced):
    """6.1: a server MUST NOT send one unless the request is of HTTP/1.1."""
    target = says(200, parts=["one ", "two ", "three"])
    response = paced.ask(request(target, version="HTTP/1.0"), version="1.0")
    assert (response.framing, response.body) == ("close", b"one two three")


def test_http_1_1_gets_chunks_where_the_length_is_unknown(paced):
    """6.1 and 6.3, 8: so that the connection goes on."""
    response = paced.ask(request(says(200, parts=["one ", "two ", "", "three"])))
    assert (response.framing, response.body) == ("chunked", b"one two three")
    assert paced.in_step()


# 6.2 Content-Length and 6.3 message body length


@pytest.mark.parametrize("length", ["5", "05", "0000000000000000000000005", " 5 ", "\t5\t"])
def test_a_length_is_digits(paced, length):
    """6.2: Content-Length = 1*DIGIT"""
    assert paced.seen(post(f"content-length:{length}", body="hello"))["body"] == "hello"
    assert paced.in_step()


BAD_LENGTHS = [
    "", "-1", "-0", "+5", "0x5", "5,5", "5, 5", "5,6", "5 5", "5.0", "5e0", "5;", "5_0", "\x0b5",
    "5\x0c", "five", "5f", "\xb2", "\xd9\xa5", ",5", "5,", "'5'", '"5"', "\xa05", "0 5", "NaN",
    "5\x00",
]  # fmt: skip


@pytest.mark.parametrize("length", BAD_LENGTHS)
def test_an_invalid_length_is_a_400_and_the_end(paced, length):
    """6.3, 5: the server MUST respond with 400 and then close the connection."""
    paced.refused(post(f"content-length: {length}", body="hello"), 400)


@pytest.mark.parametrize("lengths", [("5", "5"), ("5", "6"), ("0", "5"), ("5", ""), ("", "5")])
def test_two_lengths_are_a_400_and_the_end(paced, lengths):
    """6.3, 5: it MAY take equal ones for one; we do not."""
    fields = ("content-length: " + lengths[0], "x: 1", "Content-Length: " + lengths[1])
    paced.refused(post(*fields, body="hello"), 400)


INCOMPLETE = {
    "a length": post("content-length: 10", body="hello"),
    "a length of one more": post("content-length: 6", body="hello"),
    "a length and nothing": post("content-length: 6"),
    "a chunk": chunked("a\r\nhello"),
    "no last chunk": chunked("5\r\nhello\r\n"),
    "no line's end after a chunk": chunked("5\r\nhello"),
    "a last chunk without its end": chunked("5\r\nhello\r\n0"),
    "no end of trailers": chunked("5\r\nhello\r\n0\r\n"),
    "half an end of trailers": chunked("5\r\nhello\r\n0\r\n\r"),
    "a trailer": chunked("5\r\nhello\r\n0\r\nx: 1\r\n"),
    "half a size": chunked("5\r\nhello\r\n1"),
}


@table("data", INCOMPLETE)
def test_a_body_whose_sender_leaves_is_never_whole(server, place, key, data):
    """6.3, 6 and 8: the recipient MUST consider the message to be incomplete."""
    with Wire(server) as wire:
        if place == "later":
            assert wire.in_step()
        wire.send(data.replace(b"/seen", f"/events?{key}".encode()))
        assert journal(server, key) == ["called"]
    assert journal(server, key, 2) == ["called", "http.disconnect"]


@pytest.mark.parametrize("cut", [1, 10, 20, 30])
def test_a_head_whose_sender_leaves_reaches_no_app(server, place, key, cut):
    """8: an incomplete request; RFC 9110, 5.3: nothing is done before the head is whole."""
    with Wire(server) as wire:
        if place == "later":
            assert wire.in_step()
        wire.send(request(f"/events?{key}", "x: 1")[:-cut])
    with Wire(server) as other:
        assert other.in_step()
        assert other.ask(request(f"/journal/0?{key}")).json() == []


# 7.1 Chunked transfer coding

CHUNKS = {
    "one": "5\r\nhello\r\n0\r\n\r\n",
    "some": "1\r\nh\r\n2\r\nel\r\n2\r\nlo\r\n0\r\n\r\n",
    "capitals": "A\r\n0123456789\r\n0\r\n\r\n",
    "small letters": "a\r\n0123456789\r\n0\r\n\r\n",
    "more digits": "0b\r\n0123456789a\r\n0\r\n\r\n",
    "leading zeros": "0000000000000005\r\nhello\r\n0\r\n\r\n",
    "more zeros at the end": "5\r\nhello\r\n0000\r\n\r\n",
    "none": "0\r\n\r\n",
    "line ends as data": "4\r\n\r\n\r\n\r\n0\r\n\r\n",
    "an end as data": "5\r\n0\r\n\r\n\r\n0\r\n\r\n",
    "an extension": "5;a=b\r\nhello\r\n0\r\n\r\n",
    "an extension without value": "5;a\r\nhello\r\n0\r\n\r\n",
    "extensions": '5;a;b=c;d="e f"\r\nhello\r\n0\r\n\r\n',
    "a quoted extension": '5;a="b;c\\"d, \\\\"\r\nhello\r\n0\r\n\r\n',
    "an extension that looks like a size": "5;ff\r\nhello\r\n0\r\n\r\n",
    "white space in an extension": "5 ; a = b\r\nhello\r\n0\r\n\r\n",
    "a tab before an extension": "5\t;\ta\r\nhello\r\n0\r\n\r\n",
    "an extension at the end": "5\r\nhello\r\n0;a=b\r\n\r\n",
    "a trailer": "5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n",
    "trailers": "5\r\nhello\r\n0\r\nx-t: 1\r\nx-u:\r\nx-t: 2\r\n\r\n",
    "extensions and trailers": "5;ext=1\r\nhello\r\n0;x\r\nX-T: t\r\n\r\n",
    "all octets": "100\r\n" + bytes(range(256)).decode("latin-1") + "\r\n0\r\n\r\n",
}


def decoded(body: str) -> str:
    """Decode chunks that are known to be good."""
    size, rest = int(body.split("\r\n")[0].split(";")[0], 16), body.split("\r\n", 1)[1]
    return rest[:size] + decoded(rest[size + 2 :]) if size else ""


@table("body", CHUNKS)
def test_a_chunked_body_is_decoded_and_the_connection_in_step(paced, body):
    """7.1: MUST be able to parse it; 7.1.1: MUST ignore extensions that it does not know."""
    assert paced.seen(chunked(body))["body"] == decoded(body)
    assert paced.in_step()


@table("body", CHUNKS)
def test_a_chunked_body_with_a_request_behind_it_ends_where_it_ends(wire, body):
    """7.1"""
    wire.send(chunked(body) + request("/next"))
    assert wire.read().json()["body"] == decoded(body)
    assert wire.read().json()["path"] == "/next"


BAD_CHUNKS = {
    "no size": "\r\nhello\r\n0\r\n\r\n",
    "no digit": "g\r\nhello\r\n0\r\n\r\n",
    "a sign": "+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": "-5\r\nhello\r\n0\r\n\r\n",
    "a prefix": "0x5\r\nhello\r\n0\r\n\r\n",
    "an underscore": "0_5\r\nhello\r\n0\r\n\r\n",
    "a space before": " 5\r\nhello\r\n0\r\n\r\n",
    "a space after": "5 \r\nhello\r\n0\r\n\r\n",
    "a tab after": "5\t\r\nhello\r\n0\r\n\r\n",
    "a digit beyond ASCII": "\xb25\r\nhello\r\n0\r\n\r\n",
    "a digit after a space": "5 0\r\nhello\r\n0\r\n\r\n",
    "a comma": "5,\r\nhello\r\n0\r\n\r\n",
    "an extension alone": ";a=b\r\nhello\r\n0\r\n\r\n",
    "a bare LF after the size": "5\nhello\r\n0\r\n\r\n",
    "a bare CR after the size": "5\rhello\r\n0\r\n\r\n",
    "two CRs after the size": "5\r\r\nhello\r\n0\r\n\r\n",
    "a bare LF after the data": "5\r\nhello\n0\r\n\r\n",
    "a bare CR after the data": "5\r\nhello\r0\r\n\r\n",
    "nothing after the data": "5\r\nhello0\r\n\r\n",
    "data that is longer": "5\r\nhello you\r\n0\r\n\r\n",
    "data that is shorter": "5\r\nhell\r\n0\r\n\r\n",
    "a bare LF in an extension": "5;a\nhello\r\n0\r\n\r\n",
    "a bare CR in an extension": "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a NUL in an extension": "5;a\x00b\r\nhello\r\n0\r\n\r\n",
    "a control in an extension": "5;a=\x01\r\nhello\r\n0\r\n\r\n",
    "a bare LF after the last chunk": "5\r\nhello\r\n0\n\r\n",
    "a bare LF at the end": "5\r\nhello\r\n0\r\n\n",
    "a bare CR at the end": "5\r\nhello\r\n0\r\n\rx",
    "17 digits": "00000000000000005\r\nhello\r\n0\r\n\r\n",
    "65 bits": "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "very many digits": "f" * 1000 + "\r\nhello",
    "very many zeros": "0" * 100_000 + "\r\n\r\n",
    "zeros without end": "0" * 200_000,
}


@table("body", BAD_CHUNKS)
def test_a_chunk_that_is_none_is_a_400_and_the_end(paced, body):
    """7.1: also a size that would overflow MUST be parsed for what it is, or refused."""
    paced.refused(chunked(body), 400)


@pytest.mark.parametrize("size", ["ffffffffffffffff", "8000000000000005", "100000005"])
def test_a_very_large_chunk_does_not_become_a_small_one(server, place, key, size):
    """7.1: recipients MUST anticipate large numerals and prevent overflows."""
    with Wire(server) as wire:
        if place == "later":
            assert wire.in_step()
        wire.send(chunked(f"{size}\r\nhello\r\n0\r\n\r\n", target=f"/events?{key}"))
        assert journal(server, key) == ["called"]
    assert journal(server, key, 2) == ["called", "http.disconnect"]


@pytest.mark.parametrize(
    "body",
    [
        "5;" + "x" * 100_000 + "\r\nhello\r\n0\r\n\r\n",
        "5" + " " * 100_000 + ";a\r\nhello\r\n0\r\n\r\n",
        '5;a="' + "x" * 200_000,
        ("1;" + "x" * 500 + "\r\nx\r\n") * 400 + "0\r\n\r\n",
        "0;" + "x" * 100_000 + "\r\n\r\n",
    ],
    ids=["one", "white space", "one without end", "many small", "the last chunk's"],
)
def test_extensions_without_measure_are_refused(wire, body):
    """7.1.1: a server ought to limit the total length of extensions, and say so by a 4xx."""
    response = wire.refused(chunked(body), 400, 413, 431)
    assert response.status < 500


# 7.1.2 Trailers


@pytest.mark.parametrize(
    "name",
    ["x-t", "host", "content-length", "transfer-encoding", "authorization", "connection", "cookie"],
)
def test_a_trailer_is_no_header_and_has_no_effect(paced, name):
    """7.1.2: a recipient MUST NOT merge it into the header section unless that is known safe."""
    value = {"content-length": "40", "connection": "close", "transfer-encoding": "chunked"}
    trailer = f"{name}: {value.get(name, 'other')}"
    seen = paced.seen(chunked(f"5\r\nhello\r\n0\r\n{trailer}\r\n\r\n"))
    assert seen["body"] == "hello"
    assert sorted(seen["headers"]) == [["host", "test"], ["transfer-encoding", "chunked"]]
    seen = paced.seen(request("/next"))
    assert (seen["path"], seen["headers"]) == ("/next", [["host", "test"]])


BAD_TRAILERS = {
    "no colon": "nonsense\r\n\r\n",
    "no name": ": 1\r\n\r\n",
    "a space before the colon": "x : 1\r\n\r\n",
    "a name that is no token": "x(y): 1\r\n\r\n",
    "a NUL": "x: \x00\r\n\r\n",
    "a control": "x: \x01\r\n\r\n",
    "a bare LF": "x: 1\ny: 2\r\n\r\n",
    "a bare CR": "x: 1\ry: 2\r\n\r\n",
    "a bare LF at the end": "x: 1\r\n\n",
    "a fold": "x: 1\r\n 2\r\n\r\n",
    "white space first": " x: 1\r\n\r\n",
}


@table("trailer", BAD_TRAILERS)
def test_a_trailer_that_is_no_field_is_a_400(paced, trailer):
    """7.1.2: trailer-section = *( field-line CRLF )"""
    paced.refused(chunked(f"5\r\nhello\r\n0\r\n{trailer}"), 400)


@pytest.mark.parametrize(
    "trailer",
    [
        "x: " + "v" * 20_000 + "\r\n\r\n",
        "x" * 20_000 + ": v\r\n\r\n",
        "".join(f"x-{n}: v\r\n" for n in range(200)) + "\r\n",
        "".join(f"x-{n}: {'v' * 10_000}\r\n" for n in range(10)) + "\r\n",
        "x: " + "v" * 200_000,
    ],
    ids=["a value", "a name", "many", "a section", "without end"],
)
def test_trailers_without_measure_are_refused(wire, trailer):
    """7.1.2 and RFC 9110, 5.4: the limits of the head hold for them."""
    wire.refused(chunked(f"5\r\nhello\r\n0\r\n{trailer}"), 400, 431)


# 8 Incomplete messages


def broken_off(wire: Wire, server, key: str, version: str) -> None:
    wire.send(request(f"/breaks?{key}", version=f"HTTP/{version}"))
    release(server, key)
    wire.read(version=version)


def test_a_chunked_response_that_breaks_off_has_no_last_chunk(server, wire, key):
    """8: it is incomplete if the zero-sized chunk has not been received."""
    with pytest.raises((Incomplete, *GONE)):
        broken_off(wire, server, key, "1.1")


def test_a_response_until_the_end_that_breaks_off_has_no_clean_end(server, wire, key):
    """8: it is complete regardless of its length, so only a reset can say that it is not."""
    with pytest.raises(GONE):
        broken_off(wire, server, key, "1.0")


def test_a_response_that_is_shorter_than_its_length_ends_the_connection(wire):
    """8: it is incomplete if so many octets have not been received."""
    with pytest.raises((Incomplete, *GONE)):
        wire.ask(request(says(200, [("content-length", "10")], ["hello"], ends=False)))


# 9.3 Persistence

PERSISTENCE = [
    ("1.1", (), True),
    ("1.1", ("keep-alive",), True),
    ("1.1", ("close",), False),
    ("1.1", ("Close",), False),
    ("1.1", ("CLOSE",), False),
    ("1.1", (" close\t",), False),
    ("1.1", ("x, close",), False),
    ("1.1", ("close, x",), False),
    ("1.1", (",close,,",), False),
    ("1.1", ("keep-alive, close",), False),
    ("1.1", ("close, keep-alive",), False),
    ("1.1", ("x", "close"), False),
    ("1.1", ("close", "x"), False),
    ("1.1", ("x",), True),
    ("1.1", ("closed",), True),
    ("1.1", ("x-close",), True),
    ("1.1", ("",), True),
    ("1.0", (), False),
    ("1.0", ("keep-alive",), True),
    ("1.0", ("Keep-Alive",), True),
    ("1.0", ("x, keep-alive",), True),
    ("1.0", ("x",), False),
    ("1.0", ("close",), False),
    ("1.0", ("keep-alive, close",), False),
    ("1.0", ("close, keep-alive",), False),
]


@pytest.mark.parametrize(
    ("version", "options", "persists"),
    PERSISTENCE,
    ids=[f"{version} {' + '.join(options)}" for version, options, _ in PERSISTENCE],
)
def test_a_connection_persists_or_not_by_version_and_option(wire, version, options, persists):
    """9.3: and 9.6: a server that closes SHOULD say so."""
    fields = [f"connection: {option}" for option in options]
    wire.send(request("/a", *fields, version=f"HTTP/{version}"))
    if not persists:
        wire.send(SMUGGLED)
    response = wire.read(version=version)
    assert response.json()["path"] == "/a"
    if persists:
        assert not response.closes()
        assert version == "1.1" or b"keep-alive" in response.tokens("connection")
        assert wire.in_step()
    else:
        assert response.closes() or version == "1.0"
        wire.end()


def test_http_1_0_is_not_kept_after_a_body_of_unknown_length(wire):
    """9.3: all messages of a persistent connection need a length of their own."""
    target = says(200, parts=["one ", "two"])
    wire.send(request(target, "connection: keep-alive", version="HTTP/1.0") + SMUGGLED)
    response = wire.read(version="1.0")
    assert (response.framing, response.body) == ("close", b"one two")
    assert b"keep-alive" not in response.tokens("connection")


@pytest.mark.parametrize("status", [204, 304])
def test_http_1_0_is_kept_after_a_response_without_content(wire, status):
    """9.3: its length is known."""
    head = request(says(status), "connection: keep-alive", version="HTTP/1.0")
    response = wire.ask(head, version="1.0")
    assert response.status == status
    assert b"keep-alive" in response.tokens("connection")
    assert wire.in_step()


@pytest.mark.parametrize("size", [1, 1000, 70_000, 500_000, 1_000_000])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_that_nobody_reads_is_read_away_or_the_connection_closed(wire, framing, size):
    """9.3: a server MUST read the entire message body or close after its response."""
    if framing == "length":
        data = post(f"content-length: {size}", target=says(404), body=bytes(size))
    else:
        part = b"%x\r\n%s\r\n" % (size, bytes(size))
        data = chunked(part + b"0\r\n\r\n", target=says(404))
    response = wire.ask(data)
    assert response.status == 404
    if response.closes():
        wire.end()
    else:
        assert wire.in_step()


def test_a_body_that_nobody_reads_may_come_after_the_response(wire):
    """9.3: it is no next request."""
    wire.send(post(f"content-length: {len(SMUGGLED)}", target=says(404)))
    response = wire.read()
    assert response.status == 404
    wire.send(SMUGGLED)
    if response.closes():
        wire.end()
    else:
        assert wire.in_step()


# 9.3.2 Pipelining


def test_responses_have_the_order_of_their_requests(server, paced, key):
    """9.3.2: a server MUST send them in that order, also where the first takes longest."""
    paced.send(request(f"/held?{key}") + b"".join(request(f"/{n}") for n in range(5)))
    assert journal(server, key) == ["called"]
    release(server, key)
    assert paced.read().body == b""
    assert [paced.read().json()["path"] for _ in range(5)] == [f"/{n}" for n in range(5)]


# 9.5 Failures and timeouts


def test_a_client_that_leaves_is_noticed(server, place, key):
    """9.5: servers SHOULD monitor open connections for a closure, and respond to it."""
    with Wire(server) as wire:
        if place == "later":
            assert wire.in_step()
        wire.send(post("content-length: 1", target=f"/events?{key}"))
        assert journal(server, key) == ["called"]
    assert journal(server, key, 2) == ["called", "http.disconnect"]


# 9.6 Tear-down


def test_nothing_is_processed_after_a_request_that_closes(server, paced, key):
    """9.6: a server MUST close after its response, and MUST NOT process further requests."""
    paced.send(request("/a", "connection: close") + request(f"/events?{key}"))
    response = paced.read()
    assert response.closes()
    paced.end()
    with Wire(server) as other:
        assert other.ask(request(f"/journal/0?{key}")).json() == []


@pytest.mark.parametrize("option", ["close", "Close", "x, close"])
def test_nothing_is_processed_after_a_response_that_closes(server, paced, key, option):
    """9.6: the same where the app sends the option. A GET behind it may have begun (9.3.2)."""
    paced.send(request(says(200, [("connection", option)])) + post(target=f"/events?{key}"))
    response = paced.read()
    assert response.closes()
    paced.end()
    with Wire(server) as other:
        assert other.ask(request(f"/journal/0?{key}")).json() == []


REFUSALS = {
    "400": (b"nonsense\r\n\r\n", 400),
    "414": (request("/" + "x" * 20_000), 414),
    "431": (request("/", "x: " + "v" * 20_000), 431),
    "501": (request("test:80", method="CONNECT"), 501),
    "505": (request("/", version="HTTP/2.0"), 505),
    "a bad chunk": (chunked("x\r\n"), 400),
}


@table("refusal", REFUSALS)
def test_a_refusal_reaches_a_client_that_is_still_sending(wire, refusal):
    """9.6: a server closes in stages, or a reset may destroy what the client has not read."""
    data, status = refusal
    wire.send(data)
    response = wire.read()
    assert (response.status, response.closes()) == (status, True)
    still_sending(wire, 500_000)
    wire.end()


@table("refusal", REFUSALS)
def test_a_refusal_reaches_a_client_that_sends_all_before_it_reads(wire, refusal):
    """9.6"""
    data, status = refusal
    wire.send(data)
    still_sending(wire, 900_000)
    response = wire.read()
    assert (response.status, response.closes()) == (status, True)
    wire.end()


def test_a_last_response_reaches_a_client_that_is_still_sending(wire):
    """9.6: also that of the app, whose 413 says close."""
    target = says(413, [("connection", "close"), ("content-length", "9")], ["too large"])
    wire.send(post("content-length: 10000000", target=target))
    response = wire.read()
    assert (response.status, response.body, response.closes()) == (413, b"too large", True)
    still_sending(wire, 500_000)
    wire.end()


# 9.8 TLS connection closure


def test_the_end_of_a_connection_is_said_in_tls_too(wire, way):
    """9.8: servers MUST attempt an exchange of closure alerts before they close."""
    response = wire.ask(request("/a", "connection: close"))
    assert response.closes()
    wire.end()  # Wire takes no end without the alert


# 11.1 Response splitting

SPLITTING = {
    "CRLF in a value": [("x", "a\r\nset-cookie: stolen=1")],
    "CR in a value": [("x", "a\rb")],
    "LF in a value": [("x", "a\nb")],
    "NUL in a value": [("x", "a\x00b")],
    "CRLF in a name": [("x: a\r\nset-cookie", "stolen=1")],
    "a space in a name": [("x y", "a")],
    "a colon in a name": [("x: y", "a")],
    "no name": [("", "a")],
    "a fold": [("x", "a\r\n b")],
    "an end": [("x", "a\r\n\r\n<script>")],
}


@table("fields", SPLITTING)
def test_no_app_can_split_a_response(wire, fields):
    """11.1; 2.2, 5.2: a sender MUST NOT generate a bare CR or a fold."""
    response = wire.ask(request(says(200, fields, ["x"])))
    assert response.status == 500
    assert not response.all("set-cookie")
    assert b"script" not in response.body


@pytest.mark.parametrize(
    "fields",
    [
        [("content-length", "x")],
        [("content-length", "-1")],
        [("content-length", "")],
        [("content-length", "5"), ("content-length", "6")],
    ],
)
def test_no_app_can_say_a_length_that_is_none(wire, fields):
    """6.2: Content-Length = 1*DIGIT, and RFC 9110, 8.6"""
    assert wire.ask(request(says(200, fields, ["hello"]))).status == 500


def test_what_is_more_than_the_length_is_not_sent(wire):
    """6.3: or it would be a next response."""
    wire.send(request(says(200, [("content-length", "5")], ["hello", "HTTP/1.1 200 OK\r\n\r\n"])))
    assert wire.read().body == b"hello"
    wire.end()


# With limits, which the servers of the tests above have not


@pytest.mark.parametrize("length", [2**32 + 5, 2**53 + 5, 2**63 + 5, 2**64 + 5, 10**40 + 5])
def test_a_very_large_length_does_not_become_a_small_one(serve, place, length):
    """6.3 and RFC 9110, 8.6: a recipient MUST prevent overflows."""
    with Wire(serve(APP, max_body_size=10_000_000)) as wire:
        if place == "later":
            assert wire.in_step()
        wire.refused(post(f"content-length: {length}", body="hello"), 413)
