"""The command: what it starts, what it shows, how it ends, and whom it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from clients import CLOSE, TEXT, RawWebSocket
from commands import WORDS, Running, closing, stat, words_of
from harness import APPS, DEADLINE, PYTHON, eventually
from terminals import Terminal

APP = "naming:application"

HERE = ("--port", "0", "--lifespan", "off")


@pytest.fixture
def run(tmp_path) -> Iterator[Callable[..., Running]]:
    """Start the command; it and all that came from it is gone after the test."""
    with contextlib.ExitStack() as stack:

        def start(*words, folder: Path = tmp_path, **how) -> Running:
            folder.mkdir(exist_ok=True)
            return stack.enter_context(closing(Running(folder, *words, **how)))

        yield start


def local_socket(running: Running) -> str:
    """Return what `hornbeam status` says of it, named by its process."""
    told = subprocess.run(
        [*map(str, WORDS), "status", "--json", "--socket", str(running.process.pid)],
        env=os.environ | {"HORNBEAM_SOCKET": "off"},
        capture_output=True,
        timeout=DEADLINE,
        check=True,
    )
    return str(json.loads(told.stdout)["local_socket"])


# What it serves


def test_it_serves_the_app_of_the_folder_by_its_own_interpreter(run, tmp_path):
    told = run(APP, *HERE).get().json()
    assert told["folder"] == str(tmp_path)
    assert told["python"] == str(PYTHON)


def test_the_banner_says_where_what_and_how_to_stop_it(run, tmp_path):
    running = run(APP, *HERE, "--workers", "2")
    address = running.address()
    banner = (
        f"  Hornbeam  0.1.0, listening on {address}\n"
        f"  app       {APP} in {tmp_path}\n"
        f"  python    {PYTHON}, 2 workers\n"
        f"  control   {local_socket(running)}\n"
        "  Ctrl-C    stops\n"
    )
    eventually(lambda: running.shown.endswith(banner))
    assert address.startswith("http://127.0.0.1:")


def test_the_banner_says_where_each_of_several_apps_is(run, tmp_path):
    (tmp_path / "hornbeam.toml").write_text(
        f'lifespan = "off"\nworkers = 2\n[[mount]]\npath = "/api"\napp = "{APP}"\nworkers = 1\n'
        f'env = {{ SAID_WHERE = "api" }}\n[[mount]]\npath = "/a/long/path"\napp = "{APP}"\n'
    )
    running = run(APP, "--port", "0")
    address = running.address()
    banner = (
        f"  Hornbeam  0.1.0, listening on {address}\n"
        f"  /         {APP} in {tmp_path}\n"
        f"  python    {PYTHON}, 2 workers\n"
        f"  /api      {APP} in {tmp_path}\n"
        f"  python    {PYTHON}, 1 worker\n"
        f"  /a/long/path {APP} in {tmp_path}\n"
        f"  python    {PYTHON}, 2 workers\n"
        f"  control   {local_socket(running)}\n"
        "  Ctrl-C    stops\n"
    )
    eventually(lambda: running.shown.endswith(banner))
    assert running.get("/api/x").json()["variables"] == {"SAID_WHERE": "api"}
    assert running.get("/a/long/path").json()["root_path"] == "/a/long/path"
    assert running.get("/x").json()["root_path"] == ""


def test_mounts_of_flags_are_served_and_logged_by_their_names(run):
    running = run("--mount", f"/api={APP}", "--access-log-format", "json", *HERE)
    assert running.get("/api").json()["root_path"] == "/api"
    assert running.get("/other").status_code == 404

    def logged() -> list:
        return [json.loads(line) for line in running.printed.splitlines()]

    eventually(lambda: len(logged()) == 2)
    assert [(line["path"], line["mount"]) for line in logged()] == [
        ("/api", "/api"),
        ("/other", None),
    ]
    running.signal(signal.SIGTERM)
    assert running.status() == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--mount", "/api=broken_import:application"],
         "    mount        /api\n    importing    broken_import:application\n    folder       "),
        (["--mount", "api=naming:application"],
         'hornbeam does not start: mount api: path has the value "api"; expected "/", or a path'),
        (["--mount", f"/={APP}", APP],
         "hornbeam does not start: mount /: there is another app at this path (--mount)\n"),
    ],
)  # fmt: skip
def test_a_mount_that_does_not_start_is_named(run, words, told):
    running = run(*words, *HERE)
    assert running.status() == 3
    assert told in running.shown


def test_an_option_of_the_server_in_a_mount_is_refused(run, tmp_path):
    (tmp_path / "hornbeam.toml").write_text(f'[[mount]]\npath = "/api"\napp = "{APP}"\nport = 80\n')
    running = run("--check-config")
    assert running.status() == 3
    assert running.shown == (
        "hornbeam does not start: mount /api: option bind is the server's, and the same for all of "
        "its apps (mounts in hornbeam.toml)\n"
    )


def test_an_address_of_ipv6_is_a_link_too(run):
    running = run(APP, "--bind", "[::1]:0")
    assert running.address().startswith("http://[::1]:")
    assert running.get().status_code == 200


def test_a_unix_socket_is_shown_as_a_path(run, tmp_path):
    running = run(APP, "--uds", tmp_path / "socket", "--lifespan", "off")
    assert running.address() == f"unix:{tmp_path}/socket"
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "socket"))) as client:
        assert client.get("http://localhost/").status_code == 200


def test_what_is_said_reaches_the_app(run, tmp_path):
    (tmp_path / "variables").write_text("SAID_A=of the file\nSAID_B=of the file\n")
    (tmp_path / "hornbeam.toml").write_text('root-path = "/of/the/file"\n')
    running = run(
        "naming:make", *HERE, "--factory", "--env-file", "variables", "--env", "SAID_C=größe",
        "--app-dir", "/", "--root-path", "/api",
        variables={"SAID_B": "of the environment", "HORNBEAM_ROOT_PATH": "/of/a/variable"},
    )  # fmt: skip
    told = running.get().json()
    assert told["variables"] == {
        "SAID_A": "of the file", "SAID_B": "of the environment", "SAID_C": "größe",
    }  # fmt: skip
    assert told["path"][0] == "/"
    assert told["root_path"] == "/api"


def test_one_worker_serves_unless_more_are_asked_for(run):
    running = run(APP, *HERE)
    assert len({running.get().json()["pid"] for _ in range(20)}) == 1


def test_two_of_them_on_one_host_do_not_know_each_other(run, tmp_path):
    first = run(APP, *HERE, folder=tmp_path / "first")
    second = run(APP, *HERE, folder=tmp_path / "second")
    assert first.get().status_code == second.get().status_code == 200
    for running in (first, second):
        assert not [comm for comm in running.pids().values() if comm == "epmd"]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_texts_are_utf8_in_any_folder_and_locale(run, tmp_path, locale):
    folder = tmp_path / "eine größere Mappe"
    folder.mkdir()
    (folder / "größe.py").write_text(
        "from naming import application\nprint('größe: ✓')\n", encoding="utf-8"
    )
    running = run("größe:application", *HERE, folder=folder, variables={"LC_ALL": locale})
    assert running.get().json()["folder"] == str(folder)
    eventually(lambda: running.printed.startswith("größe: ✓\n"))
    assert f"größe:application in {folder}\n" in running.shown


def test_secrets_are_seen_by_nobody_else(run, tmp_path):
    running = run(APP, *HERE, "--env", "SAID_SECRET=in-the-app",
                  variables={"HORNBEAM_KEYFILE_PASSWORD": ""})  # fmt: skip
    assert running.get().json()["variables"]["SAID_SECRET"] == "in-the-app"
    node = running.named("beam")
    assert b"in-the-app" not in Path(f"/proc/{node}/cmdline").read_bytes()
    assert b"in-the-app" not in Path(f"/proc/{node}/environ").read_bytes()
    (order,) = [fd for fd in Path(f"/proc/{node}/fd").iterdir() if "order" in str(fd.readlink())]
    assert order.read_bytes() == b""


def test_a_configuration_can_be_checked_without_serving(run):
    running = run(APP, "--check-config")
    assert running.status() == 0
    assert running.shown == f"The configuration of {APP} is good.\n"


@pytest.mark.parametrize(
    "words",
    [["--rpc-allow", "lists:seq/2,maps"], ["--on-connect", "maps:size"]],
    ids=lambda words: words[0],
)
def test_functions_of_erlang_have_names(run, words):
    assert run(APP, "--check-config", *words).status() == 0


@pytest.mark.parametrize("how", ["socketio", "set-cookie:worker", "header:X-Session"])
def test_an_affinity_has_a_name(run, how):
    assert run(APP, "--check-config", "--affinity", how).status() == 0


def test_an_affinity_that_is_none_is_met_with_those_that_are(run):
    running = run(APP, "--check-config", "--affinity", "cookies:worker")
    assert running.status() == 3
    assert "cookie:NAME" in running.shown


def test_what_an_app_prints_passes_through_and_its_logging_is_its_own(run, tmp_path):
    (tmp_path / "talking.py").write_text(
        "import logging, sys\n"
        "from naming import application\n"
        "print('to the one', flush=True)\n"
        "print('to the other', file=sys.stderr, flush=True)\n"
        "logging.getLogger('mine').error('logged')\n"
    )
    running = run("talking:application", *HERE, "--log-level", "critical", "--no-access-log")
    running.address()
    eventually(lambda: "mine" in running.shown)
    assert running.printed == "to the one\n"
    before_the_banner = running.shown.partition("  Hornbeam")[0]
    assert before_the_banner == "to the other\nERROR:    worker-1 mine: logged\n"


# What does not start


def broken(folder: Path) -> None:
    (folder / "shop.py").write_text("def app(scope, receive, send): ...\n")
    (folder / "broken.py").write_text("def deep():\n    return 1 / 0\n\n\ndeep()\n")
    (folder / "misspelt.py").write_text("def app(:\n")
    (folder / "leaving.py").write_text("import os\nos._exit(7)\n")
    (folder / "crashing.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    (folder / "raising.py").write_text(
        "import traceback\n"
        "async def app(scope, receive, send):\n"
        "    try:\n"
        "        raise OSError('the database is away')\n"
        "    except OSError:\n"
        "        text = traceback.format_exc()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': text})\n"
    )


PLACE = """\
    folder       FOLDER
    interpreter  PYTHON
