"""The two pipes, moved by the loop, or by hand while no loop runs or an op blocks it.

Knows descriptors, the loop and threads; must not know ASGI: messages go to a receiver, in
their order.

One thread owns the endpoint. While the loop runs it is the loop's, and others hand over to
it; before and after, it is whoever holds the lock.
"""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import itertools
import math
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn, Protocol, cast

from hornbeam_erlang._ops import identity
from hornbeam_erlang._wire import ops, packets
from hornbeam_erlang._wire.endpoint import CHUNK, Endpoint
from hornbeam_erlang._wire.packets import Packet
from hornbeam_erlang._worker.failure import describe
from hornbeam_erlang._worker.logs import Log, LogQueue
from hornbeam_erlang._worker.process import FROM_BEAM, PROTOCOL_ERROR, TO_BEAM, beam_gone
from hornbeam_erlang._worker.spin import Spin
from hornbeam_erlang.exceptions import HornbeamError, NotConnected, OpTimeout

READ_SIZE = 1 << 20

# The status of an op whose connection is over (docs/wire.md).
ENDED = 7

# How much of the log goes into the pipe at once, so that a flood leaves room for the streams.
LOG_CHUNK = 65_536

# How long the last lines may take to be written, in seconds.
LAST_WORDS = 2.0

# An op that stops the loop for longer is worth a line in the log (seconds).
PATIENCE = 1.0

# The part of worker_hang_timeout for which it may.
LONGEST_STOP = 0.75

# Ops that wait for other code, which may wait for this worker: what they are in the loop.
COROUTINES = {
    ops.RPC_CALL: "hornbeam_erlang.aio.rpc_call(...)",
    ops.FUNCTIONS_CALL: "hornbeam_erlang.aio.call(...)",
    ops.HOOKS_EXECUTE: "hornbeam_erlang.aio.execute(...)",
    ops.HOOKS_AWAIT_RESULT: "the execution itself",
    ops.HOOKS_NEXT: "hornbeam_erlang.aio.stream(...)",
}

_log = Log("hornbeam.wire")


class Receiver(Protocol):
    """Who takes the messages while the loop runs."""

    def dispatch(self, messages: Iterable[Packet]) -> None:
        """Take messages in their order."""


# Whoever waits for a reply, in the loop's own coroutines or elsewhere.
Waiter = asyncio.Future[Packet] | concurrent.futures.Future[Packet]


