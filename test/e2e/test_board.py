"""The example of FastAPI and Socket.IO as people use it: two pages in two workers."""

from __future__ import annotations

import re
import shutil

import pytest
from browsers import npm_install
from harness import DEADLINE, ROOT
from playwright.sync_api import expect
from terms import Atom

EXAMPLE = ROOT / "examples" / "socketio"

expect.set_options(timeout=DEADLINE * 1000)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Install the page's client from npm, as the example's README tells."""
    folder = tmp_path_factory.mktemp("npm")
    shutil.copy(EXAMPLE / "package.json", folder)
    return npm_install(folder) / "socket.io-client/dist/socket.io.min.js"


def test_who_moves_the_dot_moves_it_for_pages_in_other_workers(serve, client, browser):
    server = serve(
        "main:app",
        chdir=EXAMPLE,
        workers=4,
        affinity=Atom("socketio"),
        env={"SOCKET_IO_JS": str(client)},
    )
    pages = [browser.new_page() for _ in range(4)]
    workers = set()
    for page in pages:
        page.goto(server.http)
        who = page.locator("#who")
        expect(who).to_have_text(re.compile(r"Visitor \d+, worker \d+"))
        workers.add(who.inner_text().rpartition(" ")[2])
    assert len(workers) > 1
    pages[0].locator("#board").click(position={"x": 100, "y": 70})
    told = re.compile(r"Moved to 3, 2 by (you|another)")
    for page in pages:
        expect(page.locator("#last")).to_have_text(told)
    pages[1].get_by_role("button", name="Clear").click()
    for page in pages:
        expect(page.locator("#last")).to_have_text("Moved to 0, 0 by clear")
    for page in pages:
        page.close()
