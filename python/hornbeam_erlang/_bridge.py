"""The one place where public functions reach Erlang.

Knows only that something may have installed itself as the carrier of ops: the worker does.
Must not import the worker, so that the package can be imported anywhere.
"""

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from hornbeam_erlang.exceptions import NotConnected

__all__ = ["Carrier", "call", "call_async", "install", "unavailable", "uninstall"]


class Carrier(Protocol):
    """Carry ops to Erlang: what a worker installs here."""

    def call(self, op: int, args: Sequence[Any]) -> Any: ...

    async def call_async(self, op: int, args: Sequence[Any]) -> Any: ...


_carrier: Carrier | None = None


def install(carrier: Carrier) -> None:
    """Let ops travel by `carrier` from now on."""
    global _carrier  # noqa: PLW0603 - one process is one worker
    _carrier = carrier


def uninstall() -> None:
    """Let every further op raise `NotConnected`."""
    global _carrier  # noqa: PLW0603
    _carrier = None


def call(op: int, args: Sequence[Any]) -> Any:
    """Call the op with this number and return Erlang's answer; blocks until it is there.

    May be called from any thread. Raises what the answer's status names (docs/wire.md), and
    `NotConnected` outside of a worker.
    """
    return _connected().call(op, args)


async def call_async(op: int, args: Sequence[Any]) -> Any:
    """Call the op with this number and wait for Erlang's answer without blocking the loop."""
    return await _connected().call_async(op, args)


def unavailable(name: str) -> NoReturn:
    """Raise what a name does whose op this version of Hornbeam does not have."""
    _connected()
    raise NotImplementedError(f"{name} is not part of this version of Hornbeam")


def _connected() -> Carrier:
    if _carrier is None:
        raise NotConnected(
            "this is not a Hornbeam worker: Erlang can be called only by an app "
            "that hornbeam:start has started"
        )
    return _carrier
