"""The table of cases, on the stand-in and in a worker, by each way to call."""

import ast
import asyncio
import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hornbeam_erlang
import op_cases
import pytest
from beam import Beam
from evaluate import evaluate, settled
from hornbeam_erlang import aio, testing
from hornbeam_erlang._ops import channel_requests
from hornbeam_erlang._ops.perform import perform
from hornbeam_erlang._wire import ops
from hornbeam_erlang.channels import HornbeamChannelLayer
from hornbeam_erlang.metrics import Counter
from op_cases import Case

OTHERS = {
    "handler": op_cases.MAPPING,
    "aio": op_cases.WAITING + op_cases.AWAITED + op_cases.COROUTINES,
    "thread": op_cases.WAITING + op_cases.RESULTS + op_cases.MAPPING,
}
CASES = [
    pytest.param(way, case, id=f"{way}: {case.source}")
    for way, others in OTHERS.items()
    for case in op_cases.CASES + others
]
numbers = itertools.count()


def names() -> dict[str, Any]:
    found: dict[str, Any] = {"aio": aio, "k": f"case-{next(numbers)}", **op_cases.NAMES}
    exec(op_cases.HOOKS, found)
    return found


def check(case: Case, outcome: tuple[str, Any]) -> None:
    kind, value = outcome
    if case.raises:
        assert kind == "raised", f"{case.source} gave {value!r}"
        assert value in [cls.__name__ for cls in case.expected.__subclasses__()] + [
            case.expected.__name__
        ]
    else:
        assert (kind, value) == ("gave", case.expected)


def source_for(way: str, case: Case) -> str:
    return op_cases.by_aio(case.source) if way == "aio" else case.source


# The stand-in


@contextlib.contextmanager
def stand_in() -> Iterator[testing.Beam]:
    """Run the block as the handler of a connection."""
    with testing.Beam() as beam, beam.connection():
        for name, function in op_cases.FUNCTIONS.items():
            beam.register_function(name, function)
        for (module, name), function in op_cases.ALLOWED.items():
            beam.allow_rpc(module, name, function)
        yield beam


@pytest.mark.parametrize(("way", "case"), CASES)
def test_stand_in_does_what_the_table_says(way: str, case: Case) -> None:
    with stand_in():
        check(case, asyncio.run(evaluate(way, source_for(way, case), names())))


def test_stand_in_blocks_where_no_loop_runs() -> None:
    with stand_in():
        for case in op_cases.WAITING + op_cases.RESULTS:
            seen = names()
            if case.raises:
                with pytest.raises(case.expected):
                    settled(eval(case.source, seen))
            else:
                assert eval(case.source, seen) == case.expected


def test_stand_in_keeps_what_a_connection_has_as_long_as_it() -> None:
    kept = hornbeam_erlang.connection_state()
    with testing.Beam() as beam:
        kept["who"] = "worker"
        with beam.connection():
            kept["who"] = "first"
            with beam.connection():
                assert dict(kept) == {}
            assert dict(kept) == {"who": "first"}
        with beam.connection():
            assert dict(kept) == {}
        assert dict(kept) == {"who": "worker"}


# A worker

APP = f"""
    import sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    import hornbeam_erlang
    import op_cases
    from evaluate import evaluate
    from hornbeam_erlang import aio

    async def app(scope, receive, send):
        if scope["type"] != "websocket":
            raise NotImplementedError
        await send({{"type": "websocket.accept"}})
        await receive()
        while (event := await receive())["type"] != "websocket.disconnect":
            way, k, source = event["text"].split("|", 2)
            found = {{"aio": aio, "k": k, **op_cases.NAMES}}
            exec(op_cases.HOOKS, found)
            outcome = await evaluate(way, source, found)
            await send({{"type": "websocket.send", "text": repr(outcome)}})
"""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beam]:
    folder = tmp_path_factory.mktemp("ops")
    (folder / "ops_app.py").write_text(inspect.cleandoc(APP))
    with Beam(ops=True) as beam:
        beam.node.memory.functions.update(op_cases.FUNCTIONS)
        beam.node.memory.allowed.update(op_cases.ALLOWED)
        beam.run("ops_app:app", pythonpath=[str(folder)])
        beam.accept(1)
        yield beam


@pytest.mark.parametrize(("way", "case"), CASES)
def test_worker_does_what_the_table_says(worker: Beam, way: str, case: Case) -> None:
    text = f"{way}|case-{next(numbers)}|{source_for(way, case)}"
    worker.send("receive_text", 1, text.encode())
    while (message := worker.next())[0] == "credit":
        pass
    assert message[0] == "send_text", message
    worker.send("credit", 1, len(message[2]), 1)
    check(case, ast.literal_eval(message[2].decode()))


# The table itself


