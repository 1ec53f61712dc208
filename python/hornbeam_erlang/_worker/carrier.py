"""What the worker installs for the public functions: its ops, its topics and its hooks.

Knows the ops that are on their way, and who waits for their replies: in the loop, beside it, or
in its thread, where nothing else goes on meanwhile. Must not know descriptors, nor what a stream
is but its number.
"""

import asyncio
import concurrent.futures
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, TypeVar, cast

from hornbeam_erlang._ops import identity
from hornbeam_erlang._ops.handlers import Handlers
from hornbeam_erlang._ops.in_flight import MOST_ASKED, InFlight, check_tell, late, no_room, within
from hornbeam_erlang._ops.inbox import Inbox
from hornbeam_erlang._ops.mailbox import Mailbox
from hornbeam_erlang._ops.requests import Request
from hornbeam_erlang._ops.sent import Answer, Sent, log_failure
from hornbeam_erlang._ops.topics import Topics
from hornbeam_erlang._wire import ops, packets
from hornbeam_erlang._wire.credit import Allowance
from hornbeam_erlang._wire.packets import Packet
from hornbeam_erlang._worker.config import Config
from hornbeam_erlang._worker.logs import Log
from hornbeam_erlang._worker.pipes import Pipes
from hornbeam_erlang._worker.spin import Spin
from hornbeam_erlang.exceptions import NotConnected, OpTimeout

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
_failures = Log("hornbeam.ops")

T = TypeVar("T")


