"""Fixtures of the end-to-end tests: a node for each module, a server for each test.

An `async def` test runs in a loop of its own and fails at `LIMIT` seconds.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from browsers import chromium
from consoles import Console
from harness import DEADLINE, Node, Server, StartError
from http1 import Wire
from http2 import Bridge
from identities import Authority, Identity
from longest import turn
from playwright.sync_api import Browser

LIMIT = 60.0

# No test calls a server that happens to run on this machine, but for those which say so.
os.environ["HORNBEAM_SOCKET"] = "off"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: turn(item.path))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    test = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    asyncio.run(asyncio.wait_for(test, LIMIT))
    return True


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that the tests of one module share."""
    node = Node(tmp_path_factory.mktemp("node"))
    yield node
    assert not node.close(), "Python processes outlived their node"


@pytest.fixture
def own_node(tmp_path: Any) -> Iterator[Node]:
    """A node of one test's own, for tests that break it."""
    node = Node(tmp_path)
    yield node
    assert not node.close(), "Python processes outlived their node"


@pytest.fixture(scope="module")
def shared(node: Node) -> Iterator[Running]:
    """Remember what runs in the module's node."""
    running = Running(node)
    yield running
    running.stop()


@pytest.fixture
def serve(shared: Running, request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """Start a server for this test, or keep the one that runs if it is the same.

    `fresh=True` asks for one that no other test has used and none will use.
    """
    yield shared.serve
    if shared.fresh:
        shared.stop()


class Running:
    """What runs in a node: the app, its options, the server."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.asked: Any = None
        self.server: Server | None = None
        self.fresh = False

    def serve(self, app: str, *, fresh: bool = False, **options: Any) -> Server:
        asked = (app, options)
        if fresh or self.server is None or asked != self.asked:
            self.stop()
            self.asked, self.fresh = asked, fresh
            self.server = self.node.serve(app, **options)
        return self.server

    def refused(self, app: str, **options: Any) -> StartError:
        """Start a server that must not start; return the error."""
        self.stop()
        with pytest.raises(StartError) as refusal:
            self.node.serve(app, **options)
        return refusal.value

    def stop(self) -> None:
        """Stop what runs, also what a failed test did not mean to start."""
        self.server, self.fresh = None, False
        self.node.eval("hornbeam:stop()")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that the tests of one module share."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """Make an authority whose servers all clients of this run trust, by their environment."""
    made = Authority(tmp_path_factory.mktemp("authority"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(made.cafile))
        yield made


@pytest.fixture(scope="session")
def identity(authority: Authority) -> Identity:
    """Make the certificate of the tests' servers."""
    return authority.server()


@pytest.fixture(scope="session")
def tls(identity: Identity) -> dict[str, Any]:
    """Give the options of a server that speaks TLS."""
    return {"certfile": identity.certfile, "keyfile": identity.keyfile}


@pytest.fixture(scope="module")
def way(request: pytest.FixtureRequest) -> str:
    """Name how clients reach the servers of a module, which lists the ways in its `WAYS`."""
    return request.param


@pytest.fixture
def http1() -> None:
    """Say of a test that it is about HTTP/1.1 itself."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "way" in metafunc.fixturenames:
        ways = [
            way
            for way in metafunc.module.WAYS
            if way != "http2" or "http1" not in metafunc.fixturenames
        ]
        metafunc.parametrize("way", ways, indirect=True, scope="module")


@pytest.fixture
def reached(serve: Any, way: str, tls: dict[str, Any]) -> Iterator[Callable[..., Server]]:
    """Serve as `serve` does, for clients that come by TCP, by TLS or over HTTP/2."""
    bridges: list[Bridge] = []

    def reach(app: str, **options: Any) -> Server:
        if way not in ("tls", "http2"):
            return serve(app, **options)
        server = serve(app, **options, **tls)
        if way == "http2":
            bridges.append(Bridge(server))
            return Bridged(server.node, server.host, server.port, True, bridges[-1].port)
        return server

    yield reach
    for bridge in bridges:
        bridge.close()


@dataclass
class Bridged(Server):
    """A server whose WebSockets are reached over HTTP/2, by way of a bridge."""

    bridge: int = 0

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.bridge}"

    def connect(self, timeout: float = DEADLINE, alpn: str = "http/1.1") -> socket.socket:
        if alpn != "http/1.1":
            return super().connect(timeout, alpn)
        return socket.create_connection(("127.0.0.1", self.bridge), timeout)


@pytest.fixture(params=["first", "later"])
def place(request: pytest.FixtureRequest) -> str:
    """Say which request of its connection is tried."""
    return request.param


@pytest.fixture(params=["whole", "bytewise"])
def pace(request: pytest.FixtureRequest) -> str:
    """Say whether a request is sent at once or byte by byte."""
    return request.param


@pytest.fixture
def wire(server: Server, place: str) -> Iterator[Wire]:
    """Open a connection to the module's server, on which the next request has its place."""
    with Wire(server) as opened:
        if place == "later":
            assert opened.in_step()
        yield opened


@pytest.fixture
def paced(wire: Wire, pace: str) -> Wire:
    """Give a wire that sends at either pace."""
    wire.bytewise = pace == "bytewise"
    return wire


@pytest.fixture
def key() -> str:
    """A name that no other test uses."""
    return uuid.uuid4().hex


@pytest.fixture
def consoles() -> Iterator[Callable[[Server, int], list[Console]]]:
    """Open consoles in as many different workers; they are closed after the test."""
    opened: list[Console] = []

    def open_consoles(server: Server, workers: int = 1) -> list[Console]:
        chosen: dict[int, Console] = {}
        while len(chosen) < workers:
            assert len(opened) < 100, f"{len(chosen)} workers were reached, not {workers}"
            opened.append(Console(server))
            chosen.setdefault(opened[-1].pid, opened[-1])
        return list(chosen.values())

    yield open_consoles
    for console in opened:
        console.socket.close()
