"""Apps that keep sessions in memory, unmodified, on 4 workers, and a browser for their pages.

They are heavy, so `make sessions` installs them and runs this, and `make test` does not.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from browsers import chromium
from harness import DEADLINE, Node, Server
from playwright.sync_api import Browser, Page, expect

APPS = Path(__file__).parent / "apps"
WORKERS = 4
LIMIT = 120.0

expect.set_options(timeout=DEADLINE * 1000)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    test = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    # The browser has a loop in this thread.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, asyncio.wait_for(test, LIMIT)).result()
    return True


class Patient(Node):
    """A node whose apps take a while to import."""

    def eval(self, expression: str, deadline: float = LIMIT) -> Any:
        return super().eval(expression, deadline)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Serve an app of this folder by 4 workers."""
    node = Patient(tmp_path)

    def serve_app(app: str, affinity: object, **options: object) -> Server:
        return node.serve(
            app, affinity=affinity, workers=WORKERS, python=sys.executable,
            pythonpath=[APPS], chdir=tmp_path, **options,
        )  # fmt: skip

    yield serve_app
    print(node.log[-5000:])
    assert not node.close(), "Python processes outlived their node"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Open a page as somebody else each time."""
    contexts = []

    def visited(url: str) -> Page:
        contexts.append(browser.new_context())
        page = contexts[-1].new_page()
        page.goto(url)
        return page

    yield visited
    for context in contexts:
        context.close()
