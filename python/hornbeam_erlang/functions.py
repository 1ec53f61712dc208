"""Calls to the Erlang functions that the node offers by `hornbeam:register_function`."""

from hornbeam_erlang._ops import requests
from hornbeam_erlang._ops.perform import perform
from hornbeam_erlang._wire.values import Value

__all__ = ["call", "cast"]


def call(name: str, *args: Value, timeout: float | None = 5.0) -> Value:
    """Call a registered function and return its result.

    A function that returns `{ok, V}` gives V, `{error, R}` raises `RemoteError`. Raises that too
    when the function fails, `OpTimeout` past `timeout` seconds (None: waits as long as it takes),
    and `NotFound` for a name that is not registered.

    >>> call("add", 1, 2)
    3
    """
    return perform(requests.call(name, args, timeout))


def cast(name: str, *args: Value) -> None:
    """Call a registered function and wait neither for its result nor for its failure.

    >>> cast("add", 1, 2)
    """
    return perform(requests.cast(name, args))