"""

FAILURES = {
    "a module's name": (
        ["shpo:app"],
        "hornbeam does not start: ModuleNotFoundError: No module named 'shpo'; "
        "did you mean 'shop'?\n"
        "    importing    shpo:app\n" + PLACE,
    ),
    "a name in it": (
        ["shop:apps"],
        "hornbeam does not start: AttributeError: module 'shop' has no attribute 'apps'; "
        "did you mean 'app'?\n"
        "    importing    shop:apps\n" + PLACE,
    ),
    "its code": (
        ["broken:app"],
        "hornbeam does not start: ZeroDivisionError: division by zero\n"
        "    importing    broken:app\n" + PLACE + "\n"
        "    Traceback (most recent call last):\n"
        '      File "FOLDER/broken.py", line 5, in <module>\n'
        "        deep()\n"
        '      File "FOLDER/broken.py", line 2, in deep\n'
        "        return 1 / 0\n"
        "               ~~^~~\n"
        "    ZeroDivisionError: division by zero\n",
    ),
    "a process that ends meanwhile": (
        ["leaving:app"],
        "hornbeam does not start: PYTHON ended (status 7) while it imported the app or started its "
        "lifespan. No exception came out of either: something called os._exit, crashed or killed "
        "it\n    app          leaving:app\n" + PLACE,
    ),
    "a process that crashes meanwhile": (
        ["crashing:app"],
        "hornbeam does not start: PYTHON ended (status 139, which is SIGSEGV: native code crashed) "
        "while it imported the app or started its lifespan. No exception came out of either: "
        "something called os._exit, crashed or killed it\n    app          crashing:app\n" + PLACE,
    ),
    "its lifespan": (
        ["lifespans:fails", "--lifespan", "on"],
        "hornbeam does not start: lifespan.startup.failed: the database is away\n"
        "    starting     lifespans:fails\n" + PLACE,
    ),
    "its syntax": (
        ["misspelt:app"],
        "hornbeam does not start: SyntaxError: invalid syntax (misspelt.py, line 1)\n"
        "    importing    misspelt:app\n" + PLACE + "\n"
        '      File "FOLDER/misspelt.py", line 1\n'
        "        def app(:\n"
        "                ^\n"
        "    SyntaxError: invalid syntax\n",
    ),
    "its lifespan, with a traceback as Starlette's": (
        ["raising:app"],
        "hornbeam does not start: lifespan.startup.failed: OSError: the database is away\n"
        "    starting     raising:app\n" + PLACE + "\n"
        "    Traceback (most recent call last):\n"
        '      File "FOLDER/raising.py", line 4, in app\n'
        "        raise OSError('the database is away')\n"
        "    OSError: the database is away\n",
    ),
    "a value": (
        [APP, "--root-path", "api"],
        'hornbeam does not start: --root-path has the value "api"; expected a path such as '
        '"/api", with a slash in front and none at its end\n',
    ),
    "a function": (
        [APP, "--rpc-allow", "not a function"],
        'hornbeam does not start: --rpc-allow has the value "not a function"; expected functions '
        "that there are, as MODULE, MODULE:FUNCTION/ARITY or several with commas between them\n",
    ),
    "a function that is asked": (
        [APP, "--on-connect", "maps:nothing"],
        'hornbeam does not start: --on-connect has the value "maps:nothing"; expected '
        "MODULE:FUNCTION, which takes one argument\n",
    ),
    "a duration": (
        [APP, "--timeout", "0"],
        "hornbeam does not start: --timeout has the value 0; expected a duration such as 30s or 5m "
        "or infinity\n",
    ),
    "a size": (
        [APP, "--limit-response-head", "1M"],
        "hornbeam does not start: --limit-response-head has the value 1048576; expected a size "
        "such as 64K or 16M, from 1 to 524288\n",
    ),
    "a header": (
        [APP, "--header", "content-length: 1"],
        'hornbeam does not start: --header has the value "content-length: 1"; expected a list of '
        'texts such as "x-frame-options: DENY", but for headers that are about the connection or '
        "the length of a body\n",
    ),
    "a key without its certificate": (
        [APP, "--ssl-keyfile", "broken.py"],
        "hornbeam does not start: certfile is not given; expected the path of a PEM file; keyfile, "
        "keyfile_password, cacertfile, verify and redirect_http need it\n",
    ),
    "folders": (
        [APP, "--app-dir", "elsewhere"],
        'hornbeam does not start: --app-dir has the value "elsewhere"; expected a list of existing '
        "folders\n",
    ),
    "an interpreter": (
        [APP, "--python", "no-such-python"],
        'hornbeam does not start: --python has the value "no-such-python"; expected an executable '
        "Python interpreter: a name that is on the path, or a path, which if it is relative begins "
        "in the app's folder or the node's\n",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_does_not_start_says_why_in_one_paragraph(run, tmp_path, name):
    words, paragraph = FAILURES[name]
    broken(tmp_path)
    running = run(*words)
    assert running.status() == 3
    expected = paragraph.replace("FOLDER", str(tmp_path)).replace("PYTHON", str(PYTHON))
    assert unmarked(running.shown) == unmarked(expected)
    eventually(running.gone)


def unmarked(paragraph: str) -> str:
    """Leave out what newer Pythons mark more of: the part of a line that has failed."""
    return re.sub(r"^ *[~^]*~[~^]*\n", "", paragraph, flags=re.MULTILINE)


def test_a_value_of_a_file_is_named_by_its_key(run, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.hornbeam]\nworkers = 0\n")
    running = run(APP)
    assert running.status() == 3
    assert running.shown == (
        "hornbeam does not start: workers in pyproject.toml has the value 0; expected a positive "
        "integer, at most 1000\n"
    )


def test_an_address_in_use_is_named(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = run(APP, "--lifespan", "off", variables={"PORT": str(port)})
        assert running.status() == 3
    assert running.shown == (
        f"hornbeam does not start: cannot listen: address already in use: 127.0.0.1:{port} (PORT); "
        "another process listens there: end it, or choose another address\n"
    )


def test_a_path_without_an_erlang_says_how_to_get_one(run, tmp_path):
    running = run(APP, variables={"PATH": str(tmp_path)})
    assert running.status() == 3
    assert "apt install erlang" in running.shown


# How it ends


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_order(run, number):
    running = run("endings:application", "--port", "0")
    ws = RawWebSocket(running.server(), "/echo")
    ws.read_message()
    running.signal(number)
    assert ws.read_close() == (1001, "the server stops")
    ws.socket.close()
    assert running.status() == 0
    closed, shutdown = running.notes.read_text().splitlines()
    assert closed == "disconnect 1001"
    assert shutdown.startswith("shutdown ")
    assert running.gone()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_needs_no_words_of_erlang(run, number):
    running = run("endings:application", "--port", "0")
    running.address()
    running.signal(number)
    assert running.status() == 0
    assert running.shown.endswith("  Ctrl-C    stops\n")


@pytest.mark.parametrize("numbers", [(signal.SIGINT,) * 2, (signal.SIGTERM, signal.SIGINT)])
def test_a_second_signal_stops_it_at_once(run, numbers):
    first, second = numbers
    running = run("naming:hanging", "--port", "0", "--shutdown-timeout", "1h")
    running.address()
    running.signal(first)
    eventually(running.notes.exists)
    running.signal(second)
    assert running.status() == 137
    eventually(running.gone)


def test_a_signal_while_the_app_starts_stops_it(run, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(3600)\n"
    )
    running = run("slow:application")
    eventually((tmp_path / "begun").exists)
    running.signal(signal.SIGINT)
    assert running.status() == 0
    eventually(running.gone)


def test_a_signal_before_the_node_is_there_stops_it(run):
    running = run(APP, "--port", "0")
    eventually(lambda: b"hornbeam_order" in b"".join(map(words_of, running.pids())))
    running.signal(signal.SIGTERM)
    assert running.status() == 0
    eventually(running.gone)


def test_at_sighup_it_serves_the_new_code(run, tmp_path):
    app = tmp_path / "changing.py"
    source = (
        "from gallery import respond\n"
        "async def application(scope, receive, send):\n"
        "    await respond(send, b'{}')\n"
    )
    app.write_text(source.format("old"))
    running = run("changing:application", *HERE)
    assert running.get().text == "old"
    app.write_text(source.format("new one"))
    running.signal(signal.SIGHUP)
    eventually(lambda: running.get().text == "new one")


def test_when_its_process_is_killed_the_node_stops_in_order(run):
    running = run("endings:application", "--port", "0")
    running.address()
    running.process.kill()
    running.process.wait()
    eventually(running.gone)
    assert running.notes.read_text().startswith("shutdown ")


@pytest.mark.parametrize("name", ["beam", "erl_child_setup"])
def test_when_the_node_is_killed_nobody_is_left(run, name):
    running = run(APP, *HERE, "--workers", "2")
    running.get()
    os.kill(running.named(name), signal.SIGKILL)
    assert running.status() != 0
    eventually(running.gone)


def test_when_a_worker_is_killed_it_serves_on_and_buries_the_dead(run):
    running = run(APP, *HERE)
    pid = running.get().json()["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: served_by(running) not in (None, pid))
    assert running.zombies() == []
    # The end of its pipe may come before the status does.
    ended = (
        r"WARNING:  worker ended\n    pool: /\n    reason: (it closed its pipe to the node|"
        r"status 137, which is SIGKILL: somebody killed it, or the system for want of memory)\n"
    )
    eventually(lambda: re.search(ended, running.shown))


def served_by(running: Running) -> int | None:
    """Ask who serves; nobody does for a moment."""
    response = running.get()
    return response.json()["pid"] if response.status_code == 200 else None


@pytest.fixture
def namespace():
    """Say how a program becomes the first process of a system of its own."""
    words = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child",
             "--mount-proc"]  # fmt: skip
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("no namespaces for processes here")
    return words


def test_as_the_first_process_it_buries_strangers_and_stops_in_order(run, tmp_path, namespace):
    """A grandchild whose parent ends becomes the first process's child, and then ends itself."""
    (tmp_path / "leaving.py").write_text(
        "import os, subprocess, sys\n"
        "from gallery import respond\n"
        "CHILD = 'import os, sys; os.fork() and os._exit(0); os.setsid(); print(os.getpid(), "
        "flush=True); os.close(1); sys.stdin.read()'\n"
        "async def application(scope, receive, send):\n"
        "    child = subprocess.Popen([sys.executable, '-c', CHILD], stdin=subprocess.PIPE,\n"
        "                             stdout=subprocess.PIPE, start_new_session=True)\n"
        "    grandchild = child.stdout.read().decode().strip()\n"
        "    child.wait()\n"
        "    parent = open(f'/proc/{grandchild}/stat').read().rpartition(')')[2].split()[1]\n"
        "    child.stdin.close()\n"
        "    while os.path.exists(f'/proc/{grandchild}'): pass\n"
        "    await respond(send, parent.encode())\n"
    )
    running = run("leaving:application", *HERE, before=namespace)
    assert running.get().text == "1"
    inside = [pid for pid, name in running.pids().items() if name.startswith("python")]
    (first,) = [pid for pid in inside if stat(pid)[1] == running.process.pid]
    os.kill(first, signal.SIGTERM)
    assert running.status() == 0
    eventually(running.gone)


