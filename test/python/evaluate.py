"""Evaluates an expression as an app would: in a handler, with `await`, or in a thread."""

import ast
import asyncio
import inspect
from typing import Any

from hornbeam_erlang import Sent


async def evaluate(way: str, source: str, names: dict[str, Any]) -> tuple[str, Any]:
    """Return ("gave", value) or ("raised", class)."""
    code = compile(source, "<case>", "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    try:
        if way == "thread":
            value = await asyncio.to_thread(lambda: settled(eval(code, names)))
        else:
            value = settled(eval(code, names))
        if code.co_flags & inspect.CO_COROUTINE:
            value = await value
    except Exception as error:
        return "raised", type(error).__name__
    return "gave", value


def settled(value: Any) -> Any:
    """Ask for the answers of all ops of which nobody has asked."""
    if isinstance(value, Sent):
        return value.result()
    if type(value) in (tuple, list):
        return type(value)(map(settled, value))
    return value
