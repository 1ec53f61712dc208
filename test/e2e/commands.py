"""The command `hornbeam` as a test runs it: a process, what it shows, and whom it leaves behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
from harness import APPS, DEADLINE, PYTHON, alive, eventually, kill_quietly, marked

WORDS = [PYTHON, "-m", "hornbeam_erlang"]

LISTENING = re.compile(r"listening on (\S+)")


class Address:
    """What a client of the harness's kind needs of a server."""

    def __init__(self, url: str) -> None:
        self.host, self.port = url.removeprefix("http://").rsplit(":", 1)

    def connect(self, timeout: float = DEADLINE) -> socket.socket:
        return socket.create_connection((self.host, int(self.port)), timeout)


class Running:
    """One run of the command in a folder, with a file for each of its outputs."""

    def __init__(self, folder: Path, *words: object, before=(), variables=(), out=None,
                 keep=()) -> None:  # fmt: skip
        self.folder = folder
        self.notes = folder / "notes"
        marker = f"HORNBEAM_E2E={uuid.uuid4().hex}"
        self.marker = marker
        name, value = marker.split("=")
        unwanted = ("PYTHON", "HORNBEAM", "WEB_CONCURRENCY", "PORT", "FORWARDED")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
        with (folder / "out").open("wb") as file, (folder / "err").open("wb") as err:
            self.process = subprocess.Popen(
                [*map(str, before), *map(str, WORDS), *map(str, words)],
                cwd=folder,
                env=inherited
                | {name: value, "TRACE": str(self.notes), "PYTHONPATH": str(APPS)}
                | dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=file if out is None else out,
                stderr=err,
                start_new_session=True,
                pass_fds=keep,
            )

    @property
    def shown(self) -> str:
        """What the command has said on standard error; its end is the end of the command."""
        return (self.folder / "err").read_text()

    @property
    def printed(self) -> str:
        return (self.folder / "out").read_text()

    def address(self) -> str:
        """Wait until it listens; return where."""

        def listening() -> re.Match[str] | None:
            assert self.process.poll() is None, self.shown
            return LISTENING.search(self.shown)

        return eventually(listening)[1]

    def server(self) -> Address:
        return Address(self.address())

    def get(self, path: str = "/", **headers: str) -> httpx.Response:
        return httpx.get(self.address() + path, headers=headers, timeout=DEADLINE)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def status(self) -> int:
        return self.process.wait(60)

    # Its processes

    def pids(self) -> dict[int, str]:
        """Return all that came from it and live, with what they are."""
        found = {}
        for pid in marked(self.marker):
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
        return found

    def named(self, name: str) -> int:
        (pid,) = [pid for pid, comm in self.pids().items() if comm.startswith(name)]
        return pid

    def worker(self) -> int:
        """Wait until there is one worker, and no other that retires; return its process."""

        def workers() -> list[int]:
            return [pid for pid in self.pids() if b"hornbeam_erlang._worker" in words_of(pid)]

        return eventually(lambda: len(found := workers()) == 1 and found)[0]

    def gone(self) -> bool:
        return not self.pids()

    def zombies(self) -> list[int]:
        """Return the dead whom the command has not buried."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError):
                state, parent = stat(int(entry.name)) if entry.name.isdigit() else ("", 0)
                if state == "Z" and parent == self.process.pid:
                    found.append(int(entry.name))
        return found

    def close(self) -> None:
        for pid in marked(self.marker):
            kill_quietly(pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        eventually(self.gone)


def words_of(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def stat(pid: int) -> tuple[str, int]:
    """Return a process's state and its parent."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1])


@contextlib.contextmanager
def closing(running: Running) -> Iterator[Running]:
    try:
        yield running
    finally:
        running.close()


__all__ = ["LISTENING", "WORDS", "Running", "alive", "closing", "stat", "words_of"]
