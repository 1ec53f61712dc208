"""What all processes with channels of one prefix are asked, and who answers for this one.

Knows topics, tokens, and who is asked here: one answer says that all of them have done it. Must not
know what they are.
"""

import asyncio
import concurrent.futures
import itertools
import threading
from typing import Protocol

from hornbeam_erlang._ops import channel_requests
from hornbeam_erlang._ops.background import begin
from hornbeam_erlang._ops.hearing import Hearing
from hornbeam_erlang._ops.mailbox import Listener, Published
from hornbeam_erlang._ops.perform import perform_async, told
from hornbeam_erlang._ops.requests import Request
from hornbeam_erlang._ops.topics import Topics
from hornbeam_erlang._wire.values import pack
from hornbeam_erlang.exceptions import OpTimeout

# How long another process may take to say that it has done what it was asked for (seconds).
PATIENCE = 5.0


class Member(Protocol):
    """Who is asked."""

    async def clear_here(self) -> None:
        """Forget all messages and groups that are here."""


class Everybody:
    """Those in this process who do what all processes are asked by a topic."""

    @staticmethod
    def here(topics: Topics, topic: str) -> "Everybody":
        """Return the one that this process has for a topic."""
        found: Everybody = topics.shared.setdefault(topic, Everybody(topics, topic))
        return found

    def __init__(self, topics: Topics, topic: str) -> None:
        self._topic = topic
        self._members: dict[Member, None] = {}
        listener = Listener(self._take, lambda: None)
        self._hearing = Hearing(topics, listener, threading.RLock())

    async def join(self, member: Member) -> None:
        """Let one more be asked from now on."""
        self._members[member] = None
        if self._topic not in self._hearing:
            await self._hearing.start(self._topic)

    def _take(self, message: Published, at_home: bool) -> None:
        match message.value:
            case ["clear", str(reply), int(token)]:
                begin(self._clear(reply, token))

    async def _clear(self, reply: str, token: int) -> None:
        for member in list(self._members):
            await member.clear_here()
        await told(done(reply, token))


def done(reply: str, token: int) -> Request[int]:
    """Return the request that answers a question."""
    return channel_requests.publish(reply, pack(["done", token]))


class Questions:
    """What others were asked, whose answers come to an address."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._asked: dict[int, _Answers] = {}
        self._tokens = itertools.count(1)

    async def ask(self, topic: str, *order: object) -> None:
        """Have all processes that hear a topic do something, and wait until they have."""
        token, answers = next(self._tokens), _Answers()
        self._asked[token] = answers
        try:
            message = pack([*order, self._address, token])
            answers.expect(await perform_async(channel_requests.publish(topic, message)))
            await answers.wait()
        finally:
            del self._asked[token]

    def answered(self, token: int) -> None:
        """Take note of an answer."""
        if (answers := self._asked.get(token)) is not None:
            answers.add()


class _Answers:
    """The answers of other processes, of which it is known late how many there will be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: int | None = None
        self._came = 0
        self._all: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._all.set_running_or_notify_cancel()  # who gives up waiting does not cancel it

    def expect(self, answers: int) -> None:
        """Take note of how many there will be."""
        with self._lock:
            self._expected = answers
            self._finish()

    def add(self) -> None:
        """Take note of one."""
        with self._lock:
            self._came += 1
            self._finish()

    def _finish(self) -> None:
        if self._expected is not None and self._came >= self._expected and not self._all.done():
            self._all.set_result(None)

    async def wait(self) -> None:
        """Wait for all; raises `OpTimeout`."""
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._all), PATIENCE)
        except TimeoutError:
            raise OpTimeout(f"another process has not answered within {PATIENCE} s") from None
