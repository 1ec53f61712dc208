"""What the app prints, logs and lets escape, as log messages to the BEAM.

The app's logging is the app's: no handler of ours is in its way. What nobody else would show has
one, where `logging` itself has its handler of last resort; so have the loggers of servers. What
handlers of the app write to the standard streams comes here as what it prints does.

Knows the standard library's streams and hooks; must not know pipes: lines go into a bounded
queue, and who listens to it is told that there are some. Safe from any thread.
"""

import asyncio
import contextlib
import io
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from hornbeam_erlang._wire.text import MAX_TEXT, clip, clip_name, quote_lines
from hornbeam_erlang._worker.failure import describe

# What may wait while the BEAM takes no more; the rest is dropped and counted.
MAX_WAITING = 8 << 20

# The level of what the app prints, between INFO and WARNING: OTP's `notice`, which its logger
# shows by default.
PRINTED = 25

# Python has no highest level, the wire has.
MAX_LEVEL = 1 << 31

# Loggers that a server has: ours, and those to which apps turn that were written for another one.
# None of them is the root's business.
SERVERS = ("hornbeam", "uvicorn", "gunicorn.error")

Line = tuple[int, str, str]


class LogQueue:
    """Lines that wait to be sent: level, logger, text."""

    def __init__(self) -> None:
        self._notify: Callable[[], None] | None = None
        self._lines: deque[Line] = deque()
        self._waiting = 0
        self._dropped = 0
        # Reentrant, because a signal handler or a finalizer may log inside of `put`.
        self._lock = threading.RLock()
        self._fd: int | None = None

    def listen(self, notify: Callable[[], None]) -> None:
        """Let `notify` be called for each line, in the thread that puts it."""
        self._notify = notify

    def divert(self, fd: int) -> None:
        """Write lines to a descriptor from now on: in a forked child, which has no wire."""
        self._fd = fd
        self._lock = threading.RLock()

    def put(self, level: int, logger: str, text: str) -> None:
        if self._fd is not None:
            os.write(self._fd, f"{quote_lines(text)}\n".encode(errors="backslashreplace"))
            return
        line = (min(max(level, 0), MAX_LEVEL), clip_name(logger), clip(text))
        with self._lock:
            if self._waiting > MAX_WAITING:
                self._dropped += 1
                return
            self._lines.append(line)
            self._waiting += len(line[2])
        if self._notify is not None:
            self._notify()

    def take(self, size: int) -> list[Line]:
        """Return the next lines, up to about `size` characters."""
        lines: list[Line] = []
        with self._lock:
            while self._lines and size > 0:
                line = self._lines.popleft()
                lines.append(line)
                size -= len(line[2])
                self._waiting -= len(line[2])
            if self._dropped and not self._lines:
                lines.append(
                    (logging.WARNING, "hornbeam.logs", f"{self._dropped} log lines dropped")
                )
                self._dropped = 0
        return lines

    def __bool__(self) -> bool:
        return bool(self._lines)


