"""What carries the ops of a process outside of all workers: by one connection, for all its threads.

Knows the ops that are on their way and who waits; the connection and its thread are the link's. It
ends with the connection: then those who wait are told, and the process's subscriptions end. Code
outside of workers calls for the process, wherever it runs.

What is sent without waiting is an `op` at once, whether anybody asks or not: it has left the
process when the function returns. Who does not ask drops the answer when it comes.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Any, TypeVar

from hornbeam_erlang._ops.handlers import Handlers
from hornbeam_erlang._ops.identity import WORKER
from hornbeam_erlang._ops.in_flight import Alarm, InFlight, check_tell, late, no_room, within
from hornbeam_erlang._ops.inbox import Room
from hornbeam_erlang._ops.requests import Request
from hornbeam_erlang._ops.sent import Answer, Sent
from hornbeam_erlang._ops.topics import Topics
from hornbeam_erlang._outside.greeting import Greeting
from hornbeam_erlang._outside.link import Link
from hornbeam_erlang._wire import ops, packets
from hornbeam_erlang._wire.credit import Allowance
from hornbeam_erlang._wire.packets import Packet
from hornbeam_erlang.exceptions import HornbeamError, NotConnected

# Half of it is acknowledged at a time (bytes): a fraction of what the BEAM lets be on its way.
EVENT_WINDOW = 1 << 20

# How long the end of a process waits until the node has done what it was told (seconds).
LAST_WORDS = 5.0

_log = logging.getLogger("hornbeam.ops")

T = TypeVar("T")


class Gate:
    """The link, until its end."""

    def __init__(
        self, link: Link, has_room: Callable[[], bool], ended: Callable[[], NotConnected]
    ) -> None:
        self._link = link
        self._ended = ended
        self._room = Room(has_room)
        self.wait_for_room, self.wake, self.stop = self._room.wait, self._room.wake, self._room.end

    @property
    def is_open(self) -> bool:
        return not self._room.is_over

    def put(self, send: Callable[..., None], *args: Any) -> None:
        """Have `send` called where the endpoint may be used; raises `NotConnected` at its end."""
        if self._room.is_over:
            raise self._ended()
        self._link.put(send, *args)


class VisitorCarrier(InFlight):
    """Carries ops by one connection to a node."""

    def __init__(self, greeting: Greeting) -> None:
        self._link = link = Link(greeting)
        self._gate = gate = Gate(link, self._may_ask, self._over)
        super().__init__(link.endpoint, gate, _log.error)
        config = greeting.config
        self.path: Path = greeting.path
        bounds = config.pubsub_queue_messages, config.pubsub_queue_bytes
        self.topics = Topics(*bounds, ())
        self.handlers = Handlers()
        self._events = Allowance(EVENT_WINDOW, 1 << 30)
        self._op_timeout = config.op_timeout / 1000
        # Those who wait for answers of ops that may be sent or not.
        self._hearing: set[concurrent.futures.Future[Any]] = set()
        link.start({packets.REPLY: self._settle, packets.EVENT: self._take_event}, self._ended)

    @property
    def is_open(self) -> bool:
        return self._gate.is_open

    # The end

    def close(self) -> None:
        """End the connection, when the node has done what it was told; in a few seconds at most."""
        if self._answers:
            with contextlib.suppress(HornbeamError):
                self.call(ops.RPC_NODE, [], min(self._op_timeout, LAST_WORDS))
        self._link.close(LAST_WORDS)

    def abandon(self) -> None:
        """Leave the connection to the process that has forked this one.

        Its other threads are not here, and may have held any lock of this.
        """
        self._gate = Gate(self._link, self._may_ask, self._over)
        self._gate.stop()
        self._entrance = self._gate
        self._link.abandon()

    def _ended(self) -> None:
        self.fail(self._over)
        for waiter in list(self._hearing):
            _fail(waiter, self._over())
        self.topics.forget(WORKER)

    def _over(self) -> NotConnected:
        return NotConnected(
            f"the connection to the Hornbeam server at {self.path} has ended; whether what was "
            "under way is done is not known"
        )

    # Ops

    def caller(self) -> int:
        """Return whom the running code calls for: always the process."""
        return WORKER

    def is_alone(self) -> bool:
        """Tell whether nothing brings messages while the running code blocks: a thread does."""
        return False

    def call(self, op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
        """Call Erlang and block until it answers, at most `timeout` seconds; in any thread."""
        self._check_may_wait()
        seconds = self._op_timeout if timeout is None else timeout
        ref, waiter = self._hand_over(op, args, WORKER)
        return self._await(ref, op, args, waiter, seconds)

    async def call_async(self, op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
        """Call Erlang and wait for its answer, at most `timeout` seconds; in any loop."""
        seconds = self._op_timeout if timeout is None else timeout
        ref, waiter = self._hand_over(op, args, WORKER)
        return await self._await_async(ref, op, args, waiter, seconds)

    def tell(self, request: Request[T], place: int, *, is_asked: bool = False) -> Sent[T]:
        """Send an op and go on, if there is room for it; in any thread."""
        op, args, read, _ = request
        message = packets.encode_tell(WORKER, place, op, args)
        check_tell(op, message)
        if op == ops.PUBSUB_PUBLISH:
            self.topics.note_publish(WORKER, args[0])
        sent = Sent(self, op, read, place)
        if self._may_wait and not self._gate.wait_for_room(self._op_timeout):
            raise no_room(op, self._op_timeout)
        is_first = ops.is_of_connection(op, args)
        self._gate.put(self._send_first if is_first else self._send, sent, message, WORKER)
        return sent

    def _send(self, sent: Sent[Any], message: bytes, stream: int) -> None:
        self._line.send_op(self.ask(sent, message), stream)

    def hear(self, answer: Answer, op: int, timeout: float | None) -> None:
        """Block until an answer has come; in any thread."""
        self._check_may_wait()
        seconds = self._op_timeout if timeout is None else timeout
        with self._listening(answer) as waiter:
            try:
                waiter.result(seconds)
            except concurrent.futures.TimeoutError:
                raise late(op, seconds) from None

    async def hear_async(self, answer: Answer, op: int) -> None:
        """Wait until an answer has come; in any loop."""
        if answer.reply is None:
            with self._listening(answer) as waiter:
                await within(self._op_timeout, op, asyncio.wrap_future(waiter))

    @contextlib.contextmanager
    def _listening(self, answer: Answer) -> Iterator[concurrent.futures.Future[Any]]:
        """Give the block a future of an answer, also if that will not come."""
        waiter: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._hearing.add(waiter)
        try:
            answer.add_waiter(waiter)
            if not self.is_open:
                _fail(waiter, self._over())
            yield waiter
        finally:
            self._hearing.discard(waiter)

    @property
    def _may_wait(self) -> bool:
        """Tell whether the running code does not keep from coming what it waits for."""
        return self._link.thread != get_ident() and not self._link.is_held_here

    def _check_may_wait(self) -> None:
        if not self._may_wait:
            raise RuntimeError(
                "a finalizer, or a handler of the log, called Erlang where the answer is to come in"
            )

    # For whoever has the link

    def _release_in_time(self, ref: int) -> Alarm:
        return self._link.call_later(self._op_timeout, partial(self._release_late, ref))

    def _release_late(self, ref: int) -> None:
        self._link.put(self._release, ref)

    def _give(self, ref: int, message: Packet) -> bool:
        if ref in self._firsts:
            self._link.put(self._release, ref)
        return super()._give(ref, message)

    def _send_soon(self, message: bytes) -> None:
        self._link.put(self._line.send_op, message, WORKER)

    def _take_event(self, message: Packet) -> None:
        """Put a published message into the queues of those who subscribed; acknowledge it."""
        _, _, topic, packed = message
        self.topics.deliver(topic, packed)
        if self._events.consume(len(packed)):
            credit = packets.encode_credit(0, self._events.give()[0], 0)
            self._link.put(self._link.endpoint.send, credit)


def _fail(waiter: concurrent.futures.Future[Any], error: Exception) -> None:
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        waiter.set_exception(error)
