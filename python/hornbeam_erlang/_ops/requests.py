"""What each public function asks of Erlang: arguments checked and packed, results read.

The blocking functions and those of `aio` are made of the same requests. Pure: performs nothing.
"""

import asyncio
import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from hornbeam_erlang._ops.mailbox import Mailbox, Way
from hornbeam_erlang._ops.roster import TOPICS
from hornbeam_erlang._ops.topics import Topics
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import (
    Key,
    checked_key,
    checked_number,
    checked_text,
    checked_timeout,
    milliseconds_to_live,
    pack,
    shown,
    unpack,
)

T = TypeVar("T")


class Request(NamedTuple, Generic[T]):
    """An op with its arguments as they travel, and how to read its result.

    `timeout` is what the op itself may take, in milliseconds.
    """

    op: int
    args: list[Any]
    read: Callable[[Any], T]
    timeout: int | None = None


# Makes a `Request` as a tuple is made, in half the time of calling it.
_new = tuple.__new__

Plan = Generator[Request[Any], Any, T]

# What leaves open whether Erlang has done what it was asked for.
UNSURE = (TimeoutError, asyncio.CancelledError)

# State


def state_get(key: Key, default: Any, cluster: bool = False) -> Request[Any]:
    if cluster:
        args = [checked_key(key)]
        return Request(ops.COUNTERS_GET, args, lambda n: default if n is None else n)
    return Request(
        ops.STATE_GET,
        [checked_key(key)],
        lambda packed: default if packed is None else unpack(packed),
    )


def state_set(key: Key, value: Any, ttl: float | None, scope: str | None) -> Request[None]:
    args = [checked_key(key), pack(value), milliseconds_to_live(ttl), _scoped(scope)]
    return _new(Request, (ops.STATE_SET, args, _nothing, None))


def state_delete(key: Key) -> Request[bool]:
    return _new(Request, (ops.STATE_DELETE, [checked_key(key)], bool, None))


def state_incr(key: Key, delta: float, scope: str | None, cluster: bool) -> Request[Any]:
    args = [checked_key(key), checked_number(delta, "delta"), _scoped(scope)]
    return Request(ops.COUNTERS_INCR if cluster else ops.STATE_INCR, args, _as_it_is)


def state_decr(key: Key, delta: float, scope: str | None, cluster: bool) -> Request[Any]:
    return state_incr(key, -checked_number(delta, "delta"), scope, cluster)


def state_get_multi(keys: Iterable[Key]) -> Request[dict[Any, Any]]:
    wanted = [checked_key(key, f"keys[{n}]") for n, key in enumerate(keys)]

    def found(values: list[bytes | None]) -> dict[Any, Any]:
        pairs = zip(wanted, values, strict=True)
        return {key: unpack(packed) for key, packed in pairs if packed is not None}

    return Request(ops.STATE_GET_MULTI, [wanted], found)


def state_set_multi(mapping: Mapping[Any, Any], ttl: float | None) -> Request[None]:
    if not isinstance(mapping, Mapping):
        raise TypeError(f"mapping: is a dict of keys and values, not {type(mapping).__name__}")
    pairs = [
        [checked_key(key), pack(value, f"mapping[{shown(key)}]")] for key, value in mapping.items()
    ]
    return Request(ops.STATE_SET_MULTI, [pairs, milliseconds_to_live(ttl)], _nothing)


def state_keys(prefix: Any) -> Request[list[Any]]:
    return Request(ops.STATE_KEYS, [_prefix(prefix)], list)


def state_items(prefix: Any) -> Request[list[tuple[Any, Any]]]:
    return Request(
        ops.STATE_ITEMS,
        [_prefix(prefix)],
        lambda pairs: [(key, unpack(packed)) for key, packed in pairs],
    )


def state_add(key: Key, value: Any, ttl: float | None) -> Request[bool]:
    args = [checked_key(key), pack(value), milliseconds_to_live(ttl)]
    return Request(ops.STATE_ADD, args, bool)


def state_cas(key: Key, old: Any, new: Any) -> Request[bool]:
    return Request(ops.STATE_CAS, [checked_key(key), pack(old, "old"), pack(new, "new")], bool)


def state_take(key: Key, default: Any) -> Request[Any]:
    return Request(
        ops.STATE_TAKE,
        [checked_key(key)],
        lambda taken: default if taken is None else unpack(taken[0]),
    )