def test_table_has_each_function_with_good_and_bad_input() -> None:
    sources = {True: "", False: ""}
    for case in op_cases.CASES + op_cases.WAITING + op_cases.RESULTS:
        sources[case.raises] += f"{case.source}\n"
    functions = {
        name
        for name in hornbeam_erlang.__all__
        if inspect.isfunction(getattr(hornbeam_erlang, name)) and name != "stream_async"
    } - OF_LEADERS
    for function in functions:
        assert f"{function}(" in sources[False], f"{function} has no case that succeeds"
    without_fault = {"check_pubsub", "pubsub_dropped", "node", "nodes"}
    for function in functions - without_fault - {"unregister_hook"}:
        assert f"{function}(" in sources[True], f"{function} has no case that fails"


def test_each_op_is_called_by_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    called = set()
    with stand_in() as beam:
        call: Callable[..., Any] = beam.call
        tell: Callable[..., Any] = beam.tell

        def note(op: int, *args: Any) -> Any:
            called.add(op)
            return call(op, *args)

        def note_told(request: Any, *args: Any, **kwargs: Any) -> Any:
            called.add(request.op)
            return tell(request, *args, **kwargs)

        call_async: Callable[..., Any] = beam.call_async

        def note_async(op: int, *args: Any) -> Any:
            called.add(op)
            return call_async(op, *args)

        monkeypatch.setattr(beam, "call", note)
        monkeypatch.setattr(beam, "call_async", note_async)
        monkeypatch.setattr(beam, "tell", note_told)
        for case in op_cases.CASES + op_cases.WAITING + op_cases.RESULTS:
            try:
                settled(eval(case.source, names()))
            except Exception as error:
                assert case.raises, error
        items = iter(hornbeam_erlang.stream("h", "count", 5))
        hornbeam_erlang.register_hook("h", names()["Greeter"])
        assert next(items) == 0
        items.close()
        asyncio.run(use_channels())
        with hornbeam_erlang.leader("ops"):
            pass
        Counter("ops", "Of this test").inc()
    assert called == {op.code for op in ops.OPS}


async def use_channels() -> None:
    layer = HornbeamChannelLayer(capacity=1)
    name = await layer.new_channel()
    for channel in (name, "anybodys"):
        await layer.group_add("group", channel)
        await layer.group_send("group", {"n": 1})
        await layer.group_send("group", {"n": 2})
        assert await layer.receive(channel) == {"n": 1}
        await layer.group_discard("group", channel)
        await layer.send(channel, {"n": 3})
    reader = asyncio.create_task(layer.receive("nobodys"))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait([reader])
    perform(channel_requests.put_back("channels:channels:channel:nobodys", 1, {"n": 4}, 60))
    assert await layer.receive("nobodys") == {"n": 4}
    await layer.flush()


METHODS = {name: name for name in ("get", "items", "pop", "setdefault", "update", "clear")} | {
    "set": "__setitem__",
    "delete": "__delitem__",
}


# These have no counterpart that blocks, or their own form.
ONLY_OF_COROUTINES = {"messages", "subscribed", "connection_state"}

# These are the same in both; test_leadership.py has them.
OF_LEADERS = {"leader", "only_one"}


def functions_of_aio() -> set[str]:
    names = {*aio.__all__, *op_cases.SHORT}
    return {name for name in names if inspect.isroutine(getattr(aio, name))}


@pytest.mark.parametrize("name", sorted(functions_of_aio() - ONLY_OF_COROUTINES - OF_LEADERS))
def test_aio_has_the_same_names_and_parameters(name: str) -> None:
    function = getattr(aio, name)
    assert is_asynchronous(function)
    blocking = getattr(hornbeam_erlang, name)
    assert inspect.signature(function).parameters == inspect.signature(blocking).parameters


def is_asynchronous(function: Any) -> bool:
    return op_cases.is_awaited(function) or inspect.isasyncgenfunction(function)


@pytest.mark.parametrize("name", METHODS)
def test_coroutines_of_the_connections_state_have_the_parameters_of_a_dict(name: str) -> None:
    method = getattr(aio.ConnectionState, name)
    assert is_asynchronous(method)
    blocking = getattr(hornbeam_erlang.ConnectionState, METHODS[name])
    assert inspect.signature(method).parameters == inspect.signature(blocking).parameters


def test_the_connections_state_has_a_coroutine_for_each_method_of_its_own() -> None:
    own = {name for name in vars(aio.ConnectionState) if not name.startswith("_")}
    assert own == {*METHODS}
    assert not is_asynchronous(aio.connection_state)


def test_aio_lacks_no_name() -> None:
    functions = {
        name
        for name in hornbeam_erlang.__all__
        if inspect.isroutine(getattr(hornbeam_erlang, name))
    }
    assert functions <= set(aio.__all__)
