"""What the worker installs for the public functions: its ops, its topics and its hooks.

Knows the ops that are on their way, and who waits for their replies: in the loop, beside it, or
in its thread, where nothing else goes on meanwhile. Must not know descriptors, nor what a stream
is but its number.
"""

import asyncio
import concurrent.futures
import contextlib
import itertools
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, cast

from hornbeam_erlang._ops import identity
from hornbeam_erlang._ops.handlers import Handlers
from hornbeam_erlang._ops.mailbox import Mailbox
from hornbeam_erlang._ops.topics import Topics
from hornbeam_erlang._wire import ops, packets
from hornbeam_erlang._wire.credit import Allowance
from hornbeam_erlang._wire.packets import Packet
from hornbeam_erlang._worker.config import Config
from hornbeam_erlang._worker.logs import Log
from hornbeam_erlang._worker.pipes import Pipes
from hornbeam_erlang._worker.spin import Spin
from hornbeam_erlang.exceptions import HornbeamError, NotConnected, OpTimeout

# The status of an op whose connection is over (docs/wire.md).
ENDED = 7

# An op that stops the loop for longer is worth a line in the log (seconds).
PATIENCE = 1.0

# The part of worker_hang_timeout for which it may.
LONGEST_STOP = 0.75

# Half of it is acknowledged at a time (bytes): a fraction of what the BEAM lets be on its way.
EVENT_WINDOW = 1 << 20

# Ops that wait for other code, which may wait for this worker: what they are in the loop.
COROUTINES = {
    ops.RPC_CALL: "hornbeam_erlang.aio.rpc_call(...)",
    ops.FUNCTIONS_CALL: "hornbeam_erlang.aio.call(...)",
    ops.HOOKS_EXECUTE: "hornbeam_erlang.aio.execute(...)",
    ops.HOOKS_AWAIT_RESULT: "the execution itself",
    ops.HOOKS_NEXT: "hornbeam_erlang.aio.stream(...)",
}

_log = Log("hornbeam.wire")

# Whoever waits for a reply, in the loop's own coroutines or elsewhere.
Waiter = asyncio.Future[Packet] | concurrent.futures.Future[Packet]