class Pipes:
    """The worker's pipes, and the ops that travel through them."""

    def __init__(self, logs: LogQueue) -> None:
        self._endpoint = Endpoint()
        self._logs = logs
        logs.notify = self._notify
        # One buffer for all reads: a new one of this size costs more than the read.
        self._buffer = bytearray(READ_SIZE)
        self._view = memoryview(self._buffer)
        self._unwritten: memoryview | None = None
        self._flush_scheduled = False
        self._catch_up_scheduled = False
        # Set while our state is between two bytes, when a finalizer must not start an op.
        self._busy = False
        self._backlog: deque[Packet] = deque()
        self._refs = itertools.count(1)
        self._blocking: dict[int, Packet | None] = {}
        self._waiting: dict[int, Waiter] = {}
        # The arguments of ops that take, until their replies come: there may be nobody any more to
        # have what was taken.
        self._taking: dict[int, Sequence[Any]] = {}
        # The streams that are open, for which ops may be.
        self.streams: Container[int] = ()
        # Those of them whose op was answered with their end: `disconnect` is still on its way.
        self.ended: set[int] = set()
        # How long an op waits for its reply when its caller does not say (seconds).
        self.op_timeout = 5.0
        # How long an op may stop the loop, and how long it does before that is unusual.
        self._longest_stop = math.inf
        self._patience = PATIENCE
        # Events are taken at once, also while an op blocks the loop: it may be what they wait for.
        self.take_event: Callable[[Packet], None] = lambda message: None
        self._owner: int | None = None
        self._lock = threading.RLock()
        self._poll = select.poll()
        self._poll.register(FROM_BEAM, select.POLLIN)
        self._spin = Spin()
        # Known from `start` on.
        self._loop: asyncio.AbstractEventLoop
        self._receiver: Receiver
        # What runs between the turns of an app's task must not run in that task's context.
        self._context: contextvars.Context

    # The loop

    def start(self, loop: asyncio.AbstractEventLoop, receiver: Receiver) -> None:
        """Hand the pipes to the loop; called in the thread in which it will run."""
        with self._lock:
            self._loop = loop
            self._call_soon = loop.call_soon
            self._receiver = receiver
            self._context = contextvars.copy_context()
            self._owner = threading.get_ident()
        loop.add_reader(FROM_BEAM, self._on_readable)
        loop.call_soon(self._catch_up)

    def stop(self) -> None:
        """Take the pipes back from the loop, if it had them."""
        if self._owner is None:
            return
        self._loop.remove_reader(FROM_BEAM)
        self._loop.remove_writer(TO_BEAM)
        with self._lock:
            self._owner = None
        for waiter in list(self._waiting.values()):
            if isinstance(waiter, concurrent.futures.Future) and not waiter.done():
                waiter.set_exception(_stopped())

    def write(self, message: bytes) -> None:
        """Send a message at the end of this turn of the loop, with all others of the turn."""
        # `_schedule_flush` is written out: this runs once for each message.
        self._endpoint.send(message)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._call_soon(self._flush)

    def write_payload(self, code: int, stream: int, payload: bytes) -> None:
        """Send a text or binary for a client in the same way."""
        self._endpoint.send_payload(code, stream, payload)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._call_soon(self._flush)

    def answer(self, message: bytes) -> None:
        """Send a message about the worker past those that wait; the BEAM waits for it."""
        self._endpoint.send_op(message, 0)
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._unwritten is None and not self._write_some():
            self._loop.add_writer(TO_BEAM, self._on_writable)

    def _on_writable(self) -> None:
        if self._write_some():
            self._loop.remove_writer(TO_BEAM)

    def _on_readable(self) -> None:
        if self._backlog:
            self._backlog.extend(self._read())
            self._dispatch(_drain(self._backlog))
        else:
            self._dispatch(self._read())

    def _dispatch(self, messages: Iterable[Packet]) -> None:
        self._busy = True
        try:
            self._receiver.dispatch(messages)
        except Exception as error:  # whatever it is, what follows cannot be trusted
            self._exit(error)
        finally:
            self._busy = False

    def _schedule_catch_up(self) -> None:
        if self._backlog or self._unwritten is not None:
            if not self._catch_up_scheduled:
                self._catch_up_scheduled = True
                self._loop.call_soon(self._catch_up, context=self._context)
        elif self._endpoint.writable or self._logs:
            # The reply has come together with credit for what waits.
            self._schedule_flush()

    def _catch_up(self) -> None:
        """Do what was left while the loop stood still."""
        self._catch_up_scheduled = False
        self._dispatch(_drain(self._backlog))
        if self._unwritten is not None:
            self._loop.add_writer(TO_BEAM, self._on_writable)
        self._schedule_flush()

    def _exit(self, error: Exception) -> NoReturn:
        """Exit after a protocol error: the BEAM starts a fresh worker."""
        trace = describe(error).traceback
        _log.critical(f"the BEAM sent what the wire does not know\n{trace}")
        self._busy = False
        self.stop()
        self._poll.unregister(FROM_BEAM)
        self.drain(LAST_WORDS)
        os._exit(PROTOCOL_ERROR)

    def hangs_after(self, seconds: float) -> None:
        """Note after what time the BEAM kills a worker whose loop stands still."""
        self._longest_stop = seconds * LONGEST_STOP
        self._patience = min(PATIENCE, self._longest_stop)

    # Bytes

    def _read(self) -> Iterable[Packet]:
        try:
            size = os.readv(FROM_BEAM, [self._buffer])
        except BlockingIOError:
            return ()
        except OSError:  # the app has closed our end
            beam_gone()
        if size == 0:
            beam_gone()
        try:
            return self._endpoint.receive(self._view[:size])
        except Exception as error:  # longer than any message may be
            self._exit(error)

    def _write_some(self) -> bool:
        """Write what credit allows; return False when the pipe is full."""
        if self._busy:
            return True
        self._busy = True
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
            self._busy = False
        return True

    def _take(self) -> bytes:
        if self._logs and self._endpoint.credit > 0:
            for level, logger, text in self._logs.take(LOG_CHUNK):
                self._endpoint.send(packets.encode_log(level, logger, text))
        return self._endpoint.take()

    def open_window(self, size: int) -> None:
        """Set the credit of the worker as a whole."""
        self._endpoint.open_window(size)

    def credit(self, size: int) -> None:
        """Add to the credit of the worker as a whole."""
        self._endpoint.credit += size
        self._schedule_flush()

    def _notify(self) -> None:
        """Take note of new lines in the log; called in any thread."""
        owner = self._owner
        if owner is None:
            # What the pipe does not take at once goes with the next write.
            with self._lock:
                self._write_some()
        elif owner == threading.get_ident():
            self._schedule_flush()
        elif not self._flush_scheduled:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(self._schedule_flush)

    # Without the loop

    def send(self, message: bytes) -> None:
        """Queue a message while no loop runs; `receive` and `drain` write it."""
        self._endpoint.send(message)

    def post(self, message: bytes) -> None:
        """Queue a message, whether the loop runs or not."""
        if self._owner is None:
            self.send(message)
        else:
            self.write(message)

    def receive(self) -> Packet:
        """Wait for a message that is no reply and no credit, while no loop runs."""
        with self._lock:
            self._pump(lambda: bool(self._backlog))
            return self._backlog.popleft()

    def drain(self, seconds: float) -> bool:
        """Write all that waits; return False if it was not possible in so many seconds."""
        with self._lock:
            return self._pump(self._drained, seconds)

    def _drained(self) -> bool:
        return self._unwritten is None and self._endpoint.idle and not self._logs

    def _pump(
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
        """Take replies and our own credit at once; keep the rest for the receiver."""
        try:
            for message in messages:
                if message[0] == packets.REPLY:
                    self.reply(message)
                elif message[0] == packets.CREDIT and message[1] == 0:
                    self._endpoint.credit += message[2]
                elif message[0] == packets.EVENT:
                    packets.check(message)
                    self.take_event(message)
                else:
                    self._backlog.append(message)
        except Exception as error:
            self._exit(error)

    # Ops

    def call(self, op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
        """Call Erlang and block until it answers, at most `timeout` seconds; in any thread."""
        seconds = self.op_timeout if timeout is None else timeout
        if self._owner == threading.get_ident():
            try:
                return self._call_here(op, args, seconds)
            finally:
                self._schedule_catch_up()
        with self._lock:
            if self._owner is None:
                return self._call_here(op, args, seconds)
            ref, waiter = self._hand_over(op, args)
        try:
            reply = waiter.result(seconds)
        except BaseException as error:
            self._give_up(ref, op, args, waiter)
            if isinstance(error, concurrent.futures.TimeoutError):
                raise _late(op, seconds) from None
            raise
        return ops.result(reply[3], reply[4])

    async def call_async(self, op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
        """Call Erlang and wait for its answer, at most `timeout` seconds; in any loop."""
        if self._owner is None:
            return self.call(op, args, timeout)
        seconds = self.op_timeout if timeout is None else timeout
        if self._owner == threading.get_ident():
            return await self._call_in_loop(op, args, seconds)
        with self._lock:
            if self._owner is None:
                raise _stopped()
            ref, waiter = self._hand_over(op, args)
        try:
            reply = await _within(seconds, op, asyncio.wrap_future(waiter))
        except BaseException:
            self._give_up(ref, op, args, waiter)
            raise
        return ops.result(reply[3], reply[4])

    def caller(self) -> int:
        """Return the number of the stream for which the running code calls; 0 is the worker."""
        return identity.caller(self.streams)

    def is_alone(self) -> bool:
        """Tell whether no loop runs but one that the running code would block."""
        return self._owner in (None, threading.get_ident())

    def _call_here(self, op: int, args: Sequence[Any], seconds: float) -> Any:
        if self._busy:
            raise RuntimeError("a finalizer called Erlang in the middle of another message")
        ref, stream, message = self._encode(op, args)
        self._endpoint.send_op(message, stream)
        self._blocking[ref] = None
        spin_until = self._spin.until(op)

        def done() -> bool:
            return self._blocking[ref] is not None

        try:
            if not self._pump(done, min(seconds, self._patience), spin_until):
                if seconds <= self._patience:
                    raise _late(op, seconds)
                self._wait_on(op, done, seconds)
        except BaseException:
            if (taken := self._blocking.pop(ref)) is not None and op == ops.STATE_TAKE:
                self._put_back(args, taken)
            raise
        finally:
            self._spin.ended(op, spin_until)
        _, _, _, status, value = cast(Packet, self._blocking.pop(ref))
        return ops.result(status, value)

    def _wait_on(self, op: int, done: Callable[[], bool], seconds: float) -> None:
        """Wait longer for a reply than is usual.

        In the loop's thread nothing else goes on meanwhile. The code that we wait for may in turn
        wait for this loop, and the BEAM takes it for hung in the end: there we give up before.
        """
        if self._owner is None:
            if not self._pump(done, seconds - self._patience):
                raise _late(op, seconds)
            return
        limit = min(seconds, self._longest_stop)
        end = time.monotonic() + limit - self._patience
        _log.warning(f"{_place()}: {_stands_still(op)}")
        while (left := end - time.monotonic()) > 0:
            was_needed = op in COROUTINES and self._is_needed()
            if self._pump(done, min(left, PATIENCE)):
                return
            if was_needed:
                raise OpTimeout(f"calls wait for this worker: {_stands_still(op)}")
        if limit < seconds:
            raise OpTimeout(f"not for longer than {limit:g} s: {_stands_still(op)}")
        raise _late(op, seconds)

    def _is_needed(self) -> bool:
        """Tell whether others wait for this worker, as what the op waits for may do too."""
        return any(message[0] in (packets.CALL, packets.MORE) for message in self._backlog)

    async def _call_in_loop(self, op: int, args: Sequence[Any], seconds: float) -> Any:
        ref, stream, message = self._encode(op, args)
        waiter: asyncio.Future[Packet] = self._loop.create_future()
        self._waiting[ref] = waiter
        self._send_op(message, stream)
        try:
            reply = await _within(seconds, op, waiter)
        except BaseException:
            self._give_up(ref, op, args, waiter)
            raise
        return ops.result(reply[3], reply[4])

    def _hand_over(
        self, op: int, args: Sequence[Any]
    ) -> tuple[int, concurrent.futures.Future[Packet]]:
        """Let the loop's thread send an op of this thread."""
        ref, stream, message = self._encode(op, args)
        waiter: concurrent.futures.Future[Packet] = concurrent.futures.Future()
        self._waiting[ref] = waiter
        try:
            self._loop.call_soon_threadsafe(self._send_op, message, stream)
        except RuntimeError:  # the loop has been closed
            del self._waiting[ref]
            self._taking.pop(ref, None)
            raise _stopped() from None
        return ref, waiter

    def _encode(self, op: int, args: Sequence[Any]) -> tuple[int, int, bytes]:
        """Return an op's number, its stream, and its bytes."""
        find = identity.caller_or_worker
        if ops.is_of_connection(op, args):
            find = identity.caller
        ref, stream = next(self._refs), find(self.streams)
        message = packets.encode_op(stream, ref, op, args)
        if len(message) > packets.MAX_MESSAGE:
            raise ValueError(
                f"{packets.OPS.get(op, op)} with {len(message)} bytes; "
                f"at most {packets.MAX_MESSAGE} can travel at once"
            )
        if op == ops.STATE_TAKE:
            self._taking[ref] = args
        return ref, stream, message

    def _send_op(self, message: bytes, stream: int) -> None:
        self._endpoint.send_op(message, stream)
        self._flush()

    def reply(self, message: Packet) -> None:
        """Give an answer to who waits for it, if somebody still does."""
        _, stream, ref, status, _ = message
        if status == ENDED and stream in self.streams:
            self.ended.add(stream)
        is_heard = True
        if ref in self._blocking:
            self._blocking[ref] = message
        else:
            # Who takes the waiter from there answers for it: here, or where it is given up.
            waiter = self._waiting.pop(ref, None)
            is_heard = waiter is not None and _tell(waiter, message)
        if ref in self._taking:
            args = self._taking.pop(ref)
            if not is_heard:
                self._put_back(args, message)

    def _give_up(self, ref: int, op: int, args: Sequence[Any], waiter: Waiter) -> None:
        """Let what an op takes be put back, as nobody waits for its reply any more."""
        if self._waiting.pop(ref, None) is not None or op != ops.STATE_TAKE:
            return  # the reply is still to come, and finds nobody
        try:
            # The loop's thread may be about to set it.
            reply = waiter.result()
        except (asyncio.CancelledError, concurrent.futures.CancelledError, HornbeamError):
            return  # the reply has found that
        if reply:  # or it came when the time was over, and has found that too
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(self._put_back, args, reply)

    def _put_back(self, args: Sequence[Any], reply: Packet) -> None:
        """Let others find what was taken for nobody, unless the key has been set again."""
        _, _, _, status, taken = reply
        if status == 0 and taken is not None:
            message = packets.encode_op(0, next(self._refs), ops.STATE_ADD, [*args, *taken])
            self._endpoint.send_op(message, 0)
            if self._owner is not None:
                self._schedule_flush()


def _tell(waiter: Waiter, message: Packet) -> bool:
    """Give a waiter its reply; return False if it waits no more: it may not know that yet."""
    if waiter.done():
        return False
    try:
        waiter.set_result(message)
    except concurrent.futures.InvalidStateError:  # cancelled by its own loop just now
        return False
    return True


def _write(data: bytes | memoryview) -> int:
    try:
        return os.write(TO_BEAM, data)
    except BlockingIOError:
        return 0
    except OSError:  # the BEAM has closed its end, or the app ours
        beam_gone()


def _drain(messages: deque[Packet]) -> Iterator[Packet]:
    while messages:
        yield messages.popleft()


async def _within(seconds: float, op: int, waiter: asyncio.Future[Packet]) -> Packet:
    """Wait for a reply; raises `OpTimeout` when the time is over."""

    def expire() -> None:
        if not waiter.done():
            waiter.set_result([])  # an exception would hold our frame, which holds the waiter

    alarm = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        reply = await waiter
    finally:
        alarm.cancel()
    if not reply:
        raise _late(op, seconds)
    return reply


def _late(op: int, seconds: float) -> OpTimeout:
    return OpTimeout(f"Erlang has not answered {packets.OPS.get(op, op)} within {seconds} s")


def _stands_still(op: int) -> str:
    form = COROUTINES.get(op, "the form in hornbeam_erlang.aio")
    return f"{packets.OPS.get(op, op)} stops the event loop while it waits; await {form} instead"


def _place() -> str:
    """Return where the app's code is that calls."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    return "an op" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "hornbeam_erlang"


def _stopped() -> NotConnected:
    return NotConnected("the worker has stopped; Erlang's answer will not come")
