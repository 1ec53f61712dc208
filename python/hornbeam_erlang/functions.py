"""Calls to the Erlang functions that the node offers by `hornbeam:register_function`."""

from typing import Any

from hornbeam_erlang import _bridge, _requests

__all__ = ["call", "cast"]


def call(name: str, *args: Any, timeout_ms: float = 5000) -> Any:
    """Call a registered function and return its result.

    A function that returns `{ok, V}` gives V, `{error, R}` raises `RemoteError`. Raises that too
    when the function fails, `TimeoutError` past `timeout_ms` milliseconds, and `LookupError` for
    a name that is not registered.

    >>> call("add", 1, 2)
    3
    """
    return _bridge.perform(_requests.call(name, args, timeout_ms))


def cast(name: str, *args: Any) -> None:
    """Call a registered function and wait neither for its result nor for its failure.

    >>> cast("add", 1, 2)
    """
    return _bridge.perform(_requests.cast(name, args))
