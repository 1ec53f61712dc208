"""A release and `make run`: how they begin, how they end, and with which exit status."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from clients import TEXT, RawWebSocket
from harness import APPS, DEADLINE, PYTHON, ROOT, eventually
from terminals import Terminal
from terms import Atom, text
from test_documents import snippets

BUILD = 300
"""Seconds that building a release may take."""

VM_ARGS = """
-name {name}@127.0.0.1
-start_epmd false
-dist_listen false
+sbwt none
"""
"""Those of a release need a name; this one leaves no daemon behind."""


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """Build the release once; return its folder."""
    output = tmp_path_factory.mktemp("release")
    subprocess.run(
        ["rebar3", "release", "-o", output],
        cwd=ROOT, env=os.environ | {"TERM": "dumb"},
        check=True, timeout=BUILD, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return output / "hornbeam"


class Running:
    """`bin/hornbeam foreground` with a configuration of the test's own."""

    def __init__(
        self, release: Path, tmp: Path, variables: Mapping[str, str] | None = None, **options
    ) -> None:
        self.release, self.tmp = release, tmp
        self.socket = tmp / "socket"
        self.notes = tmp / "notes"
        self.notes.touch()
        given = {
            "app": "endings:application",
            "bind": f"unix:{self.socket}",
            "workers": 1,
            "python": PYTHON,
            "pythonpath": [APPS],
            "env": {"TRACE": str(self.notes)},
        } | options
        pairs = text([(Atom(key), value) for key, value in given.items()])
        (tmp / "sys.config").write_text(f"[{{hornbeam, {pairs}}}].")
        self.variables = os.environ | {"RELX_CONFIG_PATH": str(tmp / "sys.config")}
        if variables is None:
            (tmp / "vm.args").write_text(VM_ARGS.format(name=f"test-{uuid.uuid4().hex}"))
            variables = {"VMARGS_PATH": str(tmp / "vm.args")}
        self.variables |= variables
        self.errors = tmp / "stderr"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [release / "bin" / "hornbeam", "foreground"],
                cwd=tmp,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=(tmp / "stdout").open("wb"),
                stderr=errors,
                start_new_session=True,
            )

    def command(self, *words: str) -> tuple[str, str, int]:
        """Run `bin/hornbeam` with the variables of this one: output, errors, status."""
        with subprocess.Popen(
            [self.release / "bin" / "hornbeam", *words],
            env=self.variables, encoding="utf-8", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as command:  # fmt: skip
            if words == ("stop",):
                self.status()  # it waits until the process is gone, whose parent this one is
            said, errors = command.communicate(timeout=60)
            return said, errors, command.returncode

    # What a client of the harness's kind needs of a server.
    host, port = "localhost", 80

    def connect(self, timeout: float = DEADLINE) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(str(self.socket))
        return connection

    def get(self, target: str) -> httpx.Response:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket))) as client:
            return client.get(f"http://localhost{target}")

    def serves(self) -> bool:
        assert self.process.poll() is None, self.errors.read_text()
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def status(self) -> int:
        return self.process.wait(60)


@pytest.fixture
def run(release, tmp_path) -> Iterator[Callable[..., Running]]:
    """Start the release; it is gone after the test."""
    started: list[Running] = []

    def start(folder: Path = tmp_path, **options) -> Running:
        started.append(Running(release, folder, **options))
        return started[-1]

    yield start
    for running in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()


def test_it_serves_and_ends_in_order_at_sigterm(run):
    running = run()
    eventually(running.serves)
    ws = RawWebSocket(running, "/echo")
    ws.read_message()
    running.process.send_signal(signal.SIGTERM)
    assert ws.read_close() == (1001, "the server stops")
    ws.socket.close()
    assert running.status() == 0
    (closed, shutdown) = running.notes.read_text().splitlines()
    assert closed == "disconnect 1001"
    assert shutdown.startswith("shutdown ")
    assert not running.socket.exists()


def test_at_sighup_it_serves_the_new_code(run, tmp_path):
    app = tmp_path / "changing.py"
    source = (
        "from gallery import respond\n"
        "async def application(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        await respond(send, b'{}')\n"
    )
    app.write_text(source.format("old"))
    running = run(app="changing:application", pythonpath=[tmp_path, APPS], lifespan=Atom("off"))
    eventually(running.serves)
    assert running.get("/").text == "old"
    app.write_text(source.format("new one"))
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: running.get("/").text == "new one")


