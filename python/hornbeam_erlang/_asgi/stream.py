"""What every conversation with the app has: a number, an account, two waiting lines.

Knows how tasks wait for events and for credit; must not know what HTTP or WebSocket events
look like, nor file descriptors.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hornbeam_erlang._asgi.headers import Limits
from hornbeam_erlang._ops.mailbox import Mailbox
from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.credit import Account, Allowance
from hornbeam_erlang.exceptions import ClientDisconnected

# The size of an event that no credit was paid for.
FREE = -1


@dataclass(frozen=True, slots=True)
class Shared:
    """What all streams of a worker have in common; a slot is read faster than a tuple's field."""

    loop: asyncio.AbstractEventLoop
    write: Callable[[bytes], None]
    write_payload: Callable[[int, int, bytes], None]
    window: tuple[int, int]
    limits: Limits
    # Whether a WebSocket may go on with another worker: then each message is acknowledged.
    resume: bool = False


class Stream:
    """The base of HTTP and WebSocket streams."""

    __slots__ = (
        "_events",
        "_loop",
        "_readers",
        "_senders",
        "_turned",
        "account",
        "allowance",
        "disconnected",
        "mailbox",
        "number",
        "task",
        "write",
    )

    def __init__(self, number: int, shared: Shared, allowance: Allowance) -> None:
        self.number = number
        self.write = shared.write
        self.account = Account(*shared.window)
        self.allowance = allowance
        self.disconnected = False
        self.task: asyncio.Task[None] | None = None
        # Published messages, once the handler has subscribed to some.
        self.mailbox: Mailbox | None = None
        self._loop = shared.loop
        # The events that have come, or of bodies the bytes, with what was paid for each; and those
        # whose turn it is, the next one last. A deque would take five times the memory of two
        # lists, and most streams are idle most of the time.
        self._events: list[tuple[Any, int]] = []
        self._turned: list[tuple[Any, int]] = []
        self._readers: list[asyncio.Future[None]] = []
        # There seldom are any; an empty list is memory.
        self._senders: list[asyncio.Future[None]] | None = None

    def credit(self, size: int, messages: int) -> None:
        """Add to what may be sent, and let the next in line send."""
        self.account.add(size, messages)
        self._call_sender()

    def disconnect(self, code: int | None, reason: bytes) -> None:
        """Note that the client is gone, and tell whoever waits."""
        self.disconnected = True
        self._wake_readers()
        self._call_sender()

    def open_mailbox(self, mailbox: Mailbox) -> None:
        """Take note of where published messages for this stream go; called in any thread."""
        self.mailbox = mailbox
        if self.disconnected:
            mailbox.close()

    def end(self) -> str | None:
        """Note that the app's callable has returned; return what it has left undone."""
        raise NotImplementedError

    async def pay(self, size: int) -> None:
        """Wait in line for credit and spend it; raises when nothing can be sent any more."""
        if self._senders or not self._may_send():
            await self._wait_in_line()
        self.check_alive()
        self.account.bytes -= size
        self.account.messages -= 1

    def pay_now(self, size: int) -> bool:
        """Spend credit if nothing has to be waited for; return whether that was so."""
        account = self.account
        if self._senders or self.disconnected or account.bytes <= 0 or account.messages <= 0:
            return False
        account.bytes -= size
        account.messages -= 1
        return True

    def _may_send(self) -> bool:
        """Tell whether the first in line has nothing to wait for, be it only an error."""
        return self.disconnected or self.account.open

    def check_alive(self) -> None:
        """Raise `ClientDisconnected` if nothing can be sent any more."""
        if self.disconnected:
            raise ClientDisconnected("the client has disconnected")

    def _has_event(self) -> bool:
        return bool(self._events or self._turned)

    def _next_event(self) -> tuple[Any, int]:
        """Take the event that came first; there is one."""
        if not self._turned:
            self._events, self._turned = self._turned, self._events
            self._turned.reverse()
        return self._turned.pop()

    # A future is only the bell. What it announces stays where it is until the woken task takes
    # it, so that a cancelled task loses nothing.

    async def _wait_for_event(self) -> None:
        waiter = self._loop.create_future()
        self._readers.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._readers:
                self._readers.remove(waiter)
            raise

    def _wake_readers(self) -> None:
        for waiter in self._readers:
            if not waiter.done():
                waiter.set_result(None)
        self._readers.clear()

    async def _wait_in_line(self) -> None:
        waiter = self._loop.create_future()
        senders = self._senders = self._senders or []
        senders.append(waiter)
        try:
            await waiter
        finally:
            senders.remove(waiter)
            # Comes after this task has paid: the next may go if there is credit left.
            self._loop.call_soon(self._call_sender)

    def _call_sender(self) -> None:
        if self._senders and self._may_send() and not self._senders[0].done():
            self._senders[0].set_result(None)

    def _give_credit(self) -> None:
        self.write(packets.encode_credit(self.number, *self.allowance.give()))
