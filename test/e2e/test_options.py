"""Every option of the server, with values that it takes and values that it refuses."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

import httpx
import pytest
from clients import RawHTTP, RawWebSocket, handshake_headers, quiet
from harness import APPS, PYTHON, ROOT, Node, eventually
from terms import Atom, text

APP = "settings:application"


@pytest.fixture
def refused(shared):
    """Start what must be refused, and see that nothing is left running."""

    def refuse(app=APP, **options):
        error = shared.refused(app, **options)
        nothing_runs(shared.node)
        return error

    return refuse


def nothing_runs(node):
    assert node.eval("hornbeam:info()") == {}
    assert node.eval("ranch:info()") in ({}, [])
    eventually(lambda: not node.python_pids())


def seen(server):
    return httpx.get(server.http).json()


# Values that are refused


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("unheard_of", 1),
        ("worker", 1),
        *(
            ("bind", value)
            for value in (
                "", "8000", ":8000", "0.0.0.0", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000",
                "127.0.0.1:-1", "127.0.0.1:80x", "256.1.1.1:80", "1.2.3:80", "::1:8000",
                "[::1]", "[::1", "[nonsense]:80", "unix:", "http://127.0.0.1:80", 8000,
                " 127.0.0.1:0", "127.0.0.1:0\n", Atom("any"),
            )
        ),
        *(("uds_permissions", value) for value in ("", "8", "7777", "u=rw", -1, 0o1000)),
        *(("drain_delay", value) for value in (-1, "1", Atom("infinity"))),
        ("worker_class", Atom("nonsense")),
        ("worker_class", "asgi"),
        *(("workers", value) for value in (0, -1, 1.5, "2", Atom("many"))),
        *(("python", value) for value in (42, "/no/such/python", Atom("python3"))),
        *(("venv", value) for value in (42, "/no/such/venv", "/tmp")),
        *(("pythonpath", value) for value in (7, ["/no/such/folder"], [7], Atom("here"))),
        *(("chdir", value) for value in ("/no/such/folder", "/etc/hostname", 7)),
        *(("env", value) for value in (7, "A=B", {"A": 1}, {1: "A"}, {"A=B": "c"}, {"": "x"})),
        *(("lifespan", value) for value in (Atom("maybe"), True, "on")),
        ("root_path", 7),
        *(
            (key, value)
            for key in (
                "timeout", "startup_timeout", "shutdown_timeout",
                "websocket_timeout", "websocket_ping_interval", "websocket_max_frame_rate",
            )
            for value in (0, -1, 1.5, "1000", Atom("never"))
        ),
        *(("websocket_max_frame_size", value) for value in (0, -1, "16", 1 << 32, Atom("none"))),
        *(("http_engine", value) for value in ("cowboy", Atom("yaws"), 1)),
        *(("websocket_compress", value) for value in (1, "true", Atom("gzip"))),
        *(("max_connections", value) for value in (0, -1, "10", Atom("all"))),
        *(("worker_connections", value) for value in (0, -1, "10", Atom("all"))),
        *(("queue_timeout", value) for value in (0, "10", Atom("infinity"))),
        *(("queue_max", value) for value in (0, "10", Atom("infinity"))),
        *(("max_requests", value) for value in (0, -1, "10")),
        *(("max_requests_jitter", value) for value in (-1, Atom("infinity"))),
        *(("worker_max_age", value) for value in (0, 1.5)),
        *(("worker_max_age_jitter", value) for value in (-1, Atom("infinity"))),
        *(("worker_max_rss", value) for value in (0, "1G")),
        *(("worker_hang_timeout", value) for value in (0, Atom("never"))),
        *(("drain_timeout", value) for value in (0, Atom("infinity"))),
        *(("loop", value) for value in (Atom("trio"), "uvloop", 1)),
    ],
)  # fmt: skip
def test_a_bad_option_is_refused_by_name_and_value(refused, key, value):
    error = refused(**{key: value})
    kind, named, given = error.reason
    assert (kind, named) == ("bad_option", key)
    if key == "env":
        value = Atom("hidden")
    assert given == value or [ord(char) for char in given] == value
    assert key in error.sentence


@pytest.mark.parametrize(
    "app", ["", "settings", ":application", "settings:", "a:b:c", "set tings:x"]
)
def test_a_bad_name_of_an_app_is_refused(refused, app):
    assert refused(app).reason[:2] == ("bad_option", "app")


def test_python_and_venv_exclude_each_other(refused):
    error = refused(python=PYTHON, venv=PYTHON.parents[1])
    assert error.reason[:2] == ("bad_option", "venv")


def test_options_that_are_neither_map_nor_keyword_list_are_refused(shared):
    shared.stop()
    for options in ("[workers]", "{workers, 1}", "undefined"):
        answer = shared.node.eval(f'hornbeam:start("settings:application", {options})')
        assert answer[:1] + answer[1][:2] == ("error", "bad_option", "options")
    nothing_runs(shared.node)


# Values that are taken


@pytest.mark.parametrize("app", [APP, "settings:Holder.application", "settings:as_object"])
def test_an_app_is_found_by_module_and_attribute(serve, app):
    assert seen(serve(app))["root_path"] == ""


def test_text_may_be_a_string_or_a_binary(shared):
    shared.stop()
    for call in (
        f'hornbeam:start("{APP}", #{{bind => "127.0.0.1:0", workers => 1,'
        f' pythonpath => ["{APPS}"], python => "{PYTHON}", root_path => "/ünï"}})',
        f'hornbeam:start(<<"{APP}">>, #{{bind => <<"127.0.0.1:0">>, workers => 1,'
        f' pythonpath => <<"{APPS}">>, python => <<"{PYTHON}">>, root_path => <<"/ünï"/utf8>>}})',
    ):
        server = shared.node.start(call)
        assert seen(server)["root_path"] == "/ünï"
        server.stop()


def test_bind_names_the_address_that_info_gives(serve):
    server = serve(APP, bind="127.0.0.1:0")
    address = server.info()["address"]
    assert address == ((127, 0, 0, 1), server.port)
    assert server.port > 0


def test_workers_is_the_number_of_processes(serve):
    server = serve(APP, workers=3)
    pids = server.worker_pids()
    assert len(set(pids)) == 3
    assert sorted(server.node.python_pids()) == sorted(pids)
    assert {worker["state"] for worker in server.workers()} == {"ready"}
    assert len({worker["name"] for worker in server.workers()}) == 3


def test_workers_default_to_the_processors_however_many_schedulers_are_online(shared):
    shared.stop()
    processors = int(shared.node.eval("hornbeam_processors:count()"))
    assert 1 <= processors <= len(os.sched_getaffinity(0))
    shared.node.eval("erlang:system_flag(schedulers_online, 1)")
    options = f'#{{bind => "127.0.0.1:0", python => "{PYTHON}", pythonpath => ["{APPS}"]}}'
    server = shared.node.start(f'hornbeam:start("{APP}", {options})')
    assert len(server.worker_pids()) == processors
    server.stop()
    shared.node.eval(f"erlang:system_flag(schedulers_online, {processors})")


def test_python_names_the_interpreter(serve, tmp_path):
    link = tmp_path / "my-python"
    link.write_text(f'#!/bin/sh\nMY_PYTHON=yes exec {PYTHON} "$@"\n')
    link.chmod(0o755)
    assert seen(serve(APP, fresh=True, python=link))["env"]["MY_PYTHON"] == "yes"


def test_venv_names_the_environment(serve):
    venv = PYTHON.parents[1]
    assert seen(serve(APP, venv=venv))["prefix"] == str(venv)


def test_the_projects_environment_is_the_default(tmp_path):
    node = Node(tmp_path, cwd=ROOT)
    try:
        server = node.start(
            f'hornbeam:start("{APP}",'
            f' #{{bind => "127.0.0.1:0", workers => 1, pythonpath => ["{APPS}"]}})'
        )
        assert seen(server)["prefix"] == str(PYTHON.parents[1])
    finally:
        assert not node.close()


def test_pythonpath_goes_in_front_in_its_order(serve, tmp_path):
    first = tmp_path / "first"
    first.mkdir()
    (first / "settings.py").write_text(
        "from gallery import respond\n"
        "async def application(scope, receive, send):\n"
        "    await respond(send, b'first')\n"
    )
    server = serve(APP, fresh=True, pythonpath=[first, APPS])
    assert httpx.get(server.http).text == "first"


def test_chdir_is_the_workers_folder_and_on_its_path(serve, tmp_path):
    (tmp_path / "here.py").write_text("from settings import application\n")
    server = serve("here:application", fresh=True, chdir=tmp_path)
    assert seen(server)["cwd"] == str(tmp_path.resolve())


def test_env_adds_to_the_nodes_environment(serve):
    environment = seen(serve(APP, env={"GREETING": "hällo = x", "EMPTY": ""}))["env"]
    assert environment["GREETING"] == "hällo = x"
    assert "PATH" in environment


def test_root_path_reaches_the_app(serve):
    assert seen(serve(APP, root_path="/api"))["root_path"] == "/api"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio", "auto"])
def test_loop_chooses_the_event_loop(serve, loop):
    module = {"uvloop": "uvloop", "asyncio": "asyncio", "auto": "uvloop"}[loop]
    assert seen(serve(APP, loop=Atom(loop)))["loop"].startswith(module)


@pytest.mark.parametrize(
    "key",
    [
        "timeout",
        "websocket_timeout",
        "websocket_ping_interval",
        "websocket_max_frame_rate",
        "max_connections",
        "worker_connections",
        "max_requests",
        "worker_max_age",
        "worker_max_rss",
        "worker_hang_timeout",
    ],
)
def test_infinity_is_taken_where_it_makes_sense(serve, key):
    server = serve("sockets:application", **{key: Atom("infinity")})
    with RawWebSocket(server, "/echo") as ws:
        ws.frame(1, b"x")
        assert ws.read_message() == b"x"


def test_max_connections_lets_no_more_in_until_one_leaves(serve):
    server = serve("sockets:application", fresh=True, max_connections=2)
    first, second = (RawWebSocket(server, "/echo") for _ in range(2))
    with RawHTTP(server) as third:
        third.request("GET", "/echo", *handshake_headers())
        refused = not quiet(third.socket) and third.head().status == 503
        first.socket.close()
        if refused:
            eventually(lambda: opens(server))
        else:
            assert third.head().status == 101
    second.frame(1, b"x")
    assert second.read_message() == b"x"


def opens(server) -> bool:
    try:
        RawWebSocket(server, "/echo").socket.close()
    except AssertionError:
        return False
    return True


# The application's environment


def test_sys_config_takes_the_same_keys_and_the_map_wins(tmp_path):
    config = (
        f'{{bind, "127.0.0.1:0"}}, {{workers, 2}}, {{root_path, "/from/config"}},'
        f' {{python, "{PYTHON}"}}, {{pythonpath, ["{APPS}"]}}'
    )
    node = Node(tmp_path, hornbeam_config=config)
    try:
        server = node.start(f'hornbeam:start("{APP}")')
        assert len(server.worker_pids()) == 2
        assert seen(server)["root_path"] == "/from/config"
        server.stop()
        server = node.start(f'hornbeam:start("{APP}", #{{workers => 1}})')
        assert len(server.worker_pids()) == 1
        assert seen(server)["root_path"] == "/from/config"
    finally:
        assert not node.close()


def test_a_bad_value_in_sys_config_is_refused_too(shared):
    shared.stop()
    shared.node.eval("application:set_env(hornbeam, workers, none)")
    answer = shared.node.eval(f'hornbeam:start("{APP}", #{{python => {text(PYTHON)}}})')
    shared.node.eval("application:unset_env(hornbeam, workers)")
    assert answer == ("error", ("bad_option", "workers", "none"))
    nothing_runs(shared.node)


# Starts that fail


def test_a_second_start_is_refused_and_the_first_goes_on(serve):
    server = serve(APP)
    assert server.node.eval(f'hornbeam:start("other:app", #{{python => {text(PYTHON)}}})') == (
        "error",
        ("already_started", APP),
    )
    assert seen(server)["root_path"] == ""


def test_a_start_takes_no_message_of_who_calls(shared):
    shared.stop()
    given = {"bind": "127.0.0.1:0", "workers": 1, "python": PYTHON, "pythonpath": [APPS]}
    options = text({Atom(key): value for key, value in given.items()})
    answer = shared.node.eval(
        "Ref = monitor(process, spawn(fun() -> ok end)),"
        f' Started = hornbeam:start("settings:application", {options}),'
        " {Started, receive {'DOWN', Ref, process, _, _} -> kept after 0 -> taken end}"
    )
    assert answer == ("ok", "kept")


def test_a_stop_without_a_start_is_harmless(shared):
    shared.stop()
    assert shared.node.eval("hornbeam:stop()") == "ok"
    assert shared.node.eval("hornbeam:info()") == {}


def test_a_port_in_use_is_refused_with_its_reason(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        error = refused(bind=address)
    assert error.reason == ("listen", ("bind", address, "eaddrinuse"))
    assert "in use" in error.sentence


def test_an_address_that_is_not_ours_is_refused_with_its_reason(refused):
    reason = ("listen", ("bind", "192.0.2.1:0", "eaddrnotavail"))
    assert refused(bind="192.0.2.1:0").reason == reason


def test_a_unix_socket_in_use_is_refused(refused, tmp_path):
    path = tmp_path / "taken.sock"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        reason = ("listen", ("bind", f"unix:{path}", "eaddrinuse"))
        assert refused(bind=f"unix:{path}").reason == reason
    assert path.exists()


def test_a_unix_socket_that_nobody_listens_on_is_taken_over(serve, tmp_path):
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    serve(APP, fresh=True, bind=f"unix:{path}")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        assert client.get("http://test/").status_code == 200


def test_a_unix_socket_that_has_no_room_just_now_is_in_use(refused, tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other, contextlib.ExitStack() as crowd:
        other.bind(str(path))
        other.listen(0)
        with pytest.raises(BlockingIOError):
            while True:
                client = crowd.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))
        reason = ("listen", ("bind", f"unix:{path}", "eaddrinuse"))
        assert refused(bind=f"unix:{path}").reason == reason
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["fifo", "link", "dangling link", "folder"])
def test_what_is_no_socket_is_never_deleted(refused, tmp_path, kind):
    path, target = tmp_path / "there", tmp_path / "target"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(target)
        if kind == "link":
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(str(target))
    before = path.lstat()
    reason = ("listen", ("bind", f"unix:{path}", "eexist"))
    assert refused(bind=f"unix:{path}").reason == reason
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize(("said", "mode"), [("660", 0o660), ("0o600", 0o600), (0o777, 0o777)])
def test_a_unix_socket_has_the_mode_that_was_asked_for(serve, tmp_path, said, mode):
    path = tmp_path / "socket"
    serve(APP, fresh=True, bind=f"unix:{path}", uds_permissions=said)
    assert path.stat().st_mode & 0o777 == mode


def test_the_socket_of_a_successor_outlives_the_stop(own_node, tmp_path):
    path = tmp_path / "socket"
    own_node.serve(APP, bind=f"unix:{path}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        successor.listen()
        own_node.eval("hornbeam:stop()")
        assert path.is_socket()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_an_unix_path_that_is_a_file_is_refused_and_kept(refused, tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    assert refused(bind=f"unix:{path}").reason[0] == "listen"
    assert path.read_text() == "data"


@pytest.mark.parametrize(
    ("app", "stage", "name", "words"),
    [
        ("broken_import:application", "import", "ZeroDivisionError", "at import time"),
        ("no_such_module:application", "import", "ModuleNotFoundError", "no_such_module"),
        ("settings:no_such_attribute", "import", "AttributeError", "no_such_attribute"),
        ("settings:not_callable", "import", "TypeError", "not_callable"),
        ("lifespans:fails", "lifespan", "", "the database is away"),
        ("lifespans:raises_in_startup", "lifespan", "RuntimeError", "the database is away"),
    ],
)
def test_a_failing_app_is_refused_with_pythons_words(refused, app, stage, name, words):
    error = refused(app, lifespan=Atom("on") if stage == "lifespan" else Atom("auto"))
    kind, told = error.reason
    assert kind == "python"
    assert told["stage"] == stage
    assert name in told["class"]
    assert words in told["message"] + told["traceback"]
    assert words in error.sentence


def test_a_start_that_fails_is_in_the_log_as_a_paragraph(refused, shared):
    refused("setings:application", chdir=APPS)
    shared.node.wait_log(
        r"\[error\] hornbeam does not start: ModuleNotFoundError: No module named 'setings'; "
        rf"did you mean 'settings'\?,? +importing +setings:application,? +folder +{APPS},? +"
        rf"interpreter +{PYTHON}\n"
    )


def test_a_factory_makes_the_app(serve):
    server = serve("settings:make", factory=True)
    assert httpx.get(server.http).status_code == 200


def test_an_import_error_carries_the_traceback_down_to_its_line(refused):
    _, told = refused("broken_import:application").reason
    assert "Traceback" in told["traceback"]
    assert 'broken_import.py", line 5, in deep' in told["traceback"]


def test_a_file_that_is_not_python_is_refused_with_its_name(refused, tmp_path):
    (tmp_path / "not_python.py").write_text("async def application(scope receive, send):\n")
    _, told = refused("not_python:application", pythonpath=[tmp_path]).reason
    assert told["class"] == "SyntaxError"
    assert "not_python.py" in told["traceback"]


def test_one_failing_worker_of_many_fails_the_start(refused):
    error = refused("broken_import:application", workers=4)
    assert error.reason[0] == "python"


def test_a_lifespan_that_never_answers_is_refused_at_the_startup_timeout(refused):
    error = refused("lifespans:hangs_in_startup", startup_timeout=1000)
    assert error.reason[0] == "worker"
    assert "startup_timeout" in error.sentence


# Interpreters that will not do


@pytest.fixture
def interpreter(tmp_path):
    """Make an executable file that stands in for Python."""

    def make(first_line, body):
        path = tmp_path / "python"
        path.write_text(f"#!{first_line}\n{body}\n")
        path.chmod(0o755)
        return path

    return make


def hello(version: int) -> str:
    """A worker that says hello with a version of the wire, and then waits."""
    return (
        "import msgpack, os, struct\n"
        "about = {'os_pid': os.getpid(), 'python': '3.99.0', 'package': '9.9.9'}\n"
        f"hello = msgpack.packb([33, 0, {version}, about])\n"
        "os.write(4, struct.pack('>I', len(hello)) + hello)\n"
        "os.read(3, 1)\n"
        "os.read(3, 1 << 20)\n"
    )


def test_an_interpreter_without_the_package_is_refused_with_what_to_install(refused, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True, timeout=60
    )
    error = refused(venv=tmp_path / "bare")
    assert error.reason[0] == "worker"
    assert "has no package hornbeam-erlang" in error.sentence
    assert f"{tmp_path}/bare/bin/python -m pip install hornbeam-erlang" in error.sentence


@pytest.mark.parametrize(("version", "upgrade"), [(999, "hornbeam application"), (0, "--upgrade")])
def test_another_version_of_the_wire_is_refused_with_what_to_upgrade(
    refused, interpreter, version, upgrade
):
    error = refused(python=interpreter(PYTHON, hello(version)))
    assert error.reason[0] == "worker"
    assert f"version {version}" in error.sentence
    assert upgrade in error.sentence


def test_a_worker_that_never_says_hello_is_refused_at_the_startup_timeout(refused, interpreter):
    error = refused(python=interpreter("/bin/sh", "exec sleep 3600"), startup_timeout=500)
    assert error.reason[0] == "worker"
    assert "startup_timeout" in error.sentence


def test_a_worker_that_says_hello_and_then_nothing_is_refused(refused, interpreter):
    python = interpreter(PYTHON, hello(1) + "import time\ntime.sleep(3600)")
    error = refused(python=python, startup_timeout=1000)
    assert error.reason[0] == "worker"
    assert "startup_timeout" in error.sentence


def test_a_worker_that_does_not_speak_the_wire_is_refused(refused, interpreter):
    body = "import os\nos.write(4, b'HTTP/1.1 200 OK')\nos.read(3, 1)"
    error = refused(python=interpreter(PYTHON, body))
    assert error.reason[0] == "worker"
    assert "wire" in error.sentence


def test_an_interpreter_that_ends_at_once_is_refused(refused, interpreter):
    error = refused(python=interpreter("/bin/sh", "exit 3"))
    assert error.reason[0] == "worker"
    assert "3" in error.sentence


def test_a_file_that_the_system_cannot_run_is_refused(refused, interpreter):
    error = refused(python=interpreter("/no/such/program", ""))
    assert error.reason[0] == "worker"
