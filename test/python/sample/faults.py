"""A user's faults, a line each, and what mypy and pyright call them."""

from hornbeam_erlang import (
    Execution,
    Key,
    Overflow,
    aio,
    call,
    connection_state,
    execute,
    execute_async,
    node,
    publish,
    receive_pubsub,
    rpc_call,
    state_get,
    state_set,
    state_take,
    subscribe,
)

state_get(1.5)  # mypy: call-overload, pyright: reportArgumentType
state_get(None)  # mypy: call-overload, pyright: reportArgumentType
state_get("k")["name"]  # mypy: index, pyright: reportOptionalSubscript
state_take("k") + 1  # mypy: operator, pyright: reportOptionalOperand
connection_state().get("k")["name"]  # mypy: index, pyright: reportOptionalSubscript
connection_state()[1.5]  # mypy: index, pyright: reportArgumentType
key: Key = ("user", 1.5)  # mypy: assignment, pyright: reportAssignmentType
number: int = node()  # mypy: assignment, pyright: reportAssignmentType
state_set("k", 1, scope="session")  # mypy: arg-type, pyright: reportArgumentType
state_set("k", 1, ttl="1")  # mypy: arg-type, pyright: reportArgumentType
publish(1, "x")  # mypy: arg-type, pyright: reportArgumentType
subscribe("news", True, "oldest")  # mypy: arg-type, pyright: reportArgumentType
overflow: Overflow = "newest"  # mypy: assignment, pyright: reportAssignmentType
call("f", timeout="1")  # mypy: arg-type, pyright: reportArgumentType
rpc_call(node(), "m", "f", [], timeout_ms=1)  # mypy: call-arg, pyright: reportCallIssue
execute("h", "a", timeout=b"1")  # mypy: arg-type, pyright: reportArgumentType
execute_async("h", "a").upper()  # mypy: attr-defined, pyright: reportAttributeAccessIssue
Execution(5)  # mypy: arg-type, pyright: reportArgumentType
receive_pubsub().text  # mypy: attr-defined, pyright: reportAttributeAccessIssue
aio.subscribed(b"news")  # mypy: arg-type, pyright: reportArgumentType


async def coroutines() -> None:
    (await aio.state_get("k"))["name"]  # mypy: index, pyright: reportOptionalSubscript
    async with aio.subscribed("news") as messages:
        for _ in messages:  # mypy: attr-defined, pyright: reportGeneralTypeIssues
            pass
    async for _topic, _value, _more in aio.messages():  # mypy: misc, pyright: reportAssignmentType
        pass
