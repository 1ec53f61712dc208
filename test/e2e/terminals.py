"""A program in a terminal of its own, where Ctrl-C goes to all processes in the foreground."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
from collections.abc import Mapping, Sequence

from harness import DEADLINE, eventually

PATIENCE = 60
"""Seconds for a program to end that was asked to."""

ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)
"""What a terminal or a person sends; a child ignores what who runs the tests ignores."""


class Terminal:
    def __init__(self, words: Sequence[object], variables: Mapping[str, str] | None = None) -> None:
        self.shown = b""
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            for number in ENDING:
                signal.signal(number, signal.SIG_DFL)
            os.environ.update(variables or {})
            os.execv(str(words[0]), [str(word) for word in words])

    def shows(self, wanted: bytes) -> None:
        """Read on until the screen shows something."""
        while wanted not in self.shown:
            readable, _, _ = select.select([self.screen], [], [], DEADLINE)
            assert readable, self.shown
            self.shown += os.read(self.screen, 4096)

    def types(self, keys: bytes) -> None:
        os.write(self.screen, keys)

    def hang_up(self) -> None:
        os.close(self.screen)
        self.screen = -1

    def status(self) -> int:
        """Wait for the end; return the exit status."""
        _, status = eventually(self._ended, PATIENCE)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def _ended(self) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            while self.screen >= 0 and select.select([self.screen], [], [], 0)[0]:
                self.shown += os.read(self.screen, 4096)
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return (pid, status) if pid else None

    def close(self) -> None:
        if self.pid:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self.screen >= 0:
            os.close(self.screen)
