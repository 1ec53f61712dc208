"""A WSGI app (PEP 3333) as one that speaks ASGI: called in threads, heard in the loop.

                    body ◀── asked for ──┐
    the app, in a thread ── parts ──▶ its task, in the loop ──▶ send
                    room ◀── when sent ──┘

Knows threads, the loop and ASGI's HTTP events; must not know the wire. A thread cannot be
cancelled. So one whose client has gone hears of that when it gives or asks for something next, and
its request is over, with its place in the worker, when the thread is through.
"""

import asyncio
import concurrent.futures
import io
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, TextIO
from wsgiref.util import FileWrapper

from hornbeam_erlang._asgi.environ import make_environ
from hornbeam_erlang._asgi.response import BODILESS
from hornbeam_erlang._asgi.scope import Event, Receive, Send
from hornbeam_erlang._wire.text import quote_line
from hornbeam_erlang._worker.crew import Crew
from hornbeam_erlang._worker.logs import Log
from hornbeam_erlang.exceptions import ClientDisconnected

# What a thread may have given without its being sent (bytes), and how much is read of a file at
# a time: what travels as one message.
AHEAD = 65_536

_log = Log("hornbeam.app")

Environ = dict[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
StartResponse = Callable[..., Callable[[bytes], None]]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]

# Status and headers; only the first part of a response has them.
Head = tuple[int, list[tuple[bytes, bytes]]]
Part = tuple[Head | None, bytes, bool]

# Of whoever waits for the next piece of the request's body.
Question = concurrent.futures.Future[Event]


class Wsgi:
    """A WSGI app, its threads, and what they do."""

    def __init__(
        self, app: WsgiApp, loop: asyncio.AbstractEventLoop, threads: int, errors: TextIO
    ) -> None:
        self._app = app
        self._loop = loop
        self._threads = threads
        self._crew = Crew(loop, threads, "hornbeam-wsgi", stays=True)
        self._own = {
            "wsgi.version": (1, 0),
            "wsgi.errors": errors,
            "wsgi.multithread": threads > 1,
            # Another worker may always be there: one takes the other's place at a reload.
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            # A body ends where it ends, and not only after CONTENT_LENGTH: it may have none.
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": Blocks,
        }
        self._in_threads: set[Exchange] = set()
        self._steps = itertools.count()
        self._stood: set[int] = set()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise TypeError(f"a WSGI app takes no part in {scope['type']}")
        environ = make_environ(scope, self._own)
        exchange = Exchange(self._loop, self._crew, self._steps, scope)
        body = await _body(environ, receive, exchange)
        if body is None:  # the client has gone before its request was whole
            return
        environ["wsgi.input"] = body
        work = partial(copy_context().run, self._run, exchange, environ)
        self._crew.submit(work, exchange.ended)
        await exchange.serve(receive, send)

    def _run(self, exchange: "Exchange", environ: Environ) -> list[BaseException]:
        """Call the app, in a thread; return what it has raised, if anything."""
        self._in_threads.add(exchange)
        try:
            exchange.run(self._app, environ)
        except BaseException as error:  # also SystemExit: it is one request's, not the worker's
            return [error]
        finally:
            self._in_threads.discard(exchange)
        return []

    def is_stuck(self) -> bool:
        """Tell whether no thread is free, and none has done anything since this was asked before.

        One that waits for its client is not stuck: another worker would have to wait as well.
        """
        busy = [exchange for exchange in list(self._in_threads) if not exchange.waits]
        before, self._stood = self._stood, {exchange.step for exchange in busy}
        return len(busy) >= self._threads and self._stood == before


