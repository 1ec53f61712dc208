"""The example chat as people use it: its page in a real browser, two of them talking."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import DEADLINE, ROOT, Server, eventually
from websockets.sync.client import ClientConnection, connect

CHAT = ROOT / "examples" / "chat"


class Page:
    """A page of a running browser, spoken to in the DevTools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.numbers = itertools.count(1)

    def call(self, method: str, **params: Any) -> Any:
        number = next(self.numbers)
        self.connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(self.connection.recv(DEADLINE))).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        return self.run(f"[...document.querySelectorAll('{selector}')].map((e) => e.textContent)")

    def sees(self, selector: str, text: str) -> None:
        eventually(lambda: text in self.texts(selector))

    def type(self, selector: str, text: str) -> None:
        self.run(f"document.querySelector('{selector}').focus()")
        self.run("document.activeElement.select()")
        self.call("Input.insertText", text=text)

    def press_enter(self) -> None:
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        ready = f"document.readyState == 'complete' && location.href.startsWith('{address}')"
        eventually(lambda: self.run(ready))

    def join(self, name: str, room: str) -> None:
        self.type("#topic", room)
        self.type("#name", name)
        self.press_enter()
        self.sees("#members li", name)

    def say(self, text: str) -> None:
        self.type("#text", text)
        self.press_enter()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Page]]:
    """A headless browser; each call of it gives an empty page."""
    program = shutil.which("chromium")
    assert program, "chromium is missing; `make e2e` brings it"
    profile = tmp_path_factory.mktemp("browser")
    process = subprocess.Popen(
        [
            program,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = eventually(lambda: debugging_port(profile))
        with contextlib.ExitStack() as pages:
            yield lambda: new_page(port, pages)
    finally:
        process.terminate()
        process.wait(DEADLINE)


def debugging_port(profile: Path) -> int | None:
    with contextlib.suppress(OSError):
        lines = (profile / "DevToolsActivePort").read_text().splitlines()
        return int(lines[0]) if len(lines) == 2 else None
    return None


def new_page(port: int, pages: contextlib.ExitStack) -> Page:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new", method="PUT")
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        debugger = json.load(answer)["webSocketDebuggerUrl"]
    return Page(pages.enter_context(connect(debugger, proxy=None)))


@pytest.fixture
def visit(browser: Callable[[], Page]) -> Callable[[Server], Page]:
    """Open a server's page in a browser."""

    def visited(server: Server) -> Page:
        page = browser()
        page.open(server.http)
        return page

    return visited


@pytest.fixture
def chat(serve: Callable[..., Server]) -> Server:
    return serve("chat:application", chdir=CHAT, workers=1)


def test_two_people_see_each_other_and_talk(visit, chat, key):
    ada, bob = visit(chat), visit(chat)
    ada.join("Ada", key)
    bob.join("Bob", key)
    ada.sees("#log .news", "Bob joined")
    assert ada.texts("#members li") == bob.texts("#members li") == ["Ada", "Bob"]

    bob.say("Hello, Ada! ✓")
    ada.sees("#log .message .text", "Hello, Ada! ✓")
    assert ada.texts("#log .message .name") == ["Bob"]

    bob.call("Page.close")
    ada.sees("#log .news", "Bob left")
    eventually(lambda: ada.texts("#members li") == ["Ada"])


def test_what_is_said_is_never_read_as_html(visit, chat, key):
    markup = "<img src=x onerror='document.title=`broken in`'><b>bold</b>"
    page = visit(chat)
    page.join("<i>Eve</i>", key)
    page.say(markup)
    page.sees("#log .text", markup)
    assert page.run("document.querySelectorAll('main img, main b, main i').length") == 0
    assert page.run("document.title") == "Hornbeam chat"


def test_people_in_another_room_hear_nothing(visit, chat, key):
    here, there = visit(chat), visit(chat)
    here.join("Ada", key)
    there.join("Bob", f"{key} next door")
    here.say("first")
    here.sees("#log .text", "first")
    there.say("second")
    there.sees("#log .text", "second")
    assert there.texts("#log .text") == ["second"]
    assert there.texts("#members li") == ["Bob"]


def test_the_page_comes_back_when_its_worker_was_killed(visit, serve, key):
    chat = serve("chat:application", chdir=CHAT, workers=1, fresh=True)
    page = visit(chat)
    page.join("Ada", key)
    page.run(
        "window.changes = []; new MutationObserver(() => changes.push($('status').textContent))"
        ".observe($('status'), {childList: true})"
    )
    (worker,) = chat.worker_pids()
    subprocess.run(["kill", "-9", str(worker)], check=True)
    eventually(lambda: "connected" in page.run("changes"))
    assert re.match("connection lost", page.run("changes")[0])
    page.say("still here")
    page.sees("#log .text", "still here")


def test_the_page_calls_for_nothing_from_elsewhere(visit, chat):
    page = visit(chat)
    addresses = page.run("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [address for address in addresses if not address.startswith("data:")] == []
