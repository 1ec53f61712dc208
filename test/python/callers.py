"""The ways in which code of a handler comes to run, and what it may call there: one table for all.

A worker and the stand-in of `hornbeam_erlang.testing` are held to it.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any

from anyio import to_thread
from evaluate import settled
from hornbeam_erlang import (
    aio,
    check_pubsub,
    connection_state,
    publish,
    pubsub_dropped,
    receive_pubsub,
    state_get,
    state_incr,
    state_set,
    subscribe,
    unsubscribe,
)

Call = Callable[[], Any]


async def in_place(call: Call) -> Any:
    return call()


async def in_a_task(call: Call) -> Any:
    return await asyncio.create_task(in_place(call))


async def by_to_thread(call: Call) -> Any:
    return await asyncio.to_thread(call)


async def by_anyio(call: Call) -> Any:
    return await to_thread.run_sync(call)


async def in_a_thread_with_the_context(call: Call) -> Any:
    context = copy_context()
    return await in_a_thread(lambda: context.run(call))


async def in_a_thread(call: Call) -> Any:
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def run() -> None:
        outcome = outcome_of(call)
        done.get_loop().call_soon_threadsafe(done.set_result, outcome)

    threading.Thread(target=run).start()
    return await done


async def by_an_executor(call: Call) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, outcome_of, call)


# Those that keep the handler's context variables, and those that have none.
KEEPING = [in_place, in_a_task, by_to_thread, by_anyio, in_a_thread_with_the_context]
LOSING = [in_a_thread, by_an_executor]

OF_CONNECTION: dict[str, Call] = {
    "subscribe": lambda: subscribe("t"),
    "subscribe, forwarding": lambda: subscribe("t", forward=True),
    "check_pubsub": check_pubsub,
    "pubsub_dropped": pubsub_dropped,
    "unsubscribe": lambda: unsubscribe("t"),
    "connection_state": lambda: connection_state().get("k"),
    "connection_state, all": lambda: dict(connection_state()),
    "connection_state, set": lambda: connection_state().__setitem__("k", 1),
    "connection_state, delete": lambda: connection_state().pop("k", None),
    "state_set": lambda: state_set("k", 1, scope="connection"),
    "state_incr": lambda: state_incr("n", scope="connection"),
}
WAITING: dict[str, Call] = {
    "receive_pubsub": lambda: receive_pubsub(0),
    "aio.receive_pubsub": lambda: asyncio.run(aio.receive_pubsub(0)),
    "aio.messages": lambda: asyncio.run(anext(aio.messages())),
}
OF_ALL: dict[str, Call] = {
    "state_set": lambda: state_set("k", 1),
    "state_get": lambda: state_get("k"),
    "publish": lambda: publish("t", 1),
}


def outcome_of(call: Call) -> Any:
    """Return a value, or the name of what was raised."""
    try:
        return settled(call())
    except Exception as error:
        return type(error).__name__


Outcomes = dict[str, dict[str, Any]]


async def outcomes(
    ways: list[Callable[[Call], Awaitable[Any]]], calls: dict[str, Call]
) -> Outcomes:
    """Return for each way what each call gives there."""
    return {
        way.__name__: {
            name: await way(lambda call=call: outcome_of(call)) for name, call in calls.items()
        }
        for way in ways
    }


async def report() -> list[Outcomes]:
    """Return what a handler's code may call: with its context, without it, and whatever it has."""
    return [
        await outcomes(KEEPING, OF_CONNECTION),
        await outcomes(LOSING, OF_CONNECTION | WAITING),
        await outcomes(KEEPING + LOSING, OF_ALL),
    ]


async def report_late() -> list[Outcomes]:
    """Return what it may call when its connection is over."""
    late = await outcomes(KEEPING, OF_CONNECTION)
    late |= await outcomes([by_to_thread], WAITING)
    return [late, await outcomes(KEEPING, OF_ALL)]


def check(found: list[Outcomes]) -> None:
    keeping, losing, free = found
    assert not names(keeping)
    assert {each for by_name in losing.values() for each in by_name.values()} == {"NotConnected"}
    assert not names(free)


def check_late(found: list[Outcomes]) -> None:
    late, free = found
    assert {each for by_name in late.values() for each in by_name.values()} == {"ConnectionEnded"}
    assert not names(free)


def names(found: Outcomes) -> set[str]:
    """Return the names of what was raised."""
    return {each for by_name in found.values() for each in by_name.values() if type(each) is str}
