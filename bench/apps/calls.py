"""What Erlang calls in the benchmark of calls, by Hornbeam and by ErlPort alike."""

from typing import TypeVar

T = TypeVar("T")


def echo(value: T) -> T:
    """Return what came."""
    return value


async def echo_async(value: T) -> T:
    """Return what came, as a coroutine."""
    return value
