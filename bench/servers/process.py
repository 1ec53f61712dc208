"""A server as a tree of processes: start it, wait until it serves, stop all of it.

Knows how to read an address from a server's output; knows nothing of what it serves.
"""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from harness.cpu import Process, processes, tree
from servers.certificate import Certificate

BENCH = Path(__file__).resolve().parent.parent
PROJECT = BENCH.parent

START_SECONDS = 30.0
STOP_SECONDS = 3.0  # then it is killed: handlers of hostile clients never end


class ServerError(Exception):
    """The server did not start, or died; the message holds the end of its output."""


class Server(ABC):
    """One server, running between `__enter__` and `__exit__`."""

    # What the output says once for each worker that is ready, and where it listens.
    READY: ClassVar[str]
    LISTENING: ClassVar[str] = r"127\.0\.0\.1:(\d+)"

    host = "127.0.0.1"
    port = 0

    def __init__(
        self, workers: int = 1, perf: bool = False, certificate: Certificate | None = None
    ) -> None:
        self.workers = workers
        self.perf = perf  # make the generated code's names known to perf
        self.certificate = certificate  # for who speaks TLS: what to show

    @abstractmethod
    def command(self) -> list[str]:
        """The command line; it stays in the foreground."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """What takes part, by name."""

    def environment(self) -> dict[str, str]:
        """What the command finds in its environment beside our own."""
        return {}

    def tls_options(self, chain: str, key: str) -> list[str]:
        """These two options of the command line with their files, where TLS is to be spoken."""
        if not (tls := self.certificate):
            return []
        return [chain, str(tls.chain), key, str(tls.key)]

    @property
    def ready_count(self) -> int:
        return 1

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ports(self) -> str:
        """The ports that a load goes to, with commas between them."""
        return str(self.port)

    @property
    def pids(self) -> list[int]:
        """The roots of all trees whose CPU is this server's."""
        return [self.pid]

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile("w+", errors="replace")
        self._process = subprocess.Popen(
            # The tree goes when we are killed; our own Ctrl-C does not reach it.
            ["setpriv", "--pdeathsig", "TERM", *self.command()],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=BENCH / "apps",
            env=os.environ | self.environment(),
            start_new_session=True,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def output(self) -> str:
        """All that the server has printed."""
        self._log.seek(0)
        return self._log.read()

    def check_alive(self) -> None:
        """Raise ServerError when the server has ended."""
        status = self._process.poll()
        if status is not None:
            end = self.output()[-4000:]
            raise ServerError(f"{type(self).__name__} ended with status {status}:\n{end}")

    def _wait_until_ready(self) -> None:
        if not _within(START_SECONDS, self._ready_or_dead) or not self._ready():
            raise ServerError(f"{type(self).__name__} did not start:\n{self.output()[-4000:]}")
        address = re.search(self.LISTENING, self.output())
        assert address is not None
        self.port = int(address.group(1))

    def _ready(self) -> bool:
        output = self.output()
        ready = len(re.findall(self.READY, output)) >= self.ready_count
        return ready and re.search(self.LISTENING, output) is not None

    def _ready_or_dead(self) -> bool:
        return self._process.poll() is not None or self._ready()

    def _stop(self) -> None:
        family = tree(processes(), self.pid)
        if self._process.poll() is None:
            self._process.terminate()
        if not _within(STOP_SECONDS, lambda: self._all_gone(family)):
            for process in _alive(family):
                os.kill(process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _all_gone(self, family: list[Process]) -> bool:
        self._process.poll()
        return not _alive(family)


def free_port() -> int:
    """A port for a server that cannot choose one itself; where another takes it meanwhile, the
    server will not start."""
    with socket.socket() as probe:
        probe.bind((Server.host, 0))
        port: int = probe.getsockname()[1]
        return port


def _alive(family: list[Process]) -> list[Process]:
    now = processes()
    return [p for p in family if p.pid in now and now[p.pid].started == p.started]


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def with_app(server: type[Server], app: str) -> type[Server]:
    """The server with this app of bench/apps."""
    return type(server.__name__, (server,), {"APP": f"{app}:application"})
