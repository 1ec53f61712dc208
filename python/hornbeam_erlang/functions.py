"""Calls to the Erlang functions that nodes offer by `hornbeam:register_function`."""

from hornbeam_erlang._ops import requests
from hornbeam_erlang._ops.perform import perform, tell
from hornbeam_erlang._ops.sent import Sent
from hornbeam_erlang._wire.values import Value

__all__ = ["call", "cast"]


def call(name: str, *args: Value, timeout: float | None = 5.0) -> Value:
    """Call a registered function and return its result.

    One that only other nodes of the cluster have is called on one of them. A function that returns
    `{ok, V}` gives V, `{error, R}` raises `RemoteError`. Raises that too when the function fails,
    `OpTimeout` past `timeout` seconds (None: waits as long as it takes), `NotFound` for a name that
    is registered nowhere, and `NodeDown` when the node that was called goes out of reach, whether
    or not it has done that.

    >>> call("add", 1, 2)
    3
    """
    return perform(requests.call(name, args, timeout))


def cast(name: str, *args: Value) -> Sent[None]:
    """Call a registered function and wait neither for its result nor for its failure.

    Nor for Erlang, which begins it: that there is no such function is in the log, or raises
    `NotFound` for who awaits what is returned or asks it (see `Sent`). Past what may be under way
    it blocks, and raises `OpTimeout` when nothing moves.

    >>> cast("add", 1, 2).result()
    """
    return tell(requests.cast(name, args))
