"""Calls to Erlang functions by module and name, on this node or another of the cluster.

Closed by default: the option `rpc_allow` of `hornbeam:start` lists what may be called, and
anything else raises `PermissionDenied`. A node that is called looks at its own list, too.
"""

from collections.abc import Sequence

from hornbeam_erlang._ops import requests
from hornbeam_erlang._ops.perform import perform, tell
from hornbeam_erlang._ops.sent import Sent
from hornbeam_erlang._wire.values import Value

__all__ = ["node", "nodes", "rpc_call", "rpc_cast"]


def rpc_call(
    node: str, module: str, function: str, args: Sequence[Value], timeout: float | None = 5.0
) -> Value:
    """Call an Erlang function and return its result.

    Raises `RemoteError` when the function fails, `OpTimeout` past `timeout` seconds (None: waits
    as long as it takes), `NodeDown` when the node is not connected, and `PermissionDenied` when
    `rpc_allow` does not list the function.

    >>> rpc_call(node(), "lists", "reverse", [[1, 2, 3]])
    [3, 2, 1]
    """
    return perform(requests.rpc_call(node, module, function, args, timeout))


def rpc_cast(node: str, module: str, function: str, args: Sequence[Value]) -> Sent[None]:
    """Call an Erlang function and wait neither for its result nor for its failure.

    Nor for Erlang, which begins it: that `rpc_allow` does not list the function is in the log, or
    raises `PermissionDenied` for who awaits what is returned or asks it (see `Sent`), as it raises
    `NodeDown`. Past what may be under way it blocks, and raises `OpTimeout` when nothing moves.

    >>> rpc_cast(node(), "lists", "reverse", [[1, 2, 3]]).result()
    """
    return tell(requests.rpc_cast(node, module, function, args))


def nodes() -> list[str]:
    """Return the names of the other nodes that are connected.

    >>> nodes()
    []
    """
    return perform(requests.nodes())


def node() -> str:
    """Return the name of this node.

    >>> node()
    'nonode@nohost'
    """
    return perform(requests.node())
