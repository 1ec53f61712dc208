"""The same names as coroutines: the loop goes on while Erlang answers.

Each takes, returns and raises what the function of the same name does; those that wait for
messages are here in the form for coroutines, and so is the state of the connection. `subscribed`
is only here. What is sent without waiting (`publish`, `cast`, `state_set` and such) is sent by the
call here too, and may be awaited; when the node does not keep up, it is the `await` that waits.

>>> import asyncio
>>> async def example():
...     await state_set("greeting", "hello")
...     return await state_get("greeting")
>>> asyncio.run(example())
'hello'
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from hornbeam_erlang import hooks
from hornbeam_erlang._ops import cluster_requests, requests
from hornbeam_erlang._ops.carrier import connected
from hornbeam_erlang._ops.mailbox import Mailbox, Message, Published, too_late
from hornbeam_erlang._ops.perform import follow_async, perform_async, tell
from hornbeam_erlang._ops.requests import ABSENT
from hornbeam_erlang._ops.roster import TOPICS, Diff, Members, Roster
from hornbeam_erlang._ops.sent import Sent
from hornbeam_erlang._ops.topics import Topics
from hornbeam_erlang._wire.values import Key, Value, checked_seconds, checked_text
from hornbeam_erlang.exceptions import ConnectionEnded, NotConnected
from hornbeam_erlang.hooks import Execution, stream_async
from hornbeam_erlang.leadership import Leadership, OnlyOne, leader, only_one
from hornbeam_erlang.pubsub import Overflow
from hornbeam_erlang.state import Prefix, Scope

__all__ = [
    "Cluster",
    "ConnectionState",
    "Execution",
    "Leadership",
    "Message",
    "OnlyOne",
    "Presence",
    "Subscription",
    "call",
    "cast",
    "check_pubsub",
    "cluster",
    "connection_state",
    "execute",
    "execute_async",
    "leader",
    "messages",
    "node",
    "nodes",
    "only_one",
    "presence",
    "publish",
    "pubsub_dropped",
    "receive_pubsub",
    "register_hook",
    "rpc_call",
    "rpc_cast",
    "state_add",
    "state_cas",
    "state_decr",
    "state_delete",
    "state_get",
    "state_get_multi",
    "state_incr",
    "state_items",
    "state_keys",
    "state_set",
    "state_set_multi",
    "state_take",
    "stream",
    "stream_async",
    "subscribe",
    "subscribed",
    "unregister_hook",
    "unsubscribe",
]

T = TypeVar("T")

# State


@overload
async def state_get(key: Key, *, cluster: bool = False) -> Value | None: ...
@overload
async def state_get(key: Key, default: T, *, cluster: bool = False) -> Value | T: ...
async def state_get(key: Key, default: Any = None, *, cluster: bool = False) -> Any:
    """Return the value of a key, or `default` if it is absent."""
    return await perform_async(requests.state_get(key, default, cluster))


def state_set(
    key: Key, value: Value, ttl: float | None = None, *, scope: Scope | None = None
) -> Sent[None]:
    """Set a key, whatever it was, for `ttl` seconds or for good."""
    return tell(requests.state_set(key, value, ttl, scope), is_asked=True)


def state_delete(key: Key) -> Sent[bool]:
    """Delete a key; the answer is whether it was there."""
    return tell(requests.state_delete(key), is_asked=True)


async def state_incr(
    key: Key, delta: float = 1, *, scope: Scope | None = None, cluster: bool = False
) -> Any:
    """Add to a number and return the sum; an absent key counts as 0."""
    return await perform_async(requests.state_incr(key, delta, scope, cluster))


async def state_decr(
    key: Key, delta: float = 1, *, scope: Scope | None = None, cluster: bool = False
) -> Any:
    """Subtract from a number and return the rest."""
    return await perform_async(requests.state_decr(key, delta, scope, cluster))


async def state_get_multi(keys: Iterable[Key]) -> dict[Any, Value]:
    """Return those of the keys that are there, with their values."""
    return await perform_async(requests.state_get_multi(keys))


def state_set_multi(mapping: Mapping[Any, Value], ttl: float | None = None) -> Sent[None]:
    """Set several keys in one step, for `ttl` seconds or for good."""
    return tell(requests.state_set_multi(mapping, ttl), is_asked=True)


async def state_keys(prefix: Prefix | None = None) -> list[Any]:
    """Return all keys, or those with a prefix, in the order of the table."""
    return await perform_async(requests.state_keys(prefix))


async def state_items(prefix: Prefix | None = None) -> list[tuple[Any, Value]]:
    """Return the keys with a prefix together with their values."""
    return await perform_async(requests.state_items(prefix))


async def state_add(key: Key, value: Value, ttl: float | None = None) -> bool:
    """Set a key only if it is absent; return whether it was."""
    return await perform_async(requests.state_add(key, value, ttl))


async def state_cas(key: Key, old: Value, new: Value) -> bool:
    """Put `new` in the place of `old`; return whether the value was exactly `old`."""
    return await perform_async(requests.state_cas(key, old, new))


@overload
async def state_take(key: Key) -> Value | None: ...
@overload
async def state_take(key: Key, default: T) -> Value | T: ...
async def state_take(key: Key, default: Any = None) -> Any:
    """Return the value of a key, or `default`, and delete it."""
    return await perform_async(requests.state_take(key, default))


get = state_get
set = state_set
delete = state_delete
incr = state_incr
decr = state_decr

# State of the connection


class ConnectionState:
    """Be the state of the connection, with coroutines for what a dict does."""

    __slots__ = ()

    @overload
    async def get(self, key: Key) -> Value | None: ...
    @overload
    async def get(self, key: Key, default: T) -> Value | T: ...
    async def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of a key, or `default` if it is absent."""
        return await perform_async(requests.connection_get(key, default))

    async def set(self, key: Key, value: Value) -> None:
        """Set a key, whatever it was."""
        await perform_async(requests.connection_set(key, value))

    async def delete(self, key: Key) -> bool:
        """Delete a key; return whether it was there."""
        return await perform_async(requests.connection_delete(key))

    async def items(self) -> list[tuple[Any, Value]]:
        """Return all keys with their values, in the order of the table."""
        return await perform_async(requests.connection_items())

    @overload
    async def pop(self, key: Key) -> Value: ...
    @overload
    async def pop(self, key: Key, default: T) -> Value | T: ...
    async def pop(self, key: Key, default: Any = ABSENT) -> Any:
        """Delete a key and return its value, or `default`; without that, raise `KeyError`.

        When it is cancelled, the key may be there or not.
        """
        return await follow_async(requests.connection_pop(key, default))

    async def setdefault(self, key: Key, default: Value = None) -> Value:
        """Return the value of a key, which is set to `default` first if it is absent."""
        return await follow_async(requests.connection_setdefault(key, default))

    async def update(self, other: Any = (), /, **values: Any) -> None:
        """Set the keys of a mapping, or of pairs, and those that are named."""
        await follow_async(requests.connection_update(dict(other, **values)))

    async def clear(self) -> None:
        """Delete all keys."""
        await follow_async(requests.connection_clear())


