"""Fixtures of the end-to-end tests: a node for each module, a server for each test.

An `async def` test runs in a loop of its own and fails at `LIMIT` seconds.
"""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from consoles import Console
from harness import Node, Server, StartError

LIMIT = 60.0


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