# In a terminal


@pytest.fixture
def terminal(tmp_path) -> Iterator[Callable[..., Terminal]]:
    variables = {"TRACE": str(tmp_path / "notes"), "PYTHONPATH": str(APPS), "TERM": "xterm"}
    with contextlib.ExitStack() as stack:
        yield lambda *words: stack.enter_context(
            contextlib.closing(Terminal([*WORDS, *words], variables))
        )


def test_ctrl_c_stops_it_in_order(terminal, tmp_path):
    running = terminal("endings:application", "--port", "0")
    running.shows(b"stops")
    running.types(b"\x03")
    assert running.status() == 0
    assert (tmp_path / "notes").read_text().startswith("shutdown ")


def test_a_terminal_that_is_closed_stops_it(terminal, tmp_path):
    running = terminal("endings:application", "--port", "0")
    running.shows(b"stops")
    running.hang_up()
    running.status()
    assert (tmp_path / "notes").read_text().startswith("shutdown ")


@pytest.mark.parametrize(("words", "colors"), [((), True), (("--no-use-colors",), False)])
def test_levels_have_colors_in_a_terminal(terminal, words, colors):
    running = terminal("lifespans:without", "--port", "0", *words)
    running.shows(b"stops")
    assert (b"\x1b[32mINFO\x1b[0m:" in running.shown) is colors


