"""The hooks that this process serves: handlers by name, their actions, and calling them.

Knows what a handler may be; must not know who asks for it.
"""

import functools
import inspect
import traceback
from collections.abc import Callable
from contextvars import Context
from types import FunctionType
from typing import Any

from hornbeam_erlang._identity import worker_context
from hornbeam_erlang.exceptions import NotFound, RemoteError

Action = Callable[..., Any]

_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Missing(NotFound):
    """There is no such hook, action, module or function: its text says which."""


class Handlers:
    """Handlers by the names of their hooks."""

    def __init__(self) -> None:
        self._handlers: dict[str, Any] = {}
        self._context = worker_context()

    def keep_context(self) -> None:
        """Let handlers from now on see the context variables that are set here."""
        self._context = worker_context()

    def new_context(self) -> Context:
        """Return the context of one call, which runs for the worker, whoever calls.

        It takes nothing over from another call's, and leaves nothing to one.
        """
        return self._context.copy()

    def __contains__(self, name: str) -> bool:
        return name in self._handlers

    def get(self, name: str) -> Any:
        return self._handlers.get(name)

    def put(self, name: str, handler: Any) -> None:
        """Set a hook's handler; a class is instantiated. None takes it away."""
        if handler is None:
            self._handlers.pop(name, None)
        else:
            self._handlers[name] = handler() if inspect.isclass(handler) else handler

    def action(self, name: str, action: str) -> Action:
        """Return what runs an action of a hook; raises `Missing`."""
        if (handler := self._handlers.get(name)) is None:
            raise Missing(f"this worker has no hook {name!r}")
        if inspect.isroutine(handler) or isinstance(handler, functools.partial):
            return functools.partial(handler, action)
        method = None if action.startswith("_") else getattr(handler, action, None)
        if callable(method):
            return method  # type: ignore[no-any-return]
        if callable(handler):
            return functools.partial(handler, action)
        raise Missing(f"the hook {name!r} has no action {action!r}")


def is_async(action: Action) -> bool:
    """Tell whether an action has to run in the loop."""
    if type(action) is FunctionType and not action.__dict__:  # `inspect` takes ten times as long
        return bool(action.__code__.co_flags & _ASYNC)
    while isinstance(action, functools.partial):
        action = action.func
    if not inspect.isroutine(action):
        action = type(action).__call__
    return inspect.iscoroutinefunction(action) or inspect.isasyncgenfunction(action)


def class_name(kind: type[BaseException]) -> str:
    """Return the name of an exception's class as others see it."""
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def remote_error(error: BaseException) -> RemoteError:
    """Return what a caller elsewhere would have seen of an exception."""
    lines = traceback.format_exception(error)
    return RemoteError(class_name(type(error)), str(error), "".join(lines).rstrip())
