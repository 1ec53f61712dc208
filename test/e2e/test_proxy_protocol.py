"""The PROXY protocol: what a proxy says of its client in front of the first byte, and who may."""

from __future__ import annotations

import ast
import os
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from harness import DEADLINE, Server, eventually
from terms import Atom
from websockets.sync.client import connect

APP = "exchanges:application"
SOURCE = ("192.0.2.7", 4711)
REACHED = ("198.51.100.1", 443)
BELIEVED = {"proxy_protocol": True}

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6, UDP4, UNSPECIFIED = 0x11, 0x21, 0x12, 0

GET = b"GET /scope_of HTTP/1.1\r\nhost: x\r\nconnection: close\r\n%s\r\n"


def v1(source=SOURCE, reached=REACHED) -> bytes:
    family = "TCP6" if ":" in source[0] else "TCP4"
    line = f"PROXY {family} {source[0]} {reached[0]} {source[1]} {reached[1]}\r\n"
    return line.encode()


def v2(command=PROXY, family=TCP4, body=None, tlvs=b"") -> bytes:
    if body is None:
        body = socket.inet_aton(SOURCE[0]) + socket.inet_aton(REACHED[0])
        body += struct.pack(">HH", SOURCE[1], REACHED[1])
    return SIGNATURE + struct.pack(">BBH", command, family, len(body + tlvs)) + body + tlvs


IPV6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + struct.pack(">HH", 4711, 443)
)
NOOP = b"\x04\0\x04abcd"  # a TLV without a meaning
TLS = b"\x20\0\x0f\x01\0\0\0\0" + b"\x21\0\x07TLSv1.3"


def to_the_end(client: socket.socket) -> bytes:
    said = b""
    try:
        while part := client.recv(65536):
            said += part
    except ConnectionResetError:
        pass
    return said


def told(server: Server, header: bytes, fields: bytes = b"", bytewise: bool = False):
    """Return what the app is told of the client that a header is about."""
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = header + GET % fields
        for part in (bytes([byte]) for byte in whole) if bytewise else (whole,):
            client.sendall(part)
        head, _, body = to_the_end(client).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return ast.literal_eval(body.decode())


def counter(server: Server, name: str) -> int:
    return server.info()["counters"][name]


@pytest.fixture(params=["hornbeam", "cowboy"])
def server(serve, request) -> Server:
    return serve(APP, http_engine=Atom(request.param), **BELIEVED)


HEADERS = {
    "v1": (v1(), SOURCE, REACHED, "http"),
    "v1, IPv6": (v1(("2001:db8::7", 1), ("2001:db8::1", 2)), ("2001:db8::7", 1),
                 ("2001:db8::1", 2), "http"),
    "v2": (v2(), SOURCE, REACHED, "http"),
    "v2, IPv6": (v2(family=TCP6, body=IPV6), ("2001:db8::7", 4711), ("2001:db8::1", 443), "http"),
    "v2, TLVs": (v2(tlvs=NOOP * 3), SOURCE, REACHED, "http"),
    "v2, of TLS": (v2(tlvs=TLS), SOURCE, REACHED, "https"),
    "v2, 4096 bytes": (v2(tlvs=b"\x04" + struct.pack(">H", 4081) + bytes(4081)), SOURCE, REACHED,
                       "http"),
}  # fmt: skip


@pytest.mark.parametrize("pace", ["whole", "bytewise"])
@pytest.mark.parametrize("name", HEADERS)
def test_the_app_is_told_of_the_client_and_of_what_it_has_reached(server, name, pace):
    header, client, reached, scheme = HEADERS[name]
    scope = told(server, header, bytewise=pace == "bytewise")
    assert (scope["client"], scope["server"], scope["scheme"]) == (client, reached, scheme)


@pytest.mark.parametrize("header", [
    b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", v2(LOCAL, UNSPECIFIED, b""),
    v2(LOCAL), v2(PROXY, UNSPECIFIED, b""), v2(LOCAL, 0xFF, b"xyz"),
])  # fmt: skip
def test_who_looks_whether_we_are_there_stays_who_he_is(server, header):
    scope = told(server, header)
    assert scope["client"][0] == "127.0.0.1"
    assert scope["server"] == ("127.0.0.1", server.port)