def test_a_sigterm_while_the_app_starts_ends_it(run, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        f"pathlib.Path({str(tmp_path)!r}, 'begun').touch()\n"
        "time.sleep(3600)\n"
    )
    running = run(app="slow:application", pythonpath=[tmp_path])
    eventually((tmp_path / "begun").exists)
    running.process.send_signal(signal.SIGTERM)
    assert running.status() == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"app": "nowhere:application"}, "ModuleNotFoundError: No module named 'nowhere'"),
        ({"app": "broken_import:application"}, "Traceback"),
        ({"workers": 0}, "option workers has the value 0; expected a positive integer"),
        ({"no_such_option": 1}, "option no_such_option has the value 1"),
        ({"bind": "taken"}, "cannot listen: address already in use"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_start_says_why_and_ends_with_status_3(run, tmp_path, options, sentence):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if options.get("bind"):
            options = {"bind": f"127.0.0.1:{taken.getsockname()[1]}"}
        running = run(**options)
        assert running.status() == 3
    said = running.errors.read_text()
    assert said.startswith("hornbeam does not start: ")
    assert sentence in said
    assert not (tmp_path / "erl_crash.dump").exists()


TALKING = """
import logging, sys
logging.getLogger("shop").warning("logged: größe ✓")
print("printed: größe ✓", file=sys.stderr, flush=True)
async def application(scope, receive, send): ...
"""

SAID = ("worker-1 shop: logged: größe ✓", "worker-1 stderr: printed: größe ✓")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_its_log_is_utf8_in_any_locale(run, tmp_path, monkeypatch, locale):
    monkeypatch.setenv("LC_ALL", locale)
    (tmp_path / "talking.py").write_text(TALKING, encoding="utf-8")
    running = run(app="talking:application", chdir=tmp_path, lifespan=Atom("off"))
    eventually(running.serves)
    log = tmp_path / "stdout"
    eventually(lambda: all(said.encode() in log.read_bytes() for said in SAID))


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_the_log_in_a_shell_is_utf8_in_any_locale(tmp_path, monkeypatch, locale):
    monkeypatch.chdir(ROOT)
    (tmp_path / "talking.py").write_text(TALKING, encoding="utf-8")
    options = text({Atom(key): value for key, value in {
        "chdir": tmp_path, "workers": 1, "lifespan": Atom("off"), "python": PYTHON,
        "bind": f"unix:{tmp_path}/socket",
    }.items()})  # fmt: skip
    shell = Terminal([shutil.which("rebar3"), "shell"], {"LC_ALL": locale, "TERM": "xterm"})
    with contextlib.closing(shell):
        shell.shows(b"1>")
        shell.types(f'hornbeam:start("talking:application", {options}).\n'.encode())
        for said in SAID:
            shell.shows(said.encode())


# What is said to one that runs


def of_its_own(folder: Path, name: str) -> dict[str, str]:
    """Make the variables of a release that stands beside others, without a daemon for names."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return {
        "RELEASE_NODE": f"{name}@127.0.0.1", "ERL_DIST_PORT": str(port),
        "RELX_OUT_FILE_PATH": str(folder), "HOME": str(folder),
    }  # fmt: skip


def test_two_of_one_release_run_beside_each_other_and_eval_reaches_each(run, tmp_path):
    first, second = (
        run(tmp_path / name, variables=of_its_own(tmp_path / name, name))
        for name in ("first", "second")
    )
    for running, name in ((first, "first"), (second, "second")):
        eventually(running.serves)
        assert running.command("eval", "node().") == (f"'{name}@127.0.0.1'\n", "", 0)
    assert first.command("stop")[2] == 0
    assert first.status() == 0
    assert second.serves()
    assert second.command("ping") == ("pong\n", "", 0)


@pytest.mark.parametrize(
    ("expressions", "printed"),
    [
        (
            'X = <<"größe ☃"/utf8>>, {X, "☃", #{a => <<"b">>}}.',
            '{<<"größe ☃"/utf8>>,"☃",#{a => <<"b">>}}',
        ),
        ("maps:get(apps, hornbeam:info())", '#{<<"/">> => <<"endings:application">>}'),
        ('"two\\nlines".', '"two\\nlines"'),
    ],
    ids=["text", "no full stop", "lines"],
)
def test_eval_prints_text_as_text(evaluating, expressions, printed):
    assert evaluating.command("eval", expressions) == (printed + "\n", "", 0)


@pytest.mark.parametrize(
    ("expressions", "sentence"),
    [("1 / 0.", "arithmetic"), ("[1,", "syntax error"), ("nobody:home()", "nobody")],
)
def test_eval_says_what_is_wrong_and_ends_with_status_1(evaluating, expressions, sentence):
    said, errors, status = evaluating.command("eval", expressions)
    assert (said, status) == ("", 1)
    assert sentence in errors


@pytest.fixture(scope="module")
def evaluating(release, tmp_path_factory) -> Iterator[Running]:
    """Start one for all that is only asked."""
    folder = tmp_path_factory.mktemp("evaluating") / "one"
    running = Running(release, folder, variables=of_its_own(folder, "one"))
    try:
        eventually(running.serves)
        yield running
    finally:
        os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()


# make run


@pytest.fixture
def make_run(tmp_path) -> Iterator[Callable[..., Terminal]]:
    """Start what `make run` starts, with variables; it is gone after the test."""
    here = {"DIR": str(tmp_path), "PORT": "0", "TRACE": str(tmp_path / "notes")}
    with contextlib.ExitStack() as stack:

        def started(**variables: str) -> Terminal:
            running = Terminal([ROOT / "tools" / "run.sh"], here | variables)
            return stack.enter_context(contextlib.closing(running))

        yield started


def test_ctrl_c_ends_make_run_in_order(make_run, tmp_path):
    running = make_run(APP="endings:application", ARGS=f"--pythonpath {APPS}")
    running.shows(b"Ctrl-C")
    running.types(b"\x03")
    assert running.status() == 0
    assert (tmp_path / "notes").read_text().startswith("shutdown ")


def test_make_run_says_why_an_app_does_not_start(make_run):
    running = make_run(APP="nowhere:application")
    running.shows(b"ModuleNotFoundError: No module named 'nowhere'")
    assert running.status() == 3


def test_make_run_serves_the_chat_where_nothing_is_said(make_run):
    make_run(APP="", DIR="").shows(b"chat:application")


def test_make_run_finds_what_the_apps_own_environment_has(make_run, tmp_path):
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    (packages,) = tmp_path.glob(".venv/lib/python*/site-packages")
    (packages / "of_their_own.py").write_text("from endings import application\n")
    (tmp_path / "endings.py").write_text("async def application(scope, receive, send): ...\n")
    (tmp_path / "main.py").write_text("from of_their_own import application\n")
    make_run(APP="main:application").shows(b"Ctrl-C")


def test_make_run_does_not_mix_two_versions_of_python(make_run, tmp_path):
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 2.7 /nowhere\n")
    python.chmod(0o755)
    running = make_run(APP="main:application")
    running.shows(b".venv is Python 2.7 and this checkout's is 3.")
    assert running.status() == 2


# The guide


def printed(language: str) -> str:
    """Read the only block of a language on the page."""
    (block,) = [block for name, block in snippets("deployment.md") if name == language]
    return block


def needs(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"no {program} here")
    return path


def test_the_guides_unit_is_one_that_systemd_takes(release, tmp_path):
    file = tmp_path / "chat.service"
    here = printed("ini").replace("/srv/chat/hornbeam", str(release)).replace("User=chat\n", "")
    file.write_text(here)
    answer = subprocess.run(
        [needs("systemd-analyze"), "verify", file],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert [line for line in answer.stderr.splitlines() if "chat.service" in line] == []


def test_the_guides_configuration_keeps_the_shipped_log(run, release, tmp_path):
    (block,) = [text for name, text in snippets("deployment.md") if "releases/0.1.0" in text]
    config = tmp_path / "config" / "sys.config"
    config.parent.mkdir()
    (tmp_path / "chat.py").write_text("from endings import application\n")
    config.write_text(
        block.replace("/srv/chat/hornbeam", str(release))
        .replace("/srv/chat", str(tmp_path))
        .replace("127.0.0.1:8000", f"unix:{tmp_path}/socket")
        .replace(
            "{workers, 4}", f'{{workers, 1}}, {{python, "{PYTHON}"}}, {{pythonpath, ["{APPS}"]}}'
        )
    )
    vm_args = tmp_path / "its.args"
    vm_args.write_text(VM_ARGS.format(name=f"test-{uuid.uuid4().hex}"))
    running = run(variables={"RELX_CONFIG_PATH": str(config), "VMARGS_PATH": str(vm_args)})
    eventually(running.serves)
    running.process.send_signal(signal.SIGHUP)
    # As config/sys.config has it; Erlang's own would be a line of equal signs and a date.
    reloaded = re.compile(r"^\d{4}-\d\d-\d\dT\S+ notice +what: reloaded$", re.MULTILINE)
    eventually(lambda: reloaded.search((tmp_path / "stdout").read_text()))


def test_sockets_go_through_the_guides_nginx(run, tmp_path):
    nginx = needs("nginx")
    running = run()
    eventually(running.serves)
    front = tmp_path / "front"
    server = printed("nginx").replace("listen 80;", f"listen unix:{front};")
    server = server.replace("http://127.0.0.1:8000", f"http://unix:{running.socket}:")
    temporary = " ".join(
        f"{kind}_temp_path {tmp_path / kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; user root;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary}\n{server} }}\n"
    )
    with subprocess.Popen([nginx, "-e", "stderr", "-c", config]) as proxy:
        try:
            eventually(front.exists)
            running.socket = front
            ws = RawWebSocket(running, "/echo")
            assert ws.read_message().isdigit()
            ws.frame(TEXT, b"hello")
            assert ws.read_message() == b"hello"
        finally:
            proxy.terminate()


def test_the_guides_caddyfile_is_one_that_caddy_takes(tmp_path):
    file = tmp_path / "Caddyfile"
    file.write_text(printed("caddyfile"))
    subprocess.run(
        [needs("caddy"), "adapt", "--adapter", "caddyfile", "--config", file],
        check=True, timeout=60, capture_output=True,
    )  # fmt: skip
