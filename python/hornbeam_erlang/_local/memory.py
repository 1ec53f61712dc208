"""What the node does for an app, in memory: state, topics, functions, in the form of the wire.

Knows ops by their numbers and values as they travel; must not know who asks or how. It answers
as the node does, which one table of tests holds it to.
"""

import contextlib
import itertools
import json
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

from hornbeam_erlang._local.channels import Channels, Member
from hornbeam_erlang._local.consistent import Consistent, TooMuch
from hornbeam_erlang._local.counters import Counters
from hornbeam_erlang._local.leaders import Leaders, Standing
from hornbeam_erlang._local.metrics import Metrics
from hornbeam_erlang._local.numbers import rest, total
from hornbeam_erlang._local.presence import Presences
from hornbeam_erlang._local.quota import (
    BINDING,
    EXPIRY,
    ROW,
    SUBSCRIPTION,
    Full,
    Limits,
    Quota,
    key_bytes,
    value_bytes,
)
from hornbeam_erlang._ops.handlers import class_name
from hornbeam_erlang._ops.roster import TOPICS
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import pack, unpack
from hornbeam_erlang.terms import Atom

OK, NOT_IMPLEMENTED, TYPE_ERROR, VALUE_ERROR = 0, 1, 2, 3
PERMISSION_DENIED, REMOTE_ERROR, NOT_FOUND, NODE_DOWN = 5, 8, 9, 11
LIMIT_EXCEEDED = 10

NODE = "nonode@nohost"

NOT_FORWARDABLE = (
    "forward=True needs a WebSocket that has been accepted, or a response of the type "
    "text/event-stream"
)

NO_NUMBER = "the value is not a number"
TOO_LARGE = "the result is too large for a float, or for an int that can travel"
UNKNOWN_CANDIDATE = "this candidate is unknown: it has resigned, or its node has forgotten it"

Answer = tuple[int, Any]


class Row(NamedTuple):
    """A value, when it is gone, a number that changes when its key is set anew, and its bytes."""

    packed: bytes
    expires: float
    generation: int
    size: int