def test_an_event_begins_with_what_it_is(run, tmp_path):
    (tmp_path / "changing.py").write_text("from naming import application\n")
    running = run("changing:application", *HERE, "--reload")
    running.address()
    (tmp_path / "changing.py").write_text("from naming import application\n\n")
    eventually(lambda: running.shown.endswith("NOTICE:   reloaded\n"))
    log = running.shown.partition("stops\n")[2]
    assert log.startswith(f"NOTICE:   files changed\n    files: {tmp_path}/changing.py\n")


def test_code_that_is_broken_at_the_start_is_waited_for(run, tmp_path):
    """As uvicorn's reloader does: whoever develops mends it and saves."""
    app = tmp_path / "changing.py"
    app.write_text("raise LookupError('half done')\n")
    running = run("changing:application", *HERE, "--reload")
    waits = "\n\nIt tries again when a file is saved. Ctrl-C ends it.\n"
    eventually(lambda: running.shown.endswith(waits))
    assert running.shown.startswith(
        "hornbeam does not start: LookupError: half done\n    importing    changing:application\n"
    )
    saved(app, "import os\nos._exit(9)\n", lambda: running.shown.count(waits) == 2)
    saved(app, "from naming import application\n", lambda: "listening on" in running.shown)
    assert running.get().status_code == 200
    app.write_text("from naming import application\n\n")
    eventually(lambda: "NOTICE:   reloaded\n" in running.shown)


