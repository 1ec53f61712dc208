"""The two pipes, moved by the loop, or by hand while no loop runs or an op blocks it.

Knows descriptors, the loop and threads; must not know ASGI: messages go to a receiver, in
their order.

One thread owns the endpoint. While the loop runs it is the loop's, and others hand over to
it; before and after, it is whoever holds the lock.
"""

import asyncio
import contextlib
import contextvars
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, Protocol

from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.endpoint import CHUNK, Endpoint
from hornbeam_erlang._wire.fair import Teller
from hornbeam_erlang._wire.packets import Packet
from hornbeam_erlang._worker.failure import describe
from hornbeam_erlang._worker.logs import Log, LogQueue
from hornbeam_erlang._worker.process import FROM_BEAM, PROTOCOL_ERROR, TO_BEAM, exit_without_beam

READ_SIZE = 1 << 20

# How much of the log goes into the pipe at once, so that a flood leaves room for the streams.
LOG_CHUNK = 65_536

# The bytes of ops of which nobody asks that wait for the end of a turn: of more, Erlang does some
# while the turn goes on.
EARLY = 16_384

# How long the last lines may take to be written, in seconds.
LAST_WORDS = 2.0

_log = Log("hornbeam.wire")


class Receiver(Protocol):
    """Who takes the messages while the loop runs."""

    def dispatch(self, messages: Iterable[Packet]) -> None:
        """Take messages in their order."""