def _scoped(scope: str | None) -> bool:
    if scope not in (None, "connection"):
        raise ValueError(f'scope: is None or "connection", not {scope!r}')
    return scope is not None


def _prefix(prefix: Any) -> Key | None:
    if prefix is None:
        return None
    if isinstance(prefix, int):
        raise TypeError(f"prefix: is str, bytes or a tuple, not {type(prefix).__name__}")
    return checked_key(prefix, "prefix")


# State of the connection

ABSENT: Any = object()


def connection_get(key: Key, default: Any) -> Request[Any]:
    return state_get(key, default)._replace(op=ops.CONNECTION_GET)


def connection_item(key: Key) -> Request[Any]:
    """Return the value of a key; `KeyError` if it is absent."""

    def found(packed: bytes | None) -> Any:
        if packed is None:
            raise KeyError(key)
        return unpack(packed)

    return Request(ops.CONNECTION_GET, [checked_key(key)], found)


def connection_has(key: Key) -> Request[bool]:
    return Request(ops.CONNECTION_GET, [checked_key(key)], lambda packed: packed is not None)


def connection_set(key: Key, value: Any, name: str = "value") -> Request[None]:
    return Request(ops.CONNECTION_SET, [checked_key(key), pack(value, name)], _nothing)


def connection_delete(key: Key) -> Request[bool]:
    return Request(ops.CONNECTION_DELETE, [checked_key(key)], bool)


def connection_items() -> Request[list[tuple[Any, Any]]]:
    return state_items(None)._replace(op=ops.CONNECTION_ITEMS, args=[])


def connection_pop(key: Key, default: Any) -> Plan[Any]:
    """Get a value and delete its key; of many who do, one gets it."""
    value = yield connection_get(key, ABSENT)
    if value is not ABSENT and (yield connection_delete(key)):
        return value
    if default is ABSENT:
        raise KeyError(key)
    return default


def connection_setdefault(key: Key, default: Any) -> Plan[Any]:
    change = connection_set(key, default, "default")
    value = yield connection_get(key, ABSENT)
    if value is not ABSENT:
        return value
    yield change
    return default


def connection_update(values: Mapping[Any, Any]) -> Plan[None]:
    """Set keys one after the other, once all are known to be good."""
    yield from [
        connection_set(key, value, f"values[{shown(key)}]") for key, value in values.items()
    ]


def connection_clear() -> Plan[None]:
    for key, _ in (yield connection_items()):
        yield connection_delete(key)


# Published messages


def subscribe(
    topics: Topics, number: int, topic: str, forward: bool, overflow: str | None
) -> Plan[None]:
    """Subscribe a connection; when that fails, or is given up, all is as it was before.

    A connection that changes from one way to the other leaves the first before it takes the
    second, so that no message comes twice.
    """
    topic = checked_text(topic, "topic")
    way = Way(bool(forward), _overflow(overflow, forward))
    if way.forward and topics.has_queue(number, topic):
        raise ValueError(f"forward: {topic!r} is read by `aio.subscribed`, and comes one way")
    before = topics.way(number, topic)

    def give_up(noted: Way | None) -> None:
        topics.put_back(number, topic, noted, before)

    if before is not None and before.forward and not way.forward:
        topics.unsubscribe(number, topic)
        yield from _update_erlang(topics, number, topic, before, partial(give_up, None))
    there = topics.wanted(number, topic)
    topics.subscribe(number, topic, way)
    yield from _update_erlang(topics, number, topic, there, partial(give_up, way))


def _overflow(overflow: str | None, forward: bool) -> str | None:
    if overflow not in (None, "drop_oldest", "close", "latest"):
        raise ValueError(f'overflow: is None, "drop_oldest", "close" or "latest", not {overflow!r}')
    if overflow is not None and not forward:
        raise ValueError("overflow: is for forward=True; what waits in Python drops the oldest")
    return overflow


def unsubscribe(topics: Topics, number: int, topic: str) -> Plan[None]:
    """Unsubscribe a connection."""
    topic = checked_text(topic, "topic")
    topics.unsubscribe(number, topic)
    yield from leave(topics, number, topic)


def leave(topics: Topics, number: int, topic: str) -> Plan[None]:
    """Let Erlang know that a connection has left a topic, if no part of it has stayed."""
    if topics.wanted(number, topic) is None:
        yield from _update_erlang(topics, number, topic, None, lambda: None)


