"""The exceptions of Hornbeam. Knows nothing of the rest of the package."""

__all__ = ["ClientDisconnected", "HornbeamError", "NotConnected", "ProtocolError"]


class HornbeamError(Exception):
    """Be the root of every exception that only Hornbeam raises."""


class NotConnected(HornbeamError, RuntimeError):
    """Tell that Erlang was called outside of a Hornbeam worker, or after its end."""


class ClientDisconnected(HornbeamError, ConnectionError):
    """Tell an app's `send` that the client is gone.

    It is an `OSError`, as ASGI 2.4 and later ask for, so that frameworks know it. An app need
    not catch it: when it is what ends a handler, the handler counts as finished, not as failed.
    """


class ProtocolError(HornbeamError):
    """Tell that what came over the wire is not what docs/wire.md describes."""
