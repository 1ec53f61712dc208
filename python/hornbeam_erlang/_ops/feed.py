"""Topics that a process hears for itself, in one queue, whoever of its code asks.

For what frameworks start once in a process, in the handler of whichever client comes first. The
queue has room for bursts, and past its bound loses its oldest. Outside of the workers a connection
may end: then the same topics are heard again as soon as there is a node. Safe from any thread and
any loop.
"""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

from hornbeam_erlang._ops import identity, requests
from hornbeam_erlang._ops.carrier import connected, installed
from hornbeam_erlang._ops.identity import WORKER
from hornbeam_erlang._ops.mailbox import Mailbox, Message
from hornbeam_erlang._ops.perform import follow, follow_async
from hornbeam_erlang._ops.topics import Topics
from hornbeam_erlang.exceptions import ConnectionEnded, HornbeamError

# Bytes of messages that may wait: as many as Redis lets wait for one who subscribes.
MOST = 32 << 20

# How long is waited before a node is looked for again (seconds): longer each time.
PAUSE = 1.0
LONGEST_PAUSE = 30.0


class Feed:
    """The topics that somebody hears here, and their messages.

    `complain` is told, once each time, that messages were lost, or that none can come and why.
    """

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._complain = complain
        self._heard: dict[str, None] = {}
        self._places: tuple[Topics, Mailbox] | None = None
        self._dropped = 0
        self._pause = 0.0

    def open(self) -> None:
        """Connect; raises `NotConnected` where that cannot be."""
        topics = connected().topics
        self._places, self._dropped = (topics, topics.new_queue(sys.maxsize, MOST)), 0

    def _shut(self) -> None:
        """Let nothing come by this connection any more."""
        if self._places is not None:
            topics, queue = self._places
            topics.remove_queue(WORKER, queue)
            self._places = None

    @property
    def _is_open(self) -> bool:
        return self._places is not None and not self._places[1].closed

    def _listen(self, topic: str) -> requests.Plan[None]:
        assert self._places is not None
        topics, queue = self._places
        return requests.listen(topics, WORKER, topic, queue, lambda: True)

    def _leave(self, topic: str) -> requests.Plan[None]:
        assert self._places is not None
        topics, queue = self._places
        topics.unlisten(topic, queue)
        return requests.leave(topics, WORKER, topic)

    async def subscribe(self, topic: str) -> None:
        """Hear a topic from now on, or from when there is a connection."""
        self._heard[topic] = None
        if self._is_open:
            with identity.as_worker():
                await follow_async(self._listen(topic))

    async def unsubscribe(self, topic: str) -> None:
        """Hear it no more."""
        self._heard.pop(topic, None)
        if self._is_open:
            with identity.as_worker():
                await follow_async(self._leave(topic))

    async def close(self) -> None:
        """Hear nothing more."""
        for topic in list(self._heard):
            await self.unsubscribe(topic)
        self._shut()

    async def messages(self) -> AsyncIterator[Message]:
        """Yield messages as they come."""
        while True:
            try:
                if not self._is_open:
                    await self._reopen()
                message = await self._queue.receive_async()
            except HornbeamError as error:
                self._shut()
                if _is_end(error):
                    await asyncio.get_running_loop().create_future()
                await asyncio.sleep(self._next_pause(error))
            else:
                self._look_for_losses()
                yield message.read()

    def messages_here(self, topic: str) -> Iterator[Message]:
        """Yield messages of a topic as they come; blocks."""
        while True:
            try:
                if not self._is_open:
                    self.open()
                    with identity.as_worker():
                        follow(self._listen(topic))
                    self._pause = 0.0
                message = self._queue.receive(None)
            except HornbeamError as error:
                self._shut()
                if _is_end(error):
                    threading.Event().wait()
                time.sleep(self._next_pause(error))
            else:
                self._look_for_losses()
                yield message.read()

    @property
    def _queue(self) -> Mailbox:
        assert self._places is not None
        return self._places[1]

    async def _reopen(self) -> None:
        self.open()
        for topic in list(self._heard):
            await self.subscribe(topic)
        self._pause = 0.0

    def _next_pause(self, error: HornbeamError) -> float:
        if not self._pause:
            self._complain(f"no messages come, and what is published now is lost: {error}")
        self._pause = min(max(2 * self._pause, PAUSE), LONGEST_PAUSE)
        return self._pause

    def _look_for_losses(self) -> None:
        lost = self._queue.dropped - self._dropped
        if lost:
            self._dropped += lost
            self._complain(f"{lost} messages were lost, which this process has not read in time")


def _is_end(error: HornbeamError) -> bool:
    """Tell whether the process ends, and nobody may hear of it: where it is what has a node."""
    return isinstance(error, ConnectionEnded) and installed() is not None
