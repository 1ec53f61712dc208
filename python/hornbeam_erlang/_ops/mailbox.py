"""Published messages on their way to those in this process who subscribed.

Knows bounded queues and those who wait at them, in threads and in coroutines. Must not know where
messages come from, nor what a connection is. Safe from any thread.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import get_ident
from typing import Any, NamedTuple, TypeVar

from hornbeam_erlang._wire.values import Value, unpack
from hornbeam_erlang.exceptions import ConnectionEnded, OpTimeout

# Values of these types cannot be changed, so that one may be given to all.
IMMUTABLE = frozenset({type(None), bool, int, float, str, bytes})

_UNREAD = object()

# Makes a `Message` as a tuple is made, in half the time of calling it.
_new = tuple.__new__


class Message(NamedTuple):
    """One published message: its topic, and the value that was published."""

    topic: str
    value: Value


class Published:
    """One message as it has come; unpacked when it is first read.

    What could be changed by one reader is unpacked again for the next.
    """

    __slots__ = ("_message", "_value", "packed", "topic")

    def __init__(self, topic: str, packed: bytes) -> None:
        self.topic = topic
        self.packed = packed
        self._message: Message | None = None
        self._value: Any = _UNREAD

    # The hot path: each reader of a fan-out comes here, for the one or the other.

    def read(self) -> Message:
        """Return the message, the same one for all readers if none can change it."""
        if (message := self._message) is None:
            value = unpack(self.packed)
            message = _new(Message, (self.topic, value))
            if type(value) in IMMUTABLE:
                self._message = message
        return message

    @property
    def value(self) -> Any:
        """What was published, for who does not ask for the topic."""
        value = self._value
        if value is _UNREAD:
            value = unpack(self.packed)
            if type(value) in IMMUTABLE:
                self._value = value
        return value


@dataclass(frozen=True, slots=True)
class Home:
    """The thread in which nearly all wait, and the loop that runs in it."""

    thread: int
    loop: asyncio.AbstractEventLoop


class Way(NamedTuple):
    """How a topic's messages come to a connection: into its mailbox, or straight to its client.

    `overflow` is what becomes of those for which the client is too slow, None is the node's option.
    """

    forward: bool
    overflow: str | None


QUEUED = Way(False, None)

# Who waits for a message: a thread, or a coroutine in some loop.
Waiter = threading.Event | asyncio.Future[Any]
W = TypeVar("W", bound=Waiter)


class Mailbox:
    """What one connection has subscribed to, and the messages that it has not read yet.

    Past its bounds the oldest are dropped and counted; the newest stays, however long it is.
    """

    __slots__ = (
        "_bell",
        "_home",
        "_lock",
        "_max_bytes",
        "_max_messages",
        "_messages",
        "_reader",
        "_returned",
        "_size",
        "_waiters",
        "closed",
        "dropped",
        "echoes",
        "inherited",
        "is_polled",
        "queues",
        "rung",
        "ways",
    )

    def __init__(self, max_messages: int, max_bytes: int, home: Home | None = None) -> None:
        self._home = home
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: deque[Published] = deque()
        # How many of the first of them were given to readers who did not take them.
        self._returned = 0
        self._size = 0
        self._lock = threading.Lock()
        self._waiters: list[Waiter] = []
        # Who waits in the home's thread: it is given its message there, or None to look again.
        self._reader: asyncio.Future[Published | None] | None = None
        self.closed = False
        self.dropped = 0
        # Whether its connection has published what may be on its way to it.
        self.echoes = False
        # Whether its reader is told of each message where it waits for something else.
        self.is_polled = False
        # The topics of the connection.
        self.ways: dict[str, Way] = {}
        # Those of the worker before this one, of which the app has not said here who reads them.
        self.inherited: frozenset[str] = frozenset()
        # Queues that a connection has beside this one, each for one topic and for a while.
        self.queues: tuple[Mailbox, ...] = ()
        # Called for each message, for a reader who does not wait here but for something else.
        self._bell: Callable[[], None] | None = None
        # Whether that reader has been told and has not come yet.
        self.rung = False

    def __len__(self) -> int:
        return len(self._messages)

    def listen(self, bell: Callable[[], None] | None) -> None:
        """Let `bell` be called for each message from now on, or nothing."""
        self._bell = bell

    @property
    def owes_echo(self) -> bool:
        """Tell whether its reader may look for what its own connection has published, in vain."""
        return self.echoes and not self.is_polled

    def put(self, message: Published, at_home: bool = False) -> None:
        """Give a message to who waits; `at_home` tells whether this is the home's thread."""
        # The hot path: while one waits there nothing is kept, so nobody is passed.
        if at_home and (reader := self._reader) is not None:
            self._reader = None
            if not reader.done():
                reader.set_result(message)
                return
        with self._lock:
            if self.closed:
                return
            waiters = self._keep(message, self._messages.append)
        self._notify(waiters)

    def _keep(self, message: Published, add: Callable[[Published], None]) -> list[Waiter]:
        """Let a message wait to be read; return who has to be told."""
        add(message)
        self._size += len(message.packed)
        self._shorten()
        self.rung = False
        return self._all_waiters()

    def _all_waiters(self) -> list[Waiter]:
        """Take out all who wait; whoever does wakes them."""
        waiters, self._waiters = self._waiters, []
        reader, self._reader = self._reader, None
        if reader is not None:
            waiters.append(reader)
        return waiters

    def _notify(self, waiters: list[Waiter]) -> None:
        for waiter in waiters:
            _wake(waiter)
        if (bell := self._bell) is not None:
            bell()

    def _shorten(self) -> None:
        messages = self._messages
        while len(messages) > 1 and (
            len(messages) > self._max_messages or self._size > self._max_bytes
        ):
            self._pop()
            self.dropped += 1

    def take(self) -> Published | None:
        """Return the next message, or None."""
        with self._lock:
            return self._next()

    def _next(self) -> Published | None:
        self.rung = False
        if not self._messages:
            return None
        return self._pop()

    def _pop(self) -> Published:
        message = self._messages.popleft()
        self._size -= len(message.packed)
        if self._returned:
            self._returned -= 1
        return message

    def withdraw(self, topic: str) -> list[Published]:
        """Take out the messages of one topic."""
        with self._lock:
            found = [message for message in self._messages if message.topic == topic]
            if found:
                first = list(self._messages)[: self._returned]
                self._returned -= sum(message.topic == topic for message in first)
                kept = [message for message in self._messages if message.topic != topic]
                self._messages = deque(kept)
                self._size -= sum(len(message.packed) for message in found)
        return found

    def ring(self) -> bool:
        """Tell whether a reader who polls has to be told that there is something to read.

        It is told once for each message that it takes or that comes: one that never takes any
        is not told for ever.
        """
        with self._lock:
            due = self.may_ring
            self.rung = self.rung or due
            return due

    @property
    def may_ring(self) -> bool:
        """Tell whether `ring` could be true."""
        return not self.rung and bool(self._messages)

    @property
    def has_waiters(self) -> bool:
        """Tell whether somebody waits for a message."""
        return self._reader is not None or bool(self._waiters)

    def close(self) -> None:
        """Take nothing more; those who wait are woken, and what is there can still be read."""
        with self._lock:
            self.closed = True
            self._bell = None  # or who set it and this would hold each other
            waiters = self._all_waiters()
        for waiter in waiters:
            _wake(waiter)

    # Those who wait: each looks again when woken, so that a message is lost on nobody. Only who
    # waits in the home's thread is given its message, and puts it back if it is cancelled.

    def receive(self, seconds: float | None) -> Published:
        """Block until there is a message; raises `OpTimeout`."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            found = self._next_or_wait(threading.Event)
            if isinstance(found, Published):
                return found
            try:
                left = None if end is None else max(end - time.monotonic(), 0)
                if not found.wait(left):
                    raise too_late(seconds)
            finally:
                self._forget(found)

    async def receive_async(self) -> Published:
        """Wait for a message; in any loop."""
        while True:
            found = self.next_or_future()
            if isinstance(found, Published):
                return found
            try:
                message = await found
            except BaseException:
                self.leave(found)
                raise
            if message is not None:
                return message

    def next_or_future(self) -> Published | asyncio.Future[Published | None]:
        """Return the next message or, if there is none, the future of one for this coroutine.

        The future gives the message, or None when this has to be called again. Whoever does not
        wait for that calls `leave`.
        """
        home = self._home
        if (
            home is not None
            and not self._messages
            and not self.closed
            and self._reader is None
            and home.thread == get_ident()
        ):
            reader: asyncio.Future[Published | None] = home.loop.create_future()
            self._reader = reader
            # Without the lock: another thread has seen the reader, or is seen here.
            if not self._messages and not self.closed:
                return reader
            self._reader = None
        return self._next_or_wait(_future)

    def _next_or_wait(self, make: Callable[[], W]) -> Published | W:
        """Return the next message or, if there is none, something new that is told of it."""
        with self._lock:
            if (message := self._next()) is not None:
                return message
            if self.closed:
                raise ConnectionEnded("the connection that subscribed is over")
            waiter = make()
            self._waiters.append(waiter)
            return waiter

    def leave(self, reader: asyncio.Future[Published | None]) -> None:
        """Undo a wait; a message that was given to it is again the next one."""
        if self._reader is reader:
            self._reader = None
        elif not reader.done() or reader.cancelled():
            self._forget(reader)
        elif (message := reader.result()) is not None:
            with self._lock:
                waiters = self._keep(message, self._return)
            self._notify(waiters)

    def _return(self, message: Published) -> None:
        """Let a message be read before those that nobody was given.

        Who was given one first leaves first: so the others that were returned come before it.
        """
        self._messages.insert(self._returned, message)
        self._returned += 1

    def _forget(self, waiter: Waiter) -> None:
        with self._lock, contextlib.suppress(ValueError):  # who was woken is not there any more
            self._waiters.remove(waiter)


class Listener(Mailbox):
    """Who keeps nothing and gives each message to a function, in whatever thread it comes.

    `end` is called when none will come any more.
    """

    __slots__ = ("_end", "_take")

    def __init__(self, take: Callable[[Published, bool], None], end: Callable[[], None]) -> None:
        super().__init__(1, 1)
        self._take = take
        self._end = end

    def close(self) -> None:
        """Take nothing more."""
        super().close()
        self._end()

    def put(self, message: Published, at_home: bool = False) -> None:
        """Give the message to the function."""
        self._take(message, at_home)


def too_late(seconds: float | None) -> OpTimeout:
    """Return what tells that no message came in time."""
    return OpTimeout(f"no message came within {seconds} s")


def _future() -> asyncio.Future[Published | None]:
    return asyncio.get_running_loop().create_future()


def _wake(waiter: Waiter) -> None:
    """Let who waits look again, from any thread."""
    if isinstance(waiter, threading.Event):
        waiter.set()
    else:
        with contextlib.suppress(RuntimeError):  # its loop has been closed
            waiter.get_loop().call_soon_threadsafe(_answer, waiter)


def _answer(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)
