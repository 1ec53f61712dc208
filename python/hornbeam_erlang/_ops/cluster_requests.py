"""What the functions of `hornbeam_erlang.cluster` ask of Erlang: arguments packed, results read.

Pure: performs nothing.
"""

from typing import Any

from hornbeam_erlang._ops.requests import Request
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import Key, checked_key, checked_number, pack, unpack


def get(key: Key, default: Any) -> Request[Any]:
    return Request(
        ops.CLUSTER_GET,
        [checked_key(key)],
        lambda packed: default if packed is None else unpack(packed),
        _TIMEOUT,
    )


def set(key: Key, value: Any) -> Request[None]:
    return Request(ops.CLUSTER_SET, [checked_key(key), pack(value)], _nothing, _TIMEOUT)


def add(key: Key, value: Any) -> Request[bool]:
    return Request(ops.CLUSTER_ADD, [checked_key(key), pack(value)], bool, _TIMEOUT)


def cas(key: Key, old: Any, new: Any) -> Request[bool]:
    args = [checked_key(key), pack(old, "old"), pack(new, "new")]
    return Request(ops.CLUSTER_CAS, args, bool, _TIMEOUT)


def delete(key: Key) -> Request[bool]:
    return Request(ops.CLUSTER_DELETE, [checked_key(key)], bool, _TIMEOUT)


def incr(key: Key, delta: float) -> Request[Any]:
    args = [checked_key(key), checked_number(delta, "delta")]
    return Request(ops.CLUSTER_INCR, args, _as_it_is, _TIMEOUT)


# The node answers within that (ms).
_TIMEOUT = 6000


def _nothing(result: Any) -> None:
    return None


def _as_it_is(result: Any) -> Any:
    return result