def saved(file: Path, text: str, condition: Callable[[], bool]) -> None:
    """Save a file until that is seen: nobody says from when on it is watched."""

    def seen() -> bool:
        if not condition():
            file.write_text(text)
        return condition()

    eventually(seen)


def test_a_start_that_waits_for_a_file_is_ended_by_a_signal(run, tmp_path):
    (tmp_path / "changing.py").write_text("raise LookupError('half done')\n")
    running = run("changing:application", *HERE, "--reload")
    eventually(lambda: "when a file is saved" in running.shown)
    running.signal(signal.SIGINT)
    assert running.status() == 0
    eventually(running.gone)


def test_code_that_is_broken_when_it_is_saved_is_told_once(run, tmp_path):
    app = tmp_path / "changing.py"
    app.write_text("from naming import application\n")
    running = run("changing:application", *HERE, "--reload")
    running.address()
    app.write_text("from naming import application\nraise LookupError('half done')\n")
    eventually(lambda: "not reloaded" in running.shown)
    assert running.get().status_code == 200
    app.write_text("from naming import application\n\n")
    eventually(lambda: "NOTICE:   reloaded\n" in running.shown)
    assert running.shown.count("Traceback") == 1


# The access log


def test_each_request_and_each_websocket_has_its_line(run):
    running = run("endings:application", "--port", "0")
    address = running.server()
    running.get("/never-heard-of?y=1")
    ws = RawWebSocket(address, "/echo")
    pid = ws.read_message()
    ws.frame(TEXT, b"hello")
    ws.read_message()
    ws.frame(CLOSE, struct.pack(">H", 1000))
    ws.read_close()
    ws.socket.close()
    size = len(pid) + 5
    eventually(lambda: "closed" in running.printed)
    lines = [line.partition(" - ")[2] for line in running.printed.splitlines()]
    lines[2] = re.sub(r"after \d+ s", "after 0 s", lines[2])
    assert lines == [
        '"GET /never-heard-of?y=1 HTTP/1.1" 500',
        '"WebSocket /echo" [accepted]',
        '"WebSocket /echo" closed 1000 after 0 s, 1 message (5 bytes) in, '
        f"2 messages ({size} bytes) out",
    ]
    assert {line.partition(":")[0] for line in running.printed.splitlines()} == {"127.0.0.1"}


