"""An ASGI app whose handlers do what lists of steps say, and that keeps account of it.

A step is a tuple: the name of a method of `Run`, then its arguments. What the app gets is written
down in the turn in which it gets it, so that a cancellation cannot come between the two.
"""

import asyncio
import contextlib
import contextvars
import itertools
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from hornbeam_erlang import (
    aio,
    check_pubsub,
    connection_state,
    publish,
    register_hook,
    state_set,
    state_take,
    subscribe,
    unregister_hook,
    unsubscribe,
)
from hornbeam_erlang._wire import ops
from puppet import Puppet

BAG = "bag"
"""A key whose values are taken, so that each is had once."""

BOARD = "board"
"""A topic that is read in blocks only."""

HOOK = "programs"

# What is undone by which op, when it was cancelled, when another takes its place, or when several
# tasks have changed the same.
CHANGES = {
    ops.PUBSUB_SUBSCRIBE: ops.PUBSUB_UNSUBSCRIBE,
    ops.HOOKS_REGISTER: ops.HOOKS_UNREGISTER,
}
UNDOING = CHANGES | {undoing: done for done, undoing in CHANGES.items()}

Step = tuple[Any, ...]


class Return(Exception):
    """Ends the handler or the task early."""


@dataclass
class Send:
    """One `send` of a payload, and whether it has returned while the client was there."""

    payload: bytes
    is_sent: bool = False


@dataclass
class Subscription:
    """One topic of one stream: what is sure of it while nothing changes it."""

    changes: int = 0
    pending: int = 0
    is_subscribed: bool | None = False


@dataclass
class Block:
    """One block that reads a topic: what it has read, and what has come for sure meanwhile."""

    heard: list[int] = field(default_factory=list)
    due: list[int] = field(default_factory=list)
    is_open: bool = True


@dataclass
class Record:
    """What has been seen and done on one stream."""

    number: int
    received: list[bytes] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    # The messages that were read, and by how many tasks at once.
    heard: list[int] = field(default_factory=list)
    readers: int = 0
    most_readers: int = 0
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    begun: bool = False
    over: bool = False

    def subscription(self, topic: str) -> Subscription:
        return self.subscriptions.setdefault(topic, Subscription())


