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
from typing import Any, TypeVar, cast

from hornbeam_erlang._ops import identity
from hornbeam_erlang._ops.handlers import Handlers
from hornbeam_erlang._ops.mailbox import Mailbox
from hornbeam_erlang._ops.requests import Request
from hornbeam_erlang._ops.sent import Answer, Sent, log_failure
from hornbeam_erlang._ops.topics import Topics
from hornbeam_erlang._wire import ops, packets
from hornbeam_erlang._wire.credit import Allowance
from hornbeam_erlang._wire.packets import Packet
from hornbeam_erlang._worker.config import Config
from hornbeam_erlang._worker.inbox import Inbox, stopped
from hornbeam_erlang._worker.logs import Log
from hornbeam_erlang._worker.pipes import Pipes
from hornbeam_erlang._worker.spin import Spin
from hornbeam_erlang.exceptions import HornbeamError, NotConnected, OpTimeout

# The status of an op whose connection is over (docs/wire.md).
ENDED = 7

# Answers that are on their way to those who will ask: past this many an op waits for room.
MOST_ASKED = 8192

# The same of ops before whose end their streams do not go on.
MOST_FIRSTS = 64

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
_failures = Log("hornbeam.ops")

T = TypeVar("T")

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
        # The answers that will come to ops which were sent without waiting, and those of them
        # that have to be done before their stream goes on.
        self._answers: dict[int, Answer] = {}
        self._firsts: dict[int, tuple[int, asyncio.TimerHandle | None]] = {}
        self._inbox = Inbox(pipes, self._has_room)
        self._spin = Spin()
        # How long an op waits for its reply when its caller does not say (seconds).
        self._op_timeout = config.op_timeout / 1000
        # How long an op may stop the loop, and how long it does before that is unusual.
        hang = math.inf if config.hang_timeout is None else config.hang_timeout / 1000
        self._longest_stop = hang * LONGEST_STOP
        self._patience = min(PATIENCE, self._longest_stop)
        # Events too are taken at once, also while an op stops the loop: it may wait for them.
        pipes.take_at_once(
            {
                packets.REPLY: self.reply,
                packets.TELL_FAILED: self.tell_failed,
                packets.EVENT: self._check_event,
            }
        )

    def stop(self) -> None:
        """Tell the threads that wait that no reply will come; the loop has ended."""
        for waiter in list(self._waiting.values()):
            if isinstance(waiter, concurrent.futures.Future) and not waiter.done():
                waiter.set_exception(stopped())
        for answer in list(self._answers.values()):
            answer.fail(stopped())
        self._inbox.stop()

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
                raise stopped()
            ref, waiter = self._hand_over(op, args)
        try:
            reply = await _within(seconds, op, asyncio.wrap_future(waiter))
        except BaseException:
            self._give_up(ref, op, args, waiter)
            raise
        return ops.result(reply[3], reply[4])

    # Without waiting

    def tell(self, request: Request[T], place: int, *, is_asked: bool = False) -> Sent[T]:
        """Send an op and go on, if there is room for it; in any thread."""
        op, args, read, _ = request
        is_bound = ops.is_of_connection(op, args)
        find = identity.caller if is_bound else identity.caller_or_worker
        stream = find(self.streams)
        message = packets.encode_tell(stream, place, op, args)
        if len(message) > packets.MAX_MESSAGE - _LONGEST_REF:
            raise _too_long(op, len(message))
        if op == ops.PUBSUB_PUBLISH:
            self.topics.note_publish(stream, args[0])
        sent = Sent(self, op, read, place)
        pipes = self._pipes
        if pipes.owner == threading.get_ident() and not pipes.busy:
            if not is_bound and self._has_room():  # the hot path, short of `_tell_here`
                pipes.tell(sent, message, stream)
                return sent
            return self._tell_here(sent, message, stream, is_bound, is_asked)
        return self._tell_from_thread(sent, message, stream, is_bound, is_asked)

    def _tell_here(
        self, sent: Sent[T], message: bytes, stream: int, is_first: bool, is_asked: bool
    ) -> Sent[T]:
        may_tell = self._pipes.may_tell
        if not self._has_room() and not (is_asked and len(self._answers) < MOST_ASKED):
            self._wait_for_room(sent.op)
        if is_first:
            self._send_first(sent, message, stream)
        else:
            self._pipes.tell(sent, message, stream, is_asked and not may_tell)
        return sent

    def _send_first(
        self, sent: Sent[Any], message: bytes, stream: int, is_asked: bool = True
    ) -> None:
        """Send an op that is done by another process, and yet before what its stream does next."""
        ref, pipes, timer = self._ask(sent), self._pipes, None
        pipes.send_first(packets.as_op(message, ref), stream)
        if pipes.owner is not None:
            timer = pipes.loop.call_later(self._op_timeout, self._release, ref)
            pipes.schedule_flush()
        self._firsts[ref] = stream, timer

    def _release(self, ref: int) -> None:
        """Let a stream go on: what was to be done first is, or takes too long."""
        if (first := self._firsts.pop(ref, None)) is not None:
            stream, timer = first
            if timer is not None:
                timer.cancel()
            self._pipes.release(stream)

    def _wait_for_room(self, op: int) -> None:
        """Let Erlang do what it was told before; the loop stands still meanwhile."""
        pipes = self._pipes
        try:
            self._pump(op, self._has_room, self._op_timeout, _no_room)
        finally:
            if pipes.owner is not None:
                pipes.schedule_catch_up()

    def _has_room(self) -> bool:
        return (
            self._pipes.may_tell
            and len(self._answers) < MOST_ASKED
            and len(self._firsts) < MOST_FIRSTS
        )

    def _tell_from_thread(
        self, sent: Sent[T], message: bytes, stream: int, is_first: bool, is_asked: bool
    ) -> Sent[T]:
        pipes = self._pipes
        # A finalizer in the loop's thread would wait for itself, and without a loop one pumps.
        has_to_wait = pipes.owner not in (None, threading.get_ident())
        if has_to_wait and not self._inbox.wait_for_room(self._op_timeout):
            raise _no_room(sent.op, self._op_timeout)
        with pipes.lock:
            if pipes.owner is None:
                self._check_not_between()
                return self._tell_here(sent, message, stream, is_first, is_asked)
            if is_first:
                self._inbox.put_tell(self._send_first, sent, message, stream)
            else:
                self._inbox.put_tell(pipes.tell, sent, message, stream)
        return sent

    def ask(self, sent: Sent[Any], tell: bytes) -> bytes:
        """Return the op to write in the place of a `tell`, of which somebody may ask."""
        return packets.as_op(tell, self._ask(sent))

    def _ask(self, sent: Sent[Any]) -> int:
        ref = next(self._refs)
        self._answers[ref] = sent.answer()
        return ref

    def answer(self, op: int, place: int) -> Answer:
        """Return an answer that has not come yet."""
        return Answer(op, place, _failures.error)

    def hear(self, answer: Answer, op: int, timeout: float | None) -> None:
        """Block until an answer has come; in any thread."""
        seconds = self._op_timeout if timeout is None else timeout
        pipes = self._pipes
        if pipes.owner == threading.get_ident():
            try:
                self._hear_here(answer, op, seconds)
            finally:
                pipes.schedule_catch_up()
            return
        with pipes.lock:
            if pipes.owner is None:
                self._hear_here(answer, op, seconds)
                return
            waiter: concurrent.futures.Future[Any] = concurrent.futures.Future()
            answer.add_waiter(waiter)
        try:
            waiter.result(seconds)
        except concurrent.futures.TimeoutError:
            raise _late(op, seconds) from None

    def _hear_here(self, answer: Answer, op: int, seconds: float) -> None:
        self._pump(op, lambda: answer.reply is not None, seconds)

    async def hear_async(self, answer: Answer, op: int) -> None:
        """Wait until an answer has come; in any loop."""
        if answer.reply is not None:
            return
        if self._pipes.owner is None:
            self.hear(answer, op, None)
            return
        waiter = asyncio.get_running_loop().create_future()
        if self._pipes.owner == threading.get_ident():
            answer.add_waiter(waiter)
        else:
            there: concurrent.futures.Future[Any] = concurrent.futures.Future()
            answer.add_waiter(there)
            waiter = asyncio.wrap_future(there)
        try:
            await _within(self._op_timeout, op, waiter)
        finally:
            del waiter  # which holds what was raised, and that this frame

    def tell_failed(self, message: Packet) -> None:
        """Say in the log what has become of an op of which nobody has asked."""
        _, _, place, op, status, value = message
        if self._pipes.owner is None:
            log_failure(_failures.error, place, op, status, value)
        else:  # not between two messages: what an app does with its log may call Erlang
            self._pipes.loop.call_soon(log_failure, _failures.error, place, op, status, value)

    def caller(self) -> int:
        """Return the number of the stream for which the running code calls; 0 is the worker."""
        return identity.caller(self.streams)

    def is_alone(self) -> bool:
        """Tell whether no loop runs but one that the running code would block."""
        return self._pipes.owner in (None, threading.get_ident())

    def _call_here(self, op: int, args: Sequence[Any], seconds: float) -> Any:
        self._check_not_between()
        ref, stream, message = self._encode(op, args)
        self._pipes.send_op(message, stream)
        self._blocking[ref] = None
        spin_until = self._spin.until(op)

        def done() -> bool:
            return self._blocking[ref] is not None

        try:
            self._pump(op, done, seconds, spin_until=spin_until)
        except BaseException:
            if (taken := self._blocking.pop(ref)) is not None and op == ops.STATE_TAKE:
                self._put_back(args, taken)
            raise
        finally:
            self._spin.ended(op, spin_until)
        _, _, _, status, value = cast(Packet, self._blocking.pop(ref))
        return ops.result(status, value)

    def _pump(
        self,
        op: int,
        done: Callable[[], bool],
        seconds: float,
        late: Callable[[int, float], OpTimeout] | None = None,
        spin_until: int = 0,
    ) -> None:
        """Move bytes until `done`, for so many seconds at most: then it is too late."""
        self._check_not_between()
        if not self._pipes.pump(done, min(seconds, self._patience), spin_until):
            late = late or _late
            if seconds <= self._patience:
                raise late(op, seconds)
            self._wait_on(op, done, seconds, late)

    def _wait_on(
        self,
        op: int,
        done: Callable[[], bool],
        seconds: float,
        late: Callable[[int, float], OpTimeout],
    ) -> None:
        """Wait longer for a reply, or for room, than is usual.

        In the loop's thread nothing else goes on meanwhile. The code that we wait for may in turn
        wait for this loop, and the BEAM takes it for hung in the end: there we give up before.
        """
        if self._pipes.owner is None:
            if not self._pipes.pump(done, seconds - self._patience):
                raise late(op, seconds)
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
        raise late(op, seconds)

    def _check_not_between(self) -> None:
        if self._pipes.busy:
            raise RuntimeError("a finalizer called Erlang in the middle of another message")

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
            self._inbox.put(self._pipes.send_op, message, stream)
        except NotConnected:
            del self._waiting[ref]
            self._taking.pop(ref, None)
            raise
        return ref, waiter

    def _encode(self, op: int, args: Sequence[Any]) -> tuple[int, int, bytes]:
        """Return an op's number, its stream, and its bytes."""
        find = identity.caller_or_worker
        if ops.is_of_connection(op, args):
            find = identity.caller
        ref, stream = next(self._refs), find(self.streams)
        message = packets.encode_op(stream, ref, op, args)
        if len(message) > packets.MAX_MESSAGE:
            raise _too_long(op, len(message))
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
        elif (answer := self._answers.pop(ref, None)) is not None:
            self._release(ref)
            self._inbox.wake()
            answer.set(message[3], message[4])
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


