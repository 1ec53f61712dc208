"""Who in this process subscribes to what, and how messages get to their mailboxes.

Knows connections by their numbers; 0 is the process itself. Must not know where messages come
from. Safe from any thread.
"""

import asyncio
import threading
from collections.abc import Callable, Container, Iterable
from threading import get_ident
from typing import Any

from hornbeam_erlang._ops.identity import WORKER
from hornbeam_erlang._ops.mailbox import QUEUED, Home, Mailbox, Published, Way
from hornbeam_erlang.exceptions import ConnectionEnded


class Topics:
    """Who subscribes to what in this process: the process itself, and those `connections`."""

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        connections: Container[int],
        opened: Callable[[int, Mailbox], None] | None = None,
    ) -> None:
        self._bounds = (max_messages, max_bytes)
        self._connections = connections
        # Read without the lock; `list` of such a dict is one step of the interpreter.
        self._topics: dict[str, dict[Mailbox, None]] = {}
        self._mailboxes: dict[int, Mailbox] = {}
        self._lock = threading.Lock()
        # Told of each mailbox that a connection has got.
        self._opened = opened
        self._home: Home | None = None
        # What code has one of in this process, by the topic for which it is.
        self.shared: dict[str, Any] = {}

    def serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take note that nearly all who wait from now on do so in this thread and that loop."""
        self._home = Home(get_ident(), loop)

    @property
    def home(self) -> Home | None:
        """The thread in which nearly all wait, if there is one, and its loop."""
        return self._home

    def is_open(self, number: int) -> bool:
        """Tell whether a connection is not over; the process never is."""
        return number == WORKER or number in self._connections

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
        mailbox = self._mailboxes[number] = Mailbox(*self._bounds, self._home)
        # Only now: a connection that ends meanwhile forgets it, or is seen here to have ended.
        if not self.is_open(number):
            del self._mailboxes[number]
            raise ConnectionEnded("the connection for which this code runs is over")
        if self._opened is not None:
            self._opened(number, mailbox)
        return mailbox

    def note_publish(self, number: int, topic: str) -> None:
        """Note that a connection publishes; if it subscribes to that too, it will hear of it."""
        if (mailbox := self._mailboxes.get(number)) is not None and topic in mailbox.ways:
            mailbox.echoes = True

    def way(self, number: int, topic: str) -> Way | None:
        """Return how a connection has subscribed to a topic, if it has."""
        mailbox = self._mailboxes.get(number)
        return None if mailbox is None else mailbox.ways.get(topic)

    def wanted(self, number: int, topic: str) -> Way | None:
        """Return how the messages of a topic are to come to a connection, in whichever queue."""
        return self.way(number, topic) or (QUEUED if self.has_queue(number, topic) else None)

    def subscribe(self, number: int, topic: str, way: Way = QUEUED) -> None:
        """Note how the messages of a topic come to a connection from now on."""
        with self._lock:
            self._note(self._found_or_opened(number), topic, way)

    def unsubscribe(self, number: int, topic: str) -> None:
        """Note that they come no more, if they did."""
        with self._lock:
            if (mailbox := self._mailboxes.get(number)) is not None:
                self._note(mailbox, topic, None)

    def put_back(self, number: int, topic: str, noted: Way | None, before: Way | None) -> None:
        """Note how it was before, unless others than who gives its change up have changed it."""
        with self._lock:
            mailbox = self._mailboxes.get(number)
            if mailbox is not None and mailbox.ways.get(topic) is noted:
                self._note(mailbox, topic, before)

    def inherit(self, number: int, topics: Iterable[str]) -> None:
        """Note to what a connection has subscribed in another worker."""
        for topic in topics:
            self.subscribe(number, topic)
        if (mailbox := self._mailboxes.get(number)) is not None:
            mailbox.inherited = frozenset(topics)

    def open_queue(self, number: int, topic: str) -> Mailbox:
        """Return a new queue of a connection's, to which the messages of a topic come."""
        queue = Mailbox(*self._bounds, self._home)
        with self._lock:
            mailbox = self._found_or_opened(number)
            if topic in mailbox.inherited:
                self._note(mailbox, topic, None)
                for message in mailbox.withdraw(topic):
                    queue.put(message)
            mailbox.queues += (queue,)
            self._note(queue, topic, QUEUED)
            if mailbox.closed:
                queue.close()
        return queue

    def close_queue(self, number: int, topic: str, queue: Mailbox) -> None:
        """End such a queue; what it has lost is the connection's loss."""
        with self._lock:
            self._note(queue, topic, None)
            self._remove_queue(number, queue)

    def new_queue(self, max_messages: int, max_bytes: int) -> Mailbox:
        """Return a queue for a listener."""
        return Mailbox(max_messages, max_bytes, self._home)

    def remove_queue(self, number: int, queue: Mailbox) -> None:
        """Close a queue that hears nothing any more."""
        with self._lock:
            self._remove_queue(number, queue)

    def _remove_queue(self, number: int, queue: Mailbox) -> None:
        if (mailbox := self._mailboxes.get(number)) is not None:
            mailbox.queues = tuple(each for each in mailbox.queues if each is not queue)
            mailbox.dropped += queue.dropped
        queue.close()

    def listen(self, number: int, topic: str, listener: Mailbox) -> None:
        """Let a listener of a connection's hear a topic too; it may hear many."""
        with self._lock:
            mailbox = self._found_or_opened(number)
            if listener not in mailbox.queues:
                mailbox.queues += (listener,)
            self._note(listener, topic, QUEUED)

    def unlisten(self, topic: str, listener: Mailbox) -> None:
        """Let it hear that topic no more."""
        with self._lock:
            self._note(listener, topic, None)

    def has_queue(self, number: int, topic: str) -> bool:
        """Tell whether a connection has such a queue for a topic."""
        mailbox = self._mailboxes.get(number)
        return mailbox is not None and any(topic in queue.ways for queue in mailbox.queues)

    def dropped(self, number: int) -> int:
        """Return how many messages a connection has lost here."""
        mailbox = self._mailboxes.get(number)
        if mailbox is None:
            return 0
        return mailbox.dropped + sum(queue.dropped for queue in mailbox.queues)

    def _note(self, queue: Mailbox, topic: str, way: Way | None) -> None:
        queue.inherited -= {topic}
        if way is None:
            queue.ways.pop(topic, None)
        else:
            queue.ways[topic] = way
        if way is None or way.forward:
            self._remove(topic, queue)
        else:
            self._topics.setdefault(topic, {})[queue] = None

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
        at_home = self._home is not None and self._home.thread == get_ident()
        for mailbox in subscribers:
            mailbox.put(message, at_home)
        return len(subscribers)

    def leave(self, number: int) -> None:
        """End all subscriptions of a connection; what it has not read yet it still may."""
        with self._lock:
            if (mailbox := self._mailboxes.get(number)) is not None:
                self._end_all(mailbox)

    def _end_all(self, mailbox: Mailbox) -> None:
        for queue in (mailbox, *mailbox.queues):
            for topic in queue.ways:
                self._remove(topic, queue)
            queue.ways.clear()
            queue.close()

    def forget(self, number: int) -> None:
        """Forget a connection that has ended, which is none of `connections` any more."""
        if number not in self._mailboxes:  # nearly all that end have none
            return
        with self._lock:
            if (mailbox := self._mailboxes.pop(number, None)) is not None:
                self._end_all(mailbox)
