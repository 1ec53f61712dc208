"""Ops that are on their way, and who waits for what comes back: in whichever thread or loop.

Knows the wire's ops, the way to Erlang (`Line`), and how other threads get there (`Entrance`). Must
not know descriptors, nor how anybody waits. A carrier is one of these.
"""

import asyncio
import concurrent.futures
import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from hornbeam_erlang._ops.sent import Answer, Sent
from hornbeam_erlang._wire import ops, packets
from hornbeam_erlang._wire.packets import Packet
from hornbeam_erlang.exceptions import HornbeamError, NotConnected, OpTimeout

# Answers that are on their way to those who will ask: past this many an op waits for room.
MOST_ASKED = 8192

# The same of ops before whose end their streams do not go on.
MOST_FIRSTS = 64

# What a tell may be longer as an op, whose number may be: its bytes.
_LONGEST_REF = 9

# Whoever waits for a reply, in the owner's own coroutines or elsewhere.
Waiter = asyncio.Future[Packet] | concurrent.futures.Future[Packet]


class Line(Protocol):
    """The way to Erlang, as whoever has it to himself."""

    def send_op(self, message: bytes, stream: int) -> None:
        """Queue an op for the next write."""

    def send_first(self, message: bytes, stream: int) -> None:
        """Queue an op before whose `release` nothing else of its stream is written."""

    def release(self, stream: int) -> None:
        """Let what was held of a stream be written."""


class Entrance(Protocol):
    """How any thread gets there."""

    def put(self, send: Callable[..., None], *args: Any) -> None:
        """Have `send` called where the line may be used; raises `NotConnected` at its end."""

    def wake(self) -> None:
        """Let those go on who wait for room, if there is some."""

    def stop(self) -> None:
        """Let nothing in any more."""


class Alarm(Protocol):
    """What will happen at a time, unless it is cancelled."""

    def cancel(self) -> None: ...