class LogHandler(logging.Handler):
    """Sends records with their level and logger, a traceback and all."""

    def __init__(self, queue: LogQueue, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._queue = queue

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == getattr(_offered, "logger", None):
            return
        try:
            self._queue.put(record.levelno, record.name, self.format(record))
        except Exception:
            self.handleError(record)


# What is offered to `logging` in this thread: its logger, and what handlers have written of it.
_offered = threading.local()


@contextlib.contextmanager
def _offer(logger: str) -> Iterator[list[bytes]]:
    """Let `logging` do with what is logged in here what the app has made of it.

    An app may disable loggers, take handlers away, and put filters and handlers there that raise.
    What its handlers write to the standard streams is collected.
    """
    before = (getattr(_offered, "logger", None), getattr(_offered, "written", None))
    _offered.logger, _offered.written = logger, []
    try:
        yield _offered.written
    except BaseException:  # nothing of it is ours: the node is told
        return
    finally:
        _offered.logger, _offered.written = before


def _is_shown(text: str, written: list[bytes]) -> bool:
    """Whether the app's own handlers have shown a text; in doubt it was not.

    Whatever their format, how it begins is there, and what its last line is about.
    """
    shown = b"".join(written).decode(errors="replace")
    first, last = text.partition("\n")[0], text.rpartition("\n")[2].partition(":")[0]
    return first in shown and last in shown


class Log:
    """A logger of ours: what it says of the app is seen whatever the app has made of `logging`.

    It is the node's to log, unless a handler that the app has given to our loggers shows it.
    """

    # Where to, once this process speaks to a node.
    queue: LogQueue | None = None

    def __init__(self, name: str) -> None:
        self._name = name
        self._logger = logging.getLogger(name)

    def info(self, text: str) -> None:
        with _offer(""):
            self._logger.info("%s", text)

    def warning(self, text: str) -> None:
        self._say(logging.WARNING, text)

    def error(self, text: str) -> None:
        self._say(logging.ERROR, text)

    def critical(self, text: str) -> None:
        self._say(logging.CRITICAL, text)

    def _say(self, level: int, text: str) -> None:
        with _offer(self._name) as written:
            self._logger.log(level, "%s", text)
        if Log.queue is not None and not _is_shown(text, written):
            Log.queue.put(level, self._name, text)


_TRACEBACK = b"Traceback (most recent call last):"

_CAUSES = (b"direct cause of the following exception:", b"another exception occurred:")


def _goes_on(lines: bytes) -> bool:
    """Whether lines end inside of a traceback: it may be printed in pieces."""
    if _TRACEBACK not in lines and not lines.rstrip().endswith(_CAUSES):
        return False
    last = lines.rstrip(b"\n").rpartition(b"\n")[2]
    return last.startswith((b" ", _TRACEBACK)) or last.endswith(_CAUSES)


def _portions(lines: bytes) -> Iterator[bytes]:
    """Cut lines where no message could hold them all."""
    while len(lines) > MAX_TEXT:
        cut = lines.rfind(b"\n", 0, MAX_TEXT)
        if cut < 0:
            cut = lines.find(b"\n")
        if cut < 0:
            break
        yield lines[:cut]
        lines = lines[cut + 1 :]
    yield lines


class _Lines(io.RawIOBase):
    """The bytes of a standard stream: what is written at once is one message, in whole lines."""

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
        if (written := getattr(_offered, "written", None)) is not None:
            written.append(bytes(data))
        lines, end, rest = (self._rest + bytes(data)).rpartition(b"\n")
        if end and _goes_on(lines) and len(lines) < MAX_TEXT:
            lines, end, rest = b"", b"", lines + end + rest
        if len(rest) > MAX_TEXT:
            lines, end, rest = lines + end + rest, b"\n", b""
        self._rest = rest
        if end:
            self._put(lines)
        return len(data)

    def finish(self) -> None:
        """Send what has no line end yet."""
        if self._rest:
            self._put(self._rest.removesuffix(b"\n"))
            self._rest = b""

    def _put(self, lines: bytes) -> None:
        for portion in _portions(lines):
            self._queue.put(self._level, self._name, portion.decode("utf-8", "backslashreplace"))


class _Stream(io.TextIOWrapper):
    """sys.stdout or sys.stderr of a worker."""

    def __init__(self, queue: LogQueue, level: int, name: str, fd: int) -> None:
        self._lines = _Lines(queue, level, name, fd)
        self._bytes = io.BufferedWriter(self._lines)
        super().__init__(
            self._bytes,
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )

    def finish(self) -> None:
        try:
            self._bytes.flush()
        finally:
            self._lines.finish()


class Capture:
    """Everything that is replaced in this process, and how it is put back."""

    def __init__(self, queue: LogQueue) -> None:
        self._queue = queue
        self._last_resort = logging.lastResort
        self._stdout = _Stream(queue, PRINTED, "stdout", 1)
        self._stderr = _Stream(queue, logging.WARNING, "stderr", 2)
        # What WSGI apps report errors to.
        self.errors = _Stream(queue, logging.ERROR, "wsgi.errors", 2)

    def install(self) -> None:
        Log.queue = self._queue
        sys.stdout, sys.stderr = self._stdout, self._stderr
        logging.lastResort = LogHandler(self._queue, logging.WARNING)
        handler = LogHandler(self._queue)
        for name in SERVERS:
            logger = logging.getLogger(name)
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            logger.propagate = False
        sys.excepthook = self._uncaught
        sys.unraisablehook = self._unraisable
        threading.excepthook = self._thread_died

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take what a loop has to tell, above all of tasks whose exception nobody has fetched."""
        loop.set_exception_handler(self._failed_in_loop)

    def finish(self) -> None:
        """Send what was printed without a line end.

        An app may have closed or detached the streams, or put others in their place.
        """
        for stream in (sys.stdout, sys.stderr, self._stdout, self._stderr, self.errors):
            with contextlib.suppress(BaseException):
                stream.flush()
        for ours in (self._stdout, self._stderr, self.errors):
            with contextlib.suppress(BaseException):
                ours.finish()

    def restore(self) -> None:
        """Leave the standard streams to a forked child, which has no wire."""
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        logging.lastResort = self._last_resort
        sys.excepthook = sys.__excepthook__
        sys.unraisablehook = sys.__unraisablehook__
        threading.excepthook = threading.__excepthook__

    def _uncaught(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        self._put_error("uncaught exception", error)

    def _unraisable(self, args: Any) -> None:
        self._put_error(
            f"{args.err_msg or 'Exception ignored in'}: {args.object!r}", args.exc_value
        )

    def _thread_died(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            name = args.thread.name if args.thread else "unknown"
            self._put_error(f"exception in thread {name}", args.exc_value)

    def _failed_in_loop(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        text = _with_traceback(_title(context), context.get("exception"))
        with _offer("asyncio") as written:
            loop.default_exception_handler(context)
        if not _is_shown(text, written):
            self._queue.put(logging.ERROR, "asyncio", text)

    def _put_error(self, title: str, error: BaseException | None) -> None:
        self._queue.put(logging.ERROR, "hornbeam.python", _with_traceback(title, error))


def _with_traceback(title: str, error: BaseException | None) -> str:
    trace = "" if error is None else describe(error).traceback
    return f"{title}\n{trace}".rstrip()


# What has no place in the title of what a loop tells.
_UNTITLED = frozenset({"message", "exception", "source_traceback", "handle_traceback"})


def _title(context: dict[str, Any]) -> str:
    """Return what a loop has to tell beside an exception: of which task, callback or generator."""
    lines = [str(context.get("message") or "Unhandled exception in event loop")]
    lines += [f"{key}: {_shown(context[key])}" for key in sorted(context.keys() - _UNTITLED)]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except BaseException as broken:
        return f"<{type(broken).__name__} in __repr__>"
