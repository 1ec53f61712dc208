"""A real Erlang node under test, and the server that runs in it.

Starts `erl` with the project's code, evaluates expressions in it, reads its log, and
leaves nothing behind. Knows the public functions of `hornbeam` and nothing of its inside.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terms import Atom, charlist, decode, text

ROOT = Path(__file__).resolve().parents[2]
APPS = ROOT / "test" / "apps"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python" if VENV.exists() else Path(sys.executable)

DEADLINE = 20.0
"""Seconds after which a wait of a test has failed."""

PATIENCE = 10.0
"""The same for what is usually there at once."""

SYS_CONFIG = """
[{kernel, [
    {logger_level, info},
    {logger, [{handler, default, logger_std_h, #{
        filter_default => log,
        filters => [{progress, {fun logger_filters:progress/2, stop}}],
        formatter => {logger_formatter, #{
            single_line => true, template => ["[", level, "] ", msg, "\\n"]}}}}]}]},
 {hornbeam, [HORNBEAM]}].
"""
"""Each event of the log is one line: its level in brackets, then its text."""


class EvalError(Exception):
    """An expression raised inside the node."""


class StartError(Exception):
    """`hornbeam:start` answered `{error, Reason}`; `reason` and `format_error`'s text."""

    def __init__(self, reason: Any, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


def eventually(condition: Callable[[], Any], deadline: float = DEADLINE) -> Any:
    """Wait until `condition` returns something true and return that."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(
                f"not within {deadline} s: {getattr(condition, '__name__', condition)}"
            )
        time.sleep(0.01)


@dataclass
class Server:
    """A running `hornbeam:start`, seen from a client."""

    node: Node
    host: str
    port: int
    tls: bool = False

    @property
    def http(self) -> str:
        return f"http{'s' * self.tls}://{self.host}:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws{'s' * self.tls}://{self.host}:{self.port}"

    def connect(self, timeout: float = DEADLINE, alpn: str = "http/1.1") -> socket.socket:
        """Open a connection to the server: TCP, with TLS where it speaks that.

        Whom to trust stands in the environment (SSL_CERT_FILE), for all clients alike.
        """
        tcp = socket.create_connection((self.host.strip("[]"), self.port), timeout)
        if not self.tls:
            return tcp
        context = ssl.create_default_context()
        context.set_alpn_protocols([alpn])
        return context.wrap_socket(tcp, server_hostname=self.host.strip("[]"))

    def info(self) -> dict[str, Any]:
        return self.node.eval("hornbeam:info()")

    def workers(self) -> list[dict[str, Any]]:
        return self.info()["workers"]

    def worker_pids(self) -> list[int]:
        return [worker["os_pid"] for worker in self.workers()]

    def stop(self) -> None:
        self.node.eval("hornbeam:stop()")


class Node:
    """One `erl` in a session of its own; `tmp` takes its log and configuration.

    It ends with the test run, also when that is killed. With a `name` it can be connected to
    those other nodes that were given the same folder to meet in.
    """

    def __init__(
        self,
        tmp: Path,
        hornbeam_config: str = "",
        cwd: Path | None = None,
        name: str | None = None,
        meeting: Path | None = None,
    ) -> None:
        self.name, self.meeting = name, meeting
        self.marker = f"HORNBEAM_E2E={uuid.uuid4().hex}"
        self.log_file = tmp / "node.log"
        self.leash = socket.socket()
        config = tmp / "sys.config"
        config.write_text(SYS_CONFIG.replace("HORNBEAM", hornbeam_config))
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(config),
                cwd=cwd or tmp,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.control_port = int(self.wait_log(r"control listens on (\d+)").group(1))
            self.leash.connect(("127.0.0.1", self.control_port))
            self.eval("{ok, _} = application:ensure_all_started(hornbeam)")
        except BaseException:
            self.close()
            raise

    def command(self, config: Path) -> list[str]:
        code = sorted(ROOT.glob("_build/default/lib/*/ebin"))
        busy_wait = [
            word for flag in ("sbwt", "sbwtdcpu", "sbwtdio") for word in (f"+{flag}", "none")
        ]
        return [
            "erl", "-noshell", "-noinput", *busy_wait,
            "-config", str(config.with_suffix("")),
            "-pa", *map(str, code), str(compiled()),
            *self.distribution(),
            "-s", "control", "start",
        ]  # fmt: skip

    def distribution(self) -> list[str]:
        """Say how the node finds others: by a folder, so that no daemon is left behind."""
        if self.name is None:
            return []
        return [
            "-name", self.name, "-setcookie", "of-a-test",
            "-epmd_module", "meeting", "-start_epmd", "false",
            "-kernel", "inet_dist_use_interface", "{127,0,0,1}",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        name, value = self.marker.split("=")
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        return inherited | {
            name: value,
            "HORNBEAM_MEETING": str(self.meeting),
            "ERL_LIBS": str(ROOT / "_deps" / "lib"),
            "ERL_CRASH_DUMP": os.devnull,
        }

    def eval(self, expression: str, deadline: float = DEADLINE) -> Any:
        """Evaluate Erlang in the node and return the value, as `terms.decode` reads it."""
        if self.process.poll() is not None:
            raise AssertionError(f"the node is gone:\n{self.log[-20_000:]}")
        source = expression.strip().removesuffix(".") + "\n."
        with socket.create_connection(("127.0.0.1", self.control_port), deadline) as control:
            packet = source.encode()
            control.sendall(struct.pack(">I", len(packet)) + packet)
            (size,) = struct.unpack(">I", exactly(control, 4))
            outcome, value = decode(exactly(control, size))
        if outcome != "ok":
            raise EvalError(f"{outcome}: {value}")
        return value

    def serve(self, app: str, **options: Any) -> Server:
        """Start the server on a free loopback port; raise `StartError` if it refuses.

        Options are `hornbeam:start/2`'s. The tests' own: one worker, the project's
        interpreter, apps from test/apps.
        """
        given = {
            "bind": "127.0.0.1:0",
            "worker_class": Atom("asgi"),
            "workers": 1,
            "python": PYTHON,
            "pythonpath": [APPS],
        } | options
        if "venv" in options and "python" not in options:
            del given["python"]
        return self.start(
            f"hornbeam:start({charlist(app)}, {text({Atom(k): v for k, v in given.items()})})",
            tls="certfile" in options,
        )

    def start(self, call: str, *, tls: bool = False) -> Server:
        """Evaluate a call of `hornbeam:start` and say where it listens."""
        call = call.strip().removesuffix(".")
        answer = self.eval(
            f"case {call} of ok -> ok; {{error, Reason}} -> {{error, Reason,"
            " unicode:characters_to_binary(hornbeam:format_error(Reason))} end"
        )
        if answer != "ok":
            raise StartError(*answer[1:])
        return self.running(tls=tls)

    def running(self, *, tls: bool = False) -> Server:
        host, port = self.eval("hornbeam:info()")["address"]
        if host == "local":
            return Server(self, port, 0, tls)
        return Server(self, written_address(host), port, tls)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def wait_log(self, pattern: str, deadline: float = PATIENCE) -> re.Match[str]:
        """Wait until the log has a match of `pattern` and return it."""

        def found() -> re.Match[str] | None:
            if self.process.poll() is not None:
                raise AssertionError(f"the node is gone:\n{self.log}")
            return re.search(pattern, self.log)

        try:
            return eventually(found, deadline)
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} in the log:\n{self.log[-5000:]}") from None

    def python_pids(self) -> list[int]:
        """Name the living processes that came from this node, without Erlang's own."""
        return [
            pid for pid in marked(self.marker) if pid != self.process.pid and not of_erlang(pid)
        ]

    def kill(self) -> None:
        """Kill the node as `kill -9` does and wait until it is gone."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def close(self) -> list[int]:
        """End the node, then whatever outlived it; return the Python survivors."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.kill()
        self.leash.close()
        try:
            eventually(lambda: not self.python_pids(), 5)
            survivors = []
        except TimeoutError:
            survivors = self.python_pids()
        for pid in marked(self.marker):
            kill_quietly(pid)
        return survivors


def exactly(source: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise EOFError(f"{len(data)} of {size} bytes")
        data += part
    return bytes(data)


@functools.cache
def compiled() -> Path:
    """Compile the tests' Erlang outside the source tree; return its folder."""
    folder = Path(tempfile.mkdtemp(prefix="e2e-hornbeam-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    sources = sorted(Path(__file__).parent.glob("*.erl"))
    subprocess.run(["erlc", "-o", folder, *sources], check=True, timeout=60)
    return folder


def written_address(ip: tuple[int, ...]) -> str:
    if len(ip) == 4:
        return ".".join(map(str, ip))
    packed = struct.pack(">8H", *ip)
    return f"[{socket.inet_ntop(socket.AF_INET6, packed)}]"


def marked(marker: str) -> Iterator[int]:
    """Find the living processes whose environment has the marker."""
    wanted = marker.encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0") and alive(
                    int(entry.name)
                ):
                    yield int(entry.name)
            except OSError:
                continue


def alive(pid: int) -> bool:
    """Say whether a process exists and is not merely waiting to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def of_erlang(pid: int) -> bool:
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return True
    return name.startswith(("beam", "erl", "inet_gethost", "epmd", "memsup", "sh"))


def kill_quietly(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