REFUSED = {
    "none": GET % b"",
    "bare TLS": b"\x16\x03\x01\x02\0" + bytes(20),
    "v1 without an end": b"PROXY TCP4 " + b"1" * 200,
    "v1, 108 bytes": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "v1, a name": b"PROXY TCP4 localhost 1.2.3.4 1 2\r\n",
    "v1, a port too large": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
    "v1, a port too few": b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
    "v1, of two families": b"PROXY TCP4 ::1 1.2.3.4 1 2\r\n",
    "v1, UDP": b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
    "v1, no line": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
    "v2, version 3": v2(0x31),
    "v2, no command": v2(0x2F),
    "v2, a datagram": v2(family=UDP4),
    "v2, too short for its addresses": v2(body=bytes(11)),
    "v2, IPv6 in the room of IPv4": v2(family=TCP6),
    "v2, a TLV past the end": v2(tlvs=b"\x04\0\x09abc"),
    "v2, 4097 bytes": v2(tlvs=b"\x04" + struct.pack(">H", 4082) + bytes(4082)),
    "v2, the largest": v2(tlvs=b"\x04" + struct.pack(">H", 65520) + bytes(65520)),
    "v2, its signature cut": SIGNATURE[:11] + b"\r" + bytes(4),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_header_of_a_proxy_ends_the_connection(server, name):
    before = counter(server, "proxy_refused")
    with server.connect() as client:
        client.sendall(REFUSED[name])
        assert to_the_end(client) == b""
    eventually(lambda: counter(server, "proxy_refused") == before + 1)
    assert told(server, v1())["client"] == SOURCE


def test_a_header_that_never_ends_has_the_time_of_a_handshake(serve):
    server = serve(APP, fresh=True, header_timeout=300, **BELIEVED)
    begun = [b"", b"PROXY", v1()[:-1], SIGNATURE, v2()[:-1]]
    clients = [server.connect() for _ in begun]
    for client, part in zip(clients, begun, strict=True):
        client.sendall(part)
    assert [to_the_end(client) for client in clients] == [b""] * len(begun)
    eventually(lambda: counter(server, "proxy_refused") == len(begun))
    for client in clients:
        client.close()
    eventually(lambda: server.info()["sockets"] == 0)


def test_who_comes_and_goes_without_a_word_is_no_event(server):
    before = counter(server, "proxy_refused")
    for _ in range(3):
        server.connect().close()
    assert told(server, v1())["client"] == SOURCE
    eventually(lambda: server.info()["sockets"] == 0)
    assert counter(server, "proxy_refused") == before


@pytest.mark.parametrize("header", [v1(), v2()], ids=["v1", "v2"])
def test_others_are_who_they_are_and_believed_nothing(serve, header):
    server = serve(APP, proxy_protocol=True, proxy_protocol_from=["192.0.2.1"])
    assert told(server, b"")["client"][0] == "127.0.0.1"
    with server.connect() as client:
        client.sendall(header + GET % b"")
        assert to_the_end(client).startswith(b"HTTP/1.1 400")


def test_without_the_option_it_is_no_request(serve):
    with serve(APP).connect() as client:
        client.sendall(v1() + GET % b"")
        assert to_the_end(client).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("trusted", "client"),
    [(["127.0.0.1"], SOURCE[0]), ([SOURCE[0]], "203.0.113.9"), ([], SOURCE[0])],
)
def test_forwarded_headers_are_judged_by_the_client_that_the_proxy_has_named(
    serve, trusted, client
):
    server = serve(APP, forwarded_allow_ips=trusted, **BELIEVED)
    assert told(server, v2(), b"x-forwarded-for: 203.0.113.9\r\n")["client"][0] == client


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
def test_a_websocket_and_each_request_of_a_connection_have_that_client(serve, engine):
    server = serve("sockets:application", fresh=True, http_engine=Atom(engine), **BELIEVED)
    client = server.connect()
    client.sendall(v1())
    with connect(f"{server.ws}/echo", sock=client):
        (connection,) = eventually(lambda: server.node.eval("hornbeam:connections()"))
        assert connection["peer"] == SOURCE
    with serve(APP, http_engine=Atom(engine), **BELIEVED).connect() as client:
        client.sendall(v2() + (GET % b"").replace(b"connection: close\r\n", b"") + GET % b"")
        said = to_the_end(client)
    assert said.count(repr(SOURCE).encode()) == 2


