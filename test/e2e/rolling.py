"""What a rolling update needs: nginx in front of servers that come and go, and a load upon it.

The load is what clients do that know nothing of updates: requests on connections that are kept and
on new ones, GET and POST, and WebSockets that come back. It keeps an account and judges nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from crowds import TEXT, Client
from harness import DEADLINE, eventually

NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; user root; worker_processes 1;
events {{}}
http {{
    access_log off;
    {temporary}
    include {folder}/upstream.conf;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $http_host;
            {more}
        }}
    }}
}}
"""
"""As the guide to deployment has it, with connections to the servers that are kept."""


class Proxy:
    """An nginx whose servers change; it listens on a port of its own choice, once and for all."""

    def __init__(self, program: str, folder: Path, servers: Sequence[str], more: str = "") -> None:
        self.folder = folder
        self.route(servers)
        with socket.create_server(("127.0.0.1", 0)) as front:
            self.port = front.getsockname()[1]
            fd = front.fileno()
            config = folder / "nginx.conf"
            kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            temporary = " ".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
            config.write_text(
                NGINX.format(folder=folder, temporary=temporary, port=self.port, more=more)
            )
            self.process = subprocess.Popen(
                [program, "-e", "stderr", "-c", config], pass_fds=[fd], env={"NGINX": f"{fd};"}
            )

    def route(self, servers: Sequence[str]) -> None:
        """Write down where requests are to go."""
        lines = "".join(f"server {server} max_fails=0; " for server in servers)
        (self.folder / "upstream.conf").write_text(f"upstream servers {{ {lines} keepalive 8; }}\n")

    def reroute(self, servers: Sequence[str]) -> None:
        """Send new requests there; nginx's old processes stay as long as they have sockets."""
        self.route(servers)
        self.process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE)


class Load:
    """Requests without an end, until it is closed."""

    PAUSE = 0.01
    """Seconds between two requests of one client: a load, and not a test of the machine."""

    def __init__(self, port: int, sockets: int) -> None:
        self.port, self.sockets = port, sockets
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.cut: Counter[str] = Counter()
        """Connections that ended without a word in the place of an answer, by whose they were."""
        self.closes: Counter[int] = Counter()
        self.refusals: Counter[str] = Counter()
        self.open = 0
        self.over = threading.Event()
        kinds = [(method, kept) for method in ("GET", "POST") for kept in (True, False)]
        self.threads = [threading.Thread(target=self.requests, args=kind) for kind in kinds]
        self.threads.append(threading.Thread(target=lambda: asyncio.run(self.crowd())))
        for thread in self.threads:
            thread.start()
        eventually(lambda: self.open == sockets)

    def requests(self, method: str, kept: bool) -> None:
        name = f"{method} {'kept' if kept else 'new'}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        body = b"x" * 1000 if method == "POST" else None
        while not self.over.wait(self.PAUSE):
            try:
                connection.request(method, "/echo", body)
                response = connection.getresponse()
                response.read()
                self.statuses[name, response.status] += 1
            except (OSError, http.client.HTTPException):
                self.cut[name] += 1
                connection.close()
            if not kept:
                connection.close()
        connection.close()

    async def crowd(self) -> None:
        await asyncio.gather(*(self.socket() for _ in range(self.sockets)))

    async def socket(self) -> None:
        """Keep one WebSocket open, and come back as often as it is closed."""
        loop = asyncio.get_running_loop()
        while not self.over.is_set():
            _, one = await loop.create_connection(
                lambda: Socket(loop.create_future()), "127.0.0.1", self.port
            )
            try:
                await one.opened
            except ConnectionRefusedError as error:
                self.refusals[str(error)] += 1
                await asyncio.sleep(self.PAUSE)
                continue
            self.open += 1
            await self.followed(one)
            self.open -= 1

    async def followed(self, one: Socket) -> None:
        """Talk to it until it is closed, by the server or because the load ends."""
        while not one.ended.done() and not self.over.is_set():
            one.write(TEXT, b"hello")
            await asyncio.wait([one.ended], timeout=0.1)
        if self.over.is_set():
            one.leave()
            await asyncio.wait([one.ended], timeout=DEADLINE)
        elif one.code is not None:
            self.closes[one.code] += 1

    def failed(self) -> dict[tuple[str, int], int]:
        """Return the responses that tell of a failure of the server."""
        return {kind: count for kind, count in self.statuses.items() if kind[1] >= 500}

    def close(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(DEADLINE)


class Socket(Client):
    """A WebSocket that says when it has ended."""

    def __init__(self, ended: asyncio.Future[None]) -> None:
        super().__init__("/socket")
        self.ended = ended

    def closed(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


@contextlib.contextmanager
def loaded(port: int, sockets: int) -> Iterator[Load]:
    load = Load(port, sockets)
    try:
        yield load
    finally:
        load.close()
