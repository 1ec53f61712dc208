"""Real proxies in front, as their manuals set them up: whatever a stranger writes, he is who he is.

The client comes from an address that nobody trusts; the proxy, on the same machine, is trusted.
"""

from __future__ import annotations

import ast
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clients import RawHTTP, RawWebSocket
from harness import DEADLINE, Server, eventually

STRANGER = "127.0.0.2"

NGINX = """
daemon off; pid {folder}/pid; error_log stderr; user root;
events {{}}
http {{
    access_log off;
    {temporary}
    map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://{server};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $http_host;
            {told}
        }}
    }}
}}
"""

HAPROXY = """
defaults
    mode http
    timeout connect 20s
    timeout client 20s
    timeout server 20s
listen front
    bind fd@{fd}
    {told}
    server back {server}
"""

NGINX_FOR = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"

NGINX_ALL = f"""{NGINX_FOR}
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;"""

NGINX_STANDARD = 'proxy_set_header Forwarded "$http_forwarded, for=\\"$remote_addr\\"";'

HAPROXY_ALL = """option forwardfor
    http-request add-header x-forwarded-proto http
    http-request add-header x-forwarded-host %[req.hdr(host)]"""

HAPROXY_STANDARD = 'http-request add-header forwarded for=\\"%[src]\\";proto=http'


@dataclass
class Proxied(Server):
    """A server behind a proxy, seen from a stranger."""

    def connect(self, timeout: float = DEADLINE, alpn: str = "http/1.1") -> socket.socket:
        address = (self.host, self.port)
        return socket.create_connection(address, timeout, source_address=(STRANGER, 0))


def needs(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        pytest.skip(f"no {program} here")
    return path


@pytest.fixture
def through(tmp_path: Path) -> Iterator[Callable[[Server, str, str], Proxied]]:
    """Put a proxy in front of a server; it gets the socket that it listens on from here."""
    running = []

    def start(server: Server, program: str, told: str) -> Proxied:
        path = needs(program)
        with socket.create_server(("127.0.0.1", 0)) as front:
            fd, port = front.fileno(), front.getsockname()[1]
            back = f"{server.host}:{server.port}"
            config = tmp_path / f"{program}.conf"
            if program == "nginx":
                temporary = " ".join(
                    f"{kind}_temp_path {tmp_path / kind};"
                    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
                )
                config.write_text(
                    NGINX.format(
                        folder=tmp_path, temporary=temporary, port=port, server=back, told=told
                    )
                )
                command = [path, "-e", "stderr", "-c", str(config)]
            else:
                config.write_text(HAPROXY.format(fd=fd, server=back, told=told))
                command = [path, "-db", "-f", str(config)]
            environment = os.environ | {"NGINX": f"{fd};"}
            running.append(subprocess.Popen(command, pass_fds=[fd], env=environment))
        return Proxied(server.node, "127.0.0.1", port)

    yield start
    for proxy in running:
        proxy.terminate()
        proxy.wait(DEADLINE)


PROXIES = {
    "nginx": ("nginx", NGINX_FOR),
    "nginx, all of them": ("nginx", NGINX_ALL),
    "nginx, the standard's": ("nginx", NGINX_STANDARD),
    "haproxy": ("haproxy", "option forwardfor"),
    "haproxy, all of them": ("haproxy", HAPROXY_ALL),
    "haproxy, the standard's": ("haproxy", HAPROXY_STANDARD),
}

QUOTES = ['"', 'x"y', '", "', "\\", '\\"', '="', 'for="', '127.0.0.1, "', '"127.0.0.1"']
OTHERS = ["127.0.0.1", "::1, 127.0.0.1", "unknown", "_x", "unix:", ",,,", "", "a;b", "\xff", "((("]


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_stranger_behind_a_proxy_is_who_he_is_whatever_he_writes(serve, through, proxy):
    program, told = PROXIES[proxy]
    front = through(serve("exchanges:application"), program, told)
    standard = proxy.endswith("standard's")
    names = ["forwarded"] if standard else ["x-forwarded-for", "forwarded"]
    if "all" in proxy:
        names += ["x-forwarded-proto", "x-forwarded-host"]
    tried = 0
    for name in names:
        for written in QUOTES + OTHERS:
            for lines in ([written], [written, "127.0.0.1"], ["127.0.0.1", written]):
                scope = seen(front, *(f"{name}: {line}" for line in lines))
                assert scope["client"] == (STRANGER, 0), (name, lines)
                assert scope["scheme"] == "http", (name, lines)
                assert (b"host", b"test") in scope["headers"], (name, lines)
                tried += 1
    assert tried == len(names) * 3 * len(QUOTES + OTHERS)


def seen(front: Proxied, *headers: str) -> dict:
    with RawHTTP(front) as raw:
        lines = ["GET /scope_of HTTP/1.1", "host: test", "connection: close", *headers, "", ""]
        raw.send("\r\n".join(lines).encode("latin-1"))
        response = raw.response()
        assert response.status == 200, (response, headers)
        return ast.literal_eval(response.body.decode())


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_websocket_behind_a_proxy_is_its_clients_too(serve, through, proxy):
    program, told = PROXIES[proxy]
    front = through(serve("sockets:application"), program, told)
    name = "forwarded" if proxy.endswith("standard's") else "x-forwarded-for"
    with RawWebSocket(front, "/scope_of", f'{name}: "') as ws:
        assert ast.literal_eval(ws.read_message().decode())["client"] == (STRANGER, 0)


def test_two_proxies_in_a_row_show_the_client_of_the_first(serve, through):
    server = serve("exchanges:application")
    inner = through(server, "haproxy", "option forwardfor")
    outer = through(Server(server.node, inner.host, inner.port), "nginx", NGINX_FOR)
    for written in QUOTES + OTHERS:
        assert seen(outer, f"x-forwarded-for: {written}")["client"] == (STRANGER, 0)


def test_who_a_proxy_shows_as_nonsense_gets_400_and_is_counted(serve, through):
    server = serve("exchanges:application")
    before = server.info()["counters"]["forwarded_refused"]
    front = through(server, "nginx", "proxy_set_header X-Forwarded-For $http_user_agent;")
    with RawHTTP(front) as raw:
        raw.request("GET", "/hello", "user-agent: curl/8", "connection: close")
        response = raw.response()
    assert (response.status, b"proxies" in response.body) == (400, True)
    eventually(lambda: server.info()["counters"]["forwarded_refused"] == before + 1)