def test_a_unix_socket_may_be_a_proxys(serve, tmp_path):
    path = f"{tmp_path}/s"
    serve(APP, fresh=True, bind=f"unix:{path}", proxy_protocol_from=["unix"], **BELIEVED)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect(path)
        client.sendall(v2() + GET % b"")
        body = to_the_end(client).partition(b"\r\n\r\n")[2]
    scope = ast.literal_eval(body.decode())
    assert (scope["client"], scope["server"]) == (SOURCE, REACHED)


# TLS and HTTP/2 behind it


@pytest.mark.parametrize("pace", ["whole", "bytewise"])
@pytest.mark.parametrize("header", [v1(), v2()], ids=["v1", "v2"])
def test_tls_begins_behind_it(serve, tls, authority, header, pace):
    server = serve(APP, **BELIEVED, **tls)
    with socket.create_connection((server.host, server.port), DEADLINE) as tcp:
        for part in (bytes([byte]) for byte in header) if pace == "bytewise" else (header,):
            tcp.sendall(part)
        with authority.trusting().wrap_socket(tcp, server_hostname=server.host) as client:
            client.sendall(GET % b"")
            body = to_the_end(client).partition(b"\r\n\r\n")[2]
    scope = ast.literal_eval(body.decode())
    assert (scope["client"], scope["server"], scope["scheme"]) == (SOURCE, REACHED, "https")


def test_a_failed_handshake_of_tls_behind_it_is_counted_as_ever(serve, tls):
    server = serve(APP, **BELIEVED, **tls)
    before = counter(server, "tls_refused")
    with socket.create_connection((server.host, server.port), DEADLINE) as tcp:
        tcp.sendall(v1() + GET % b"")
        to_the_end(tcp)
    eventually(lambda: counter(server, "tls_refused") == before + 1)


# Real proxies

HAPROXY = """
defaults
    mode tcp
    timeout connect 20s
    timeout client 20s
    timeout server 20s
listen front
    bind fd@{fd}
    server back {server} {how} check inter 100ms
"""


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[Callable[[Server, str], int]]:
    """Put HAProxy in front of a server as its manual does; return where it listens."""
    path = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        pytest.skip("no haproxy here")
    running = []

    def start(server: Server, how: str) -> int:
        with socket.create_server(("127.0.0.1", 0)) as front:
            fd, port = front.fileno(), front.getsockname()[1]
            config = tmp_path / "haproxy.conf"
            back = f"{server.host}:{server.port}"
            config.write_text(HAPROXY.format(fd=fd, server=back, how=how))
            running.append(subprocess.Popen([path, "-db", "-f", str(config)], pass_fds=[fd]))
        return port

    yield start
    for proxy in running:
        proxy.terminate()
        proxy.wait(DEADLINE)


@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS passed through"])
def test_a_client_behind_haproxy_is_who_it_is(serve, tls, authority, haproxy, how, is_secure):
    options = tls if is_secure else {}
    server = serve(APP, fresh=True, **BELIEVED, **options)
    port = haproxy(server, how)
    stranger = ("127.0.0.2", 0)
    with socket.create_connection(("127.0.0.1", port), DEADLINE, source_address=stranger) as tcp:
        name = tcp.getsockname()
        context = authority.trusting()
        client = context.wrap_socket(tcp, server_hostname="127.0.0.1") if is_secure else tcp
        client.sendall(GET % b"x-forwarded-for: 203.0.113.9\r\n")
        body = to_the_end(client).partition(b"\r\n\r\n")[2]
    scope = ast.literal_eval(body.decode())
    assert (scope["client"], scope["server"]) == (name, ("127.0.0.1", port))
    assert scope["scheme"] == ("https" if is_secure else "http")
    assert counter(server, "proxy_refused") == 0


def test_http2_goes_through_haproxy_by_tls(serve, tls, haproxy, authority):
    server = serve(APP, fresh=True, **BELIEVED, **tls)
    port = haproxy(server, "send-proxy-v2")
    context = ssl.create_default_context(cafile=str(authority.cafile))
    transport = httpx.HTTPTransport(http2=True, verify=context, local_address="127.0.0.2")
    with httpx.Client(transport=transport) as client:
        answer = client.get(f"https://127.0.0.1:{port}/scope_of")
    assert answer.http_version == "HTTP/2"
    assert ast.literal_eval(answer.text)["client"][0] == "127.0.0.2"
