"""Who carries ops to Erlang: the worker, the stand-in of `hornbeam_erlang.testing`, or, in a
process that is neither, who visits a node from outside.

Knows only that something may have installed itself, or may be looked for. Must not import the
worker, so that the package can be imported anywhere.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from hornbeam_erlang._ops.handlers import Handlers
from hornbeam_erlang._ops.requests import Request
from hornbeam_erlang._ops.sent import Sent
from hornbeam_erlang._ops.topics import Topics
from hornbeam_erlang.exceptions import NotConnected

T = TypeVar("T")


class Carrier(Protocol):
    """Carry ops to Erlang, and keep what this process has of its own."""

    topics: Topics
    handlers: Handlers

    def now(self) -> float:
        """Return the time by which this process keeps deadlines (monotonic, seconds)."""

    def call(self, op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
        """Call an op and block; `timeout` is in seconds, None is the carrier's own."""

    async def call_async(self, op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
        """Call an op and wait for it."""

    def tell(self, request: Request[T], place: int, *, is_asked: bool = False) -> Sent[T]:
        """Send an op and go on.

        Where too many are under way it blocks until there is room, unless it is known that the
        answer `is_asked` for; raises `OpTimeout`, and has sent nothing then.
        """

    def caller(self) -> int:
        """Return the number of the connection for which the running code calls; 0 is the worker.

        Raises `NotConnected` for code that belongs to none, and `ConnectionEnded` for code whose
        connection is over.
        """

    def is_alone(self) -> bool:
        """Tell whether nothing else can run in this process while the running code blocks."""


_carrier: Carrier | None = None

# Finds or makes one in a process where none is installed.
_look_outside: Callable[[], Carrier] | None = None


def install(carrier: Carrier) -> None:
    """Let ops travel by `carrier` from now on."""
    global _carrier  # noqa: PLW0603 - one process is one worker
    _carrier = carrier


def installed() -> Carrier | None:
    """Return the carrier, if there is one."""
    return _carrier


def uninstall() -> None:
    """Let every further op raise `NotConnected`."""
    global _carrier  # noqa: PLW0603
    _carrier = None


def look_outside(look: Callable[[], Carrier]) -> None:
    """Let `look` find a carrier, or raise `NotConnected`, where none is installed."""
    global _look_outside  # noqa: PLW0603
    _look_outside = look


def connected() -> Carrier:
    """Return the carrier; raises `NotConnected` where there is none."""
    if _carrier is not None:
        return _carrier
    if _look_outside is None:
        raise NotConnected("this is not a Hornbeam worker")
    return _look_outside()
