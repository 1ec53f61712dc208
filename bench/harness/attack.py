"""Clients beside windows: started, watched, and stopped before they take the machine.

Knows how to talk with load/hostile.c and load/download.c; knows nothing of whom else the server
serves.
"""

import json
import subprocess
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from harness import cpu
from harness.load import LoadError
from harness.probe import LOOK_SECONDS, Watch
from servers.process import BENCH, Server

GIB = 1 << 30
MOST_RESIDENT = 4 * GIB  # a server that holds more is let go of
STOP_SECONDS = 30.0


class Attack:
    """Clients of a server, from `__enter__` until `stop` or until there is too much."""

    def __init__(
        self,
        server: Server,
        watch: Watch,
        most: int = MOST_RESIDENT,
        generator: str = "hostile",
        **options: int,
    ) -> None:
        self._watch = watch
        self._most = most
        self._generator = generator
        self._command = [str(BENCH / "_build" / generator), f"--host={server.host}"]
        self._command += [f"--port={server.port}"]
        self._command += [f"--{name}={value}" for name, value in options.items()]
        self.stopped_after: float | None = None  # seconds, when there was too much

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        self._began = time.monotonic()
        self._say()  # it need not wait for us once it is ready
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def watch(self, seconds: float) -> float:
        """Look for so long at what the server holds; return the CPU that the clients took."""
        if self.stopped_after is not None:
            return 0.0
        before, end = self._cpu(), time.monotonic() + seconds
        while time.monotonic() < end and self.stopped_after is None:
            used = self._cpu() - before
            if self._watch.resident(self._watch.look()) > self._most:
                self.stopped_after = time.monotonic() - self._began
                self._process.kill()
            elif self._process.poll() is not None:
                died = self._process.communicate()[1].strip() or "died"
                raise LoadError(f"{self._generator}: {died}")
            time.sleep(LOOK_SECONDS)
        return used

    def stop(self) -> dict[str, Any] | None:
        """End the attack; what the clients saw, or None where they had been stopped before."""
        if self.stopped_after is not None:
            return None
        self._say()
        try:
            output, error = self._process.communicate("\n", timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired as late:
            raise LoadError(f"{self._generator}: not connected when it was to stop") from late
        lines = output.splitlines()
        if len(lines) < 2:
            raise LoadError(f"{self._generator}: {error.strip()}")
        figures: dict[str, Any] = json.loads(lines[1])
        return figures

    def _cpu(self) -> float:
        return cpu.of(self._process.pid)

    def _say(self) -> None:
        assert self._process.stdin
        with suppress(BrokenPipeError):  # whoever waits for its word hears why it died
            self._process.stdin.write("\n")
            self._process.stdin.flush()
