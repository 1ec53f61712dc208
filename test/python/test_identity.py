"""For whom code calls: its connection, the worker where it is named, and never another's."""

import ast
import asyncio
import itertools
from contextvars import Context, ContextVar, copy_context
from pathlib import Path
from typing import Any

import callers
import pytest
from hornbeam_erlang import (
    ConnectionEnded,
    NotConnected,
    aio,
    connection_state,
    execute,
    register_hook,
    stream,
    subscribe,
    testing,
)
from hornbeam_erlang._ops.carrier import connected

HERE = str(Path(__file__).parent)

APP = f"""
    import asyncio, sys
    sys.path.insert(0, {HERE!r})
    import callers

    late = None
    over = asyncio.Event()

    async def outlive():
        await over.wait()
        return await callers.report_late()

    async def app(scope, receive, send):
        global late
        if scope["type"] != "http":
            raise NotImplementedError
        found = []
        if scope["path"] == "/report":
            found = await callers.report()
        elif scope["path"] == "/begin":
            late = asyncio.create_task(outlive())
        elif scope["path"] == "/late":
            over.set()
            found = await late
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body", "body": repr(found).encode()}})
"""


@pytest.fixture
def ask(run):
    beam = run(APP, ops=True)
    beam.node.memory.disconnect = lambda number: None  # what was kept is there to be seen
    numbers = itertools.count(1)

    def ask(path: bytes) -> Any:
        number = next(numbers)
        beam.open_http(number, path)
        body = beam.expect("response_start", number)[4]
        assert beam.expect("ended", number)[2] is None
        return ast.literal_eval(body.decode())

    return ask


def test_code_of_a_handler_calls_for_its_connection_where_it_has_its_context(ask):
    callers.check(ask(b"/report"))


def test_task_that_outlives_its_handler_calls_for_nobody_else(ask):
    ask(b"/begin")
    callers.check_late(ask(b"/late"))


def test_stand_in_says_the_same_of_a_handlers_code():
    with testing.Beam() as beam, beam.connection():
        callers.check(asyncio.run(callers.report()))


def test_stand_in_says_the_same_of_a_task_that_outlives_its_handler():
    async def main():
        over = asyncio.Event()

        async def outlive():
            await over.wait()
            return await callers.report_late()

        with testing.Beam() as beam:
            with beam.connection():
                late = asyncio.create_task(outlive())
                await asyncio.sleep(0)
            with beam.connection():
                over.set()
                return await late

    callers.check_late(asyncio.run(main()))


def test_who_has_no_context_is_told_how_to_pass_one():
    with testing.Beam(), pytest.raises(NotConnected) as raised:
        Context().run(subscribe, "news")
    for way in ("contextvars.copy_context().run", "asyncio.to_thread"):
        assert way in str(raised.value)


SEEN: ContextVar[str] = ContextVar("seen", default="nothing")


class Hook:
    """Handlers that tell what they find, and leave something behind."""

    def plain(self, value: str) -> Any:
        found = SEEN.get(), connected().caller()
        SEEN.set(value)
        return found

    async def later(self, value: str) -> Any:
        await asyncio.sleep(0)
        return self.plain(value)

    def count(self, value: str) -> Any:
        for _ in range(2):
            yield self.plain(value)

    async def count_later(self, value: str) -> Any:
        for _ in range(2):
            yield self.plain(value)


async def every_way() -> list[Any]:
    """Execute the hook's actions in all ways that there are; return what they have found."""
    found = [
        execute("hook", "plain", "x"),
        await aio.execute("hook", "plain", "x"),
        await aio.execute("hook", "later", "x"),
        await asyncio.to_thread(execute, "hook", "plain", "x"),
        await asyncio.to_thread(execute, "hook", "later", "x"),
        *stream("hook", "count", "x"),
        *[item async for item in aio.stream("hook", "count", "x")],
        *[item async for item in aio.stream("hook", "count_later", "x")],
    ]
    return [*found, SEEN.get()]


def test_stand_in_runs_a_hook_for_the_worker_with_variables_of_its_own():
    fresh, second = ("nothing", 0), ("x", 0)
    with testing.Beam() as beam:
        register_hook("hook", Hook)
        with beam.connection():
            SEEN.set("in a test")
            found = asyncio.run(every_way())
    assert found == [*[fresh] * 5, *[fresh, second] * 3, "in a test"]


def test_connection_of_one_stand_in_is_none_of_anothers():
    with testing.Beam() as outer, outer.connection():
        connection_state()["who"] = "outer"
        of_outer = copy_context()
        with testing.Beam() as inner:
            assert dict(connection_state()) == {}  # the worker's
            with inner.connection():
                assert dict(connection_state()) == {}
                with pytest.raises(ConnectionEnded):
                    of_outer.run(subscribe, "news")
        assert dict(connection_state()) == {"who": "outer"}