class Threads:
    """The threads that do something for the app; a test waits until each waits for an answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._asking: set[str] = set()

    def begin(self) -> None:
        with self._lock:
            self._running += 1

    def end(self) -> None:
        with self._lock:
            self._running -= 1

    @contextlib.contextmanager
    def asking(self, key: str) -> Iterator[None]:
        with self._lock:
            self._asking.add(key)
        try:
            yield
        finally:
            self.answered(key)

    def answered(self, key: Any) -> None:
        """Take note that the thread which asked this will go on, or has."""
        with self._lock:
            self._asking.discard(key)

    def waiting(self, arrived: set[Any]) -> int:
        """Return how many wait for an answer: what they have asked has arrived."""
        with self._lock:
            return len(self._asking & arrived)

    def are_busy(self, arrived: set[Any]) -> bool:
        return self._running > self.waiting(arrived)


class App:
    """The app, its account of all streams, and its numbers."""

    def __init__(self, puppet: Puppet, second: float, *, has_threads: bool) -> None:
        self.puppet = puppet
        self.second = second
        self.has_threads = has_threads
        self.programs: dict[int, list[Step]] = {}
        self.records: dict[int, Record] = {}
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        # The threads that programs start, and those in which the worker runs what is called.
        self.threads = Threads()
        self.executor = ThreadPoolExecutor()
        self.calls = Threads()
        self.taken: list[int] = []
        self.progress = 0
        # Whether exceptions may have made circles that only a collection finds.
        self.is_tangled = False
        self.numbers = itertools.count(1)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        number = int(scope["path"][1:])
        record = self.records[number]
        record.begun = True
        run = Run(self, record, receive, send)
        try:
            await run.main(self.programs[number])
        finally:
            run.read_the_rest()
            record.over = True

    # What is called

    async def run_async(self, steps: list[Step]) -> int:
        await self._errand(steps)
        return next(self.numbers)

    def run_sync(self, count: int) -> int:
        self.ask(self.calls, 0, count)
        return next(self.numbers)

    async def items_async(self, steps: list[Step], count: int) -> AsyncIterator[int]:
        for n in range(count):
            yield n
            await self._errand(steps)

    def items_sync(self, count: int, asking: int) -> Iterator[int]:
        for n in range(count):
            yield n
            self.ask(self.calls, 0, asking)

    async def _errand(self, steps: list[Step]) -> None:
        await Run(self, Record(0), _no_client, _no_client).main(steps)

    def ask(self, threads: Threads, number: int, count: int) -> None:
        """Make ops in a thread; each has a key of its own."""
        for _ in range(count):
            key = self.key(number)
            self.owns(number, ops.STATE_SET, key)
            with threads.asking(key):
                state_set(key, 1)

    def key(self, number: int) -> str:
        return f"{number}/{next(self.numbers)}"

    def owns(self, number: int, op: int, first: Any) -> None:
        self.puppet.owners.setdefault((op, first), set()).add(number)


async def _no_client(*_: Any) -> Any:
    raise ConnectionError("a call has no client")


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


class Run:
    """One run of a list of steps, in a handler or in a call, and in the tasks that it starts."""

    def __init__(self, app: App, record: Record, receive: Any, send: Any) -> None:
        self._app = app
        self._record = record
        self._receive = receive
        self._send = send
        self._children: list[asyncio.Task[Any]] = []

    async def main(self, steps: list[Step]) -> None:
        """Do the steps, as all that a task has to do."""
        self._app.tasks.add(_this_task())
        with contextlib.suppress(Return):
            await self._do(steps)

    async def _do(self, steps: list[Step]) -> None:
        for name, *arguments in steps:
            self._app.progress += 1
            await getattr(self, name)(*arguments)
        self._app.progress += 1

    # ASGI

    async def receive(self) -> None:
        event = await self._receive()
        payload = event.get("body") or event.get("bytes") or (event.get("text") or "").encode()
        if payload:
            self._record.received.append(payload)

    async def accept(self) -> None:
        await self._send({"type": "websocket.accept"})

    async def close(self) -> None:
        await self._send({"type": "websocket.close", "code": 1000})

    async def say(self, size: int, as_text: bool) -> None:
        send, value = self._new_send(size)
        key = {"text": value.decode()} if as_text else {"bytes": value}
        await self._send({"type": "websocket.send", **key})
        self._sent(send)

    async def start(self, status: int) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": []})

    async def body(self, size: int, more: bool) -> None:
        send, value = self._new_send(size)
        await self._send({"type": "http.response.body", "body": value, "more_body": more})
        self._sent(send)

    def _sent(self, send: Send) -> None:
        send.is_sent = self._app.puppet.streams[self._record.number].is_alive

    def _new_send(self, size: int) -> tuple[Send, bytes]:
        mark = b"%d." % next(self._app.numbers)
        value = (mark * (size // len(mark) + 1))[: max(size, len(mark))] if size else b""
        send = Send(value)
        self._record.sends.append(send)
        return send, value

    # Ops: `how` is "aio", "sync", or "credit", which is sync, answered together with credit

    async def set(self, how: str, scoped: bool) -> None:
        key = self._app.key(self._record.number)
        scope: Any = "connection" if scoped else None
        await self._ask(
            *(how, ops.STATE_SET, key),
            *(lambda: state_set(key, 1, scope=scope), lambda: aio.state_set(key, 1, scope=scope)),
        )

    async def keep(self, how: str) -> None:
        key = self._app.key(self._record.number)
        await self._ask(
            *(how, ops.CONNECTION_SET, key),
            lambda: connection_state().update({key: 1}),
            lambda: aio.connection_state().set(key, 1),
        )

    async def take(self, how: str) -> None:
        await self._ask(how, ops.STATE_TAKE, BAG, lambda: self._took(state_take(BAG)), self._take)

    async def _take(self) -> None:
        self._took(await aio.state_take(BAG))

    def _took(self, value: Any) -> None:
        if value is not None:
            self._app.taken.append(value)

    async def publish(self, how: str, topic: str) -> None:
        value = next(self._app.numbers)
        await self._ask(
            *(how, ops.PUBSUB_PUBLISH, topic),
            *(lambda: publish(topic, value), lambda: aio.publish(topic, value)),
        )

    async def subscribe(self, how: str, topic: str, forward: bool) -> None:
        with self._changing(topic, not forward):
            await self._ask(
                *(how, ops.PUBSUB_SUBSCRIBE, topic),
                *(lambda: subscribe(topic, forward), lambda: aio.subscribe(topic, forward)),
            )

    async def unsubscribe(self, how: str, topic: str) -> None:
        with self._changing(topic, False):
            await self._ask(
                *(how, ops.PUBSUB_UNSUBSCRIBE, topic),
                *(lambda: unsubscribe(topic), lambda: aio.unsubscribe(topic)),
            )

    @contextlib.contextmanager
    def _changing(self, topic: str, to: bool) -> Iterator[None]:
        subscription = self._record.subscription(topic)
        subscription.changes += 1
        subscription.pending += 1
        subscription.is_subscribed = None
        mine = subscription.changes
        try:
            yield
            if (subscription.changes, subscription.pending) == (mine, 1):
                subscription.is_subscribed = to
        finally:
            subscription.pending -= 1

    async def _ask(
        self,
        how: str,
        op: int,
        first: Any,
        block: Callable[[], Any],
        wait: Callable[[], Awaitable[Any]],
    ) -> None:
        asyncio.get_running_loop()  # a coroutine that is collected must not begin to wait
        self._app.owns(self._record.number, op, first)
        self._app.owns(self._record.number, UNDOING.get(op, op), first)
        if how == "aio":
            await wait()
        else:
            ops = (op, UNDOING.get(op, op))
            with self._app.puppet.answering(first, *ops, with_credit=how == "credit"):
                block()

    async def hear(self, seconds: float | None) -> None:
        """Read one published message."""
        timeout = None if seconds is None else seconds * self._app.second
        with self._reading(), self._tangling():
            _, value = await aio.receive_pubsub(timeout)
            self._record.heard.append(value)

    async def hear_all(self, count: int) -> None:
        with self._reading():
            messages = aio.messages()
            try:
                async for _, value in messages:
                    self._record.heard.append(value)
                    count -= 1
                    if count <= 0:
                        break
            finally:
                await messages.aclose()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        record = self._record
        record.readers += 1
        record.most_readers = max(record.readers, record.most_readers)
        try:
            yield
        finally:
            record.readers -= 1

    async def watch(self, steps: list[Step], count: int) -> None:
        """Read messages in a block of their own, after some steps."""
        self._app.owns(self._record.number, ops.PUBSUB_SUBSCRIBE, BOARD)
        self._app.owns(self._record.number, ops.PUBSUB_UNSUBSCRIBE, BOARD)
        async with aio.subscribed(BOARD) as messages:
            block = Block()
            self._record.blocks.append(block)
            try:
                await self._do(steps)
                for _ in range(count):
                    block.heard.append((await messages.receive()).value)
            finally:
                block.is_open = False

    async def look(self) -> None:
        if self._record.number and (value := check_pubsub()) is not None:
            self._record.heard.append(value)

    def read_the_rest(self) -> None:
        """Read what the handler has left, so that nothing is lost without being seen."""
        while (value := check_pubsub()) is not None:
            self._record.heard.append(value)

    async def register(self, how: str) -> None:
        await self._ask(
            *(how, ops.HOOKS_REGISTER, HOOK),
            *(lambda: register_hook(HOOK, self._app), lambda: aio.register_hook(HOOK, self._app)),
        )

    async def unregister(self, how: str) -> None:
        await self._ask(
            *(how, ops.HOOKS_UNREGISTER, HOOK),
            *(lambda: unregister_hook(HOOK), lambda: aio.unregister_hook(HOOK)),
        )

    async def execute(self, steps: list[Step]) -> None:
        self._app.owns(self._record.number, ops.HOOKS_EXECUTE, HOOK)
        await aio.execute(HOOK, "run_async", steps)

    async def stream(self, steps: list[Step], count: int) -> None:
        self._app.owns(self._record.number, ops.HOOKS_STREAM, HOOK)
        async for _ in aio.stream(HOOK, "items_async", steps, count):
            self._app.progress += 1

    # Control

    async def sleep(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._app.second)

    async def attempt(self, steps: list[Step]) -> None:
        """Go on whatever the steps raise."""
        with contextlib.suppress(Exception):
            await self._do(steps)

    async def insist(self, steps: list[Step]) -> None:
        """Go on even when the steps are cancelled."""
        with contextlib.suppress(asyncio.CancelledError):
            await self._do(steps)

    async def finally_(self, steps: list[Step], after: list[Step]) -> None:
        try:
            await self._do(steps)
        finally:
            await self._do(after)

    async def wait_for(self, seconds: float, steps: list[Step]) -> None:
        with self._tangling():
            await asyncio.wait_for(self.main(steps), seconds * self._app.second)

    async def timeout(self, seconds: float, steps: list[Step]) -> None:
        with self._tangling():
            async with asyncio.timeout(seconds * self._app.second):
                await self._do(steps)

    async def gather(self, *branches: list[Step]) -> None:
        with self._tangling():
            await asyncio.gather(*map(self.main, branches))

    async def group(self, *branches: list[Step]) -> None:
        with self._tangling():
            async with asyncio.TaskGroup() as group:
                for branch in branches:
                    group.create_task(self.main(branch))

    async def task(self, steps: list[Step]) -> None:
        """Start a task that may outlive the handler."""
        task = asyncio.get_running_loop().create_task(self.main(steps))
        self._children.append(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        with contextlib.suppress(ValueError):
            self._children.remove(task)
        if not task.cancelled():
            task.exception()

    async def shield(self, steps: list[Step]) -> None:
        with self._tangling():
            task = asyncio.get_running_loop().create_task(self.main(steps))
            self._children.append(task)
            task.add_done_callback(self._ended)
            await asyncio.shield(task)

    async def cancel_self(self) -> None:
        _this_task().cancel()

    async def cancel_child(self, which: int) -> None:
        if self._children:
            self._children[which % len(self._children)].cancel()

    async def thread(self, count: int) -> None:
        """Do as `asyncio.to_thread`; the thread runs until the loop has heard of its end."""
        if not self._app.has_threads:
            return
        threads = self._app.threads
        threads.begin()
        ends = itertools.count(1)

        def ended(_: Any) -> None:
            if next(ends) == 2:  # in the thread, and in the loop
                threads.end()

        ask = contextvars.copy_context().run, self._app.ask
        in_thread = self._app.executor.submit(*ask, threads, self._record.number, count)
        in_loop = asyncio.wrap_future(in_thread)
        in_thread.add_done_callback(ended)
        in_loop.add_done_callback(ended)
        with self._tangling():
            await in_loop

    async def fail(self, kind: str) -> None:
        match kind:
            case "return":
                raise Return
            case "cancel":
                raise asyncio.CancelledError
        raise ValueError(kind)

    async def chain(self, steps: list[Step]) -> None:
        """Raise what comes out of the steps from itself."""
        try:
            await self._do(steps)
        except Exception as error:
            self._app.is_tangled = True
            raise error from error

    @contextlib.contextmanager
    def _tangling(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._app.is_tangled = True
            raise
