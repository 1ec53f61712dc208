"""State of the connection: what a handler keeps in the Erlang VM as long as its client is there.

It is the WebSocket's or the HTTP exchange's whose handler calls, also in its tasks and in what it
runs by `asyncio.to_thread`; in the lifespan it is the worker's. It does not end with the Python
process: where an open WebSocket goes on with another worker, the app finds it there. It ends with
the connection, whoever ends that.
"""

from collections.abc import ItemsView, Iterator, KeysView, MutableMapping, ValuesView
from typing import Any, TypeVar, overload

from hornbeam_erlang._ops import requests
from hornbeam_erlang._ops.perform import follow, perform
from hornbeam_erlang._ops.requests import ABSENT
from hornbeam_erlang._wire.values import Key, Value

__all__ = ["ConnectionState", "connection_state"]

T = TypeVar("T")


class ConnectionState(MutableMapping[Any, Value]):
    """Be the state of the connection as a dict; see `connection_state`.

    To get, set or delete a key and to look whether it is there is one atomic step each, and so is
    to read all. `pop` gives a value to one of many who ask. `update`, `setdefault` and `clear` take
    several steps; `update` looks at all that it is given before it changes anything.

    >>> def remember(state: ConnectionState, page):
    ...     state["pages"] = [*state.get("pages", []), page]
    >>> remember(connection_state(), "home")
    >>> remember(connection_state(), "cart")
    >>> dict(connection_state())
    {'pages': ['home', 'cart']}
    """

    __slots__ = ()

    def __getitem__(self, key: Key) -> Value:
        return perform(requests.connection_item(key))

    def __setitem__(self, key: Key, value: Value) -> None:
        perform(requests.connection_set(key, value))

    def __delitem__(self, key: Key) -> None:
        if not perform(requests.connection_delete(key)):
            raise KeyError(key)

    def __contains__(self, key: Any) -> bool:
        return perform(requests.connection_has(key))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    @overload
    def get(self, key: Key) -> Value | None: ...
    @overload
    def get(self, key: Key, default: T) -> Value | T: ...
    def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of a key, or `default` if it is absent."""
        return perform(requests.connection_get(key, default))

    def keys(self) -> KeysView[Any]:
        """Return the keys of this moment, in the order of the table."""
        return self._now().keys()

    def values(self) -> ValuesView[Value]:
        """Return the values of this moment."""
        return self._now().values()

    def items(self) -> ItemsView[Any, Value]:
        """Return the keys of this moment with their values."""
        return self._now().items()

    @overload
    def pop(self, key: Key) -> Value: ...
    @overload
    def pop(self, key: Key, default: T) -> Value | T: ...
    def pop(self, key: Key, default: Any = ABSENT) -> Any:
        """Delete a key and return its value, or `default`; without that, raise `KeyError`."""
        return follow(requests.connection_pop(key, default))

    def setdefault(self, key: Key, default: Value = None) -> Value:
        """Return the value of a key, which is set to `default` first if it is absent."""
        return follow(requests.connection_setdefault(key, default))

    def update(self, other: Any = (), /, **values: Any) -> None:
        """Set the keys of a mapping, or of pairs, and those that are named."""
        follow(requests.connection_update(dict(other, **values)))

    def clear(self) -> None:
        """Delete all keys."""
        follow(requests.connection_clear())

    def _now(self) -> dict[Any, Any]:
        pairs = perform(requests.connection_items())
        return dict(pairs)


def connection_state() -> ConnectionState:
    """Return the state of the connection whose handler uses it, a dict in the Erlang VM.

    It lives as long as the connection, also beyond the worker: with the option
    `websocket_resume` the app that goes on with a socket finds what was kept before. Keys are
    `str`, `bytes`, `int` or tuples of keys; values are what `hornbeam_erlang` can send, and what is
    read is a copy: change it, then set it again.

    Its methods raise `ConnectionEnded` when the connection is over, `KeyError` as a dict does,
    `TypeError` for a key or a value that cannot travel, and `NotConnected` outside of a worker and
    in a thread that was started without the handler's context variables.
    They block; `aio.connection_state` has coroutines.

    >>> state = connection_state()
    >>> state["user"] = {"name": "ada"}
    >>> state["user"], state.get("room", "lobby"), "room" in state
    ({'name': 'ada'}, 'lobby', False)
    """
    return _STATE


_STATE = ConnectionState()
