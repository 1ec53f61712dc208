"""The option reload: files are saved, and what browsers with open sockets see of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from clients import TEXT, RawWebSocket
from harness import APPS, DEADLINE, Node, alive, eventually, kill_quietly
from terms import Atom

SOURCE = """
from gallery import respond

VERSION = "{version}"

async def application(scope, receive, send):
    if scope["type"] == "http":
        await respond(send, VERSION.encode())
    elif scope["type"] == "websocket":
        await receive()
        await send({{"type": "websocket.accept"}})
        await send({{"type": "websocket.send", "text": VERSION}})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({{"type": "websocket.send", "text": VERSION + " " + message["text"]}})
"""


class Edited:
    """The file of an app, saved again and again."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "edited.py"

    def save(self, version: str) -> None:
        self.file.write_text(SOURCE.format(version=version))


@pytest.fixture
def app(tmp_path) -> Edited:
    folder = tmp_path / "app"
    folder.mkdir()
    app = Edited(folder)
    app.save("one")
    return app


@pytest.fixture
def server(serve, app):
    return served(serve, app)


def served(serve, app, **options):
    given = {"pythonpath": [app.file.parent, APPS], "reload": True} | options
    return serve("edited:application", fresh=True, lifespan=Atom("off"), **given)


def says(server) -> str:
    return httpx.get(server.http, timeout=DEADLINE).text


def watchers(node: Node) -> list[int]:
    return [pid for pid in node.python_pids() if b"hornbeam_erlang._watch" in command(pid)]


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_save_brings_the_new_code_and_the_open_socket_goes_on_with_it(server, app):
    with RawWebSocket(server, "/") as ws:
        assert ws.read_message() == b"one"
        app.save("two")
        assert ws.read_message() == b"two"
        ws.frame(TEXT, b"hello")
        assert ws.read_message() == b"two hello"
        assert says(server) == "two"


def test_saves_within_a_second_are_not_taken_for_the_same(server, app):
    for version in ("abc", "def", "ghi"):
        app.save(version)
        eventually(lambda version=version: says(server) == version)


def test_code_that_does_not_start_changes_nothing_until_it_does(server, app):
    with RawWebSocket(server, "/") as ws:
        assert ws.read_message() == b"one"
        app.file.write_text("def broken(:\n")
        server.node.wait_log(r"\[error\] not reloaded: .*def broken.*SyntaxError")
        ws.frame(TEXT, b"hello")
        assert ws.read_message() == b"one hello"
        assert says(server) == "one"
        app.save("two")
        assert ws.read_message() == b"two"


def test_a_file_that_is_saved_during_a_reload_is_in_the_next_one(server, app):
    slow = "import time\ntime.sleep(0.5)\n"
    app.file.write_text(slow + SOURCE.format(version="two"))
    eventually(lambda: [w for w in server.workers() if w["state"] == "starting"])
    app.save("six")
    eventually(lambda: says(server) == "six")


def test_files_that_are_no_code_do_not_count(server, app):
    folder = app.file.parent
    for name in ("notes.txt", "__pycache__/edited.py", ".venv/lib.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("nothing")
    app.save("two")
    eventually(lambda: says(server) == "two")
    changes = [line for line in server.node.log.splitlines() if "files_changed" in line]
    assert not any(name in line for line in changes for name in ("notes", ".venv", "__pycache__"))


def test_other_files_and_folders_count_when_they_are_asked_for(serve, app, tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    folders = [app.file.parent, pages]
    server = served(serve, app, reload_dirs=folders, reload_includes=["*.html"])
    (pages / "index.html").write_text("<p>")
    server.node.wait_log(r"files: .*index\.html")
    eventually(lambda: server.info()["ended"].get("reloaded") == 1)


def test_a_socket_ends_with_its_worker_where_that_is_asked_for(serve, app):
    server = served(serve, app, websocket_resume=False, drain_timeout=100)
    with RawWebSocket(server, "/") as ws:
        assert ws.read_message() == b"one"
        app.save("two")
        assert ws.read_close()[0] == 1012


def test_a_watch_that_was_killed_comes_back(server, app):
    (watcher,) = watchers(server.node)
    kill_quietly(watcher)
    eventually(lambda: watchers(server.node) not in ([], [watcher]))
    server.node.wait_log("what: watch_ended")

    def seen() -> bool:
        app.save("two")
        return says(server) == "two"

    eventually(seen)


def test_the_watch_ends_with_the_server_and_with_a_node_that_is_killed(own_node, app):
    def start():
        return own_node.serve("edited:application", pythonpath=[app.file.parent, APPS], reload=True)

    server = start()
    (first,) = watchers(own_node)
    server.stop()
    eventually(lambda: not alive(first))
    start()
    (second,) = watchers(own_node)
    own_node.kill()
    eventually(lambda: not alive(second))


def test_without_the_library_the_start_says_what_to_install(shared, app, tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules['watchfiles'] = None\n")
    error = shared.refused(
        "edited:application",
        pythonpath=[app.file.parent, APPS],
        env={"PYTHONPATH": str(hidden)},
        reload=True,
    )
    assert error.reason[0] == "reload"
    assert "pip install 'hornbeam-erlang[reload]'" in error.sentence


def test_started_by_hand_it_tells_of_changes_until_its_input_ends(tmp_path):
    arguments = [sys.executable, "-m", "hornbeam_erlang._watch", "--", str(tmp_path)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as watch:
        assert watch.stdout.readline() == "watching\n"
        (tmp_path / "größe.py").write_text("pass")
        assert watch.stdout.readline() == f"changed {tmp_path / 'größe.py'}\n"
        watch.stdin.close()
        assert watch.wait(DEADLINE) == 0


def test_files_and_folders_that_are_excluded_do_not_count(serve, app):
    aside = app.file.parent / "aside"
    aside.mkdir()
    server = served(serve, app, reload_excludes=["*_test.py", "aside"], reload_delay=100)
    (app.file.parent / "edited_test.py").write_text("new = True")
    (aside / "module.py").write_text("new = True")
    app.save("two")
    eventually(lambda: httpx.get(server.http).text == "two")
    assert "_test.py" not in server.node.log
    assert "module.py" not in server.node.log