def open_queue(topics: Topics, number: int, topic: str) -> Plan[Mailbox]:
    """Subscribe a part of a connection, with a queue of its own."""
    topic = checked_text(topic, "topic")
    there = topics.wanted(number, topic)
    if there is not None and there.forward:
        raise ValueError(f"topic: {topic!r} is forwarded to the client, and comes one way")
    queue = topics.open_queue(number, topic)
    give_up = partial(topics.close_queue, number, topic, queue)
    yield from _update_erlang(topics, number, topic, there, give_up)
    return queue


def listen(
    topics: Topics, number: int, topic: str, listener: Mailbox, is_last: Callable[[], bool]
) -> Plan[None]:
    """Let a listener of a connection's hear a topic too.

    When that fails, or is given up, it does not, unless this was not the last who wants it to.
    """

    def give_up() -> None:
        if is_last():
            topics.unlisten(topic, listener)

    there = topics.wanted(number, topic)
    topics.listen(number, topic, listener)
    yield from _update_erlang(topics, number, topic, there, give_up)


def _update_erlang(
    topics: Topics, number: int, topic: str, there: Way | None, give_up: Callable[[], object]
) -> Plan[None]:
    """Let Erlang know how a topic comes to a connection, where it has been noted already.

    Noted first, no message comes too early. When Erlang refuses, it is still as it was `there`;
    when that is not known, as when the plan is cancelled, the answer is taken for a yes.
    """
    way = topics.wanted(number, topic)
    try:
        yield _in_erlang(topic, way)
    except BaseException as error:
        give_up()
        if isinstance(error, Exception | asyncio.CancelledError):
            with contextlib.suppress(Exception):
                known = way if isinstance(error, UNSURE) else there
                yield from _agree(topics, number, topic, known)
        raise
    yield from _agree(topics, number, topic, way)


def _agree(topics: Topics, number: int, topic: str, known: Way | None) -> Plan[None]:
    """Tell Erlang until it was told what is noted now.

    Ops that run apart have no order there: what was told last need not be what was heard last. So
    whoever has told something looks again at what has become of it meanwhile.
    """
    while (way := topics.wanted(number, topic)) != known:
        yield _in_erlang(topic, way)
        known = way


def _in_erlang(topic: str, way: Way | None) -> Request[None]:
    """Return what lets Erlang know of a way."""
    if way is None:
        return Request(ops.PUBSUB_UNSUBSCRIBE, [topic], _nothing)
    return Request(ops.PUBSUB_SUBSCRIBE, [topic, *way], _nothing)


def publish(topic: str, message: Any) -> Request[int]:
    args = [checked_text(topic, "topic"), pack(message, "message")]
    return _new(Request, (ops.PUBSUB_PUBLISH, args, int, None))


def pubsub_dropped(topics: Topics, number: int) -> Request[int]:
    return Request(ops.PUBSUB_DROPPED, [], lambda dropped: dropped + topics.dropped(number))


# Who is present

_RESERVED = ("phx_ref", "phx_ref_prev")


def presence_track(topic: str, key: str, meta: Mapping[str, Any]) -> Request[str]:
    args = [checked_text(topic, "topic"), checked_text(key, "key"), _meta(meta)]
    return Request(ops.PRESENCE_TRACK, args, _as_it_is)


def presence_update(topic: str, key: str, meta: Mapping[str, Any]) -> Request[str]:
    return presence_track(topic, key, meta)._replace(op=ops.PRESENCE_UPDATE)


def _meta(meta: Mapping[str, Any]) -> bytes:
    if not isinstance(meta, Mapping):
        raise TypeError(f"meta: is a dict, not {type(meta).__name__}")
    for name in _RESERVED:
        if name in meta:
            raise ValueError(f"meta: {name} stands in each meta already: give it another name")
    return pack(dict(meta), "meta")


def presence_untrack(topic: str, key: str) -> Request[bool]:
    args = [checked_text(topic, "topic"), checked_text(key, "key")]
    return Request(ops.PRESENCE_UNTRACK, args, bool)


def presence_list(topic: str) -> Request[dict[str, Any]]:
    return Request(ops.PRESENCE_LIST, [checked_text(topic, "topic")], unpack)


def presence_count(topic: str) -> Request[int]:
    return Request(ops.PRESENCE_COUNT, [checked_text(topic, "topic")], int)