def connection_state() -> ConnectionState:
    """Return the state of the connection whose handler uses it.

    >>> async def example():
    ...     state = connection_state()
    ...     await state.set("user", "ada")
    ...     return await state.get("user"), await state.pop("room", "lobby")
    >>> asyncio.run(example())
    ('ada', 'lobby')
    """
    return _CONNECTION_STATE


_CONNECTION_STATE = ConnectionState()

# Publish and subscribe


async def subscribe(topic: str, forward: bool = False, overflow: Overflow | None = None) -> None:
    """Subscribe the connection to a topic.

    If it is cancelled, all is as before; it ends once Erlang has said so.
    """
    carrier = connected()
    plan = requests.subscribe(carrier.topics, carrier.caller(), topic, forward, overflow)
    await follow_async(plan)


async def unsubscribe(topic: str) -> None:
    """End the connection's subscription to a topic, if it has one; also if it is cancelled."""
    carrier = connected()
    await follow_async(requests.unsubscribe(carrier.topics, carrier.caller(), topic))


def publish(topic: str, message: Value) -> Sent[int]:
    """Publish a message; the answer is to how many subscribers it was handed."""
    return tell(requests.publish(topic, message), is_asked=True)


async def check_pubsub() -> Value:
    """Return the next message that the connection has not read, or None."""
    carrier = connected()
    number = carrier.caller()
    mailbox = carrier.topics.find(number)
    if mailbox is None:
        return None
    await follow_async(requests.echo(carrier.topics, number, mailbox))
    message = mailbox.take()
    return None if message is None else message.value