def test_a_handshake_that_is_refused_has_the_status(run):
    running = run("lifespans:without", "--port", "0")
    with pytest.raises(AssertionError, match="refused with 403"):
        RawWebSocket(running.server(), "/echo", "Origin: https://elsewhere.example")
    eventually(lambda: '"WebSocket /echo" 403\n' in running.printed)


def test_the_access_log_may_be_json_or_nothing(run, tmp_path):
    running = run(APP, *HERE, "--access-log-format", "json", folder=tmp_path / "json")
    running.get("/x", referer="https://elsewhere.example/")
    line = json.loads(eventually(lambda: running.printed))
    assert (line["path"], line["status"]) == ("/x", 200)
    assert line["referer"] == "https://elsewhere.example/"
    assert 0 < line["seconds"] < DEADLINE
    silent = run(APP, *HERE, "--no-access-log", folder=tmp_path / "silent")
    silent.get()
    silent.signal(signal.SIGTERM)
    assert silent.status() == 0
    assert silent.printed == ""


def test_a_reader_of_the_logs_that_stands_still_stalls_nobody(tmp_path):
    """Both outputs are pipes that are full and that nobody reads."""
    ends = [os.pipe() for _ in range(2)]
    (out, out_end), (err, err_end) = ends
    environment = os.environ | {"PYTHONPATH": str(APPS)}
    port = free_port()
    with subprocess.Popen(
        [*WORDS, "chatty:application", "--port", str(port), "--lifespan", "off"],
        env=environment, stdout=out_end, stderr=err_end, stdin=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        os.close(out_end)
        os.close(err_end)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                eventually(lambda: answers(client))
                for _ in range(2000):
                    assert client.get("/" + "x" * 200).status_code == 200
            process.terminate()
            assert process.wait(DEADLINE) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            os.close(out)
            os.close(err)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/").status_code == 200
    except httpx.TransportError:
        return False


def test_an_output_that_is_closed_ends_nothing(run, tmp_path):
    reader, writer = os.pipe()
    running = Running(tmp_path, APP, *HERE, out=writer)
    with closing(running):
        os.close(writer)
        assert running.get().status_code == 200
        os.close(reader)
        for _ in range(3):
            assert running.get().status_code == 200
        running.signal(signal.SIGTERM)
        assert running.status() == 0
        assert running.shown.endswith("  Ctrl-C    stops\n")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
def test_it_serves_with_streams_closed(run, tmp_path, closed):
    place = tmp_path / "socket"
    running = run(APP, "--uds", place, "--lifespan", "off",
                  before=["sh", "-c", f'exec "$@" {closed}', "sh"])  # fmt: skip
    eventually(place.exists)
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(place))) as client:
        assert client.get("http://localhost/").status_code == 200
    running.signal(signal.SIGTERM)
    assert running.status() == 0
    eventually(running.gone)
