"""Consistent state: few values that all nodes of a cluster agree on.

What was answered stays, whichever minority of the nodes ends, and when all are started again; and
each call is done at one moment between its beginning and its end, whichever worker and node makes
it. That costs a round between the nodes and a write to their disks, milliseconds where `state_get`
takes microseconds: it is for what must be right, such as who owns what, and not for what is
counted. A minority refuses. The server has it with the option `cluster` and a `data_dir` in it.

Keys are those of `state_get`, values too, of 1 MiB at most and 64 MiB in all. Each function raises
`Unavailable` when nothing was done, because the server has no such state, its first nodes have not
met, or no majority of them is in reach; and `OpTimeout` when that is not known: a change may have
been made, or may be yet.
"""

from typing import Any, TypeVar, overload

from hornbeam_erlang._ops import cluster_requests as requests
from hornbeam_erlang._ops.perform import perform
from hornbeam_erlang._wire.values import Key, Value
from hornbeam_erlang.leadership import Leadership

__all__ = ["add", "cas", "delete", "get", "incr", "lock", "set"]

T = TypeVar("T")


@overload
def get(key: Key) -> Value | None: ...
@overload
def get(key: Key, default: T) -> Value | T: ...
def get(key: Key, default: Any = None) -> Any:
    """Return the value of a key, or `default` if it is absent.

    >>> from hornbeam_erlang import cluster
    >>> cluster.set("owner", "ada")
    >>> cluster.get("owner"), cluster.get("heir", "none")
    ('ada', 'none')
    """
    return perform(requests.get(key, default))


def set(key: Key, value: Value) -> None:
    """Set a key, whatever it was."""
    perform(requests.set(key, value))


def add(key: Key, value: Value) -> bool:
    """Set a key only if it is absent; return whether it was.

    >>> from hornbeam_erlang import cluster
    >>> cluster.add("seat 17", "ada"), cluster.add("seat 17", "bob")
    (True, False)
    """
    return perform(requests.add(key, value))


def cas(key: Key, old: Value, new: Value) -> bool:
    """Put `new` in the place of `old`; return whether the value was exactly `old`.

    `1` is not `1.0`, a str not its bytes; the order of a dict does not count.

    >>> from hornbeam_erlang import cluster
    >>> cluster.set("version", 1)
    >>> cluster.cas("version", 1, 2), cluster.cas("version", 1, 3)
    (True, False)
    """
    return perform(requests.cas(key, old, new))


def delete(key: Key) -> bool:
    """Delete a key; return whether it was there."""
    return perform(requests.delete(key))


def incr(key: Key, delta: float = 1) -> Any:
    """Add to a number and return the sum; an absent key counts as 0.

    >>> from hornbeam_erlang import cluster
    >>> cluster.incr("orders"), cluster.incr("orders", 2)
    (1, 3)
    """
    return perform(requests.incr(key, delta))


def lock(name: str, timeout: float | None = None) -> Leadership:
    """Hold a lock of the cluster while a block runs: `async with`, or `with` in a thread.

    Like `leader`, with its fencing token, its line and what ends it, but never without the
    consistent state: raises `Unavailable` where the server has none.

    >>> from hornbeam_erlang import cluster
    >>> with cluster.lock("accounts") as token:
    ...     token > 0
    True
    """
    return Leadership(name, timeout, is_lock=True)
