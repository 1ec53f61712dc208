"""Hornbeam for Python apps: what an app served by the BEAM may ask of it.

The names of shared state, publish/subscribe and calls are here so that an app can import
them; this version has no ops for them yet, and calling one says so.
"""

from typing import Any

from hornbeam_erlang import _bridge
from hornbeam_erlang.exceptions import ClientDisconnected, HornbeamError, NotConnected

__all__ = [
    "ClientDisconnected",
    "HornbeamError",
    "NotConnected",
    "call",
    "publish",
    "rpc_call",
    "state_delete",
    "state_get",
    "state_incr",
    "state_set",
    "subscribe",
    "unsubscribe",
]

__version__ = "0.1.0"


def state_get(key: Any) -> Any:
    """Raise `NotImplementedError`: shared state is not part of this version."""
    _bridge.unavailable("state_get")


def state_set(key: Any, value: Any) -> None:
    """Raise `NotImplementedError`: shared state is not part of this version."""
    _bridge.unavailable("state_set")


def state_delete(key: Any) -> None:
    """Raise `NotImplementedError`: shared state is not part of this version."""
    _bridge.unavailable("state_delete")


def state_incr(key: Any, by: int = 1) -> int:
    """Raise `NotImplementedError`: shared state is not part of this version."""
    _bridge.unavailable("state_incr")


def publish(topic: str, message: Any) -> int:
    """Raise `NotImplementedError`: publish/subscribe is not part of this version."""
    _bridge.unavailable("publish")


def subscribe(topic: str) -> None:
    """Raise `NotImplementedError`: publish/subscribe is not part of this version."""
    _bridge.unavailable("subscribe")


def unsubscribe(topic: str) -> None:
    """Raise `NotImplementedError`: publish/subscribe is not part of this version."""
    _bridge.unavailable("unsubscribe")


def rpc_call(node: str, module: str, function: str, args: list[Any]) -> Any:
    """Raise `NotImplementedError`: remote calls are not part of this version."""
    _bridge.unavailable("rpc_call")


def call(name: str, *args: Any) -> Any:
    """Raise `NotImplementedError`: registered functions are not part of this version."""
    _bridge.unavailable("call")