class Memory:
    """The node, as far as one worker sees it."""

    def __init__(
        self,
        clock: Callable[[], float],
        deliver: Callable[[str, bytes], Any],
        forward: Callable[[int, str, bytes], Any],
        limits: Limits,
    ) -> None:
        self._clock = clock
        self._deliver = deliver
        self._forward = forward
        self._lock = threading.RLock()
        self.metrics = Metrics()
        self._quota = Quota(limits)
        self._generations = itertools.count()
        self._rows: dict[Any, Row] = {}
        # What each connection has to have undone: the row's generation, and what was added.
        self._undo: dict[int, dict[tuple[Any, int], tuple[int, Any]]] = {}
        self._kept: dict[int, dict[Any, bytes]] = {}
        self._topics: dict[str, dict[int, bool]] = {}
        # The connections that are neither a WebSocket nor an event stream.
        self.requests: set[int] = set()
        self._channels = Channels(clock, lambda topic, packed: self._publish(0, topic, packed)[1])
        self._presences = Presences(
            self._quota, lambda topic, packed: self._publish(0, topic, packed)
        )
        self._counters = Counters(self._quota)
        self.leaders = Leaders()
        self._consistent = Consistent(_same, total)
        self.functions: dict[str, Callable[..., Any]] = {}
        self.allowed: dict[tuple[str, str], Callable[..., Any]] = {}
        self._ops: dict[int, Callable[..., Answer]] = {
            ops.STATE_GET: self._get,
            ops.STATE_SET: self._set,
            ops.STATE_DELETE: self._delete,
            ops.STATE_INCR: self._incr,
            ops.STATE_GET_MULTI: self._get_multi,
            ops.STATE_SET_MULTI: self._set_multi,
            ops.STATE_KEYS: self._keys,
            ops.STATE_ITEMS: self._items,
            ops.STATE_ADD: self._add,
            ops.STATE_CAS: self._cas,
            ops.STATE_TAKE: self._take,
            ops.COUNTERS_INCR: self._incr_counter,
            ops.COUNTERS_GET: _done(self._counters.get),
            ops.CONNECTION_GET: self._get_kept,
            ops.CONNECTION_SET: self._keep,
            ops.CONNECTION_DELETE: self._delete_kept,
            ops.CONNECTION_ITEMS: self._items_kept,
            ops.PUBSUB_SUBSCRIBE: self._subscribe,
            ops.PUBSUB_UNSUBSCRIBE: self._unsubscribe,
            ops.PUBSUB_PUBLISH: self._publish,
            ops.PUBSUB_DROPPED: lambda number: (OK, 0),
            ops.PRESENCE_TRACK: self._track,
            ops.PRESENCE_UPDATE: self._update_presence,
            ops.PRESENCE_UNTRACK: lambda *args: (OK, self._presences.untrack(*args)),
            ops.PRESENCE_LIST: lambda _, topic: (OK, pack(self._presences.members(topic))),
            ops.PRESENCE_COUNT: _done(lambda topic: len(self._presences.members(topic))),
            ops.PRESENCE_SHOW: self._show,
            ops.RPC_CALL: self._rpc_call,
            ops.RPC_CAST: self._rpc_cast,
            ops.RPC_NODES: lambda number: (OK, []),
            ops.RPC_NODE: lambda number: (OK, NODE),
            ops.FUNCTIONS_CALL: self._call,
            ops.FUNCTIONS_CAST: self._cast,
            ops.CHANNELS_SEND: _done(self._channels.send),
            ops.CHANNELS_PUT: _done(self._channels.put),
            ops.CHANNELS_PUT_BACK: _done(self._channels.put_back),
            ops.CHANNELS_WANT: _done(self._channels.want),
            ops.CHANNELS_FULL: _done(self._channels.set_full),
            ops.CHANNELS_JOIN: self._join,
            ops.CHANNELS_LEAVE: _done(self._channels.leave),
            ops.CHANNELS_CLEAR: _done(self._channels.clear),
            ops.METRICS_UPDATE: _done(self.metrics.update),
            ops.CHANNELS_LOST: _done(self._channels.note_lost),
            ops.LEADER_STAND: _done(self.leaders.stand),
            ops.LEADER_AWAIT: self._standing,
            ops.LEADER_RESIGN: _done(self.leaders.resign),
            ops.CLUSTER_GET: _done(self._consistent.get),
            ops.CLUSTER_SET: _done(self._consistent.set),
            ops.CLUSTER_ADD: _done(self._consistent.add),
            ops.CLUSTER_CAS: _done(self._consistent.cas),
            ops.CLUSTER_DELETE: _done(self._consistent.delete),
            ops.CLUSTER_INCR: self._incr_consistent,
        }

    def answer(self, number: int, op: int, args: list[Any]) -> Answer:
        """Answer an op of a connection with a status and a value."""
        if (run := self._ops.get(op)) is None:
            return NOT_IMPLEMENTED, f"this node has no op {op}"
        with self._lock:
            try:
                return run(number, *args)
            except (Full, TooMuch) as refusal:
                return LIMIT_EXCEEDED, str(refusal)

    def disconnect(self, number: int) -> None:
        """Undo what is bound to a connection, and forget what it kept."""
        with self._lock:
            self._kept.pop(number, None)
            self._presences.forget(number)
            self._counters.forget(number)
            for (key, kind), (generation, added) in self._undo.pop(number, {}).items():
                row = self._row(key)
                if row is None or row.generation != generation:
                    continue
                if kind == ops.STATE_SET:
                    self._drop(key)
                else:
                    self._change(key, row, pack(rest(unpack(row.packed), added)))
            self._quota.forget(number)
            for topic in list(self._topics):
                self._unsubscribe(number, topic)

    # State

    def _row(self, key: Any) -> Row | None:
        row = self._rows.get(key)
        return row if row is not None and row.expires > self._clock() else None

    def _put(self, key: Any, packed: bytes, ttl: int | None) -> int:
        self._store(key, self._new_row(key, packed, ttl))
        return self._rows[key].generation

    def _new_row(self, key: Any, packed: bytes, ttl: int | None) -> Row:
        size = ROW + key_bytes(key) + _value_bytes(packed)
        if ttl is None:
            return Row(packed, math.inf, next(self._generations), size)
        expires = self._clock() + ttl / 1000
        return Row(packed, expires, next(self._generations), size + EXPIRY + key_bytes(key))

    def _store(self, key: Any, row: Row) -> None:
        """Put a row in the place of what is there, or raise `Full`."""
        try:
            self._count({key: row})
        except Full:
            self._sweep()
            self._count({key: row})
        self._rows[key] = row

    def _count(self, rows: dict[Any, Row]) -> None:
        old = [self._rows[key] for key in rows if key in self._rows]
        size = sum(row.size for row in rows.values()) - sum(row.size for row in old)
        self._quota.take(size, len(rows) - len(old))

    def _sweep(self) -> None:
        """Free what is past its time, as the node does within a second."""
        for key in [key for key in self._rows if self._row(key) is None]:
            self._drop(key)

    def _drop(self, key: Any) -> None:
        if (row := self._rows.pop(key, None)) is not None:
            self._quota.take(-row.size, -1)

    def _change(self, key: Any, row: Row, packed: bytes) -> None:
        """Change a value in place."""
        size = row.size + _value_bytes(packed) - _value_bytes(row.packed)
        self._store(key, row._replace(packed=packed, size=size))

    @contextlib.contextmanager
    def _bound(self, number: int, key: Any, kind: int) -> Iterator[None]:
        """Count what will undo the block's change, if that is made."""
        is_new = (key, kind) not in self._undo.get(number, {})
        size, rows = (BINDING + key_bytes(key), 1) if is_new else (0, 0)
        self._quota.take(size, rows, number)
        try:
            yield
        except BaseException:
            self._quota.take(-size, -rows, number)
            raise

    def _get(self, _: int, key: Any) -> Answer:
        row = self._row(key)
        return OK, None if row is None else row.packed

    def _set(self, number: int, key: Any, packed: bytes, ttl: int | None, scoped: bool) -> Answer:
        if not scoped:
            self._put(key, packed, ttl)
            return OK, None
        with self._bound(number, key, ops.STATE_SET):
            generation = self._put(key, packed, ttl)
        self._undo.setdefault(number, {})[key, ops.STATE_SET] = (generation, 0)
        return OK, None

    def _delete(self, _: int, key: Any) -> Answer:
        there = self._row(key) is not None
        self._drop(key)
        return OK, there

    def _incr(self, number: int, key: Any, delta: Any, scoped: bool) -> Answer:
        row = self._row(key)
        value = 0 if row is None else unpack(row.packed)
        if type(value) not in (int, float):
            return TYPE_ERROR, NO_NUMBER
        try:
            added = total(self._added(number, key, row), delta) if scoped else 0
            new = total(value, delta) if row is not None else delta
        except OverflowError:
            return VALUE_ERROR, TOO_LARGE
        if not scoped:
            self._put_number(key, row, new)
            return OK, new
        with self._bound(number, key, ops.STATE_INCR):
            self._put_number(key, row, new)
        undo = self._undo.setdefault(number, {})
        undo[key, ops.STATE_INCR] = (self._rows[key].generation, added)
        return OK, new

    def _put_number(self, key: Any, row: Row | None, number: Any) -> None:
        if row is None:
            self._put(key, pack(number), None)
        else:
            self._change(key, row, pack(number))

    def _added(self, number: int, key: Any, row: Row | None) -> Any:
        generation, added = self._undo.get(number, {}).get((key, ops.STATE_INCR), (None, 0))
        return added if row is not None and row.generation == generation else 0

    def _get_multi(self, _: int, keys: list[Any]) -> Answer:
        rows = map(self._row, keys)
        return OK, [None if row is None else row.packed for row in rows]

    def _set_multi(self, _: int, pairs: list[Any], ttl: int | None) -> Answer:
        rows = {key: self._new_row(key, packed, ttl) for key, packed in pairs}
        self._sweep()
        self._count(rows)
        self._rows.update(rows)
        return OK, None

    def _keys(self, _: int, prefix: Any) -> Answer:
        found = [key for key in self._rows if self._row(key) and _has_prefix(key, prefix)]
        return OK, sorted(found, key=_order)

    def _items(self, number: int, prefix: Any) -> Answer:
        return OK, [[key, self._rows[key].packed] for key in self._keys(number, prefix)[1]]

    def _add(self, _: int, key: Any, packed: bytes, ttl: int | None) -> Answer:
        if self._row(key) is not None:
            return OK, False
        self._put(key, packed, ttl)
        return OK, True

    def _cas(self, _: int, key: Any, old: bytes, new: bytes) -> Answer:
        row = self._row(key)
        if row is None or not _same(unpack(row.packed), unpack(old)):
            return OK, False
        self._change(key, row, new)
        return OK, True

    def _take(self, _: int, key: Any) -> Answer:
        row = self._row(key)
        self._drop(key)
        if row is None:
            return OK, None
        left = row.expires - self._clock()
        return OK, [row.packed, None if left == math.inf else max(int(left * 1000), 1)]

    # State of the connection

    def _get_kept(self, number: int, key: Any) -> Answer:
        return OK, self._kept.get(number, {}).get(key)

    def _keep(self, number: int, key: Any, packed: bytes) -> Answer:
        kept = self._kept.setdefault(number, {})
        old = _kept_bytes(key, kept[key]) if key in kept else 0
        self._quota.take(_kept_bytes(key, packed) - old, 0 if key in kept else 1, number)
        kept[key] = packed
        return OK, None

    def _delete_kept(self, number: int, key: Any) -> Answer:
        if (packed := self._kept.get(number, {}).pop(key, None)) is None:
            return OK, False
        self._quota.take(-_kept_bytes(key, packed), -1, number)
        return OK, True

    def _items_kept(self, number: int) -> Answer:
        kept = self._kept.get(number, {})
        return OK, [[key, kept[key]] for key in sorted(kept, key=_order)]

    # Topics

    def _subscribe(self, number: int, topic: str, forward: bool, overflow: str | None) -> Answer:
        if forward and (not number or number in self.requests):
            return VALUE_ERROR, NOT_FORWARDABLE
        if number not in self._topics.get(topic, {}):
            self._quota.check_topics(sum(number in topic for topic in self._topics.values()))
            self._quota.take(_topic_bytes(topic), 1)
        self._topics.setdefault(topic, {})[number] = forward
        return OK, None

    def _unsubscribe(self, number: int, topic: str) -> Answer:
        subscribers = self._topics.get(topic, {})
        if subscribers.pop(number, None) is not None:
            self._quota.take(-_topic_bytes(topic), -1)
        if not subscribers:
            self._topics.pop(topic, None)
        return OK, None

    def _publish(self, _: int, topic: str, packed: bytes) -> Answer:
        subscribers = self._topics.get(topic, {})
        if not all(subscribers.values()):
            self._deliver(topic, packed)
        for number, forward in subscribers.items():
            if forward:
                self._forward(number, topic, packed)
        return OK, len(subscribers) + self._channels.distribute(topic, packed)

    def _join(
        self, _: int, group: str, channel: str, ttl: int, message_ttl: int, capacity: int
    ) -> Answer:
        member = Member(self._clock() + ttl / 1000, message_ttl, capacity)
        self._channels.join(group, channel, member)
        return OK, None

    # Who is present

    def _track(self, number: int, topic: str, key: str, packed: bytes) -> Answer:
        try:
            json.dumps(unpack(packed))
        except TypeError as error:
            return TYPE_ERROR, f"a meta is shown to clients as JSON: {error}"
        return OK, self._presences.track(number, topic, key, packed)

    def _update_presence(self, number: int, topic: str, key: str, packed: bytes) -> Answer:
        if not self._presences.is_present(number, topic, key):
            return (
                NOT_FOUND,
                "this connection is not present there under this key: track it first",
            )
        return self._track(number, topic, key, packed)

    def _show(self, number: int, topic: str) -> Answer:
        members = self._presences.members(topic)
        message = self._presences.message(topic, "presence_state", members)
        self._forward(number, TOPICS + topic, message)
        return OK, None

    # Counters of all nodes

    def _incr_counter(self, number: int, key: Any, delta: Any, scoped: bool) -> Answer:
        try:
            return OK, self._counters.incr(number, key, delta, scoped)
        except OverflowError:
            return VALUE_ERROR, TOO_LARGE

    # Leaders, and the consistent state

    def _standing(self, _: int, ref: int, known: int, timeout: int) -> Answer:
        standing = self.leaders.standing(ref)
        return (NOT_FOUND, UNKNOWN_CANDIDATE) if standing is None else (OK, standing)

    def other_standing(self, ref: int, known: int) -> Future[Standing] | None:
        """Return what a candidate will have when its token is not the known one any more."""
        with self._lock:
            return self.leaders.other(ref, known)

    def depose(self, name: str) -> None:
        """Let who leads have lost."""
        with self._lock:
            self.leaders.depose(name)

    def _incr_consistent(self, _: int, key: Any, delta: Any) -> Answer:
        try:
            return OK, self._consistent.incr(key, delta)
        except TypeError:
            return TYPE_ERROR, NO_NUMBER
        except OverflowError:
            return VALUE_ERROR, TOO_LARGE

    # Functions

    def _rpc_call(
        self, _: int, node: str, module: str, function: str, args: bytes, timeout: int
    ) -> Answer:
        if (run := self.allowed.get((module, function))) is None:
            return (
                PERMISSION_DENIED,
                "the option rpc_allow of this node does not allow this function",
            )
        if node != NODE:
            return NODE_DOWN, "the node is not connected"
        return _run(run, args)

    def _rpc_cast(self, _: int, node: str, module: str, function: str, args: bytes) -> Answer:
        status, value = self._rpc_call(_, node, module, function, args, 0)
        return (OK, None) if status in (OK, REMOTE_ERROR) else (status, value)

    def _call(self, _: int, name: str, args: bytes, timeout: int) -> Answer:
        if (run := self.functions.get(name)) is None:
            return NOT_FOUND, "no function is registered under this name"
        status, value = _run(run, args)
        if status == OK:
            match unpack(value):
                case (Atom() as outcome, result) if outcome == "ok":
                    return OK, pack(result)
                case (Atom() as outcome, reason) if outcome == "error":
                    return REMOTE_ERROR, ["error", str(reason), ""]
        return status, value

    def _cast(self, _: int, name: str, args: bytes) -> Answer:
        status, value = self._call(_, name, args, 0)
        return (status, value) if status == NOT_FOUND else (OK, None)