class Pipes:
    """The worker's pipes."""

    def __init__(self, logs: LogQueue) -> None:
        self._endpoint = Endpoint()
        self._logs = logs
        logs.listen(self._notify)
        # One buffer for all reads: a new one of this size costs more than the read.
        self._buffer = bytearray(READ_SIZE)
        self._view = memoryview(self._buffer)
        self._unwritten: memoryview | None = None
        self._flush_scheduled = False
        self._catch_up_scheduled = False
        # Set while our state is between two bytes, when a finalizer must not start an op.
        self.busy = False
        self.backlog: deque[Packet] = deque()
        # Who takes messages as they come, also while an op blocks the loop, by their codes.
        self._at_once: dict[int, Callable[[Packet], None]] = {}
        # Called when more ops may be sent of which nobody asks.
        self.on_room: Callable[[], None] = lambda: None
        # What other threads have had sent, and how it is taken: it comes before what we write.
        self.inbox: deque[Any] = deque()
        self.take_inbox: Callable[[], None] = lambda: None
        self.owner: int | None = None
        self.lock = threading.RLock()
        self._poll = select.poll()
        self._poll.register(FROM_BEAM, select.POLLIN)
        # Known from `start` on.
        self.loop: asyncio.AbstractEventLoop
        self._receiver: Receiver
        # What runs between the turns of an app's task must not run in that task's context.
        self._context: contextvars.Context

    # The loop

    def start(self, loop: asyncio.AbstractEventLoop, receiver: Receiver) -> None:
        """Hand the pipes to the loop; called in the thread in which it will run."""
        with self.lock:
            self.loop = loop
            self._call_soon = loop.call_soon
            self._receiver = receiver
            self._context = contextvars.copy_context()
            self.owner = threading.get_ident()
        loop.add_reader(FROM_BEAM, self._on_readable)
        loop.call_soon(self._catch_up)

    def stop(self) -> None:
        """Take the pipes back from the loop, if it had them."""
        if self.owner is None:
            return
        self.loop.remove_reader(FROM_BEAM)
        self.loop.remove_writer(TO_BEAM)
        with self.lock:
            self.owner = None

    def write(self, message: bytes) -> None:
        """Send a message at the end of this turn of the loop, with all others of the turn."""
        # `schedule_flush` is written out: this runs once for each message.
        if self.inbox:
            self.take_inbox()
        self._endpoint.send(message)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._call_soon(self.flush)

    def write_ended(self, stream: int) -> None:
        """Say in the same way that a stream's handler has returned."""
        if self.inbox:
            self.take_inbox()
        self._endpoint.send_ended(stream)
        self.schedule_flush()

    def write_payload(self, code: int, stream: int, payload: bytes) -> None:
        """Send a text or binary for a client in the same way."""
        if self.inbox:
            self.take_inbox()
        self._endpoint.send_payload(code, stream, payload)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._call_soon(self.flush)

    def send_op(self, message: bytes, stream: int) -> None:
        """Queue an op for the next write."""
        self._endpoint.send_op(message, stream)

    def send_first(self, message: bytes, stream: int) -> None:
        """Queue an op before whose `release` nothing else of its stream is written."""
        self._endpoint.send_first(message, stream)

    def release(self, stream: int) -> None:
        """Let what was held of a stream be written."""
        self._endpoint.release(stream)
        if self.owner is not None:
            self.schedule_flush()

    @property
    def may_tell(self) -> bool:
        """Tell whether one more op may be sent of which nobody asks."""
        return self._endpoint.may_tell

    def tell(self, teller: Teller, message: bytes, stream: int, is_asked: bool = False) -> None:
        """Send an op of which nobody asks, at the end of this turn of the loop.

        Of many, some are written before: of those the tellers have been dropped that will be.
        """
        endpoint = self._endpoint
        if endpoint.tell_bytes > EARLY and self._unwritten is None and self.owner is not None:
            self._write_early()
        endpoint.send_tell(teller, message, stream, is_asked)
        if self.owner is None:
            self._write_some()
        elif not self._flush_scheduled:
            self._flush_scheduled = True
            self._call_soon(self.flush)

    def _write_early(self) -> None:
        if not self._write_some():
            self.loop.add_writer(TO_BEAM, self._on_writable)

    def answer(self, message: bytes) -> None:
        """Send a message about the worker past those that wait; the BEAM waits for it."""
        self._endpoint.send_op(message, 0)
        self.schedule_flush()

    def schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._call_soon(self.flush)

    def flush(self) -> None:
        self._flush_scheduled = False
        if self._unwritten is None:
            self._write_early()

    def _on_writable(self) -> None:
        if self._write_some():
            self.loop.remove_writer(TO_BEAM)
            self.on_room()

    def _on_readable(self) -> None:
        if self.backlog:
            self.backlog.extend(self._read())
            self._dispatch(_drain(self.backlog))
        else:
            self._dispatch(self._read())
        # What handlers say at once leaves in the turn in which they do, and not in the next one.
        self.schedule_flush()

    def _dispatch(self, messages: Iterable[Packet]) -> None:
        self.busy = True
        try:
            self._receiver.dispatch(messages)
        except Exception as error:  # whatever it is, what follows cannot be trusted
            self._exit(error)
        finally:
            self.busy = False

    def schedule_catch_up(self) -> None:
        if self.backlog or self._unwritten is not None:
            if not self._catch_up_scheduled:
                self._catch_up_scheduled = True
                self.loop.call_soon(self._catch_up, context=self._context)
        elif self._endpoint.writable or self._logs:
            # The reply has come together with credit for what waits.
            self.schedule_flush()

    def _catch_up(self) -> None:
        """Do what was left while the loop stood still."""
        self._catch_up_scheduled = False
        self._dispatch(_drain(self.backlog))
        if self._unwritten is not None:
            self.loop.add_writer(TO_BEAM, self._on_writable)
        self.schedule_flush()

    def _exit(self, error: Exception) -> NoReturn:
        """Exit after a protocol error: the BEAM starts a fresh worker."""
        trace = describe(error).traceback
        _log.critical(f"the BEAM sent what the wire does not know\n{trace}")
        self.busy = False
        self.stop()
        self._poll.unregister(FROM_BEAM)
        self.drain(LAST_WORDS)
        os._exit(PROTOCOL_ERROR)

    # Bytes

    def _read(self) -> Iterable[Packet]:
        try:
            size = os.readv(FROM_BEAM, [self._buffer])
        except BlockingIOError:
            return ()
        except OSError:  # the app has closed our end
            exit_without_beam()
        if size == 0:
            exit_without_beam()
        try:
            return self._endpoint.receive(self._view[:size])
        except Exception as error:  # longer than any message may be
            self._exit(error)

    def _write_some(self) -> bool:
        """Write what credit allows; return False when the pipe is full."""
        if self.busy:
            return True
        self.busy = True
        try:
            while data := self._unwritten or self._take():
                written = _write(data)
                if written < len(data):
                    self._unwritten = memoryview(data)[written:]
                    self._endpoint.take_turns()
                    return False
                if self._unwritten is None and written < CHUNK and not self._logs:
                    break  # there was no more to take
                self._unwritten = None
        finally:
            self.busy = False
        return True

    def _take(self) -> bytes:
        if self._logs and self._endpoint.credit > 0:
            for level, logger, text in self._logs.take(LOG_CHUNK):
                self._endpoint.send(packets.encode_log(level, logger, text))
        return self._endpoint.take()

    def take_at_once(self, handlers: dict[int, Callable[[Packet], None]]) -> None:
        """Let messages of these codes be taken as they come, whatever the loop does."""
        self._at_once.update(handlers)

    def open_window(self, size: int, tells: int) -> None:
        """Set the credit of the worker as a whole."""
        self._endpoint.open_window(size)
        self._endpoint.tells = tells

    def credit(self, size: int, tells: int) -> None:
        """Add to the credit of the worker as a whole."""
        self._add_credit(size, tells)
        self.schedule_flush()

    def _add_credit(self, size: int, tells: int) -> None:
        self._endpoint.credit += size
        if tells:
            self._endpoint.tells += tells
            self.on_room()

    def _notify(self) -> None:
        """Take note of new lines in the log; called in any thread."""
        owner = self.owner
        if owner is None:
            # What the pipe does not take at once goes with the next write.
            with self.lock:
                self._write_some()
        elif owner == threading.get_ident():
            self.schedule_flush()
        elif not self._flush_scheduled:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self.loop.call_soon_threadsafe(self.schedule_flush)

    # Without the loop

    def send(self, message: bytes) -> None:
        """Queue a message while no loop runs; `receive` and `drain` write it."""
        self._endpoint.send(message)

    def post(self, message: bytes) -> None:
        """Queue a message, whether the loop runs or not."""
        if self.owner is None:
            self.send(message)
        else:
            self.write(message)

    def receive(self) -> Packet:
        """Wait for a message that is no reply and no credit, while no loop runs."""
        with self.lock:
            self.pump(lambda: bool(self.backlog))
            return self.backlog.popleft()

    def drain(self, seconds: float) -> bool:
        """Write all that waits; return False if it was not possible in so many seconds."""
        with self.lock:
            return self.pump(self._drained, seconds)

    def _drained(self) -> bool:
        return self._unwritten is None and self._endpoint.idle and not self._logs

    def pump(
        self, done: Callable[[], bool], seconds: float | None = None, spin_until: int = 0
    ) -> bool:
        """Move bytes both ways until `done`; return False if the time is over before."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            full = not self._write_some()
            if done():
                return True
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            if self._comes(spin_until) or self._readable(full, left):
                self._sort(self._read())
                if done():  # at once: to look for what else could be written costs an op a tenth
                    return True

    def _comes(self, spin_until: int) -> bool:
        """Look for something to read until a moment, without a sleep."""
        while time.perf_counter_ns() < spin_until:
            if self._poll.poll(0):
                return True
        return False

    def _readable(self, full: bool, seconds: float | None) -> bool:
        """Wait for something to read, or for room to write if the pipe was full."""
        if full:
            self._poll.register(TO_BEAM, select.POLLOUT)
        ready = self._poll.poll(None if seconds is None else seconds * 1000)
        if not full:
            return bool(ready)
        self._poll.unregister(TO_BEAM)
        return any(fd == FROM_BEAM for fd, _ in ready)

    def _sort(self, messages: Iterable[Packet]) -> None:
        """Take at once what cannot wait, and our own credit; keep the rest for the receiver."""
        try:
            for message in messages:
                if (take := self._at_once.get(message[0])) is not None:
                    take(message)
                elif message[0] == packets.CREDIT and message[1] == 0:
                    self._add_credit(message[2], message[3])
                else:
                    self.backlog.append(message)
        except Exception as error:
            self._exit(error)


def _write(data: bytes | memoryview) -> int:
    try:
        return os.write(TO_BEAM, data)
    except BlockingIOError:
        return 0
    except OSError:  # the BEAM has closed its end, or the app ours
        exit_without_beam()


def _drain(messages: deque[Packet]) -> Iterator[Packet]:
    while messages:
        yield messages.popleft()