class Exchange:
    """One request and its response, between the app's thread and the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        crew: Crew,
        steps: "itertools.count[int]",
        scope: dict[str, Any],
    ) -> None:
        self._loop = loop
        self._crew = crew
        self._steps = steps
        # The thread's last one, of all that the app's threads have made.
        self.step = next(steps)
        # Whether the thread waits for the client.
        self.waits = False
        # The thread's: what the app has said of its response.
        self._to_head = scope["method"] == "HEAD"
        self._path = scope["path"]
        self._head: Head | None = None
        self._is_head_all = False
        self._is_file = False
        self._has_begun = False
        self._is_complete = False
        self._left: int | None = None
        # Bytes that the thread has given, and that the loop has sent: each counts by itself.
        self._given = 0
        self._sent = 0
        self._room: threading.Event | None = None
        # The loop's: what the thread has given or asked for, and how it ended.
        self._items: deque[Part | Question] = deque()
        self._item: Part | Question | None = None
        self._bell: asyncio.Future[None] | None = None
        self._outcome: list[BaseException] | None = None
        # Why nothing can be sent or read any more.
        self._gone = False

    # In the thread

    def run(self, app: WsgiApp, environ: Environ) -> None:
        answer = app(environ, self.start_response)
        self._is_file = isinstance(answer, Blocks)
        try:
            if type(answer) is list or type(answer) is tuple:
                self._finish(b"".join(answer))
                return
            for part in answer:
                if not self._pass_on(part):
                    break
            self._finish(b"")
        finally:
            if (close := getattr(answer, "close", None)) is not None:
                close()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Take status and headers, which go with the first part of the body; return `write`."""
        if exc_info is not None:
            try:
                if self._has_begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # or its frames would hold themselves
        elif self._head is not None:
            raise RuntimeError("start_response a second time, and without exc_info")
        self._head = _status(status), [_header(name, value) for name, value in headers]
        self._is_head_all = self._to_head or self._head[0] in BODILESS
        self._left = None if self._is_head_all else _promised(self._head[1])
        return self.write

    def _pass_on(self, part: bytes) -> bool:
        """Send what the app yields; return whether any more is wanted.

        Past its Content-Length nothing is sent, nor asked for (PEP 3333); nor is of a body that
        nobody gets, which may have no end.
        """
        _check_part(part)
        sent = self._within_promise(part)
        self.write(sent)
        return sent is part and not (self._is_head_all and self._has_begun)

    def _within_promise(self, part: bytes) -> bytes:
        left = self._left
        if left is None or len(part) <= left:
            return part
        if not self._is_file:  # one may have grown since its length was looked up
            path = quote_line(self._path)
            _log.warning(f"http {path}: what the app gave past its Content-Length is dropped")
        return part[:left]

    def write(self, part: bytes) -> None:
        """Send a part of the body, at once but for what the client has no room for."""
        _check_part(part)
        if not part:
            return
        left = self._left
        if left is not None:
            if len(part) > left:
                raise RuntimeError(f"the body is {len(part) - left} bytes longer than promised")
            self._left = left - len(part)
        self._give(part, more=left is None or len(part) < left)
        if self._given - self._sent > AHEAD:
            self._wait_for_room()

    def _finish(self, part: bytes) -> None:
        if part and self._left is not None:
            self.write(self._within_promise(part))
        if not self._is_complete:
            self._give(b"" if self._left is not None else part, more=False)

    def _give(self, part: bytes, *, more: bool) -> None:
        head = None if self._has_begun else self._head
        if head is None and not self._has_begun:
            raise RuntimeError("the app has not called start_response")
        if self._gone:
            raise _gone()
        self._has_begun = True
        self._is_complete = not more
        self._given += len(part)
        self.step = next(self._steps)
        self._crew.tell(self._take, (head, part, more))

    def _wait_for_room(self) -> None:
        room = self._room = threading.Event()
        self.waits = True
        while self._given - self._sent > AHEAD and not self._gone:
            room.wait()
            room.clear()  # what is sent from now on sets it again
        self.waits = False
        self.step = next(self._steps)
        if self._gone:
            raise _gone()

    def read(self) -> Event:
        """Return the next piece of the request's body, as an event."""
        question: Question = concurrent.futures.Future()
        self.waits = True
        self._crew.tell(self._take, question)
        try:
            return question.result()
        finally:
            self.waits = False
            self.step = next(self._steps)

    # In the loop

    async def serve(self, receive: Receive, send: Send) -> None:
        """Send what the thread gives, and read what it asks for, until it is through."""
        failure: list[BaseException] = []
        try:
            while (item := await self._next()) is not None:
                try:
                    if isinstance(item, tuple):
                        await self._send(item, send)
                    else:
                        _answer(item, await receive())
                except Exception as error:  # what the app has said cannot be sent, or to nobody
                    failure = failure or [error]
                    self._close()
        finally:
            self._close()
        assert self._outcome is not None
        told = _most_telling(self._outcome, failure)
        # A frame that holds what it raises is a circle.
        failure.clear()
        self._outcome.clear()
        if told:
            raise told.pop()

    async def _next(self) -> Part | Question | None:
        """Return what the thread has given or asked for; None when it is through."""
        self._item = None
        while not self._items:
            if self._outcome is not None:
                return None
            self._bell = self._loop.create_future()
            await self._bell
        self._item = self._items.popleft()
        return self._item

    async def _send(self, part: Part, send: Send) -> None:
        head, body, more = part
        if head is not None:
            status, headers = head
            await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": more})
        self._sent += len(body)
        if self._room is not None:
            self._room.set()

    def _take(self, item: Part | Question) -> None:
        if not self._gone:
            self._items.append(item)
            self._ring()
        elif not isinstance(item, tuple):
            item.set_exception(_gone())

    def ended(self, outcome: list[BaseException]) -> None:
        """Hear that the thread is through, and what the app has raised."""
        self._outcome = outcome
        self._ring()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    def _close(self) -> None:
        """Let the thread know that nothing can be sent or read any more."""
        self._gone = True
        for item in [self._item, *self._items]:
            if isinstance(item, concurrent.futures.Future) and not item.done():
                item.set_exception(_gone())
        self._items.clear()
        if self._room is not None:
            self._room.set()