async def receive_pubsub(timeout: float | None = None) -> Message:
    """Wait for the next message.

    Raises `OpTimeout` after `timeout` seconds, and `ConnectionEnded` when the connection is over
    and all is read.

    >>> async def example():
    ...     await subscribe("news")
    ...     await publish("news", "extra!")
    ...     return await receive_pubsub()
    >>> asyncio.run(example())
    Message(topic='news', value='extra!')
    """
    carrier = connected()
    number = carrier.caller()
    mailbox = carrier.topics.mailbox(number)
    if timeout == 0:
        await follow_async(requests.echo(carrier.topics, number, mailbox))
    return await _receive(mailbox, timeout)


async def _receive(mailbox: Mailbox, timeout: float | None) -> Message:
    seconds = checked_seconds(timeout)
    if seconds is None:
        return (await mailbox.receive_async()).read()
    try:
        async with asyncio.timeout(seconds):
            return (await mailbox.receive_async()).read()
    except TimeoutError:
        raise too_late(seconds) from None


def messages() -> AsyncGenerator[Message, None]:
    """Yield each message, until the connection is over.

    >>> async def forward(send):
    ...     async for topic, message in messages():
    ...         await send({"type": "websocket.send", "text": message})
    >>> async def example():
    ...     await subscribe("news")
    ...     await publish("news", "extra!")
    ...     async for message in messages():
    ...         return message
    >>> asyncio.run(example())
    Message(topic='news', value='extra!')
    """
    carrier = connected()
    return _read(carrier.topics.mailbox(carrier.caller()))


async def _read(mailbox: Mailbox) -> AsyncGenerator[Message, None]:
    # `receive_async` is written out: one coroutine less for each message.
    while True:
        try:
            found = mailbox.next_or_future()
        except ConnectionEnded:
            return
        if isinstance(found, Published):
            yield found.read()
            continue
        try:
            message = await found
        except BaseException:
            mailbox.leave(found)
            raise
        if message is not None:
            yield message.read()


def subscribed(topic: str) -> "Subscription":
    """Subscribe a block to a topic: `async with` gives its messages and ends with its scope.

    The block has a queue of its own, so that blocks and `messages` of one connection take nothing
    from each other, and the end of one ends no other, not even of the same topic. A topic that the
    connection has with `forward=True` is refused.

    >>> async def example():
    ...     async with subscribed("news") as news:
    ...         await publish("news", "extra!")
    ...         async for message in news:
    ...             break
    ...     return message, await publish("news", "unheard")
    >>> asyncio.run(example())
    (Message(topic='news', value='extra!'), 0)
    """
    return Subscription(topic)


