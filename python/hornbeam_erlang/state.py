"""Shared state: one table in the Erlang VM for all workers of the node and for Erlang's code.

Keys are `str`, `bytes`, `int` or tuples of keys, 16 within each other at most; values are what
`hornbeam_erlang` can send (see `terms`). Each function is one atomic step. All raise `NotConnected`
outside of a worker, `TypeError` for a key or a value that cannot travel, `OpTimeout` when the node
does not answer in time, and `LimitExceeded` for what would be more than the node keeps. They block;
the same names in `aio` let the loop go on.

`state_set`, `state_delete` and `state_set_multi` send and go on: what only the node knows, as that
it keeps no more, is in its log with the line, or raised where what they return is awaited or asked
(see `Sent`). They are done before the same connection's next op, and before what it then sends.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar, overload

from hornbeam_erlang._ops import requests
from hornbeam_erlang._ops.perform import perform, tell
from hornbeam_erlang._ops.sent import Sent
from hornbeam_erlang._wire.values import Key, Value

__all__ = [
    "Key",
    "Prefix",
    "Scope",
    "Value",
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
]

T = TypeVar("T")

Scope: TypeAlias = Literal["connection"]
Prefix: TypeAlias = str | bytes | tuple[Key, ...]


@overload
def state_get(key: Key, *, cluster: bool = False) -> Value | None: ...
@overload
def state_get(key: Key, default: T, *, cluster: bool = False) -> Value | T: ...
def state_get(key: Key, default: Any = None, *, cluster: bool = False) -> Any:
    """Return the value of a key, or `default` if it is absent.

    With `cluster=True` it is what `state_incr` has counted with that on all nodes: another thing
    than the state of the same key.

    >>> state_set("greeting", "hello").result()
    >>> state_get("greeting")
    'hello'
    >>> state_get("nobody", "default")
    'default'
    """
    return perform(requests.state_get(key, default, cluster))


def state_set(
    key: Key, value: Value, ttl: float | None = None, *, scope: Scope | None = None
) -> Sent[None]:
    """Set a key, whatever it was, for `ttl` seconds or for good.

    With `scope="connection"` it is bound to the connection whose handler calls (or to the
    worker, in the lifespan): the node deletes it when that ends, also when the worker is killed,
    unless somebody has set it anew.

    >>> state_set(("session", 42), {"user": "ada"}, ttl=3600).result()
    >>> state_get(("session", 42))
    {'user': 'ada'}
    """
    return tell(requests.state_set(key, value, ttl, scope))


def state_delete(key: Key) -> Sent[bool]:
    """Delete a key; the answer is whether it was there.

    >>> state_set("old", 1).result()
    >>> state_delete("old").result(), state_delete("old").result()
    (True, False)
    """
    return tell(requests.state_delete(key))


def state_incr(
    key: Key, delta: float = 1, *, scope: Scope | None = None, cluster: bool = False
) -> Any:
    """Add to a number and return the sum, an int or a float; an absent key counts as 0.

    Raises `TypeError` when the value is no number, and `ValueError` when the sum is too large: a
    float past its range, an int of more than 16 KiB; it changes nothing then. With
    `scope="connection"` the node takes the increment back when the connection ends, so that a
    count of live connections is right even after `kill -9`; what a connection has added in all
    must be no larger either.

    With `cluster=True` all nodes count together, and `state_get(key, cluster=True)` reads it. Each
    counts for itself and hears of the others, so this does not wait for them: the sum is what is
    known here. What a dead node has counted stays, but for what was its connections'; when all
    nodes stop, all is gone.

    >>> state_incr("hits", cluster=True), state_get("hits", cluster=True)
    (1, 1)
    >>> state_incr("hits"), state_incr("hits", 2), state_incr("hits", 0.5)
    (1, 3, 3.5)
    """
    return perform(requests.state_incr(key, delta, scope, cluster))


def state_decr(
    key: Key, delta: float = 1, *, scope: Scope | None = None, cluster: bool = False
) -> Any:
    """Subtract from a number and return the rest; see `state_incr`.

    >>> state_decr("seats", 3)
    -3
    """
    return perform(requests.state_decr(key, delta, scope, cluster))


def state_get_multi(keys: Iterable[Key]) -> dict[Any, Value]:
    """Return those of the keys that are there, with their values.

    >>> state_set_multi({"a": 1, "b": None}).result()
    >>> state_get_multi(["a", "b", "c"])
    {'a': 1, 'b': None}
    """
    return perform(requests.state_get_multi(keys))


def state_set_multi(mapping: Mapping[Any, Value], ttl: float | None = None) -> Sent[None]:
    """Set several keys in one step, for `ttl` seconds or for good.

    >>> state_set_multi({("point", "x"): 1, ("point", "y"): 2}, ttl=60).result()
    >>> state_get(("point", "y"))
    2
    """
    return tell(requests.state_set_multi(mapping, ttl))


def state_keys(prefix: Prefix | None = None) -> list[Any]:
    """Return all keys, or those with a prefix, in the order of the table.

    A str or bytes is the prefix of keys of its type, a tuple that of the tuples which begin with
    its elements. Costs O(log n) for each key that is found, whatever else is stored.

    >>> state_set_multi({("user", 1): "ada", ("user", 2): "bob", "user": 0}).result()
    >>> state_keys(("user",))
    [('user', 1), ('user', 2)]
    """
    return perform(requests.state_keys(prefix))


def state_items(prefix: Prefix | None = None) -> list[tuple[Any, Value]]:
    """Return the keys with a prefix together with their values; see `state_keys`.

    >>> state_set_multi({"room:1": "kitchen", "room:2": "hall"}).result()
    >>> state_items("room:")
    [('room:1', 'kitchen'), ('room:2', 'hall')]
    """
    return perform(requests.state_items(prefix))


def state_add(key: Key, value: Value, ttl: float | None = None) -> bool:
    """Set a key only if it is absent; return whether it was.

    >>> state_add("leader", "worker 1", ttl=10), state_add("leader", "worker 2", ttl=10)
    (True, False)
    """
    return perform(requests.state_add(key, value, ttl))


def state_cas(key: Key, old: Value, new: Value) -> bool:
    """Put `new` in the place of `old`; return whether the value was exactly `old`.

    Types count: 1 is not 1.0, and a str not its bytes. The order of a dict does not. An absent
    key has no value, not even None. A time to live goes on.

    >>> state_set("turn", "white").result()
    >>> state_cas("turn", "white", "black"), state_cas("turn", "white", "black")
    (True, False)
    """
    return perform(requests.state_cas(key, old, new))


@overload
def state_take(key: Key) -> Value | None: ...
@overload
def state_take(key: Key, default: T) -> Value | T: ...
def state_take(key: Key, default: Any = None) -> Any:
    """Return the value of a key, or `default`, and delete it.

    Of many who take, one gets the value. When that one is cancelled, or its time is over, before
    the answer has come, the value is put back with what is left of its time to live, unless the key
    has been set again. With a worker that dies in that moment it is lost.

    >>> state_set("ticket", 7).result()
    >>> state_take("ticket"), state_take("ticket")
    (7, None)
    """
    return perform(requests.state_take(key, default))


# Not in `__all__`, or a star would bring a `set` in front of the built-in one.
get = state_get
set = state_set
delete = state_delete
incr = state_incr
decr = state_decr
