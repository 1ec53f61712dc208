"""The types of the public names, as a user's `mypy --strict` sees them."""

import textwrap
from pathlib import Path

import hornbeam_erlang
import pytest
from mypy import api

SAMPLE = """
    from collections.abc import AsyncIterator, Iterator
    from typing import Any

    from hornbeam_erlang import (
        Atom,
        Pid,
        RemoteError,
        aio,
        call,
        check_pubsub,
        ConnectionState,
        connection_state,
        execute,
        execute_async,
        await_result,
        node,
        nodes,
        publish,
        pubsub_dropped,
        receive_pubsub,
        register_hook,
        rpc_call,
        rpc_cast,
        state_add,
        state_cas,
        state_decr,
        state_delete,
        state_get,
        state_get_multi,
        state_incr,
        state_items,
        state_keys,
        state_set,
        state_set_multi,
        state_take,
        stream,
        stream_async,
        subscribe,
        testing,
        unregister_hook,
        unsubscribe,
    )


    class Greeter:
        def greet(self, name: str) -> str:
            return f"Hello {name}"


    def state(user: int) -> None:
        state_set(("user", user), {"name": "ada"}, ttl=1.5, scope="connection")
        state_set(b"raw", None, 60)
        name: str = state_get(("user", user), {})["name"]
        count: int = state_incr("count", 2, scope="connection")
        rest: float = state_decr("count", 0.5)
        done: bool = state_delete(name) or state_add(1, rest) or state_cas("k", count, None)
        found: dict[Any, Any] = state_get_multi(["a", ("b", 1)])
        state_set_multi({"a": done, ("b", 1): found}, ttl=5)
        keys: list[Any] = state_keys(("user",)) + [key for key, _ in state_items("user:")]
        print(keys, state_take("ticket"))


    def session(state: ConnectionState) -> None:
        state["user"] = {"name": "ada"}
        state.update({("room", 1): None}, visits=state.get("visits", 0) + 1)
        name: str = state.pop("user")["name"]
        rooms: list[Any] = [key for key, _ in state.items() if key != name]
        state.setdefault(b"raw", rooms)
        print({**state}, len(connection_state()), "user" in state)
        del state["user"]


    def messages() -> int:
        subscribe("news", forward=True)
        unsubscribe("news")
        topic, message = receive_pubsub(timeout=1.5)
        print(topic, message, check_pubsub())
        return publish("news", {"text": message}) + pubsub_dropped()


    def calls() -> list[str]:
        register_hook("greeter", Greeter)
        text: str = execute("greeter", "greet", "Ada", timeout_ms=100, loud=True)
        id: str = execute_async("greeter", "greet", name="Ada")
        items: Iterator[Any] = stream("greeter", "greet", "Ada")
        rpc_cast(node(), "erlang", "garbage_collect", ())
        try:
            call("add", 1, 2, timeout_ms=100)
        except RemoteError as error:
            print(error.class_, error.reason, error.stacktrace)
        unregister_hook("greeter")
        pid: Pid = rpc_call(node(), "erlang", "whereis", [Atom("init")], timeout_ms=1000)
        return [*nodes(), text, id, repr(pid), *items, await_result(id, timeout_ms=100)]


    async def coroutines() -> AsyncIterator[int]:
        await aio.state_set("k", 1)
        state: aio.ConnectionState = aio.connection_state()
        await state.set("k", await state.get("j"))
        done: bool = await state.delete("k")
        print(done, dict(await state.items()))
        yield await aio.state_incr("k")
        yield await aio.publish("news", "extra!")
        async for topic, message in aio.messages():
            print(topic.upper(), message)
        async for item in stream_async("greeter", "greet"):
            yield item


    def test_state() -> None:
        with testing.Beam(queue_messages=10) as beam, beam.connection() as connection:
            state(1)
            beam.advance(5)
            forwarded: list[tuple[str, Any]] = connection.forwarded
            assert not forwarded
"""
WRONG = [
    ('state_set("k", 1, scope="session")', "arg-type"),
    ("state_get(1.5)", "arg-type"),
    ("state_get(None)", "arg-type"),
    ('publish(1, "x")', "arg-type"),
    ('state_set("k", 1, ttl="1")', "arg-type"),
    ("number: int = node()", "assignment"),
]


def check(folder: Path, source: str) -> tuple[str, int]:
    path = folder / "sample.py"
    path.write_text(textwrap.dedent(source))
    cache = folder.parent / "mypy-cache"
    report, errors, status = api.run(
        ["--strict", "--python-version=3.11", f"--cache-dir={cache}", str(path)]
    )
    return report + errors, status


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let mypy find the package where the tests found it."""
    monkeypatch.setenv("MYPYPATH", str(Path(hornbeam_erlang.__file__).parents[1]))


def test_users_sample_passes_mypy_strict(tmp_path: Path) -> None:
    report, status = check(tmp_path, SAMPLE)
    assert status == 0, report


def test_misuse_is_found_by_mypy(tmp_path: Path) -> None:
    source = "from hornbeam_erlang import node, publish, state_get, state_set\n"
    report, _ = check(tmp_path, source + "\n".join(line for line, _ in WRONG))
    for number, (line, code) in enumerate(WRONG, 2):
        assert any(
            f"sample.py:{number}: error" in found and f"[{code}]" in found
            for found in report.splitlines()
        ), f"{line} passes: {report}"