class Subscription:
    """The messages of one topic while an `async with` block runs; see `subscribed`.

    Iterating ends when the connection, or the block, is over.

    >>> async def example():
    ...     async with subscribed("news") as news:
    ...         await publish("news", "extra!")
    ...         return await news.receive(timeout=5)
    >>> asyncio.run(example())
    Message(topic='news', value='extra!')
    """

    __slots__ = ("_number", "_queue", "_topics", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        # Known from the beginning of the block on.
        self._queue: Mailbox | None = None
        self._topics: Topics
        self._number: int

    async def __aenter__(self) -> Self:
        if self._queue is not None:
            raise RuntimeError("a subscription is for one block: call aio.subscribed again")
        carrier = connected()
        self._topics, self._number = carrier.topics, carrier.caller()
        plan = requests.open_queue(self._topics, self._number, self.topic)
        self._queue = await follow_async(plan)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._topics.close_queue(self._number, self.topic, self._open())
        # With the connection all its subscriptions have ended, also for the node. It is another one
        # that calls where a generator is finalized: that one's subscriptions are not ours to end.
        with contextlib.suppress(ConnectionEnded, NotConnected):
            if connected().caller() == self._number:
                await follow_async(requests.leave(self._topics, self._number, self.topic))

    def __aiter__(self) -> AsyncIterator[Message]:
        return _read(self._open())

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except ConnectionEnded:
            raise StopAsyncIteration from None

    async def receive(self, timeout: float | None = None) -> Message:
        """Wait for the next message.

        Raises `OpTimeout` after `timeout` seconds, and `ConnectionEnded` when the connection, or
        the block, is over and all is read.
        """
        return await _receive(self._open(), timeout)

    @property
    def dropped(self) -> int:
        """How many messages were dropped because this block was too slow."""
        return self._open().dropped

    def _open(self) -> Mailbox:
        if self._queue is None:
            raise RuntimeError("async with aio.subscribed(…) as messages: it begins there")
        return self._queue


async def pubsub_dropped() -> int:
    """Return how many messages were dropped because the connection was too slow."""
    carrier = connected()
    return await perform_async(requests.pubsub_dropped(carrier.topics, carrier.caller()))


# Who is present


class Presence:
    """Be what `hornbeam_erlang.presence` is, with coroutines; see there.

    >>> async def example():
    ...     await presence.track("room:lobby", "ada", {})
    ...     async for diff in presence.changes("room:lobby"):
    ...         return [*diff["joins"]], await presence.count("room:lobby")
    >>> asyncio.run(example())
    (['ada'], 1)
    """

    __slots__ = ()

    async def track(self, topic: str, key: str, meta: Mapping[str, Any]) -> str:
        """Let the connection be present until it ends; return its `phx_ref`."""
        return await perform_async(requests.presence_track(topic, key, meta))

    async def update(self, topic: str, key: str, meta: Mapping[str, Any]) -> str:
        """Give the connection another meta, the whole of it; return its new `phx_ref`."""
        return await perform_async(requests.presence_update(topic, key, meta))

    async def untrack(self, topic: str, key: str) -> bool:
        """Let the connection be present no more; return whether it was."""
        return await perform_async(requests.presence_untrack(topic, key))

    async def list(self, topic: str) -> Members:
        """Return who is present, by key, in the order of the keys."""
        return await perform_async(requests.presence_list(topic))

    async def count(self, topic: str) -> int:
        """Return how many keys are present."""
        return await perform_async(requests.presence_count(topic))

    async def changes(self, topic: str) -> AsyncGenerator[Diff, None]:
        """Yield who is present, as those who join, and then who joins and who leaves."""
        roster, lost = Roster(), 0
        async with subscribed(TOPICS + checked_text(topic, "topic")) as messages:
            yield roster.replace(await self.list(topic))
            async for message in messages:
                if messages.dropped == lost:
                    diff = roster.hear(message.value)
                else:
                    lost = messages.dropped
                    diff = roster.replace(await self.list(topic))
                if diff["joins"] or diff["leaves"]:
                    yield diff

    async def subscribe(self, topic: str, forward: bool = False) -> None:
        """Subscribe the connection to changes, as to any topic; see `presence.subscribe`."""
        carrier = connected()
        number = carrier.caller()
        await follow_async(requests.presence_subscribe(carrier.topics, number, topic, forward))

    async def unsubscribe(self, topic: str) -> None:
        """End the connection's subscription to changes, if it has one."""
        carrier = connected()
        plan = requests.presence_unsubscribe(carrier.topics, carrier.caller(), topic)
        await follow_async(plan)


presence = Presence()
# Consistent state


class Cluster:
    """Be `hornbeam_erlang.cluster`, with coroutines for its functions."""

    __slots__ = ()

    @overload
    async def get(self, key: Key) -> Value | None: ...
    @overload
    async def get(self, key: Key, default: T) -> Value | T: ...
    async def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of a key, or `default` if it is absent."""
        return await perform_async(cluster_requests.get(key, default))

    async def set(self, key: Key, value: Value) -> None:
        """Set a key, whatever it was."""
        await perform_async(cluster_requests.set(key, value))

    async def add(self, key: Key, value: Value) -> bool:
        """Set a key only if it is absent; return whether it was."""
        return await perform_async(cluster_requests.add(key, value))

    async def cas(self, key: Key, old: Value, new: Value) -> bool:
        """Put `new` in the place of `old`; return whether the value was exactly `old`."""
        return await perform_async(cluster_requests.cas(key, old, new))

    async def delete(self, key: Key) -> bool:
        """Delete a key; return whether it was there."""
        return await perform_async(cluster_requests.delete(key))

    async def incr(self, key: Key, delta: float = 1) -> Any:
        """Add to a number and return the sum; an absent key counts as 0."""
        return await perform_async(cluster_requests.incr(key, delta))

    def lock(self, name: str, timeout: float | None = None) -> Leadership:
        """Hold a lock of the cluster while an `async with` block runs."""
        return Leadership(name, timeout, is_lock=True)


cluster = Cluster()

# Remote calls and registered functions


async def rpc_call(
    node: str, module: str, function: str, args: Sequence[Value], timeout: float | None = 5.0
) -> Value:
    """Call an Erlang function and return its result."""
    request = requests.rpc_call(node, module, function, args, timeout)
    return await perform_async(request)


def rpc_cast(node: str, module: str, function: str, args: Sequence[Value]) -> Sent[None]:
    """Call an Erlang function and wait neither for its result nor for its failure."""
    return tell(requests.rpc_cast(node, module, function, args), is_asked=True)


async def nodes() -> list[str]:
    """Return the names of the other nodes that are connected."""
    return await perform_async(requests.nodes())


async def node() -> str:
    """Return the name of this node."""
    return await perform_async(requests.node())


async def call(name: str, *args: Value, timeout: float | None = 5.0) -> Value:
    """Call a registered function and return its result."""
    return await perform_async(requests.call(name, args, timeout))


def cast(name: str, *args: Value) -> Sent[None]:
    """Call a registered function and wait neither for its result nor for its failure."""
    return tell(requests.cast(name, args), is_asked=True)


# Hooks


async def register_hook(name: str, handler: Any) -> None:
    """Serve a hook in this worker; an earlier handler of the name is replaced."""
    await follow_async(hooks.registration(name, handler))


async def unregister_hook(name: str) -> None:
    """Serve a hook no more in this worker; others that serve it go on."""
    await follow_async(hooks.deregistration(name))


async def execute(
    name: str, action: str, /, *args: Value, timeout: float | None = 5.0, **kwargs: Value
) -> Value:
    """Execute an action of a hook, wherever it lives, and return its result."""
    return await perform_async(requests.execute(name, action, args, kwargs, timeout))


async def execute_async(name: str, action: str, /, *args: Value, **kwargs: Value) -> Execution:
    """Start an execution without waiting for it; await what this returns for its result."""
    request = requests.execute_async(name, action, args, kwargs)
    return Execution(await perform_async(request))


stream = stream_async
