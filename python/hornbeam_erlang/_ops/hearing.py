"""Which topics a listener of this process hears, while threads and loops come to them and go.

    nobody needs it ──start──▶ asked for ──Erlang has answered──▶ heard ──stop──▶ nobody needs it

Knows topics and whether Erlang was told of them. Must not know for whom they are heard. A topic is
heard only when nobody who may still have Erlang told the contrary is under way. Of those who want
it at once one asks Erlang, and the others wait for him: thousands may come back together.
"""

import asyncio
import concurrent.futures
import threading
from collections import Counter
from collections.abc import Callable

from hornbeam_erlang._ops import identity, requests
from hornbeam_erlang._ops.identity import WORKER
from hornbeam_erlang._ops.mailbox import Mailbox
from hornbeam_erlang._ops.perform import follow_async
from hornbeam_erlang._ops.topics import Topics


class Hearing:
    """The topics that one listener hears; `guard` is held when it is asked who needs them."""

    def __init__(self, topics: Topics, listener: Mailbox, guard: threading.RLock) -> None:
        self._topics = topics
        self._listener = listener
        self._guard = guard
        self._heard: set[str] = set()
        # How many are about to let Erlang know that they want to hear a topic, or no more.
        self._starting: Counter[str] = Counter()
        self._stopping: Counter[str] = Counter()
        # Done when who asks Erlang to let a topic come has his answer, or has given up.
        self._asked: dict[str, concurrent.futures.Future[None]] = {}

    def __contains__(self, topic: str) -> bool:
        return topic in self._heard

    async def start(self, topic: str) -> None:
        """Hear a topic from now on, whoever has begun to leave it."""
        with self._guard:
            self._starting[topic] += 1
        try:
            while topic not in self._heard:
                await self._listen_in_turn(topic)
        finally:
            with self._guard:
                _count_down(self._starting, topic)

    async def _listen_in_turn(self, topic: str) -> None:
        mine: concurrent.futures.Future[None] = concurrent.futures.Future()
        mine.set_running_or_notify_cancel()  # who gives up waiting does not cancel it
        with self._guard:
            asked = self._asked.setdefault(topic, mine)
        if asked is not mine:
            await asyncio.wrap_future(asked)
            return
        try:
            await self._listen(topic)
        finally:
            with self._guard:
                del self._asked[topic]
            mine.set_result(None)

    async def _listen(self, topic: str) -> None:
        has_given_up = False

        def is_last() -> bool:
            nonlocal has_given_up
            with self._guard:
                if topic in self._heard or self._starting[topic] > 1:
                    return False
                has_given_up = True
                self._stopping[topic] += 1
                return True

        try:
            with identity.as_worker():
                plan = requests.listen(self._topics, WORKER, topic, self._listener, is_last)
                await follow_async(plan)
        finally:
            with self._guard:
                if has_given_up:
                    _count_down(self._stopping, topic)
        self._note(topic)

    def _note(self, topic: str) -> None:
        """Take it for heard, unless others have taken it back meanwhile or are about to."""
        with self._guard:
            if topic in self._listener.ways and topic not in self._stopping:
                self._heard.add(topic)

    async def stop(self, topic: str, is_needed: Callable[[], bool]) -> None:
        """Hear a topic no more, unless somebody needs it."""
        with self._guard:
            if is_needed() or topic not in self._heard:
                return
            self._heard.discard(topic)
            self._stopping[topic] += 1
            self._topics.unlisten(topic, self._listener)
        try:
            with identity.as_worker():
                await follow_async(requests.leave(self._topics, WORKER, topic))
        finally:
            with self._guard:
                _count_down(self._stopping, topic)


def _count_down(counter: Counter[str], topic: str) -> None:
    counter[topic] -= 1
    if not counter[topic]:
        del counter[topic]