class Body(io.RawIOBase):
    """A request's body that is not all here yet, for `io.BufferedReader`."""

    def __init__(self, exchange: Exchange, begin: bytes = b"") -> None:
        self._exchange = exchange
        self._piece = memoryview(begin)
        self._more = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._piece and self._more:
            event = self._exchange.read()
            self._piece, self._more = memoryview(event["body"]), event["more_body"]
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size


async def _body(environ: Environ, receive: Receive, exchange: Exchange) -> io.IOBase | None:
    """Return a request's body as a file; None if its client has gone.

    The node has gathered a small one, or the begin of another, before it has asked for a thread.
    One that the client holds back until it is asked for (Expect) is asked for by the app.
    """
    if "HTTP_EXPECT" in environ:
        return io.BufferedReader(Body(exchange), AHEAD)
    event = await receive()
    if event["type"] == "http.disconnect":
        return None
    if not event["more_body"]:
        return io.BytesIO(event["body"])
    return io.BufferedReader(Body(exchange, event["body"]), AHEAD)


class Blocks(FileWrapper):
    """wsgi.file_wrapper: a file in blocks, as large as a message where nobody has to wait for that.

    Of what grows, such as a pipe, all that is there is a block.
    """

    def __init__(self, filelike: Any, blksize: int = AHEAD) -> None:
        is_whole = getattr(filelike, "seekable", bool)()
        super().__init__(filelike, max(blksize, AHEAD) if is_whole else blksize)
        grows = isinstance(filelike, io.BufferedReader) and not is_whole
        self._growing = filelike if grows else None

    def __next__(self) -> bytes:
        if self._growing is None:
            return super().__next__()
        if part := self._growing.read1(AHEAD):
            return bytes(part)
        raise StopIteration


def _answer(question: Question, event: Event) -> None:
    if event["type"] == "http.disconnect":
        question.set_exception(_gone())
    else:
        question.set_result(event)


def _most_telling(raised: list[BaseException], failure: list[BaseException]) -> list[BaseException]:
    """Return, of what the app has raised and what kept us from sending, what is not its echo."""
    own = [error for error in raised if not isinstance(error, ClientDisconnected)]
    return own or failure.copy() or raised.copy()


def _gone() -> ClientDisconnected:
    return ClientDisconnected("the client has disconnected")


def _check_part(part: bytes) -> None:
    if not isinstance(part, bytes):
        raise TypeError(f"a part of a body is bytes, not {type(part).__name__}")


def _promised(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Return how long a body is to be, where that is said."""
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else None


def _status(status: str) -> int:
    if not isinstance(status, str):
        raise TypeError(f"a status is a str such as '200 OK', not {type(status).__name__}")
    code = status.partition(" ")[0]
    if not (code.isascii() and code.isdigit()):
        raise ValueError(f"a status is like '200 OK', not {status!r}")
    return int(code)


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    if not (isinstance(name, str) and isinstance(value, str)):
        kinds = f"{type(name).__name__} and {type(value).__name__}"
        raise TypeError(f"a header is a name and a value, both str, not {kinds}")
    return name.encode("latin-1"), value.encode("latin-1")