# What a tell may be longer as an op, whose number may be: its bytes.
_LONGEST_REF = 9


def _resolve(waiter: Waiter, message: Packet) -> bool:
    """Give a waiter its reply; return False if it waits no more: it may not know that yet."""
    if waiter.done():
        return False
    try:
        waiter.set_result(message)
    except concurrent.futures.InvalidStateError:  # cancelled by its own loop just now
        return False
    return True


async def _within(seconds: float, op: int, waiter: asyncio.Future[Any]) -> Any:
    """Wait for a reply; raises `OpTimeout` when the time is over."""
    alarm = asyncio.get_running_loop().call_later(seconds, _expire, waiter)
    try:
        reply = await waiter
    finally:
        alarm.cancel()
        del waiter  # which holds what was raised, and that this frame
    if not reply:
        raise _late(op, seconds)
    return reply


def _expire(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_result([])  # an exception would hold the frame that holds the waiter


def _late(op: int, seconds: float) -> OpTimeout:
    return OpTimeout(f"Erlang has not answered {packets.OPS.get(op, op)} within {seconds} s")


def _no_room(op: int, seconds: float) -> OpTimeout:
    return OpTimeout(
        f"{packets.OPS.get(op, op)} was not sent: Erlang has not done what it was told before "
        f"within {seconds} s"
    )


def _too_long(op: int, size: int) -> ValueError:
    return ValueError(
        f"{packets.OPS.get(op, op)} with {size} bytes; "
        f"at most {packets.MAX_MESSAGE} can travel at once"
    )


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
