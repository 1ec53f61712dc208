"""The tables of ops and of their statuses, as docs/wire.md lists them.

Pure: knows nothing of how an op travels or of what it does.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from hornbeam_erlang.exceptions import (
    ConnectionEnded,
    HornbeamError,
    LimitExceeded,
    NodeDown,
    NotFound,
    OpNotImplemented,
    OpTimeout,
    OpTypeError,
    OpValueError,
    PermissionDenied,
    RemoteError,
    Unavailable,
)

STATE_GET = 1
STATE_SET = 2
STATE_DELETE = 3
STATE_INCR = 4
STATE_GET_MULTI = 5
STATE_SET_MULTI = 6
STATE_KEYS = 7
STATE_ITEMS = 8
STATE_ADD = 9
STATE_CAS = 10
STATE_TAKE = 11
COUNTERS_INCR = 12
COUNTERS_GET = 13
PUBSUB_SUBSCRIBE = 20
PUBSUB_UNSUBSCRIBE = 21
PUBSUB_PUBLISH = 22
PUBSUB_DROPPED = 23
PRESENCE_TRACK = 24
PRESENCE_UPDATE = 25
PRESENCE_UNTRACK = 26
PRESENCE_LIST = 27
PRESENCE_COUNT = 28
PRESENCE_SHOW = 29
RPC_CALL = 30
RPC_CAST = 31
RPC_NODES = 32
RPC_NODE = 33
FUNCTIONS_CALL = 40
FUNCTIONS_CAST = 41
HOOKS_REGISTER = 50
HOOKS_UNREGISTER = 51
HOOKS_EXECUTE = 52
HOOKS_EXECUTE_ASYNC = 53
HOOKS_AWAIT_RESULT = 54
HOOKS_STREAM = 55
HOOKS_NEXT = 56
HOOKS_CLOSE = 57
CONNECTION_GET = 60
CONNECTION_SET = 61
CONNECTION_DELETE = 62
CONNECTION_ITEMS = 63
CHANNELS_SEND = 70
CHANNELS_PUT = 71
CHANNELS_PUT_BACK = 72
CHANNELS_WANT = 73
CHANNELS_FULL = 74
CHANNELS_JOIN = 75
CHANNELS_LEAVE = 76
CHANNELS_CLEAR = 77
CHANNELS_LOST = 78
METRICS_UPDATE = 80
LEADER_STAND = 100
LEADER_AWAIT = 101
LEADER_RESIGN = 102
CLUSTER_GET = 110
CLUSTER_SET = 111
CLUSTER_ADD = 112
CLUSTER_CAS = 113
CLUSTER_DELETE = 114
CLUSTER_INCR = 115


class Op(NamedTuple):
    """One row of the table; `args` are (name, type) pairs, `result` is empty for nil."""

    code: int
    name: str
    args: tuple[tuple[str, str], ...]
    result: str


def _row(code: int, name: str, args: str, result: str) -> Op:
    pairs = (arg.split(": ") for arg in args.split(", ") if arg)
    return Op(code, name, tuple((name, kind) for name, kind in pairs), result)


_HOOK_CALL = "name: str, action: str, args: packed, kwargs: packed"

OPS = (
    _row(STATE_GET, "state.get", "key: key", "packed?"),
    _row(STATE_SET, "state.set", "key: key, value: packed, ttl: uint?, scoped: bool", "nil"),
    _row(STATE_DELETE, "state.delete", "key: key", "bool"),
    _row(STATE_INCR, "state.incr", "key: key, delta: number, scoped: bool", "number"),
    _row(STATE_GET_MULTI, "state.get_multi", "keys: array", "array"),
    _row(STATE_SET_MULTI, "state.set_multi", "pairs: array, ttl: uint?", "nil"),
    _row(STATE_KEYS, "state.keys", "prefix: key?", "array"),
    _row(STATE_ITEMS, "state.items", "prefix: key?", "array"),
    _row(STATE_ADD, "state.add", "key: key, value: packed, ttl: uint?", "bool"),
    _row(STATE_CAS, "state.cas", "key: key, old: packed, new: packed", "bool"),
    _row(STATE_TAKE, "state.take", "key: key", "array?"),
    _row(COUNTERS_INCR, "counters.incr", "key: key, delta: number, scoped: bool", "number"),
    _row(COUNTERS_GET, "counters.get", "key: key", "number?"),
    _row(
        PUBSUB_SUBSCRIBE,
        "pubsub.subscribe",
        "topic: str, forward: bool, overflow: str?",
        "nil",
    ),
    _row(PUBSUB_UNSUBSCRIBE, "pubsub.unsubscribe", "topic: str", "nil"),
    _row(PUBSUB_PUBLISH, "pubsub.publish", "topic: str, value: packed", "uint"),
    _row(PUBSUB_DROPPED, "pubsub.dropped", "", "uint"),
    _row(PRESENCE_TRACK, "presence.track", "topic: str, key: str, meta: packed", "str"),
    _row(PRESENCE_UPDATE, "presence.update", "topic: str, key: str, meta: packed", "str"),
    _row(PRESENCE_UNTRACK, "presence.untrack", "topic: str, key: str", "bool"),
    _row(PRESENCE_LIST, "presence.list", "topic: str", "packed"),
    _row(PRESENCE_COUNT, "presence.count", "topic: str", "uint"),
    _row(PRESENCE_SHOW, "presence.show", "topic: str", "nil"),
    _row(
        RPC_CALL,
        "rpc.call",
        "node: str, module: str, function: str, args: packed, timeout: uint",
        "packed",
    ),
    _row(RPC_CAST, "rpc.cast", "node: str, module: str, function: str, args: packed", "nil"),
    _row(RPC_NODES, "rpc.nodes", "", "array"),
    _row(RPC_NODE, "rpc.node", "", "str"),
    _row(FUNCTIONS_CALL, "functions.call", "name: str, args: packed, timeout: uint", "packed"),
    _row(FUNCTIONS_CAST, "functions.cast", "name: str, args: packed", "nil"),
    _row(HOOKS_REGISTER, "hooks.register", "name: str", "nil"),
    _row(HOOKS_UNREGISTER, "hooks.unregister", "name: str", "nil"),
    _row(HOOKS_EXECUTE, "hooks.execute", f"{_HOOK_CALL}, timeout: uint", "packed"),
    _row(HOOKS_EXECUTE_ASYNC, "hooks.execute_async", _HOOK_CALL, "str"),
    _row(HOOKS_AWAIT_RESULT, "hooks.await_result", "id: str, timeout: uint", "packed"),
    _row(HOOKS_STREAM, "hooks.stream", _HOOK_CALL, "str"),
    _row(HOOKS_NEXT, "hooks.next", "id: str, timeout: uint", "array"),
    _row(HOOKS_CLOSE, "hooks.close", "id: str", "nil"),
    _row(CONNECTION_GET, "connection.get", "key: key", "packed?"),
    _row(CONNECTION_SET, "connection.set", "key: key, value: packed", "nil"),
    _row(CONNECTION_DELETE, "connection.delete", "key: key", "bool"),
    _row(CONNECTION_ITEMS, "connection.items", "", "array"),
    _row(CHANNELS_SEND, "channels.send", "channel: str, address: str, value: packed", "bool"),
    _row(
        CHANNELS_PUT,
        "channels.put",
        "channel: str, value: packed, ttl: uint, capacity: uint",
        "bool",
    ),
    _row(
        CHANNELS_PUT_BACK,
        "channels.put_back",
        "channel: str, turn: uint, value: packed, ttl: uint",
        "nil",
    ),
    _row(CHANNELS_WANT, "channels.want", "channel: str, address: str, more: bool", "nil"),
    _row(CHANNELS_FULL, "channels.full", "channel: str, full: bool, ttl: uint", "nil"),
    _row(
        CHANNELS_JOIN,
        "channels.join",
        "group: str, channel: str, ttl: uint, message_ttl: uint, capacity: uint",
        "nil",
    ),
    _row(CHANNELS_LEAVE, "channels.leave", "group: str, channel: str", "nil"),
    _row(CHANNELS_CLEAR, "channels.clear", "prefix: str", "nil"),
    _row(CHANNELS_LOST, "channels.lost", "messages: uint, expired: bool", "nil"),
    _row(METRICS_UPDATE, "metrics.update", "families: packed", "nil"),
    _row(LEADER_STAND, "leader.stand", "name: str, lock: bool, ref: uint", "nil"),
    _row(LEADER_AWAIT, "leader.await", "ref: uint, known: uint, timeout: uint", "array"),
    _row(LEADER_RESIGN, "leader.resign", "ref: uint", "nil"),
    _row(CLUSTER_GET, "cluster.get", "key: key", "packed?"),
    _row(CLUSTER_SET, "cluster.set", "key: key, value: packed", "nil"),
    _row(CLUSTER_ADD, "cluster.add", "key: key, value: packed", "bool"),
    _row(CLUSTER_CAS, "cluster.cas", "key: key, old: packed, new: packed", "bool"),
    _row(CLUSTER_DELETE, "cluster.delete", "key: key", "bool"),
    _row(CLUSTER_INCR, "cluster.incr", "key: key, delta: number", "number"),
)

NAMES = {op.code: op.name for op in OPS}

HOOKS = frozenset(op.code for op in OPS if op.name.startswith("hooks."))

_OF_CONNECTION = frozenset(
    {PUBSUB_SUBSCRIBE, PUBSUB_UNSUBSCRIBE, PUBSUB_DROPPED}
    | {CONNECTION_GET, CONNECTION_SET, CONNECTION_DELETE, CONNECTION_ITEMS}
    | {PRESENCE_TRACK, PRESENCE_UPDATE, PRESENCE_UNTRACK, PRESENCE_SHOW}
)
_SCOPED = frozenset({STATE_SET, STATE_INCR, COUNTERS_INCR})


def is_of_connection(op: int, args: Sequence[Any]) -> bool:
    """Tell whether an op is about the connection of who calls it: `scoped` is the last argument."""
    return op in _OF_CONNECTION or (op in _SCOPED and args[-1:] == [True])


STATUSES: dict[int, type[HornbeamError]] = {
    1: OpNotImplemented,
    2: OpTypeError,
    3: OpValueError,
    5: PermissionDenied,
    6: OpTimeout,
    7: ConnectionEnded,
    8: RemoteError,
    9: NotFound,
    10: LimitExceeded,
    11: NodeDown,
    12: Unavailable,
}


def result(status: int, value: Any) -> Any:
    """Return the value of a reply, or raise what its status names."""
    if status == 0:
        return value
    kind = STATUSES.get(status, HornbeamError)
    if kind is RemoteError and isinstance(value, list):
        raise RemoteError(*value)
    raise kind(value)
