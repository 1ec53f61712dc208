"""The exceptions of Hornbeam. Knows nothing of the rest of the package.

All that Erlang or the node answers is a `HornbeamError`, and two of them are an `OSError`, which
frameworks take for a client that has left: `ConnectionEnded` and, as Python's own is one,
`OpTimeout`.
"""

__all__ = [
    "ClientDisconnected",
    "ConnectionEnded",
    "HornbeamError",
    "LeadershipLost",
    "LimitExceeded",
    "NodeDown",
    "NotConnected",
    "NotFound",
    "OpNotImplemented",
    "OpTimeout",
    "OpTypeError",
    "OpValueError",
    "PermissionDenied",
    "ProtocolError",
    "RemoteError",
    "Unavailable",
]


class HornbeamError(Exception):
    """Be the root of every exception that only Hornbeam raises."""


class NotConnected(HornbeamError, RuntimeError):
    """Tell that Erlang was called where there is none: outside of a worker by a process that finds
    no server of its user's, or whose server has ended; or for a connection by code that belongs to
    none, a thread that was started without its handler's context variables."""


class ConnectionEnded(HornbeamError, ConnectionError):
    """Tell that the connection for which the code calls is over, as for a task that has outlived
    its handler.

    An app need not catch it: when it is what ends a handler whose client is gone, the handler
    counts as finished, not as failed. So does a framework's own exception of such a name
    (`WebSocketDisconnect`, `ClientDisconnect`), what was raised `from` one of them, and an
    exception group of nothing else.
    """


class ClientDisconnected(ConnectionEnded):
    """Tell an app's `send` that the client is gone.

    It is an `OSError`, as ASGI 2.4 and later ask for, so that frameworks know it. What other tasks
    than the handler's own send to an HTTP client is dropped for 30 s after it has left, before they
    get this error too.
    """


class OpTimeout(HornbeamError, TimeoutError):
    """Tell that no answer, or no message, has come in time."""


class PermissionDenied(HornbeamError):
    """Tell that the node does not allow this, such as a function that `rpc_allow` does not name."""


class NodeDown(HornbeamError):
    """Tell that the node that was called is not connected."""


class NotFound(HornbeamError, LookupError):
    """Tell that nothing has this name or id: no function, hook, action or execution."""


class LimitExceeded(HornbeamError):
    """Tell that a bound of the node would be passed; nothing has changed."""


class Unavailable(HornbeamError):
    """Tell that the consistent state of the cluster cannot be asked, and that nothing was done: the
    server has none, or no majority of its nodes is in reach."""


class LeadershipLost(HornbeamError):
    """Tell that a block was cancelled because its worker leads no more."""


class OpTypeError(HornbeamError, TypeError):
    """Tell that Erlang cannot do this with a value of this type, such as adding to a text."""


class OpValueError(HornbeamError, ValueError):
    """Tell that Erlang cannot do this with this value, such as adding past a number's range."""


class OpNotImplemented(HornbeamError, NotImplementedError):
    """Tell that the node is of another version and does not know what was asked of it."""


class RemoteError(HornbeamError):
    """Tell that what was called failed there, be it Erlang or another worker's Python.

    `class_` is Erlang's class ("error", "exit", "throw"), the name of a Python exception, or
    "worker_down" where the worker ended before its answer; "overloaded" where it had not read the
    calls before, or too many of this worker's wait. `reason` and `stacktrace` are texts for
    people.

    >>> raise RemoteError("error", "badarith", "")
    Traceback (most recent call last):
        ...
    hornbeam_erlang.exceptions.RemoteError: error: badarith
    """

    def __init__(self, class_: str, reason: str = "", stacktrace: str = "") -> None:
        super().__init__(class_, reason, stacktrace)
        self.class_ = class_
        self.reason = reason
        self.stacktrace = stacktrace

    def __str__(self) -> str:
        return f"{self.class_}: {self.reason}"


class ProtocolError(HornbeamError):
    """Tell that what came over the wire is not what docs/wire.md describes."""