class WorkerCarrier(InFlight):
    """Carries ops through the worker's pipes."""

    def __init__(self, pipes: Pipes, config: Config) -> None:
        self._inbox = inbox = Inbox(self._notify, self._has_room, stopped)
        super().__init__(pipes, inbox, _failures.error)
        self._pipes = pipes
        pipes.inbox, pipes.take_inbox, pipes.on_room = inbox.waiting, inbox.take, inbox.wake
        # Those that are open, by their numbers.
        self.streams: dict[int, Any] = {}
        # Those of them whose op was answered with their end: `disconnect` is still on its way.
        self.ended: set[int] = set()
        bounds = config.pubsub_queue_messages, config.pubsub_queue_bytes
        self.topics = Topics(*bounds, self.streams, self._mailbox_opened)
        self.handlers = Handlers()
        self._events = Allowance(EVENT_WINDOW, 1 << 30)
        self._blocking: dict[int, Packet | None] = {}
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
        """Tell the threads that wait that no reply will come, and send what they have told.

        The loop has ended.
        """
        self.fail(stopped)
        with self._pipes.lock:
            self._inbox.take()

    def _notify(self) -> None:
        self._pipes.loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._inbox.drain()
        self._pipes.flush()
        self._inbox.wake()

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
            ref, waiter = self._hand_over(op, args, self._stream(op, args))
        return self._await(ref, op, args, waiter, seconds)

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
            ref, waiter = self._hand_over(op, args, self._stream(op, args))
        return await self._await_async(ref, op, args, waiter, seconds)

    def _stream(self, op: int, args: Sequence[Any]) -> int:
        """Return the number of the stream for which an op is."""
        find = identity.caller_or_worker
        if ops.is_of_connection(op, args):
            find = identity.caller
        return find(self.streams)

    # Without waiting

    def tell(self, request: Request[T], place: int, *, is_asked: bool = False) -> Sent[T]:
        """Send an op and go on, if there is room for it; in any thread."""
        op, args, read, _ = request
        is_bound = ops.is_of_connection(op, args)
        find = identity.caller if is_bound else identity.caller_or_worker
        stream = find(self.streams)
        message = packets.encode_tell(stream, place, op, args)
        check_tell(op, message)
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

    def _has_room(self) -> bool:
        return self._pipes.may_tell and self._may_ask()

    def _release_in_time(self, ref: int) -> asyncio.TimerHandle | None:
        pipes = self._pipes
        if pipes.owner is None:
            return None
        pipes.schedule_flush()
        return pipes.loop.call_later(self._op_timeout, self._release, ref)

    def _wait_for_room(self, op: int) -> None:
        """Let Erlang do what it was told before; the loop stands still meanwhile."""
        pipes = self._pipes
        try:
            self._pump(op, self._has_room, self._op_timeout, no_room)
        finally:
            if pipes.owner is not None:
                pipes.schedule_catch_up()

    def _tell_from_thread(
        self, sent: Sent[T], message: bytes, stream: int, is_first: bool, is_asked: bool
    ) -> Sent[T]:
        pipes = self._pipes
        # A finalizer in the loop's thread would wait for itself, and without a loop one pumps.
        has_to_wait = pipes.owner not in (None, threading.get_ident())
        if has_to_wait and not self._inbox.wait_for_room(self._op_timeout):
            raise no_room(sent.op, self._op_timeout)
        with pipes.lock:
            if pipes.owner is None:
                self._check_not_between()
                return self._tell_here(sent, message, stream, is_first, is_asked)
            if is_first:
                self._inbox.put_tell(self._send_first, sent, message, stream)
            else:
                self._inbox.put_tell(pipes.tell, sent, message, stream)
        return sent

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
            raise late(op, seconds) from None

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
            await within(self._op_timeout, op, waiter)
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
        stream = self._stream(op, args)
        ref, message = self._encode(op, args, stream)
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
        too_late: Callable[[int, float], OpTimeout] = late,
        spin_until: int = 0,
    ) -> None:
        """Move bytes until `done`, for so many seconds at most: then it is too late."""
        self._check_not_between()
        if not self._pipes.pump(done, min(seconds, self._patience), spin_until):
            if seconds <= self._patience:
                raise too_late(op, seconds)
            self._wait_on(op, done, seconds, too_late)

    def _wait_on(
        self,
        op: int,
        done: Callable[[], bool],
        seconds: float,
        too_late: Callable[[int, float], OpTimeout],
    ) -> None:
        """Wait longer for a reply, or for room, than is usual.

        In the loop's thread nothing else goes on meanwhile. The code that we wait for may in turn
        wait for this loop, and the BEAM takes it for hung in the end: there we give up before.
        """
        if self._pipes.owner is None:
            if not self._pipes.pump(done, seconds - self._patience):
                raise too_late(op, seconds)
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
        raise too_late(op, seconds)

    def _check_not_between(self) -> None:
        if self._pipes.busy:
            raise RuntimeError("a finalizer called Erlang in the middle of another message")

    def _is_needed(self) -> bool:
        """Tell whether others wait for this worker, as what the op waits for may do too."""
        return any(message[0] in (packets.CALL, packets.MORE) for message in self._pipes.backlog)

    async def _call_in_loop(self, op: int, args: Sequence[Any], seconds: float) -> Any:
        stream = self._stream(op, args)
        ref, message = self._encode(op, args, stream)
        waiter: asyncio.Future[Packet] = self._pipes.loop.create_future()
        self._waiting[ref] = waiter
        self._send_op(message, stream)
        try:
            reply = await within(seconds, op, waiter)
        except BaseException:
            self._give_up(ref, op, args, waiter)
            raise
        return ops.result(reply[3], reply[4])

    def _send_op(self, message: bytes, stream: int) -> None:
        self._pipes.send_op(message, stream)
        self._pipes.flush()

    def reply(self, message: Packet) -> None:
        """Give an answer to who waits for it, if somebody still does."""
        _, stream, ref, status, _ = message
        if status == ENDED and stream in self.streams:
            self.ended.add(stream)
        is_heard = ref in self._blocking
        if is_heard:
            self._blocking[ref] = message
        self._settle(message, is_heard=is_heard)

    def _send_soon(self, message: bytes) -> None:
        self._pipes.send_op(message, 0)
        if self._pipes.owner is not None:
            self._pipes.schedule_flush()


def stopped() -> NotConnected:
    """Return what an op raises whose answer will not come."""
    return NotConnected("the worker has stopped; Erlang's answer will not come")


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
