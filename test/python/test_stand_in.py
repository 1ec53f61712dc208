"""Where the stand-in of `testing` lets other tasks run: where a worker does."""

import asyncio
import contextlib
import copy
import inspect
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hornbeam_erlang import (
    Atom,
    Execution,
    HornbeamError,
    OpTimeout,
    ServerSentEvent,
    aio,
    check_pubsub,
    publish,
    subscribe,
    testing,
)
from test_carrier import NAMES

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
        with contextlib.suppress(HornbeamError):
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


def test_execution_that_is_cancelled_in_its_waiter_keeps_its_result() -> None:
    async def slow(action: str) -> str:
        await asyncio.sleep(0)
        return "value"

    async def main() -> Any:
        await aio.register_hook("h", slow)
        execution = await aio.execute_async("h", "any")
        waiting = asyncio.ensure_future(execution)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        return waiting.cancelled(), await execution, await execution, execution.result()

    with testing.Beam():
        assert asyncio.run(main()) == (True, "value", "value", "value")


def test_execution_without_end_is_given_up_with_those_who_wait() -> None:
    async def main() -> Any:
        asked, never = asyncio.Event(), asyncio.Event()

        async def ask(*_: Any) -> None:
            asked.set()
            await never.wait()

        beam.call_async = ask  # type: ignore[method-assign, assignment]
        waiting = asyncio.ensure_future(Execution("an id"))
        await asyncio.sleep(0)  # now there is a task that asks
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asked.wait()
        for task in tasks:
            task.cancel()
        _, left = await asyncio.wait(tasks, timeout=5)
        never.set()
        return waiting.cancelled(), len(tasks), len(left)

    with testing.Beam() as beam:
        assert asyncio.run(main()) == (True, 2, 0)


def test_hook_that_is_too_slow_for_its_timeout_is_an_op_timeout() -> None:
    async def main() -> None:
        async def slow(action: str) -> None:
            await asyncio.Event().wait()

        await aio.register_hook("h", slow)
        with pytest.raises(OpTimeout):
            await aio.execute("h", "any", timeout=0.01)

    with testing.Beam():
        asyncio.run(main())


@pytest.mark.parametrize("kind", ["websocket", "event_stream"])
def test_client_gets_what_is_forwarded(kind: testing.Kind) -> None:
    event = ServerSentEvent({"gold": 1}, event="tick", id=7)
    with testing.Beam() as beam, beam.connection(kind) as connection:
        subscribe("prices", forward=True)
        assert publish("prices", event).result() == 1
        assert connection.forwarded == [("prices", event)]


def test_request_that_is_no_event_stream_forwards_nothing() -> None:
    with testing.Beam() as beam:
        with beam.connection("http"):
            with pytest.raises(ValueError, match="forward=True needs"):
                subscribe("prices", forward=True)
            subscribe("prices")
        with beam.connection():
            subscribe("prices", forward=True)


# Events of event streams


def test_event_is_a_tuple_to_who_reads_it() -> None:
    event = ServerSentEvent("down", event="tick", id=7)
    with testing.Beam() as beam, beam.connection():
        subscribe("prices")
        publish("prices", event)
        heard = check_pubsub()
    assert heard == event == (Atom("sse"), {"event": "tick", "id": 7}, "down")
    assert (event.data, event.fields) == ("down", {"event": "tick", "id": 7})
    assert ServerSentEvent(None).fields == {}


def test_event_may_be_copied_and_pickled() -> None:
    event = ServerSentEvent([1], id="a", retry=0)
    for same in (copy.copy(event), copy.deepcopy(event), pickle.loads(pickle.dumps(event))):
        assert type(same) is ServerSentEvent
        assert (same, repr(same)) == (event, "ServerSentEvent([1], id='a', retry=0)")


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"event": "a\nb"}, ValueError, "event"),
        ({"id": "a\rdata: b"}, ValueError, "id"),
        ({"id": "a\0"}, ValueError, "id"),
        ({"retry": -1}, ValueError, "retry"),
        ({"event": 1}, TypeError, "event"),
        ({"id": 1.5}, TypeError, "id"),
        ({"id": True}, TypeError, "id"),
        ({"retry": "1"}, TypeError, "retry"),
    ],
)
def test_event_with_a_field_that_is_none_is_refused(
    fields: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=f"^{said}: "):
        ServerSentEvent("data", **fields)
