"""Servers that are replaced under load behind nginx: no 5xx, and every WebSocket is told.

HORNBEAM_RESTARTS sets how many of them are, and half as many of those without a drain.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from commands import Running
from harness import DEADLINE, eventually
from rolling import Load, Proxy, loaded
from test_proxies import needs

RESTARTS = int(os.environ.get("HORNBEAM_RESTARTS", "20"))
SOCKETS = 12
TOLD = {1001, 1012}

WORDS = (
    "rolled:application", "--lifespan", "off", "--no-access-log", "--health-path", "/healthz",
    "--shutdown-timeout", "5s",
)  # fmt: skip


class Fleet:
    """Servers by the command, each in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started = 0
        self.alive: dict[str, Running] = {}
        """By their addresses, as nginx has them."""
        self.lock = threading.Lock()

    def start(self, *words: object) -> str:
        """Start one and wait until it listens; return its address."""
        self.started += 1
        folder = self.folder / str(self.started)
        folder.mkdir()
        running = Running(folder, *WORDS, *words)
        host = running.address().removeprefix("http://")
        with self.lock:
            self.alive[host] = running
        return host

    def end(self, host: str) -> None:
        """Have one stop as a supervisor does, and wait until it has."""
        running = self.alive[host]
        running.signal(signal.SIGTERM)
        assert running.status() == 0, running.shown
        assert "ERROR" not in running.shown, running.shown
        running.close()
        with self.lock:
            del self.alive[host]

    def ready(self) -> list[str]:
        """Return the addresses of those that say that they are ready."""
        with self.lock:
            alive = list(self.alive)
        return [host for host in alive if is_ready(host)]

    def close(self) -> None:
        for running in self.alive.values():
            running.close()


def is_ready(host: str) -> bool:
    try:
        return httpx.get(f"http://{host}/healthz", timeout=DEADLINE).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def fleet(tmp_path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


@contextlib.contextmanager
def fronted(folder: Path, servers: list[str], more: str = "") -> Iterator[Proxy]:
    proxy = Proxy(needs("nginx"), folder, servers, more)
    try:
        yield proxy
    finally:
        proxy.close()


class Controller(threading.Thread):
    """What endpoints are in Kubernetes: asks for health, and routes to those that are ready."""

    PERIOD = 0.1

    def __init__(self, fleet: Fleet, proxy: Proxy) -> None:
        super().__init__()
        self.fleet, self.proxy = fleet, proxy
        self.routed = fleet.ready()
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(self.PERIOD):
            ready = self.fleet.ready()
            if ready and ready != self.routed:
                self.proxy.reroute(ready)
                self.routed = ready

    def close(self) -> None:
        self.over.set()
        self.join(DEADLINE)


def told(load: Load, restarts: int) -> None:
    """Say what became of the load to whoever runs the tests with -s."""
    print(  # noqa: T201
        f"\n{restarts} restarts: {dict(load.statuses)}, cut {dict(load.cut)},"
        f" WebSockets closed {dict(load.closes)}, refused {dict(load.refusals)}"
    )


def test_a_rolling_update_by_readiness_costs_no_request_and_tells_every_websocket(fleet, tmp_path):
    serving = fleet.start("--port", 0, "--drain-delay", "2s")
    with fronted(tmp_path, fleet.ready()) as proxy, loaded(proxy.port, SOCKETS) as load:
        controller = Controller(fleet, proxy)
        for _ in range(RESTARTS):
            successor = fleet.start("--port", 0, "--drain-delay", "2s")
            eventually(lambda: successor in controller.routed)  # noqa: B023
            fleet.end(serving)
            serving = successor
            eventually(lambda: load.open == SOCKETS)
        controller.close()
        told(load, RESTARTS)
    assert not load.failed()
    # nginx closes what its own clients keep whenever it is told of other servers.
    assert not [kind for kind in load.cut if "kept" not in kind]
    assert not load.refusals
    assert set(load.closes) <= TOLD
    assert sum(load.closes.values()) == RESTARTS * SOCKETS


def test_servers_that_are_just_restarted_cost_no_request_that_nginx_may_repeat(fleet, tmp_path):
    """No drain, and nobody who asks for health: the other server takes what is refused."""
    ports = free_ports(2)
    pair = [fleet.start("--port", port) for port in ports]
    with fronted(tmp_path, pair) as proxy, loaded(proxy.port, SOCKETS) as load:
        for number in range(RESTARTS // 2):
            fleet.end(pair[number % 2])
            fleet.start("--port", ports[number % 2])
            eventually(lambda: load.open == SOCKETS)
        told(load, RESTARTS // 2)
    assert not load.failed()
    assert not load.cut
    assert not load.refusals
    assert set(load.closes) <= TOLD


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has just now, and that only this test is told of."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in opened]
