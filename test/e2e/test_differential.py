"""What a request is, by us and by others: each difference stands in `RULES`, with its reason.

Requests are made by a grammar that now and then breaks its own rules, and sent to the node; llhttp
(in httptools, strict) and h11 read the same bytes. What one takes and another refuses, or reads
otherwise, has a rule here or fails the test. Each is followed by a marker, a request that closes:
who reads that as it is agrees where the first one ended.

A few seconds in every run; `make fuzz` runs longer. FUZZ_SEED repeats a run; the name of a test
that failed has its seed, and its message the shortest bytes that still show the difference.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import h11
import httptools
import pytest
from harness import DEADLINE, Server
from http1 import TOKEN, Incomplete, Wire

SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(1 << 30))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "3"))

APP = "mirrors:telling"

MARKER = b"GET /marker HTTP/1.1\r\nhost: marker\r\nconnection: close\r\n\r\n"

WAIT = 0.5
"""So long (s) we may say nothing where nobody else takes all that was sent."""


class Request(NamedTuple):
    method: bytes
    target: bytes
    version: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Verdict(NamedTuple):
    """What was read, and what came then: nothing more is read (`closed`), or it is `refused`, or
    more has to come (`waits`)."""

    requests: tuple[Request, ...]
    end: str


# What they say


class LLHTTP:
    """The callbacks of one httptools parser."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.closed = False
        self.target, self.body, self.within = b"", b"", True
        self.headers: list[tuple[bytes, bytes]] = []
        self.parser = httptools.HttpRequestParser(self)

    def read(self, data: bytes) -> Verdict:
        try:
            self.parser.feed_data(data)
            end = "waits"
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            end = "refused"
        return Verdict(tuple(self.requests), "closed" if self.closed else end)

    def on_message_begin(self) -> None:
        self.target, self.body, self.headers, self.within = b"", b"", [], True

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.within:  # what comes later is a trailer
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.within = False
        self.method = self.parser.get_method()
        self.version = self.parser.get_http_version().encode()
        self.keep_alive = self.parser.should_keep_alive()

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        if not self.closed:
            headers = tuple(self.headers)
            self.requests.append(
                Request(self.method, self.target, self.version, headers, self.body)
            )
            self.closed = not self.keep_alive


def by_llhttp(data: bytes) -> Verdict:
    return LLHTTP().read(data)


