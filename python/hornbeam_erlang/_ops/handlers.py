"""The hooks that this process serves: handlers by name, their actions, and calling them.

Knows what a handler may be; must not know who asks for it.
"""

import asyncio
import functools
import inspect
import traceback
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import FunctionType
from typing import Any, TypeVar

from hornbeam_erlang._ops.identity import worker_context
from hornbeam_erlang.exceptions import NotFound, RemoteError

Action = Callable[..., Any]

T = TypeVar("T")

_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Missing(NotFound):
    """There is no such hook, action, module or function: its text says which."""


class Entry:
    """One registration of a handler: the same one may be registered again."""

    __slots__ = ("handler",)

    def __init__(self, handler: Any) -> None:
        self.handler = handler


class Handlers:
    """Handlers by the names of their hooks."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
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
        return name in self._entries

    def get(self, name: str) -> Any:
        entry = self._entries.get(name)
        return None if entry is None else entry.handler

    def entry(self, name: str) -> Entry | None:
        """Return what `replace` knows a hook's handler by."""
        return self._entries.get(name)

    def put(self, name: str, handler: Any) -> Entry:
        """Set a hook's handler; a class is instantiated."""
        entry = self._entries[name] = Entry(handler() if inspect.isclass(handler) else handler)
        return entry

    def replace(self, name: str, old: Entry | None, new: Entry | None) -> bool:
        """Put one entry, or none, in the place of another; tell whether that was still there."""
        if self._entries.get(name) is not old:
            return False
        if new is None:
            self._entries.pop(name, None)
        else:
            self._entries[name] = new
        return True

    def action(self, name: str, action: str) -> Action:
        """Return what runs an action of a hook; raises `Missing`."""
        if (entry := self._entries.get(name)) is None:
            raise Missing(f"this worker has no hook {name!r}")
        handler = entry.handler
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


def task_in(
    context: Context, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]
) -> asyncio.Task[T]:
    """Make a task that runs in a context; one of the app's own task factory has a copy of it.

    Many a factory knows no keyword `context`.
    """
    factory: Any = loop.get_task_factory()
    if factory is None:
        return loop.create_task(work, context=context)
    task: asyncio.Task[T] = context.run(factory, loop, work)
    return task


def class_name(kind: type[BaseException]) -> str:
    """Return the name of an exception's class as others see it."""
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def remote_error(error: BaseException) -> RemoteError:
    """Return what a caller elsewhere would have seen of an exception."""
    lines = traceback.format_exception(error)
    return RemoteError(class_name(type(error)), str(error), "".join(lines).rstrip())