class WorkerCarrier:
    """Carries ops through the worker's pipes."""

    def __init__(self, pipes: Pipes, config: Config) -> None:
        self._pipes = pipes
        # Those that are open, by their numbers.
        self.streams: dict[int, Any] = {}
        # Those of them whose op was answered with their end: `disconnect` is still on its way.
        self.ended: set[int] = set()
        bounds = config.pubsub_queue_messages, config.pubsub_queue_bytes
        self.topics = Topics(*bounds, self.streams, self._mailbox_opened)
        self.handlers = Handlers()
        self._events = Allowance(EVENT_WINDOW, 1 << 30)
        self._refs = itertools.count(1)
        self._blocking: dict[int, Packet | None] = {}
        self._waiting: dict[int, Waiter] = {}
        # The arguments of ops that take, until their replies come: there may be nobody any more to
        # have what was taken.
        self._taking: dict[int, Sequence[Any]] = {}
        self._spin = Spin()
        # How long an op waits for its reply when its caller does not say (seconds).
        self._op_timeout = config.op_timeout / 1000
        # How long an op may stop the loop, and how long it does before that is unusual.
        hang = math.inf if config.hang_timeout is None else config.hang_timeout / 1000
        self._longest_stop = hang * LONGEST_STOP
        self._patience = min(PATIENCE, self._longest_stop)
        # Events too are taken at once, also while an op stops the loop: it may wait for them.
        pipes.take_at_once({packets.REPLY: self.reply, packets.EVENT: self._check_event})

    def stop(self) -> None:
        """Tell the threads that wait that no reply will come; the loop has ended."""
        for waiter in list(self._waiting.values()):
            if isinstance(waiter, concurrent.futures.Future) and not waiter.done():
                waiter.set_exception(_stopped())

    def take_event(self, message: Packet) -> None:
        """Put a published message into the queues of those who subscribed; acknowledge it."""
        _, _, topic, packed = message
        self.topics.deliver(topic, packed)
        if self._events.consume(len(packed)):
            self._pipes.post(packets.encode_credit(0, self._events.give()[0], 0))

    def _check_event(self, message: Packet) -> None:
        packets.check(message)
        self.take_event(message)

    def _mailbox_opened(self, number: int, mailbox: Mailbox) -> None:
        if (stream := self.streams.get(number)) is not None:
            stream.open_mailbox(mailbox)

    def call(self, op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
        """Call Erlang and block until it answers, at most `timeout` seconds; in any thread."""
        seconds = self._op_timeout if timeout is None else timeout
        pipes = self._pipes
        if pipes.owner == threading.get_ident():
            try:
                return self._call_here(op, args, seconds)
            finally:
                pipes.schedule_catch_up()
        with pipes.lock:
            if pipes.owner is None:
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
        pipes = self._pipes
        if pipes.owner is None:
            return self.call(op, args, timeout)
        seconds = self._op_timeout if timeout is None else timeout
        if pipes.owner == threading.get_ident():
            return await self._call_in_loop(op, args, seconds)
        with pipes.lock:
            if pipes.owner is None:
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
        return self._pipes.owner in (None, threading.get_ident())

    def _call_here(self, op: int, args: Sequence[Any], seconds: float) -> Any:
        if self._pipes.busy:
            raise RuntimeError("a finalizer called Erlang in the middle of another message")
        ref, stream, message = self._encode(op, args)
        self._pipes.send_op(message, stream)
        self._blocking[ref] = None
        spin_until = self._spin.until(op)

        def done() -> bool:
            return self._blocking[ref] is not None

        try:
            if not self._pipes.pump(done, min(seconds, self._patience), spin_until):
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
        if self._pipes.owner is None:
            if not self._pipes.pump(done, seconds - self._patience):
                raise _late(op, seconds)
            return
        limit = min(seconds, self._longest_stop)
        end = time.monotonic() + limit - self._patience
        _log.warning(f"{_place()}: {_stands_still(op)}")
        while (left := end - time.monotonic()) > 0:
            was_needed = op in COROUTINES and self._is_needed()
            if self._pipes.pump(done, min(left, PATIENCE)):
                return
            if was_needed:
                raise OpTimeout(f"calls wait for this worker: {_stands_still(op)}")
        if limit < seconds:
            raise OpTimeout(f"not for longer than {limit:g} s: {_stands_still(op)}")
        raise _late(op, seconds)

    def _is_needed(self) -> bool:
        """Tell whether others wait for this worker, as what the op waits for may do too."""
        return any(message[0] in (packets.CALL, packets.MORE) for message in self._pipes.backlog)

    async def _call_in_loop(self, op: int, args: Sequence[Any], seconds: float) -> Any:
        ref, stream, message = self._encode(op, args)
        waiter: asyncio.Future[Packet] = self._pipes.loop.create_future()
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
            self._pipes.loop.call_soon_threadsafe(self._send_op, message, stream)
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
        self._pipes.send_op(message, stream)
        self._pipes.flush()

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
            is_heard = waiter is not None and _resolve(waiter, message)
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
                self._pipes.loop.call_soon_threadsafe(self._put_back, args, reply)

    def _put_back(self, args: Sequence[Any], reply: Packet) -> None:
        """Let others find what was taken for nobody, unless the key has been set again."""
        _, _, _, status, taken = reply
        if status == 0 and taken is not None:
            message = packets.encode_op(0, next(self._refs), ops.STATE_ADD, [*args, *taken])
            self._pipes.send_op(message, 0)
            if self._pipes.owner is not None:
                self._pipes.schedule_flush()


def _resolve(waiter: Waiter, message: Packet) -> bool:
    """Give a waiter its reply; return False if it waits no more: it may not know that yet."""
    if waiter.done():
        return False
    try:
        waiter.set_result(message)
    except concurrent.futures.InvalidStateError:  # cancelled by its own loop just now
        return False
    return True


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
