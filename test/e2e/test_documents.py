"""What the guides of docs/guide print, run: each snippet, in the order of its page."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clients import TEXT, RawWebSocket
from commands import Running, closing
from consoles import Console
from harness import APPS, PYTHON, ROOT, Server, eventually
from playwright.sync_api import expect
from terms import Atom, text

DOCS = ROOT / "docs" / "guide"
CHAT = ROOT / "examples" / "chat"
PRESENCE = "presence.md"


TESTING = "testing.Beam"
"""What only the block has that is a test of a user's, and runs without a node."""


def snippets(page: str, language: str = "") -> list[tuple[str, str]]:
    """Read a page's fenced blocks: language and text."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)
    return [block for block in found if language in ("", block[0])]


@pytest.fixture
def start(shared, tmp_path) -> Iterator[Callable[[str], Server]]:
    """Evaluate a page's own call of `hornbeam:start`, in a folder where app.py is a console."""
    (tmp_path / "app.py").write_text("from console import application\n")
    environment = {"bind": "127.0.0.1:0", "python": PYTHON, "chdir": tmp_path, "workers": 1}
    settings = {Atom(key): value for key, value in environment.items()}
    settings[Atom("pythonpath")] = [APPS]

    def started(call: str) -> Server:
        shared.stop()
        pairs = text(list(settings.items()))
        shared.node.eval(f"[application:set_env(hornbeam, K, V) || {{K, V}} <- {pairs}]")
        shared.server = shared.node.start(call)
        shared.fresh = True
        return shared.server

    yield started
    shared.node.eval(f"[application:unset_env(hornbeam, K) || K <- {text(list(settings))}]")


def test_the_integration_page_does_what_it_says(start):
    server = start('hornbeam:start("app:application", #{})')
    console = Console(server)
    checked = 0
    for language, block in snippets("erlang-integration.md"):
        if TESTING in block:
            continue
        if "hornbeam:start(" in block:
            console = Console(start(block))
        elif language == "python":
            checked += sum(run_python(console, block))
        else:
            checked += sum(run_erlang(server, block))
    assert checked > 30


def test_the_presence_page_does_what_it_says(serve, consoles):
    server = serve("console:application", workers=1)
    (console,) = consoles(server)
    checked = sum(sum(run_python(console, block)) for _, block in snippets(PRESENCE, "python"))
    checked += sum(sum(run_erlang(server, block)) for _, block in snippets(PRESENCE, "erlang"))
    assert checked > 15


def run_python(console: Console, block: str) -> Iterator[bool]:
    """Run a block statement by statement; tell which ones had something to compare.

    `# → value` says what a statement gives, `# Exception: message …` what it raises.
    """
    lines = block.splitlines()
    for statement in ast.parse(block).body:
        source = "\n".join(lines[statement.lineno - 1 : statement.end_lineno])
        _, _, comment = lines[statement.end_lineno - 1].partition("  # ")
        if comment.startswith("→ "):
            assert console(source) == ast.literal_eval(comment[2:]), source
        elif raised := re.match(r"([A-Z]\w+): ([^…]*)", comment):
            with pytest.raises(Exception, match=re.escape(raised[2].strip())) as failure:
                console(source)
            assert raised[1] in [kind.__name__ for kind in type(failure.value).__mro__]
        else:
            console(source)
        yield comment != ""


def run_erlang(server: Server, block: str) -> Iterator[bool]:
    """Run a block expression by expression; `%% → value` says what one gives."""
    for source, value in re.findall(r"(.+?)\.[ ]*(?:%%[ ]→[ ](.+?))?\n", block, re.S):
        if value:
            assert server.node.eval(f"begin {source} end =:= ({value})") is True, source
        else:
            server.node.eval(source)
        yield bool(value)


@pytest.fixture
def readmes(tmp_path) -> Iterator[tuple[Running, Path]]:
    """Serve the README's app as it says; give the server, and the app's file."""
    readme = (ROOT / "README.md").read_text()
    source = readme.partition("```python\n# main.py\n")[2].partition("```")[0]
    ((app, flags),) = re.findall(r"^hornbeam (\S+) (--reload)\b", readme, re.M)
    file = tmp_path / "main.py"
    file.write_text(source)
    running = Running(tmp_path, app, *flags.split(), "--port", "0")
    with closing(running):
        yield running, file


def test_the_readmes_app_keeps_its_socket_as_the_readme_says(readmes):
    running, file = readmes
    with RawWebSocket(running.server(), "/") as ws:

        def says(text: bytes) -> bytes:
            ws.frame(TEXT, text)
            return ws.read_message()

        assert says(b"hello") == b"Echo: hello"
        file.write_text(file.read_text().replace("Echo", "Heard"))
        eventually(lambda: says(b"hello") == b"Heard: hello")
        os.kill(running.worker(), signal.SIGKILL)
        assert says(b"again") == b"Heard: again"


