"""A user's module that uses all of the public names as it should: both checkers accept it."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import Any, assert_type

from hornbeam_erlang import (
    Atom,
    ClientDisconnected,
    ConnectionEnded,
    ConnectionState,
    Execution,
    HornbeamError,
    Key,
    LeadershipLost,
    LimitExceeded,
    Message,
    NodeDown,
    NotFound,
    OpTimeout,
    Overflow,
    PermissionDenied,
    Pid,
    RemoteError,
    Term,
    Unavailable,
    Value,
    aio,
    call,
    cast,
    check_pubsub,
    cluster,
    connection_state,
    execute,
    execute_async,
    leader,
    node,
    nodes,
    only_one,
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


class Basket:
    """What a reader may say comes when there is nothing."""


def basket_key(user: int) -> Key:
    return ("basket", user, b"raw", ("nested", 1))


def state(user: int) -> None:
    key = basket_key(user)
    state_set(key, {"name": "ada"}, ttl=1.5, scope="connection")
    state_set(b"raw", None, 60)
    assert_type(state_get(key), Value | None)
    assert_type(state_get(key, 0), Value | int)
    assert_type(state_get(key, Basket()), Value | Basket)
    assert_type(state_take(key), Value | None)
    assert_type(state_take("ticket", "none"), Value | str)
    nobody: dict[str, str] = {}
    name: str = state_get(key, nobody)["name"]
    visits: int = state_get("visits") or 0
    count: int = state_incr("count", 2, scope="connection")
    rest: float = state_decr("count", 0.5)
    done: bool = state_delete(name).result() or state_add(1, rest) or state_cas("k", count, None)
    found: dict[Any, Any] = state_get_multi(["a", ("b", 1)])
    nothing: None = state_set("b", done).result()
    print(nothing)
    assert_type(state_delete("b") == done, bool)
    state_set_multi({"a": done, ("b", 1): found}, ttl=5)
    keys: list[Any] = state_keys(("user",)) + [key for key, _ in state_items("user:")]
    print(keys, visits)


def session(state: ConnectionState) -> None:
    state["user"] = {"name": "ada"}
    state.update({("room", 1): None}, visits=state.get("visits", 0) + 1)
    assert_type(state.get("visits"), Value | None)
    assert_type(state.get("visits", 0), Value | int)
    assert_type(state.pop("visits", Basket()), Value | Basket)
    name: str = state.pop("user")["name"]
    rooms: list[Any] = [key for key, _ in state.items() if key != name]
    state.setdefault(b"raw", rooms)
    print({**state}, len(connection_state()), "user" in state)
    del state["user"]


def news(overflow: Overflow | None) -> int:
    subscribe("news", forward=True, overflow=overflow)
    subscribe("prices", True, "latest")
    unsubscribe("news")
    topic, value = assert_type(receive_pubsub(timeout=1.5), Message)
    assert_type(topic, str)
    print(value, check_pubsub(), receive_pubsub(None).topic.upper())
    return publish("news", {"text": value}) + pubsub_dropped()


def calls() -> list[str]:
    register_hook("greeter", Greeter)
    text: str = execute("greeter", "greet", "Ada", timeout=0.1, loud=True)
    execution = assert_type(execute_async("greeter", "greet", name="Ada"), Execution)
    same = Execution(execution.id)
    items: Generator[Any, None, None] = stream("greeter", "greet", "Ada", timeout=None)
    rpc_cast(node(), "erlang", "garbage_collect", ())
    cast("add", 1, 2)
    try:
        call("add", 1, 2, timeout=1)
    except RemoteError as error:
        print(error.class_, error.reason, error.stacktrace)
    unregister_hook("greeter")
    pid: Pid = rpc_call(node(), "erlang", "whereis", [Atom("init")], timeout=1)
    term: Term = pid
    return [*nodes(), text, execution.id, repr(term), *items, same.result(timeout=0.1)]


def failures() -> str:
    try:
        call("add", 1, 2)
    except (ClientDisconnected, ConnectionEnded):
        return "the connection"
    except (LimitExceeded, NodeDown, NotFound, OpTimeout, PermissionDenied) as error:
        return str(error)
    except HornbeamError:
        return "the rest"
    return "none"


async def coroutines() -> AsyncGenerator[int, None]:
    await aio.state_set("k", 1)
    assert_type(await aio.state_get("k"), Value | None)
    assert_type(await aio.state_get("k", 0), Value | int)
    assert_type(await aio.state_take("k", Basket()), Value | Basket)
    state: aio.ConnectionState = aio.connection_state()
    await state.set("k", await state.get("j"))
    assert_type(await state.get("k", 0), Value | int)
    assert_type(await state.pop("k", Basket()), Value | Basket)
    done: bool = await state.delete("k")
    print(done, dict(await state.items()))
    yield await aio.state_incr("k")
    yield await aio.publish("news", "extra!")
    async for topic, value in aio.messages():
        print(topic.upper(), value)
    async for item in stream_async("greeter", "greet", timeout=0.5):
        yield item


async def handles() -> Any:
    execution = assert_type(await aio.execute_async("greeter", "greet"), Execution)
    async with asyncio.timeout(1):
        greeting: str = await execution
    items = aio.stream("greeter", "letters", greeting)
    await items.aclose()
    return await asyncio.gather(execution, Execution("another's"))


async def listen() -> None:
    async with aio.subscribed("news") as messages:
        first = assert_type(await messages.receive(timeout=1), Message)
        print(first.topic.upper(), first.value)
        async for message in messages:
            assert_type(message, Message)
            print(message.topic.upper())


def test_state() -> None:
    with testing.Beam(queue_messages=10) as beam, beam.connection() as connection:
        state(1)
        beam.advance(5)
        forwarded: list[tuple[str, Any]] = connection.forwarded
        assert not forwarded


@only_one("nightly")
async def nightly(shop: str) -> int:
    return len(shop)


async def one_of_all() -> None:
    assert_type(await nightly("books"), int)
    assert_type(nightly.token, int | None)
    async with nightly.running("books"):
        pass
    try:
        async with leader("stock", timeout=5) as token:
            assert_type(token, int)
    except LeadershipLost:
        pass
    async with aio.cluster.lock("stock") as token:
        assert_type(await aio.cluster.add("owner", token), bool)


def agreed() -> None:
    try:
        cluster.set("owner", "ada")
        assert_type(cluster.cas("owner", "ada", "bob"), bool)
        with cluster.lock("stock") as token:
            assert_type(token, int)
    except Unavailable:
        pass
