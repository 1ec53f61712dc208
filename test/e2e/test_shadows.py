"""Folders of apps whose files are called like Python's own modules, and like those of a worker."""

from __future__ import annotations

import importlib.util
import os
import sys

import httpx
import pytest
from clients import RawWebSocket
from harness import APPS, Node
from terms import Atom

APP = """
import asyncio, logging, threading, warnings
import msgpack
from hornbeam_erlang import state_incr
import calendar

async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": calendar.NAME})
    elif scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    else:
        warnings.warn("old ways", stacklevel=1)
        logging.getLogger("shop").warning("seen")
        threading.Thread(target=lambda: 1 / 0).start()
        assert await asyncio.to_thread(state_incr, "shadows") > 0
        größe, _ = 0, raised("größe"); größe.nothing + raised("größe")

def raised(text):
    größe = {"größe": text}; raise LookupError(größe["größe" ])
"""

# What an interpreter needs before any code of ours can run.
NEEDED = {"encodings"}

# The app's own, of which nobody else has the standard library's.
OWN = "calendar"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder in which each module of the standard library has a namesake."""
    folder = tmp_path_factory.mktemp("shadows")
    own = {name for name in sys.stdlib_module_names if importlib.util.find_spec(name)}
    for name in (own - NEEDED) | {"msgpack", "uvloop", "watchfiles", "hornbeam_erlang"}:
        (folder / f"{name}.py").write_text(f"raise ImportError('{name} of the app')\n")
    (folder / f"{OWN}.py").write_text("NAME = 'a calendar of the app'\n")
    (folder / "shadowed.py").write_text(APP)
    return folder


def works(server) -> None:
    """Let the app do what makes a worker import more, and look whether that worked."""
    log = server.node.wait_log
    assert httpx.get(f"{server.http}/größe").status_code == 500
    log(r"Traceback.*LookupError: gr.+e\b")
    log(r"old ways")
    log(r"shop: seen")
    log(r"Traceback.*ZeroDivisionError")
    with RawWebSocket(server, "/") as ws:
        assert ws.read_message() == b"a calendar of the app"
    for worker in server.workers():
        assert server.node.eval(f'hornbeam:stacks(<<"{worker["name"]}">>)')
    assert "of the app'" not in server.node.log


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("option", ["chdir", "pythonpath"])
def test_app_folder_may_have_files_named_like_modules_that_the_worker_needs(
    own_node, folder, option, loop
):
    given = {"chdir": folder} if option == "chdir" else {"pythonpath": [folder]}
    server = own_node.serve("shadowed:application", loop=Atom(loop), **given)
    works(server)
    server.stop()


def test_folder_of_pythons_own_variable_may_have_them_too(own_node, folder):
    works(own_node.serve("shadowed:application", env={"PYTHONPATH": f"{APPS}:{folder}"}))


def test_node_that_was_started_in_such_a_folder_serves(tmp_path, folder):
    node = Node(tmp_path, cwd=folder)
    try:
        works(node.serve("shadowed:application", pythonpath=[]))
    finally:
        assert not node.close()


def test_app_in_such_a_folder_is_reloaded_when_it_is_saved(own_node, folder):
    server = own_node.serve(
        "shadowed:application", chdir=folder, reload=True, env={"PYTHONPATH": str(folder)}
    )
    (folder / f"{OWN}.py").touch()
    server.node.wait_log(r"files_changed")
    server.node.wait_log(r"what: reloaded")
    works(server)


def test_variable_pythonpath_stands_behind_the_option_and_in_front_of_the_libraries(
    serve, tmp_path
):
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    one, two, three = map(str, folders)
    server = serve(
        "settings:application",
        fresh=True,
        chdir=three,
        pythonpath=[APPS, one],
        env={"PYTHONPATH": f"{os.path.relpath(two, three)}:{one}"},
    )
    path = httpx.get(server.http).json()["path"]
    assert path[:5] == [str(APPS), one, three, two, one]
    assert path[5].endswith(".zip")