def _done(run: Callable[..., Any]) -> Callable[..., Answer]:
    """Return an op that a function does, whoever asks."""
    return lambda _, *args: (OK, run(*args))


def _value_bytes(packed: bytes) -> int:
    return value_bytes(packed, unpack(packed))


def _kept_bytes(key: Any, packed: bytes) -> int:
    return ROW + key_bytes(key) + _value_bytes(packed)


def _topic_bytes(topic: str) -> int:
    return SUBSCRIPTION + 3 * len(topic.encode())


def _run(function: Callable[..., Any], args: bytes) -> Answer:
    try:
        return OK, pack(function(*unpack(args)), "result")
    except Exception as error:
        return REMOTE_ERROR, [class_name(type(error)), str(error), ""]


def _has_prefix(key: Any, prefix: Any) -> bool:
    match prefix:
        case None:
            return True
        case tuple():
            return isinstance(key, tuple) and key[: len(prefix)] == prefix
    return isinstance(key, type(prefix)) and key.startswith(prefix)


def _order(key: Any) -> Any:
    """Return what sorts keys as Erlang's table does, where bytes are {bytes, Binary}."""
    match key:
        case int():
            return 0, key
        case bytes():
            return 2, 2, ((1, ""), (3, key))
        case tuple():
            return 2, len(key), tuple(map(_order, key))
    return 3, key.encode()


def _same(a: Any, b: Any) -> bool:
    """Tell whether two values are the same with their types; the order of a dict is none."""
    if type(a) is not type(b):
        return False
    match a:
        case dict():
            return a.keys() == b.keys() and all(
                any(_same(key, other) for other in b if other == key) and _same(value, b[key])
                for key, value in a.items()
            )
        case list() | tuple():
            return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)
