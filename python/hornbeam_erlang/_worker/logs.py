"""What the app prints, logs and lets escape, as log messages to the BEAM.

Knows the standard library's streams and hooks; must not know pipes: lines go into a bounded
queue, whose owner is told by `notify` that there are some. Safe from any thread.
"""

import io
import logging
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

# What may wait while the BEAM takes no more; the rest is dropped and counted.
MAX_WAITING = 8 << 20

# The longest text of one log message, in characters.
MAX_TEXT = 65_536

# The level of what the app prints, between INFO and WARNING: OTP's `notice`, which its logger
# shows by default.
PRINTED = 25

Line = tuple[int, str, str]


class LogQueue:
    """Lines that wait to be sent: level, logger, text."""

    def __init__(self) -> None:
        self.notify: Callable[[], None] = lambda: None
        self._lines: deque[Line] = deque()
        self._waiting = 0
        self._lost = 0
        # Reentrant, because a signal handler or a finalizer may log inside of `put`.
        self._lock = threading.RLock()
        self._fd: int | None = None

    def divert(self, fd: int) -> None:
        """Write lines to a descriptor from now on: in a forked child, which has no wire."""
        self._fd = fd
        self._lock = threading.RLock()

    def put(self, level: int, logger: str, text: str) -> None:
        if self._fd is not None:
            os.write(self._fd, f"{quote_lines(text)}\n".encode(errors="backslashreplace"))
            return
        line = (max(level, 0), logger, clip(text))
        with self._lock:
            if self._waiting > MAX_WAITING:
                self._lost += 1
                return
            self._lines.append(line)
            self._waiting += len(line[2])
        self.notify()

    def take(self, size: int) -> list[Line]:
        """Return the next lines, up to about `size` characters."""
        lines: list[Line] = []
        with self._lock:
            while self._lines and size > 0:
                line = self._lines.popleft()
                lines.append(line)
                size -= len(line[2])
                self._waiting -= len(line[2])
            if self._lost and not self._lines:
                lines.append((logging.WARNING, "hornbeam.logs", f"{self._lost} log lines dropped"))
                self._lost = 0
        return lines

    def __bool__(self) -> bool:
        return bool(self._lines)


def clip(text: str) -> str:
    """Return the text, shortened in its middle if it is too long for a message."""
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def quote_line(text: str) -> str:
    """Return text from outside on one line, with what is not printable as Python shows it."""
    return text if text.isprintable() else repr(text)[1:-1]


def quote_lines(text: str) -> str:
    """Return text as the node shows it: lines after the first are indented, so that none of them
    passes for another event.
    """
    return "\n    ".join(map(quote_line, text.rstrip("\n").split("\n")))


class Handler(logging.Handler):
    """Sends the records that reach the root logger."""

    def __init__(self, queue: LogQueue) -> None:
        super().__init__()
        self._queue = queue

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._queue.put(record.levelno, record.name, text)


class _Lines(io.RawIOBase):
    """The bytes of a standard stream, cut into lines."""

    def __init__(self, queue: LogQueue, level: int, name: str, fd: int) -> None:
        self._queue = queue
        self._level = level
        self._name = name
        self._fd = fd
        self._rest = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """Return the node's own descriptor, for a program that the app starts with it."""
        return self._fd

    def isatty(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        if len(self._rest) > MAX_TEXT:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._put(line)
        return len(data)

    def finish(self) -> None:
        """Send what has no line end yet."""
        if self._rest:
            self._put(self._rest)
            self._rest = b""

    def _put(self, line: bytes) -> None:
        self._queue.put(self._level, self._name, line.decode("utf-8", "backslashreplace"))


class _Stream(io.TextIOWrapper):
    """sys.stdout or sys.stderr of a worker."""

    def __init__(self, queue: LogQueue, level: int, name: str, fd: int) -> None:
        self._lines = _Lines(queue, level, name, fd)
        super().__init__(
            io.BufferedWriter(self._lines),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )

    def finish(self) -> None:
        self.flush()
        self._lines.finish()


class Capture:
    """Everything that is replaced in this process, and how it is put back."""

    def __init__(self, queue: LogQueue) -> None:
        self._queue = queue
        self._handler = Handler(queue)
        self._stdout = _Stream(queue, PRINTED, "stdout", 1)
        self._stderr = _Stream(queue, logging.WARNING, "stderr", 2)

    def install(self) -> None:
        sys.stdout, sys.stderr = self._stdout, self._stderr
        root = logging.getLogger()
        root.addHandler(self._handler)
        # `logging.basicConfig` does nothing once there is a handler, so INFO is let through
        # here; the BEAM's logger has levels of its own.
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        sys.excepthook = self._uncaught
        sys.unraisablehook = self._unraisable
        threading.excepthook = self._thread_died

    def finish(self) -> None:
        """Send what was printed without a line end."""
        self._stdout.finish()
        self._stderr.finish()

    def restore(self) -> None:
        """Leave the standard streams to a forked child, which has no wire."""
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        logging.getLogger().removeHandler(self._handler)
        sys.excepthook = sys.__excepthook__
        sys.unraisablehook = sys.__unraisablehook__
        threading.excepthook = threading.__excepthook__

    def _uncaught(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        self._put_error("uncaught exception", kind, error, trace)

    def _unraisable(self, args: Any) -> None:
        title = f"{args.err_msg or 'Exception ignored in'}: {args.object!r}"
        self._put_error(title, args.exc_type, args.exc_value, args.exc_traceback)

    def _thread_died(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            name = args.thread.name if args.thread else "unknown"
            title = f"exception in thread {name}"
            self._put_error(title, args.exc_type, args.exc_value, args.exc_traceback)

    def _put_error(
        self,
        title: str,
        kind: type[BaseException],
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lines = traceback.format_exception(kind, error, trace)
        self._queue.put(logging.ERROR, "hornbeam.python", f"{title}\n{''.join(lines)}".rstrip())