def test_the_readmes_page_talks_to_its_app(readmes, browser):
    running, _ = readmes
    page = browser.new_page()
    page.goto(running.address())
    page.wait_for_function("ws.readyState === WebSocket.OPEN")
    page.locator("input").fill("hello")
    page.keyboard.press("Enter")
    expect(page.locator("pre")).to_have_text("Echo: hello\n")
    page.close()


FIVE = (DOCS.parent / "five-minutes.md").read_text()


def test_the_flask_app_of_the_five_minutes_answers(tmp_path):
    (source,) = re.findall(r"^```python\n# flasked\.py\n(.*?)^```", FIVE, re.M | re.S)
    (words,) = re.findall(r"^hornbeam (flasked:.*)$", FIVE, re.M)
    (tmp_path / "flasked.py").write_text(source)
    running = Running(tmp_path, *words.split(), "--port", "0")
    with closing(running):
        assert running.get().json() == {"hello": "world"}


def test_the_apps_of_the_five_minutes_share_a_server(tmp_path):
    for name in ("main", "raw"):
        (source,) = re.findall(rf"^```python\n# {name}\.py\n(.*?)^```", FIVE, re.M | re.S)
        (tmp_path / f"{name}.py").write_text(source)
    (words,) = re.findall(r"^hornbeam (main:app --mount .*)$", FIVE, re.M)
    running = Running(tmp_path, *words.split(), "--port", "0")
    with closing(running):
        assert running.get("/").json() == {"hello": "world"}
        assert running.get("/raw").text == "Hello, world\n"


@pytest.mark.parametrize("name", ["main", "stars", "raw"])
def test_the_apps_of_the_five_minutes_answer_and_echo(name, tmp_path):
    ((source),) = re.findall(rf"^```python\n# {name}\.py\n(.*?)^```", FIVE, re.M | re.S)
    (app,) = set(re.findall(rf"hornbeam ({name}:\w+)", FIVE))
    (tmp_path / f"{name}.py").write_text(source)
    running = Running(tmp_path, app, "--port", "0")
    with closing(running), RawWebSocket(running.server(), "/ws") as ws:
        assert "world" in running.get().text
        ws.frame(TEXT, b"hello")
        assert ws.read_message() == b"Echo: hello"


@pytest.fixture
def served(serve, tmp_path):
    """Serve one of the page's apps, by its name."""
    blocks = [block for _, block in snippets("erlang-integration.md", "python")]
    apps = [block for block in blocks if "(scope, receive, send)" in block]
    (tmp_path / "snippets.py").write_text("\n".join([blocks[0], *apps]))

    def serve_app(name: str) -> Server:
        return serve(f"snippets:{name}", pythonpath=[tmp_path, APPS], lifespan=Atom("off"))

    return serve_app


def test_the_pages_counter_counts_who_is_online(served):
    server = served("application")
    online = f"hornbeam_state:get({text('online')}, 0)"
    with RawWebSocket(server, "/"), RawWebSocket(server, "/"):
        eventually(lambda: server.node.eval(online) == 2)
    eventually(lambda: server.node.eval(online) == 0)


def test_the_pages_counter_counts_the_messages_of_each_socket(served):
    server = served("counter")
    with RawWebSocket(server, "/") as ws, RawWebSocket(server, "/") as other:
        for socket, counted in ((ws, b"1"), (ws, b"2"), (other, b"1")):
            socket.frame(TEXT, b"hello")
            assert socket.read() == (TEXT, counted + b" so far")


def test_the_pages_news_reach_the_client(served):
    server = served("news")
    with RawWebSocket(server, "/") as ws:
        publish = f"hornbeam:publish({text('news')}, {text('hello')})"
        eventually(lambda: server.node.eval(publish) == 1)
        assert ws.read() == (TEXT, b"news: hello")


def test_the_pages_test_passes_without_a_node():
    (block,) = [block for _, block in snippets("erlang-integration.md") if TESTING in block]
    names: dict[str, Any] = {}
    exec(block, names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    for test in tests:
        test()
    assert tests


def test_the_chats_page_shows_the_chat_as_it_is():
    source = (CHAT / "chat.py").read_text()
    blocks = [block for _, block in snippets("websocket-chat.md", "python")]
    assert len(blocks) > 3
    assert [block for block in blocks if block not in source] == []


@pytest.mark.parametrize("page", [DOCS / "websocket-chat.md", CHAT / "README.md"], ids=str)
def test_erlang_talks_in_the_chat_as_its_pages_say(serve, page: Path):
    server = serve("chat:application", chdir=CHAT, workers=2)
    with RawWebSocket(server, "/ws/lobby?name=Ada") as ws:
        assert json.loads(ws.read_message()) == {"kind": "members", "names": ["Ada"]}
        calls = re.findall(r"^(?:\d+> )?(hornbeam.*\))\.$", page.read_text(), re.M)
        publish, members = [call for call in calls if "hornbeam:start" not in call]
        assert server.node.eval(publish) == 1
        assert json.loads(ws.read_message())["text"] == "hello"
        assert [*server.node.eval(members)] == ["Ada"]