class InFlight:
    """Ops that are on their way, and who waits for their replies."""

    now = staticmethod(time.monotonic)

    def __init__(self, line: Line, entrance: Entrance, log: Callable[[str], None]) -> None:
        self._line = line
        self._entrance = entrance
        self._log = log
        self._refs = itertools.count(1)
        self._waiting: dict[int, Waiter] = {}
        # The arguments of ops that take, until their replies come: there may be nobody any more to
        # have what was taken.
        self._taking: dict[int, Sequence[Any]] = {}
        # The answers that will come to ops which were sent without waiting, and those of them
        # that have to be done before their stream goes on.
        self._answers: dict[int, Answer] = {}
        self._firsts: dict[int, tuple[int, Alarm | None]] = {}

    # What a carrier adds

    def _release_in_time(self, ref: int) -> Alarm | None:
        """Have an op that is to be done first released also if its reply does not come."""
        raise NotImplementedError

    def _send_soon(self, message: bytes) -> None:
        """Send an op of the process itself; where the line may be used, or replies come."""
        raise NotImplementedError

    def fail(self, error: Callable[[], NotConnected]) -> None:
        """Tell those who wait elsewhere that nothing will come."""
        self._entrance.stop()  # first: who puts an op there after this is told himself
        for waiter in list(self._waiting.values()):
            if isinstance(waiter, concurrent.futures.Future):
                with contextlib.suppress(concurrent.futures.InvalidStateError):
                    waiter.set_exception(error())
        for answer in list(self._answers.values()):
            answer.fail(error())

    # Ops that are waited for

    def _encode(self, op: int, args: Sequence[Any], stream: int) -> tuple[int, bytes]:
        """Return an op's number and its bytes."""
        ref = next(self._refs)
        message = packets.encode_op(stream, ref, op, args)
        if len(message) > packets.MAX_MESSAGE:
            refuse_length(op, len(message))
        if op == ops.STATE_TAKE:
            self._taking[ref] = args
        return ref, message

    def _hand_over(
        self, op: int, args: Sequence[Any], stream: int
    ) -> tuple[int, concurrent.futures.Future[Packet]]:
        """Have an op of this thread sent, and return its number and who waits for the reply."""
        ref, message = self._encode(op, args, stream)
        waiter: concurrent.futures.Future[Packet] = concurrent.futures.Future()
        self._waiting[ref] = waiter
        try:
            self._entrance.put(self._line.send_op, message, stream)
        except NotConnected:
            del self._waiting[ref]
            self._taking.pop(ref, None)
            raise
        return ref, waiter

    def _await(
        self,
        ref: int,
        op: int,
        args: Sequence[Any],
        waiter: concurrent.futures.Future[Packet],
        seconds: float,
    ) -> Any:
        """Block until the reply to an op is there that was handed over."""
        try:
            reply = waiter.result(seconds)
        except BaseException as error:
            self._give_up(ref, op, args, waiter)
            if isinstance(error, concurrent.futures.TimeoutError):
                raise late(op, seconds) from None
            raise
        return ops.result(reply[3], reply[4])

    async def _await_async(
        self,
        ref: int,
        op: int,
        args: Sequence[Any],
        waiter: concurrent.futures.Future[Packet],
        seconds: float,
    ) -> Any:
        """Wait until it is there, in any loop."""
        try:
            reply = await within(seconds, op, asyncio.wrap_future(waiter))
        except BaseException:
            self._give_up(ref, op, args, waiter)
            raise
        return ops.result(reply[3], reply[4])

    # Without waiting

    def _may_ask(self) -> bool:
        return len(self._answers) < MOST_ASKED and len(self._firsts) < MOST_FIRSTS

    def _send_first(
        self, sent: Sent[Any], message: bytes, stream: int, is_asked: bool = True
    ) -> None:
        """Send an op that is done by another process, and yet before what its stream does next."""
        ref = self._ask(sent)
        self._line.send_first(packets.as_op(message, ref), stream)
        self._firsts[ref] = stream, self._release_in_time(ref)

    def _release(self, ref: int) -> None:
        """Let a stream go on: what was to be done first is, or takes too long."""
        if (first := self._firsts.pop(ref, None)) is not None:
            stream, alarm = first
            if alarm is not None:
                alarm.cancel()
            self._line.release(stream)

    def ask(self, sent: Sent[Any], tell: bytes) -> bytes:
        """Return the op to write in the place of a `tell`, of which somebody may ask."""
        return packets.as_op(tell, self._ask(sent))

    def _ask(self, sent: Sent[Any]) -> int:
        ref = next(self._refs)
        self._answers[ref] = sent.answer()
        return ref

    def answer(self, op: int, place: int) -> Answer:
        """Return an answer that has not come yet."""
        return Answer(op, place, self._log)

    # Replies

    def _settle(self, message: Packet, *, is_heard: bool = False) -> None:
        """Give a reply to who waits for it, unless he has it, if somebody still does."""
        ref = message[2]
        is_heard = is_heard or self._give(ref, message)
        if ref in self._taking:
            args = self._taking.pop(ref)
            if not is_heard:
                self._put_back(args, message)

    def _give(self, ref: int, message: Packet) -> bool:
        if (answer := self._answers.pop(ref, None)) is not None:
            self._release(ref)
            self._entrance.wake()
            answer.set(message[3], message[4])
            return True
        # Who takes the waiter from there answers for it: here, or where it is given up.
        waiter = self._waiting.pop(ref, None)
        return waiter is not None and _resolve(waiter, message)

    def _give_up(self, ref: int, op: int, args: Sequence[Any], waiter: Waiter) -> None:
        """Let what an op takes be put back, as nobody waits for its reply any more."""
        if self._waiting.pop(ref, None) is not None or op != ops.STATE_TAKE:
            return  # the reply is still to come, and finds nobody
        try:
            # The owner's thread may be about to set it.
            reply = waiter.result()
        except (asyncio.CancelledError, concurrent.futures.CancelledError, HornbeamError):
            return  # the reply has found that
        if reply:  # or it came when the time was over, and has found that too
            with contextlib.suppress(NotConnected):  # the owner has just ended
                self._entrance.put(self._put_back, args, reply)

    def _put_back(self, args: Sequence[Any], reply: Packet) -> None:
        """Let others find what was taken for nobody, unless the key has been set again."""
        _, _, _, status, taken = reply
        if status == 0 and taken is not None:
            key = next(self._refs)
            self._send_soon(packets.encode_op(0, key, ops.STATE_ADD, [*args, *taken]))


def _resolve(waiter: Waiter, message: Packet) -> bool:
    """Give a waiter its reply; return False if it waits no more: it may not know that yet."""
    if waiter.done():
        return False
    try:
        waiter.set_result(message)
    except concurrent.futures.InvalidStateError:  # cancelled by its own loop just now
        return False
    return True


async def within(seconds: float, op: int, waiter: asyncio.Future[Any]) -> Any:
    """Wait for a reply; raises `OpTimeout` when the time is over."""
    alarm = asyncio.get_running_loop().call_later(seconds, _expire, waiter)
    try:
        reply = await waiter
    finally:
        alarm.cancel()
        del waiter  # which holds what was raised, and that this frame
    if not reply:
        raise late(op, seconds)
    return reply


def _expire(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_result([])  # an exception would hold the frame that holds the waiter


def late(op: int, seconds: float) -> OpTimeout:
    """Return what an op raises that Erlang has not answered in time."""
    return OpTimeout(f"Erlang has not answered {packets.OPS.get(op, op)} within {seconds} s")


def no_room(op: int, seconds: float) -> OpTimeout:
    """Return what an op raises for which there was no room in time."""
    return OpTimeout(
        f"{packets.OPS.get(op, op)} was not sent: Erlang has not done what it was told before "
        f"within {seconds} s"
    )


def check_tell(op: int, message: bytes) -> None:
    """Raise `ValueError` if what is told could not travel as an op."""
    if len(message) > packets.MAX_MESSAGE - _LONGEST_REF:
        refuse_length(op, len(message))


def refuse_length(op: int, size: int) -> NoReturn:
    """Raise `ValueError` for an op of so many bytes."""
    raise ValueError(
        f"{packets.OPS.get(op, op)} with {size} bytes; "
        f"at most {packets.MAX_MESSAGE} can travel at once"
    )
