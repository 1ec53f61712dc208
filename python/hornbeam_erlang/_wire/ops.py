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
PUBSUB_SUBSCRIBE = 20
PUBSUB_UNSUBSCRIBE = 21
PUBSUB_PUBLISH = 22
PUBSUB_DROPPED = 23
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
    _row(
        PUBSUB_SUBSCRIBE,
        "pubsub.subscribe",
        "topic: str, forward: bool, overflow: str?",
        "nil",
    ),
    _row(PUBSUB_UNSUBSCRIBE, "pubsub.unsubscribe", "topic: str", "nil"),
    _row(PUBSUB_PUBLISH, "pubsub.publish", "topic: str, value: packed", "uint"),
    _row(PUBSUB_DROPPED, "pubsub.dropped", "", "uint"),
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
)

NAMES = {op.code: op.name for op in OPS}

HOOKS = frozenset(op.code for op in OPS if op.name.startswith("hooks."))

_OF_CONNECTION = frozenset(
    {PUBSUB_SUBSCRIBE, PUBSUB_UNSUBSCRIBE, PUBSUB_DROPPED}
    | {CONNECTION_GET, CONNECTION_SET, CONNECTION_DELETE, CONNECTION_ITEMS}
)
_SCOPED = frozenset({STATE_SET, STATE_INCR})


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
}


def result(status: int, value: Any) -> Any:
    """Return the value of a reply, or raise what its status names."""
    if status == 0:
        return value
    kind = STATUSES.get(status, HornbeamError)
    if kind is RemoteError and isinstance(value, list):
        raise RemoteError(*value)
    raise kind(value)