def presence_subscribe(topics: Topics, number: int, topic: str, forward: bool) -> Plan[None]:
    """Subscribe a connection to changes; its client is told first how it is now.

    A client that has lost a change would have a wrong list for ever: so who is too slow is closed,
    and comes back.
    """
    name = TOPICS + checked_text(topic, "topic")
    yield from subscribe(topics, number, name, forward, "close" if forward else None)
    if forward:
        try:
            yield Request(ops.PRESENCE_SHOW, [topic], _nothing)
        except BaseException:
            yield from unsubscribe(topics, number, name)
            raise


def presence_unsubscribe(topics: Topics, number: int, topic: str) -> Plan[None]:
    yield from unsubscribe(topics, number, TOPICS + checked_text(topic, "topic"))


# Remote calls and registered functions


def echo(topics: Topics, number: int, mailbox: Mailbox) -> Plan[None]:
    """Have what the connection has published to itself, where nothing else is there to be read."""
    if len(mailbox) == 0 and mailbox.owes_echo:
        mailbox.echoes = False
        yield pubsub_dropped(topics, number)  # its answer comes behind it


def rpc_call(
    node: str, module: str, function: str, args: Iterable[Any], timeout: float | None
) -> Request[Any]:
    limit = checked_timeout(timeout)
    values = [*_remote(node, module, function, args), limit]
    return Request(ops.RPC_CALL, values, unpack, limit)


def rpc_cast(node: str, module: str, function: str, args: Iterable[Any]) -> Request[None]:
    return Request(ops.RPC_CAST, _remote(node, module, function, args), _nothing)


def _remote(node: str, module: str, function: str, args: Iterable[Any]) -> list[Any]:
    if not isinstance(args, list | tuple):
        raise TypeError(f"args: is a list of arguments, not {type(args).__name__}")
    return [
        checked_text(node, "node"),
        checked_text(module, "module"),
        checked_text(function, "function"),
        pack(list(args), "args"),
    ]


def nodes() -> Request[list[str]]:
    return Request(ops.RPC_NODES, [], list)


def node() -> Request[str]:
    return Request(ops.RPC_NODE, [], str)


def call(name: str, args: tuple[Any, ...], timeout: float | None) -> Request[Any]:
    limit = checked_timeout(timeout)
    values = [checked_text(name, "name"), pack(list(args), "args"), limit]
    return Request(ops.FUNCTIONS_CALL, values, unpack, limit)


def cast(name: str, args: tuple[Any, ...]) -> Request[None]:
    values = [checked_text(name, "name"), pack(list(args), "args")]
    return Request(ops.FUNCTIONS_CAST, values, _nothing)


# Hooks


def register_hook(name: str) -> Request[None]:
    return Request(ops.HOOKS_REGISTER, [checked_text(name, "name")], _nothing)


def unregister_hook(name: str) -> Request[None]:
    return Request(ops.HOOKS_UNREGISTER, [checked_text(name, "name")], _nothing)


def execute(
    name: str, action: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float | None
) -> Request[Any]:
    limit = checked_timeout(timeout)
    values = [*_action(name, action, args, kwargs), limit]
    return Request(ops.HOOKS_EXECUTE, values, unpack, limit)


def execute_async(
    name: str, action: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Request[str]:
    return Request(ops.HOOKS_EXECUTE_ASYNC, _action(name, action, args, kwargs), str)


def await_result(id: str, timeout: float | None) -> Request[Any]:
    limit = checked_timeout(timeout)
    return Request(ops.HOOKS_AWAIT_RESULT, [id, limit], unpack, limit)


def stream(name: str, action: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request[str]:
    return Request(ops.HOOKS_STREAM, _action(name, action, args, kwargs), str)


def next_items(id: str, limit: int) -> Request[list[Any]]:
    """Ask for a stream's next items; `limit` is in milliseconds."""
    return Request(ops.HOOKS_NEXT, [id, limit], lambda items: list(map(unpack, items)), limit)


def close(id: str) -> Request[None]:
    return Request(ops.HOOKS_CLOSE, [id], _nothing)


def _action(name: str, action: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    return [
        checked_text(name, "name"),
        checked_text(action, "action"),
        pack(list(args), "args"),
        pack(kwargs, "kwargs"),
    ]


def _nothing(result: Any) -> None:
    return None


def _as_it_is(result: Any) -> Any:
    return result
