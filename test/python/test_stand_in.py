"""Where the stand-in of `testing` lets other tasks run: where a worker does."""

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hornbeam_erlang import aio, testing
from test_bridge import NAMES

# Those that ask the node nothing.
AT_ONCE = {"check_pubsub", "receive_pubsub"}

STATE = {
    "get": ("k",),
    "set": ("k", 1),
    "delete": ("k",),
    "items": (),
    "pop": ("k", None),
    "setdefault": ("k", 1),
    "update": ({"k": 1},),
    "clear": (),
}


def turns(call: Callable[[], Awaitable[Any]]) -> list[str]:
    """Return whose turn it was until a call had its result, or its error."""

    async def main() -> list[str]:
        seen: list[str] = []
        asyncio.get_running_loop().call_soon(seen.append, "another's")
        with contextlib.suppress(Exception):
            await call()
        return [*seen, "the caller's"]

    with testing.Beam() as beam, beam.connection():
        return asyncio.run(main())


def ops() -> list[str]:
    coroutines = {name for name in NAMES if inspect.iscoroutinefunction(getattr(aio, name))}
    return sorted(coroutines - AT_ONCE)


@pytest.mark.parametrize("name", ops())
def test_loop_goes_on_while_an_op_is_awaited(name: str) -> None:
    assert turns(lambda: getattr(aio, name)(*NAMES[name])) == ["another's", "the caller's"]


@pytest.mark.parametrize("name", STATE)
def test_loop_goes_on_while_the_connections_state_is_awaited(name: str) -> None:
    state = aio.connection_state()
    assert turns(lambda: getattr(state, name)(*STATE[name])) == ["another's", "the caller's"]


def test_op_whose_caller_is_cancelled_is_done_all_the_same() -> None:
    async def main() -> Any:
        setting = asyncio.create_task(aio.state_set("k", 1))
        await asyncio.sleep(0)
        setting.cancel()
        await asyncio.wait([setting])
        return setting.cancelled(), await aio.state_get("k")

    with testing.Beam():
        assert asyncio.run(main()) == (True, 1)
