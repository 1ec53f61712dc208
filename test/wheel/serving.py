"""An app installed and served as a stranger would, in a bare system or on this machine."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bare import NOBODY, Interpreter, Root

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv" / "bin" / "python"

DEADLINE = 60.0
"""Seconds after which a wait of a test has failed, on a machine that is busy with others too."""

FOLDER = "haus nr. 1 für alle"
"""Where the app is: a name that no script would choose."""

APP = """
import sys

from fastapi import FastAPI, WebSocket

app = FastAPI()


@app.get("/")
def about():
    return {"executable": sys.executable}


@app.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
"""


class System(ABC):
    """Where an app is installed: `home` as those see it who are there."""

    def __init__(self, interpreter: Interpreter, outside: Path, home: Path) -> None:
        self.interpreter = interpreter
        self.outside = outside
        self.home = home
        self.app = home / FOLDER
        self.venv = self.app / "venv"
        app = outside / FOLDER
        app.mkdir(parents=True)
        (app / "main.py").write_text(APP)

    def install(self, packages: Iterable[Path]) -> None:
        """Make a virtual environment and let pip choose among packages, without a network."""
        offered = self.outside / "packages"
        offered.mkdir()
        for package in packages:
            shutil.copy(package, offered)
        python, packages = self.interpreter.program, self.home / "packages"
        (pip,) = offered.glob("pip-*.whl")
        self.run(python, "-m", "venv", "--without-pip", self.venv)
        self.run(
            python, packages / pip.name / "pip", "--python", self.venv / "bin" / "python",
            "install", "--quiet", "--no-index", "--find-links", packages,
            "hornbeam-erlang", "fastapi",
        )  # fmt: skip

    def run(self, *command: str | Path) -> None:
        """Run a command there as the owner."""
        answer = subprocess.run(
            self.command(*command, HOME="/tmp"), check=False, timeout=DEADLINE * 5, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stdout

    @abstractmethod
    def command(self, *command: str | Path, **variables: str) -> list[str]:
        """Return what to execute here for a command there."""

    @abstractmethod
    def served(self, *command: str | Path, **variables: str) -> list[str]:
        """Return the same for a server, which runs in the app's folder."""


class Bare(System):
    """A bare system, where servers belong to a user without a name, a home, or a place to write."""

    def __init__(self, interpreter: Interpreter, folder: Path) -> None:
        self.root = Root(interpreter, folder)
        super().__init__(interpreter, self.root.srv, Path("/srv"))

    def command(self, *command: str | Path, **variables: str) -> list[str]:
        return self.root.command(*command, **variables)

    def served(self, *command: str | Path, **variables: str) -> list[str]:
        return self.root.command(*command, user=NOBODY, folder=self.app, **variables)


class Here(System):
    """This machine, with its Erlang."""

    def __init__(self, interpreter: Interpreter, folder: Path) -> None:
        super().__init__(interpreter, folder, folder)

    def command(self, *command: str | Path, **variables: str) -> list[str]:
        return self.there(Path("/"), *command, **variables)

    def served(self, *command: str | Path, **variables: str) -> list[str]:
        return self.there(self.app, *command, **variables)

    def there(self, folder: Path, *command: str | Path, **variables: str) -> list[str]:
        given = (f"{name}={value}" for name, value in variables.items())
        return ["env", "-C", str(folder), *given, *map(str, command)]


class Running:
    """A server, and all processes that it starts."""

    def __init__(self, system: System, variables: Mapping[str, str]) -> None:
        hornbeam = system.venv / "bin" / "hornbeam"
        self.run(system.served(hornbeam, "main:app", "--port", "0", **variables))

    def run(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self.said = ""

    def port(self) -> int:
        """Wait until it listens; return the port."""
        return int(self.says(r"listening on http://127\.0\.0\.1:(\d+)")[1])

    def says(self, wanted: str) -> re.Match[str]:
        """Read on until it has said something."""
        assert self.process.stdout
        deadline = time.monotonic() + DEADLINE
        while not (found := re.search(wanted, self.said)):
            assert time.monotonic() < deadline, self.said
            line = self.process.stdout.readline()
            assert line, self.said
            self.said += line.decode()
        return found

    def node(self) -> Path:
        """Return the folder in /proc of the node."""
        (node,) = (path for path in self.processes() if command_of(path) == "beam.smp")
        return node

    def processes(self) -> Iterator[Path]:
        """Yield the folders in /proc of its session."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(int(folder.name)) == self.process.pid:
                    yield folder

    def listens_on(self) -> set[int]:
        """Return the ports on which its processes listen."""
        held = {inode for process in self.processes() for inode in inodes(process)}
        return {port for port, inode in listening() if inode in held}

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.status()

    def status(self) -> int:
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def command_of(process: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (process / "comm").read_text().rstrip()
    return ""


def inodes(process: Path) -> Iterator[int]:
    """Yield what stands for the files that a process has open, its sockets among them."""
    for file in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield file.stat().st_ino


def listening() -> Iterator[tuple[int, int]]:
    """Yield the port and the inode of all sockets that listen (proc(5), net/tcp)."""
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                yield int(fields[1].rpartition(":")[2], 16), int(fields[9])