def by_h11(data: bytes) -> Verdict:
    requests: list[Request] = []
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    head, body = None, b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return Verdict(tuple(requests), "refused")
        match event:
            case h11.Request():
                head, body = event, b""
            case h11.Data():
                body += event.data
            case h11.EndOfMessage() if head is not None:
                headers = tuple((bytes(name), bytes(value)) for name, value in head.headers)
                of = (bytes(head.method), bytes(head.target), bytes(head.http_version))
                requests.append(Request(*of, headers, bytes(body)))
                connection.send(h11.Response(status_code=404, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return Verdict(tuple(requests), "closed")
                connection.start_next_cycle()
            case h11.NEED_DATA:
                return Verdict(tuple(requests), "waits")
            case _:
                return Verdict(tuple(requests), "refused")


THEIRS = {"llhttp": by_llhttp, "h11": by_h11}


# What we say

REFUSALS = (400, 408, 411, 413, 414, 417, 431, 501, 505)


def by_us(server: Server, data: bytes, patience: float) -> Verdict:
    """Send it to the node; the app tells what it saw of each request."""
    requests: list[Request] = []
    with Wire(server) as wire:
        wire.socket.settimeout(patience)
        try:
            for part in in_parts(data):
                wire.send(part)
            while True:
                # No response of this app has a body, and what a refusal says does not matter.
                response = wire.read("HEAD")
                if response.status == 200:
                    requests.append(request_of(json.loads(response.all("x-seen")[0])))
                    if not kept(response, requests[-1].version):
                        return Verdict(tuple(requests), "closed")
                elif response.status >= 200:
                    assert response.status in REFUSALS, response
                    return Verdict(tuple(requests), "refused")
        except TimeoutError:
            return Verdict(tuple(requests), "waits")
        except (Incomplete, ConnectionError):
            return Verdict(tuple(requests), "refused")


def in_parts(data: bytes) -> list[bytes]:
    """Cut it as a network might: the same bytes always in the same way."""
    chance = random.Random(data)
    cuts = sorted(chance.randrange(len(data)) for _ in range(chance.choice([0, 0, 1, 3])))
    return [data[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(data)])]


def kept(response, version: bytes) -> bool:
    """Say whether the server has promised to read on."""
    if version == b"1.0":
        return b"keep-alive" in response.tokens("connection")
    return not response.closes()


def request_of(seen: dict) -> Request:
    method, path, query, version, body = (
        seen[name].encode("latin-1") for name in ("method", "raw_path", "query", "version", "body")
    )
    headers = tuple((n.encode("latin-1"), v.encode("latin-1")) for n, v in seen["headers"])
    return Request(method, path + b"?" + query if query else path, version, headers, body)


# How they are compared


def normal(request: Request) -> Request:
    """Take the target apart as RFC 9112, 3.2.2 has it: its authority is the host."""
    method, target, version, headers, body = request
    if absolute := re.fullmatch(rb"(?i:https?)://([^/?]*)(.*)", target):
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
        host = (b"host", absolute[1])
        headers = tuple(host if name == b"host" else (name, value) for name, value in headers)
        headers = headers if host in headers else (host, *headers)
    if b"transfer-encoding" in dict(headers):
        # h11 writes it in lower case.
        headers = tuple((n, v.lower() if n == b"transfer-encoding" else v) for n, v in headers)
    return Request(method, target.removesuffix(b"?"), version, headers, body)


class Difference(NamedTuple):
    """How two readers differ.

    `which`: `stricter`, only they take the request; `laxer`, only we do; `other`, both take
    something else, or only one reads on after it.
    """

    which: str
    data: bytes
    request: Request
    before: Request | None


def difference(data: bytes, ours: Verdict, theirs: Verdict) -> Difference | None:
    """Find the first request that is not the same.

    Who waits takes no more than who refuses: how early nonsense is seen makes no difference.
    """
    mine, other = ours.requests, theirs.requests
    same = itertools.takewhile(
        lambda pair: normal(pair[0]) == normal(pair[1]), zip(mine, other, strict=False)
    )
    both = sum(1 for _ in same)
    before = mine[both - 1] if both else None
    my_next = mine[both] if both < len(mine) else None
    their_next = other[both] if both < len(other) else None
    if my_next and their_next:
        return Difference("other", data, my_next, before)
    if "closed" in (my_next or ours.end, their_next or theirs.end):
        if before is None or (my_next or ours.end) == (their_next or theirs.end):
            return None
        return Difference("other", data, before, None)
    if my_next:
        return Difference("laxer", data, my_next, before)
    if their_next:
        return Difference("stricter", data, their_next, before)
    return None


class Rule(NamedTuple):
    """A difference that has a reason."""

    who: str
    """`llhttp`, `h11` or both"""
    which: str
    """as in `Difference`, or two of them"""
    where: Callable[[Difference], object]
    reason: str


def raw(pattern: bytes) -> Callable[[Difference], object]:
    """Look for what is in the bytes and in no request."""
    search = re.compile(pattern, re.DOTALL).search
    return lambda it: search(it.data)


def all_of(it: Difference, name: bytes) -> list[bytes]:
    return [value for key, value in it.request.headers if key == name]


def behind(it: Difference) -> bytes:
    """Return what stands behind the body of the request before."""
    if it.before is None or not it.before.body:
        return b""
    return it.data[it.data.find(it.before.body) + len(it.before.body) :]


KNOWN = frozenset(
    b"ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR"
    b" MKCOL MOVE NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH"
    b" SOURCE SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)
"""The methods of llhttp."""

NAME = re.compile(rb"([0-9A-Za-z\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+(:[0-9]*)?")


def is_host(value: bytes) -> bool:
    """Say whether this is an IPv6 address in brackets or a name, with or without a port."""
    if address := re.fullmatch(rb"\[([^\]]*)\](:[0-9]*)?", value):
        with contextlib.suppress(ValueError):
            return bool(ipaddress.IPv6Address(address[1].decode()))
        return False
    return bool(NAME.fullmatch(value))


def only_tokens(listed: bytes) -> bool:
    """Say whether each element of a list is a token, or empty."""
    elements = [element.strip(b" \t") for element in listed.split(b",")]
    return all(re.fullmatch(TOKEN, element) for element in elements if element)


AFTER_SIZE = re.compile(rb"(?i)\n[0-9a-f]+([ \t]*;[^\r\n]*)\r\n")

EXTENSION = re.compile(
    rb"([ \t]*;[ \t]*" + TOKEN + rb"([ \t]*=[ \t]*(" + TOKEN + rb'|"([^"\\]|\\.)*"))?)*'
)


def odd_extension(it: Difference) -> bool:
    """Say whether what is behind some chunk's size does not follow the grammar."""
    return not all(map(EXTENSION.fullmatch, AFTER_SIZE.findall(it.data)))


def in_a_form(request: Request) -> object:
    """Say whether the target has one of the forms that it may have (RFC 9112, 3.2)."""
    if absolute := re.fullmatch(rb"(?i:https?)://([^/?#:][^/?#]*)([/?].*)?", request.target):
        return is_host(absolute[1])
    return request.target.startswith(b"/") or (request.method, request.target) == (b"OPTIONS", b"*")


RULES = [
    # What we refuse and they take
    Rule("llhttp h11", "stricter", raw(rb"(?<!\r)\n"), "a bare LF ends no line of ours"),
    Rule("llhttp", "stricter", lambda it: behind(it).startswith(b"\n"),
         "nor does an LF stand for an empty line"),
    Rule("llhttp h11", "stricter", raw(rb"\r(?!\n)"), "nor is there a bare CR"),
    Rule("h11", "stricter", raw(rb"\r\n[ \t]"), "a folded line is refused (RFC 9112, 5.2)"),
    Rule("h11", "stricter", raw(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"),
         "so are controls (RFC 9110, 5.5)"),
    Rule("llhttp", "stricter", raw(rb"(?m)^ | {2,}\S+ +HTTP/|  HTTP/"),
         "a request line has two spaces (RFC 9112, 3)"),
    Rule("llhttp h11", "stricter", lambda it: it.request.version not in (b"1.0", b"1.1"),
         "there are no other versions"),
    Rule("llhttp h11", "stricter", lambda it: it.request.method in (b"CONNECT", b"TRACE"),
         "we are no proxy (RFC 9110, 9.3.6 and 9.3.8)"),
    Rule("llhttp h11", "stricter", raw(rb" (RTSP|ICE)/"), "nor other protocols"),
    Rule("llhttp h11", "stricter", lambda it: not in_a_form(it.request),
         "a target in no form (RFC 9112, 3.2)"),
    Rule("llhttp h11", "stricter",
         lambda it: not all(map(is_host, all_of(it, b"host"))),
         "a host that can be none (RFC 9112, 3.2)"),
    Rule("llhttp", "stricter", lambda it: len(all_of(it, b"host")) != 1,
         "a request without host, or with several (RFC 9112, 3.2)"),
    Rule("llhttp h11", "stricter",
         lambda it: it.request.version == b"1.0" and all_of(it, b"transfer-encoding"),
         "a coding in HTTP/1.0 is faulty framing (RFC 9112, 6.1)"),
    Rule("llhttp h11", "stricter",
         lambda it: [v.lower() for v in all_of(it, b"transfer-encoding")] not in ([], [b"chunked"]),
         "there is one coding, and one way to say it (RFC 9112, 6.1)"),
    Rule("h11", "stricter",
         lambda it: all_of(it, b"transfer-encoding") and all_of(it, b"content-length"),
         "a length beside a coding is refused (RFC 9112, 6.1)"),
    Rule("h11", "stricter", raw(rb"(?i)\ncontent-length:[^\r]*(,|\r.*\ncontent-length:)"),
         "so are two lengths, even equal ones (RFC 9112, 6.3)"),
    Rule("llhttp h11", "stricter",
         lambda it: not all(map(only_tokens, all_of(it, b"connection"))),
         "options of a connection are tokens (RFC 9110, 7.6.1)"),
    Rule("llhttp h11", "stricter", odd_extension,
         "what is behind a chunk's size must at least look like an extension (RFC 9112, 7.1.1)"),
    Rule("h11", "stricter", raw(rb"(?i)\n[0-9a-f]+[ \t]+\r\n"),
         "no white space ends a chunk's size"),
    Rule("llhttp h11", "stricter", raw(rb"(?i)\n[0-9a-f]{17}"),
         "a size has 16 digits at most"),
    # What they refuse and we take
    Rule("llhttp", "laxer", lambda it: it.request.method not in KNOWN,
         "llhttp has a list of methods; ours are the app's matter, so all tokens are"),
    Rule("llhttp", "laxer", raw(rb"(?i)\ntransfer-encoding:[^\r\n]*[ \t]\r\n"),
         "white space behind a value is no part of it (RFC 9112, 5.1)"),
    Rule("llhttp h11", "laxer", raw(rb"(?i)\n[0-9a-f]+[ \t]+;"),
         "white space before an extension is allowed, if bad (RFC 9112, 7.1.1)"),
    Rule("llhttp", "laxer", raw(rb"(?i)\n[0-9a-f]+;([^\r\n]*[ \t])"), "and in it"),
    Rule("llhttp", "laxer", odd_extension, "extensions are not looked into but for controls"),
    Rule("llhttp h11", "laxer",
         raw(rb"(?i)\n0+([ \t;][^\r]*)?\r\n([^\r]+\r\n)*(content-length|transfer-encoding):"),
         "trailers are dropped, whatever they are (RFC 9112, 7.1.2)"),
    Rule("h11", "laxer", raw(rb"\A\r\n|\r\n\r\n\r\n"), "empty lines before a request are skipped"),
    Rule("h11", "laxer", lambda it: behind(it).startswith(b"\r\n"), "and behind a body"),
    Rule("llhttp h11", "laxer", lambda it: re.search(rb"[\x80-\xff]", it.request.target),
         "a target may have octets beyond ASCII in it: the app sees them"),
    # What is read in two ways
    Rule("llhttp h11", "stricter other", lambda it: b"#" in it.data,
         "a fragment is for the client alone (RFC 9110, 4.2.5)"),
    Rule("llhttp h11", "other", raw(rb"(?i) https?://\S* HTTP/1\.0"),
         "HTTP/1.0 may name its host in the target alone"),
    Rule("h11", "other", lambda it: it.request.version == b"1.0",
         "h11 keeps no connection of HTTP/1.0"),
    Rule("llhttp", "other", lambda it: b"," in b",".join(all_of(it, b"connection")),
         "llhttp lets the last option of Connection win; `close` is in force wherever it stands"),
]  # fmt: skip


def unexplained(data: bytes, ours: Verdict) -> Iterator[str]:
    """Say which differences have no rule."""
    for who, read in THEIRS.items():
        theirs = read(data)
        found = difference(data, ours, theirs)
        if found and not any(
            who in rule.who and found.which in rule.which and rule.where(found) for rule in RULES
        ):
            yield f"{found.which}: {ours} is ours, {theirs} that of {who}"


# Requests


METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND"]
ODD_METHODS = [
    b"get", b"Post", b"X", b"M-SEARCH", b"CONNECT", b"TRACE", b"", b"G T", b"GE(T", b"GET\t", b"A:",
    b"!#$%&'*+-.^_`|~", b"\xc9", b"SOURCE", b"PRI",
]  # fmt: skip
TARGETS = [
    b"/", b"/a", b"/a/b?c=d&e", b"/a?", b"//a", b"/%41%2f?%20", b"/a?b?c", b"/a;b,c:d@e!$'()*+",
    b"http://test/a", b"http://test:81/a?b", b"http://test", b"HTTP://TEST/a", b"/" + b"a" * 300,
]  # fmt: skip
ODD_TARGETS = [
    b"", b"a", b"?a", b"*", b"test:80", b"/a b", b"/a\tb", b"/a\x00", b"/\xff", b"/a#b",
    b"/{}|\\^`", b"http://", b"http:///a", b"http://u@test/a", b"http://te st/", b"ftp://test/",
    b"https://test/", b"http://test?a", b"http:a", b"/\x7f", b"/\"<>", b"http://test:x/",
    b"http://[::1]/", b"/a\x0b", b"://a/", b"http//a",
]  # fmt: skip
ODD_VERSIONS = [
    b"HTTP/1.0", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ",
    b"HTTP/1.10", b"HTTP/11", b"HTTP/01.1", b"HTTP/1", b"HTTP/ 1.1", b"HTP/1.1", b"", b"HTTP/1.1\t",
    b"RTSP/1.0", b"HTTP/1,1", b"ICE/1.0", b"HTTP/3.0",
]  # fmt: skip
SPACES = [b"  ", b"\t", b"", b" \t", b"\x0b", b"\r", b"\x0c"]
ENDS = [b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\r\n\r\n", b"", b"\r\n ", b"\r\n\t"]
HOSTS = [b"test", b"test:81", b"[::1]:81", b"127.0.0.1", b"test.", b"TEST"]
ODD_HOSTS = [
    b"",
    b"a b",
    b"a/b",
    b"u@a",
    b"a:x",
    b"a,b",
    b"[::1",
    b"[1]:",
    b"[::g]",
    b"[]",
    b"[::1]x",
    b"a\x00",
    b"\xff",
    b"a:",
    b"a%41",
]
NAMES = [b"x", b"X-Mixed", b"accept", b"cookie", b"a!#$%&'*+-.^_`|~9", b"te", b"content-type"]
ODD_NAMES = [
    b"",
    b"x ",
    b"x\t",
    b" x",
    b"x y",
    b"x(",
    b"x\x00",
    b"\xff",
    b"x\x7f",
    b"x,y",
    b"x=",
    b"@",
]
VALUES = [b"1", b"", b"a b\tc", b'"q, \\"r"', b"caf\xe9", b"a, b", b":", b"  pad \t", b"\xff", b"0"]
ODD_VALUES = [b"\x00", b"a\x01b", b"\x7f", b"a\rb", b"a\nb", b"a\r\n b", b"\x0b", b"\x1f", b"a\x0c"]
CONNECTIONS = [b"keep-alive", b"close", b"Close", b"x", b"keep-alive, x", b"x, close", b"te"]
ODD_CONNECTIONS = [b"", b",", b"close, keep-alive", b",close", b"close;", b"close x", b"\x01", b"@"]
ODD_LENGTHS = [
    b"", b"+5", b"-5", b"5,5", b"5, 5", b"0x5", b"5 5", b"05", b"\x0b5", b"5.0", b"5;", b"6", b"4",
    b"0", b"18446744073709551621", b"\xb2", b"5_0", b"5,",
]  # fmt: skip
ODD_CODINGS = [
    b"Chunked", b"CHUNKED", b"chunked ", b"gzip, chunked", b"chunked, gzip", b"gzip", b"identity",
    b"xchunked", b"chunked, chunked", b"", b"chunked;a=b", b",chunked", b"chunked,", b"\x0bchunked",
    b'"chunked"', b"chunke", b"chunkedx", b"chunked\x00", b"identity, chunked",
]  # fmt: skip
EXTENSIONS = [b"", b";a", b";a=b", b';a="b;c"', b";a;b=c", b';a="\\""', b" ;a", b"; a = b", b"\t;a"]
ODD_EXTENSIONS = [
    b" ", b";", b"; ", b";\x00", b";a\rb", b';a="', b"\t", b",", b";a=\x01", b";\xff", b"g", b"; ;",
    b";=b", b";a b", b';a="b"c', b";a=", b";a\nb",
]  # fmt: skip
ODD_SIZES = [
    b"", b"+5", b"-5", b"0x5", b" 5", b"g", b"5g", b"00000000000000005", b"10000000000000005", b"6",
    b"4", b"5_", b"\xb2",
]  # fmt: skip
TRAILERS = [b"x: 1\r\n", b"content-length: 3\r\n", b"host: x\r\nx:\r\n"]
ODD_TRAILERS = [
    b"x\r\n", b"x : 1\r\n", b"x: 1\n", b" x: 1\r\n", b"x: \x00\r\n", b": 1\r\n", b"x: 1\r\n 2\r\n",
    b"x(: 1\r\n", b"\xff: 1\r\n", b"x: a\rb\r\n", b"transfer-encoding: x\r\n",
]  # fmt: skip
FRAMINGS = ["none", "length", "coding"]
BYTES = [bytes([byte]) for byte in b'\r\n \t\x00:;,="/?#@[]()09afxX\x0b\x0c\x7f\x80\xff']


AREAS = ["line", "end", "host", "field", "connection", "length", "coding", "chunk", "extension",
         "trailer", "everything", "nothing", "nothing"]  # fmt: skip


class Grammar:
    """Writes requests that break the rules of one area, or a few of all, or none."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.area = chance.choice(AREAS)

    def odd(self, area: str) -> bool:
        likelihood = {area: 0.5, "everything": 0.1}.get(self.area, 0)
        return self.chance.random() < likelihood

    def pick(self, area: str, usual: list[bytes], odd: list[bytes]) -> bytes:
        return self.chance.choice(odd if self.odd(area) else usual)

    def maybe(self, likelihood: float) -> bool:
        return self.chance.random() < likelihood

    def request(self) -> bytes:
        """Write a request, its framing and its body."""
        body = self.chance.choice([b"", b"hello", b"0\r\n\r\n", MARKER, self.binary()])
        fields = [self.field() for _ in range(self.chance.choice([0, 0, 1, 2, 5]))]
        fields.append(self.host())
        match self.framing():
            case "none":
                body = b""
            case "length":
                fields += self.lengths(body)
            case "coding":
                fields += self.codings()
                body = self.chunks(body)
        self.chance.shuffle(fields)
        return self.start() + b"".join(fields) + self.end() + body

    def framing(self) -> str:
        """Choose what the area can be seen in."""
        if self.area in ("chunk", "extension", "trailer", "coding"):
            return "coding"
        return "length" if self.area == "length" else self.chance.choice(FRAMINGS)

    def binary(self) -> bytes:
        """Make a body of bytes that no rule looks for."""
        return bytes(self.chance.choices([*range(0x21, 0x7F), *range(0x80, 0x100)], k=300))

    def start(self) -> bytes:
        odd_empty = self.odd("line") and self.maybe(0.3)
        empty = self.chance.choice([b"\r\n", b"\r\n\r\n", b"\n", b" \r\n"]) if odd_empty else b""
        version = b"HTTP/1.0" if self.maybe(0.1) else b"HTTP/1.1"
        parts = [
            self.chance.choice(METHODS), b" ", self.chance.choice(TARGETS), b" ", version
        ]  # fmt: skip
        if self.odd("line"):
            at = self.chance.randrange(5)
            odd = [ODD_METHODS, SPACES, ODD_TARGETS, SPACES, ODD_VERSIONS]
            parts[at] = self.chance.choice(odd[at])
        return empty + b"".join(parts) + self.end()

    def end(self) -> bytes:
        if self.area == "end" and self.maybe(0.15):
            return self.chance.choice(ENDS)
        return b"\r\n"

    def host(self) -> bytes:
        line = self.line("host", b"Host", self.pick("host", HOSTS, ODD_HOSTS))
        if not (self.odd("host") and self.maybe(0.3)):
            return line
        return self.chance.choice([b"", line + line, line + b"host: other\r\n"])

    def line(self, area: str, name: bytes, value: bytes) -> bytes:
        if self.maybe(0.2):
            name = self.chance.choice([name.upper(), name.lower(), name.title()])
        before = self.chance.choice([b" ", b" ", b"", b"\t", b"  "])
        after = self.chance.choice([b"", b"", b"", b" ", b"\t"])
        odd = self.odd(area) and self.maybe(0.2)
        colon = self.chance.choice([b" :", b"\t:", b"", b"=", b"::", b":\r\n "]) if odd else b":"
        return name + colon + before + value + after + self.end()

    def field(self) -> bytes:
        if self.area == "connection" or self.maybe(0.2):
            value = self.pick("connection", CONNECTIONS, ODD_CONNECTIONS)
            return self.line("connection", b"Connection", value)
        name = self.pick("field", NAMES, ODD_NAMES)
        return self.line("field", name, self.pick("field", VALUES, ODD_VALUES))

    def lengths(self, body: bytes) -> list[bytes]:
        right = b"%d" % len(body)
        odd = ODD_LENGTHS + [
            it % len(body) for it in (b"+%d", b"0x%x", b"-%d", b"0%d", b"%d,", b"%d;")
        ]
        lines = [self.line("length", b"Content-Length", self.pick("length", [right], odd))]
        if self.odd("length") and self.maybe(0.4):
            more = [right, b"0", b"5"]
            lines.append(self.line("length", b"Content-Length", self.chance.choice(more)))
        if self.odd("length") and self.maybe(0.2):
            lines += self.codings()
        return lines

    def codings(self) -> list[bytes]:
        usual = [b"chunked", b"chunked", b"chunked", b"Chunked", b"CHUNKED"]
        value = self.pick("coding", usual, ODD_CODINGS)
        lines = [self.line("coding", b"Transfer-Encoding", value)]
        if self.odd("coding") and self.maybe(0.4):
            more = self.chance.choice([b"chunked", *ODD_CODINGS])
            lines.append(self.line("coding", b"Transfer-Encoding", more))
        if self.odd("coding") and self.maybe(0.3):
            lines.append(self.line("coding", b"Content-Length", b"5"))
        return lines

    def chunks(self, body: bytes) -> bytes:
        written = []
        while body:
            size = self.chance.choice([1, 5, 16, len(body), len(body)])
            written.append(self.chunk(body[:size]))
            body = body[size:]
        last = self.pick("chunk", [b"0", b"00"], [b"", b"0x0", b"-0", b"0" * 17, b"0 ", b"+0"])
        trailers = self.pick("trailer", [b"", b"", *TRAILERS], ODD_TRAILERS)
        return b"".join(written) + last + self.extension() + self.end() + trailers + self.end()

    def chunk(self, part: bytes) -> bytes:
        size = self.chance.choice([b"%x", b"%X", b"0%x"]) % len(part)
        odd = [*ODD_SIZES, *(it % size for it in (b"+%s", b"0x%s", b" %s", b"%s ", b"%sg", b"%s,"))]
        behind = self.chance.choice([b"", b"\n", b"\r", b"x\r\n"]) if self.odd_end() else self.end()
        return self.pick("chunk", [size], odd) + self.extension() + self.end() + part + behind

    def odd_end(self) -> bool:
        return self.odd("chunk") and self.maybe(0.2)

    def extension(self) -> bytes:
        return self.pick("extension", [b"", b"", b"", b"", *EXTENSIONS], ODD_EXTENSIONS)


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Change a byte or a few, with bytes that mean something in HTTP."""
    at = chance.randrange(len(data) or 1)
    match chance.randrange(5):
        case 0:
            return data[:at] + chance.choice(BYTES) + data[at + 1 :]
        case 1:
            return data[:at] + data[at + 1 :]
        case 2:
            return data[:at] + chance.choice(BYTES) + data[at:]
        case 3:
            return data[:at] + data[at : at + 1] + data[at:]
    lines = data.split(b"\r\n")
    line = chance.choice(lines)
    lines.insert(chance.randrange(len(lines) + 1), line)
    return b"\r\n".join(lines)


def generated(chance: random.Random) -> bytes:
    data = Grammar(chance).request()
    if chance.random() < 0.2:
        for _ in range(chance.choice([1, 1, 2])):
            data = mutated(chance, data)
    return data + MARKER


# The test


def asked(server: Server, data: bytes) -> Verdict:
    """Ask us, and wait in vain only where the others would."""
    taken = any(read(data).end == "closed" for read in THEIRS.values())
    return by_us(server, data, DEADLINE if taken else WAIT)


def differences(server: Server, data: bytes) -> list[str]:
    try:
        return list(unexplained(data, asked(server, data)))
    except AssertionError as error:  # a response that is none, or no answer to a request
        return [str(error)]


def shortest(data: bytes, differs: Callable[[bytes], bool], tries: int = 300) -> bytes:
    """Leave out bytes, but the marker's, as long as the difference stays."""
    data = data.removesuffix(MARKER)
    size = len(data) // 2
    while size and tries:
        at = 0
        while at < len(data) and tries:
            tries -= 1
            shorter = data[:at] + data[at + size :]
            if differs(shorter + MARKER):
                data = shorter
            else:
                at += size
        size //= 2
    return data + MARKER


@pytest.mark.parametrize("seed", [SEED], ids=[f"FUZZ_SEED={SEED}"])
def test_a_request_is_what_others_take_it_for(serve, seed):
    server, chance = serve(APP), random.Random(seed)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        data = generated(chance)
        if differences(server, data):
            data = shortest(data, lambda it: bool(differences(server, it)))
            reasons = "\n".join(differences(server, data))
            pytest.fail(f"FUZZ_SEED={seed}: {data!r}\n{reasons}", pytrace=False)
