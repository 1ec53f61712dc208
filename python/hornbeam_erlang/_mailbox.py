"""Published messages on their way to those in this process who subscribed.

Knows topics, bounded queues and those who wait at them, in threads and in coroutines. Must not
know where messages come from, nor what a connection is but a number; 0 is the process itself.
Safe from any thread.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from hornbeam_erlang._identity import WORKER
from hornbeam_erlang._values import unpack
from hornbeam_erlang.exceptions import ClientDisconnected, ConnectionEnded

# Values of these types cannot be changed, so that one may be given to all.
_IMMUTABLE = frozenset({type(None), bool, int, float, str, bytes})

_UNREAD = object()


class Published:
    """One message and its topic; unpacked when it is first read.

    What could be changed by one reader is unpacked again for the next.
    """

    __slots__ = ("_value", "packed", "topic")

    def __init__(self, topic: str, packed: bytes) -> None:
        self.topic = topic
        self.packed = packed
        self._value: Any = _UNREAD

    @property
    def value(self) -> Any:
        value = self._value
        if value is _UNREAD:
            value = unpack(self.packed)
            if type(value) in _IMMUTABLE:
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
        "_closed",
        "_home",
        "_lock",
        "_max_bytes",
        "_max_messages",
        "_messages",
        "_reader",
        "_size",
        "_waiters",
        "bell",
        "dropped",
        "rung",
        "ways",
    )

    def __init__(self, max_messages: int, max_bytes: int, home: Home | None = None) -> None:
        self._home = home
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: deque[Published] = deque()
        self._size = 0
        self._lock = threading.Lock()
        self._waiters: list[Waiter] = []
        # Who waits in the home's thread: it is given its message there, or None to look again.
        self._reader: asyncio.Future[Published | None] | None = None
        self._closed = False
        self.dropped = 0
        # The topics of the connection.
        self.ways: dict[str, Way] = {}
        # Called for each message, for a reader who does not wait here but for something else.
        self.bell: Callable[[], None] | None = None
        # Whether that reader has been told and has not come yet.
        self.rung = False

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Published, at_home: bool = False) -> None:
        """Give a message to who waits; `at_home` tells whether this is the home's thread."""
        # The hot path: while one waits there nothing is kept, so nobody is passed.
        if at_home and (reader := self._reader) is not None:
            self._reader = None
            if not reader.done():
                reader.set_result(message)
                return
        with self._lock:
            if self._closed:
                return
            waiters = self._keep(message, self._messages.append)
        self._tell(waiters)

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

    def _tell(self, waiters: list[Waiter]) -> None:
        for waiter in waiters:
            _wake(waiter)
        if (bell := self.bell) is not None:
            bell()

    def _shorten(self) -> None:
        messages = self._messages
        while len(messages) > 1 and (
            len(messages) > self._max_messages or self._size > self._max_bytes
        ):
            self._size -= len(messages.popleft().packed)
            self.dropped += 1

    def take(self) -> Published | None:
        """Return the next message, or None."""
        with self._lock:
            return self._next()

    def _next(self) -> Published | None:
        self.rung = False
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._size -= len(message.packed)
        return message

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

    def close(self) -> None:
        """Take nothing more; those who wait are woken, and what is there can still be read."""
        with self._lock:
            self._closed = True
            self.bell = None  # or who set it and this would hold each other
            waiters = self._all_waiters()
        for waiter in waiters:
            _wake(waiter)

    # Those who wait: each looks again when woken, so that a message is lost on nobody. Only who
    # waits in the home's thread is given its message, and puts it back if it is cancelled.

    def receive(self, seconds: float | None) -> Published:
        """Block until there is a message; raises `TimeoutError`."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            found = self._next_or_wait(threading.Event)
            if isinstance(found, Published):
                return found
            try:
                left = None if end is None else max(end - time.monotonic(), 0)
                if not found.wait(left):
                    raise TimeoutError(f"no message came within {seconds} s")
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
        return self._wait_at_home() or self._next_or_wait(_future)

    def _wait_at_home(self) -> asyncio.Future[Published | None] | None:
        """Let the running coroutine be who is given the next message; None where it cannot be."""
        home = self._home
        if (
            home is None
            or self._messages
            or self._closed
            or self._reader is not None
            or home.thread != threading.get_ident()
        ):
            return None
        reader: asyncio.Future[Published | None] = home.loop.create_future()
        self._reader = reader
        # Without the lock: another thread has seen the reader, or is seen here.
        if not self._messages and not self._closed:
            return reader
        self._reader = None
        return None

    def _next_or_wait(self, make: Callable[[], W]) -> Published | W:
        """Return the next message or, if there is none, something new that is told of it."""
        with self._lock:
            if (message := self._next()) is not None:
                return message
            if self._closed:
                raise ClientDisconnected("the connection that subscribed is over")
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
                waiters = self._keep(message, self._messages.appendleft)
            self._tell(waiters)

    def _forget(self, waiter: Waiter) -> None:
        with self._lock, contextlib.suppress(ValueError):  # who was woken is not there any more
            self._waiters.remove(waiter)


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


class Topics:
    """Who subscribes to what in this process: the process itself, and those `connections`."""

    def __init__(self, max_messages: int, max_bytes: int, connections: Container[int]) -> None:
        self._bounds = (max_messages, max_bytes)
        self._connections = connections
        # Read without the lock; `list` of such a dict is one step of the interpreter.
        self._topics: dict[str, dict[Mailbox, None]] = {}
        self._mailboxes: dict[int, Mailbox] = {}
        self._lock = threading.Lock()
        self.opened: Callable[[int, Mailbox], None] = lambda number, mailbox: None
        self.home: Home | None = None

    def find(self, number: int) -> Mailbox | None:
        """Return the mailbox of a connection, if it has one."""
        return self._mailboxes.get(number)

    def mailbox(self, number: int) -> Mailbox:
        """Return the mailbox of a connection, which may be a new one.

        Raises `ConnectionEnded` for one that is over: nobody would forget its mailbox.
        """
        with self._lock:
            return self._found_or_opened(number)

    def _found_or_opened(self, number: int) -> Mailbox:
        if (mailbox := self._mailboxes.get(number)) is not None:
            return mailbox
        mailbox = self._mailboxes[number] = Mailbox(*self._bounds, self.home)
        # Only now: a connection that ends meanwhile forgets it, or is seen here to have ended.
        if number != WORKER and number not in self._connections:
            del self._mailboxes[number]
            raise ConnectionEnded("the connection for which this code runs is over")
        self.opened(number, mailbox)
        return mailbox

    def way(self, number: int, topic: str) -> Way | None:
        """Return how the messages of a topic come to a connection, if they do."""
        mailbox = self._mailboxes.get(number)
        return None if mailbox is None else mailbox.ways.get(topic)

    def subscribe(self, number: int, topic: str, way: Way = QUEUED) -> None:
        """Note how the messages of a topic come to a connection from now on."""
        with self._lock:
            mailbox = self._found_or_opened(number)
            mailbox.ways[topic] = way
            if way.forward:
                self._remove(topic, mailbox)
            else:
                self._topics.setdefault(topic, {})[mailbox] = None

    def unsubscribe(self, number: int, topic: str) -> None:
        """Note that they come no more, if they did."""
        with self._lock:
            mailbox = self._mailboxes.get(number)
            if mailbox is not None and mailbox.ways.pop(topic, None) is not None:
                self._remove(topic, mailbox)

    def _remove(self, topic: str, mailbox: Mailbox) -> None:
        subscribers = self._topics.get(topic)
        if subscribers is not None:
            subscribers.pop(mailbox, None)
            if not subscribers:
                del self._topics[topic]

    def deliver(self, topic: str, packed: bytes) -> int:
        """Put a message into the mailboxes of all who subscribe; return how many they are."""
        subscribers = list(self._topics.get(topic, ()))
        message = Published(topic, packed)
        at_home = self.home is not None and self.home.thread == threading.get_ident()
        for mailbox in subscribers:
            mailbox.put(message, at_home)
        return len(subscribers)

    def leave(self, number: int) -> None:
        """End all subscriptions of a connection; what it has not read yet it still may."""
        with self._lock:
            if (mailbox := self._mailboxes.get(number)) is None:
                return
            self._end_all(mailbox)
        mailbox.close()

    def _end_all(self, mailbox: Mailbox) -> None:
        for topic in mailbox.ways:
            self._remove(topic, mailbox)
        mailbox.ways.clear()

    def forget(self, number: int) -> None:
        """Forget a connection that has ended, which is none of `connections` any more."""
        if number not in self._mailboxes:  # nearly all that end have none
            return
        with self._lock:
            if (mailbox := self._mailboxes.pop(number, None)) is None:
                return
            self._end_all(mailbox)
        mailbox.close()
