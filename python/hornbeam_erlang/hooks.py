"""Hooks: handlers that one worker serves and anyone, Python or Erlang, may call by name.

A handler is a function, called as `handler(action, *args, **kwargs)`, or an instance whose
methods are the actions, or a class of which an instance is made; those that are not async run
in a thread. Of several workers that serve a hook, the least loaded is asked.
"""

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context
from typing import Any

from hornbeam_erlang import _bridge, _requests
from hornbeam_erlang._handlers import Missing, is_async, remote_error
from hornbeam_erlang._values import checked_text, pack, unpack

__all__ = [
    "await_result",
    "execute",
    "execute_async",
    "register_hook",
    "stream",
    "stream_async",
    "unregister_hook",
]


def register_hook(name: str, handler: Any) -> None:
    """Serve a hook in this worker; an earlier handler of the name is replaced.

    >>> class Greeter:
    ...     def greet(self, who, punctuation="!"):
    ...         return f"Hello {who}{punctuation}"
    >>> register_hook("greeter", Greeter)
    >>> execute("greeter", "greet", "Ada", punctuation="?")
    'Hello Ada?'
    """
    _bridge.follow(registration(name, handler))


def unregister_hook(name: str) -> None:
    """Serve a hook no more in this worker; others that serve it go on.

    >>> register_hook("short-lived", lambda action: action)
    >>> unregister_hook("short-lived")
    >>> execute("short-lived", "anything")
    Traceback (most recent call last):
        ...
    LookupError: no handler is registered for this hook
    """
    _bridge.follow(deregistration(name))


def registration(name: str, handler: Any) -> _bridge.Plan[None]:
    """Put the handler in place before anyone can ask for it."""
    if handler is None or not (callable(handler) or _has_actions(handler)):
        raise TypeError(f"handler: {type(handler).__name__} is no function and has no methods")
    handlers = _bridge.connected().handlers
    request = _requests.register_hook(name)
    before = handlers.get(name)
    handlers.put(name, handler)
    try:
        yield request
    except BaseException as error:
        handlers.put(name, before)
        if before is None and isinstance(error, _requests.UNSURE):
            with contextlib.suppress(Exception):
                yield _requests.unregister_hook(name)
        raise


def _has_actions(handler: Any) -> bool:
    return any(callable(getattr(handler, name, None)) for name in dir(handler) if name[0] != "_")


def deregistration(name: str) -> _bridge.Plan[None]:
    try:
        yield _requests.unregister_hook(name)
    except _requests.UNSURE:
        _bridge.connected().handlers.put(name, None)
        raise
    _bridge.connected().handlers.put(name, None)


def execute(name: str, action: str, /, *args: Any, timeout_ms: float = 5000, **kwargs: Any) -> Any:
    """Execute an action of a hook, wherever it lives, and return its result.

    Raises `RemoteError` when the handler fails, `TimeoutError` past `timeout_ms` milliseconds,
    and `LookupError` where there is no such hook or action. Called in a coroutine, it blocks the
    loop: a hook of this same worker is then run on the spot, if it is not async (`RuntimeError`
    says so), and of another one it is not waited for any longer (`TimeoutError`) when others wait
    for this loop. `await aio.execute(...)` has no such limit.

    >>> register_hook("calc", lambda action, *numbers: sum(numbers))
    >>> execute("calc", "add", 1, 2, 3)
    6
    """
    request = _requests.execute(name, action, args, kwargs, timeout_ms)
    if _is_ours_to_run(name):
        return _run_here(name, action, *request.args[2:4])
    return _bridge.perform(request)


def execute_async(name: str, action: str, /, *args: Any, **kwargs: Any) -> str:
    """Start an execution without waiting for it; return its id for `await_result`.

    >>> register_hook("calc", lambda action, *numbers: sum(numbers))
    >>> await_result(execute_async("calc", "add", 1, 2, 3))
    6
    """
    return _bridge.perform(_requests.execute_async(name, action, args, kwargs))


def await_result(id: str, timeout_ms: float = 5000) -> Any:
    """Return the result of an execution that `execute_async` has started; it is given once.

    Raises what `execute` raises. After `TimeoutError` the execution goes on, and one may ask
    again; a result that nobody fetches is kept for a minute.
    """
    return _bridge.perform(_requests.await_result(id, timeout_ms))


def stream(
    name: str, action: str, /, *args: Any, timeout_ms: float = 5000, **kwargs: Any
) -> Iterator[Any]:
    """Yield what a hook's generator yields, a few items ahead of the reader and no more.

    Waits at most `timeout_ms` milliseconds for an item. Nothing runs before the first item is
    asked for; closing this generator early, or leaving its loop, closes the hook's.

    >>> register_hook("count", lambda action, limit: iter(range(limit)))
    >>> list(stream("count", "up", 3))
    [0, 1, 2]
    """
    request = _requests.stream(name, action, args, kwargs)
    if _is_ours_to_run(name):
        yield from _iterate_here(name, action, *request.args[2:4])
        return
    id = _bridge.perform(request)
    over = False
    try:
        while items := _bridge.perform(_requests.next_items(id, timeout_ms)):
            yield from items
        over = True
    finally:
        if not over:
            _bridge.perform(_requests.close(id))


async def stream_async(
    name: str, action: str, /, *args: Any, timeout_ms: float = 5000, **kwargs: Any
) -> AsyncIterator[Any]:
    """Yield in a coroutine what a hook's generator yields; see `stream`.

    >>> import asyncio
    >>> async def count():
    ...     return [n async for n in stream_async("count", "up", 3)]
    >>> register_hook("count", lambda action, limit: iter(range(limit)))
    >>> asyncio.run(count())
    [0, 1, 2]
    """
    id = await _bridge.perform_async(_requests.stream(name, action, args, kwargs))
    over = False
    try:
        while items := await _bridge.perform_async(_requests.next_items(id, timeout_ms)):
            for item in items:
                yield item
        over = True
    finally:
        if not over:
            await _bridge.perform_async(_requests.close(id))


# A hook of this worker that is called where nothing else could run it: waiting for the answer
# would be waiting for ourselves.


def _is_ours_to_run(name: str) -> bool:
    carrier = _bridge.connected()
    return name in carrier.handlers and carrier.is_alone()


def _run_here(name: str, action: str, args: bytes, kwargs: bytes) -> Any:
    context = _bridge.connected().handlers.new_context()
    result = _call_here(context, name, action, args, kwargs)
    return unpack(_told(pack, result, "result"))


def _iterate_here(name: str, action: str, args: bytes, kwargs: bytes) -> Iterator[Any]:
    context = _bridge.connected().handlers.new_context()
    items = _call_here(context, name, action, args, kwargs)
    iterator = _told(iter, items)
    try:
        while True:
            item = _told(context.run, next, iterator, _END)
            if item is _END:
                return
            yield unpack(_told(pack, item, "item"))
    finally:
        if inspect.isgenerator(iterator):
            context.run(iterator.close)


_END = object()


def _call_here(context: Context, name: str, action: str, args: bytes, kwargs: bytes) -> Any:
    function = _bridge.connected().handlers.action(name, action)
    if is_async(function):
        _refuse(name)
    result = _told(context.run, function, *unpack(args), **unpack(kwargs))
    if inspect.iscoroutine(result):
        result.close()
    if inspect.isawaitable(result) or hasattr(result, "__aiter__"):
        _refuse(name)
    return result


def _refuse(name: str) -> None:
    raise RuntimeError(
        f"the hook {checked_text(name, 'name')!r} is async and needs the loop that this call "
        "would stop; use await hornbeam_erlang.aio.execute(...)"
    )


def _told(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the app's code; its failure is told as that of a hook elsewhere."""
    try:
        return function(*args, **kwargs)
    except Missing:
        raise
    except Exception as error:
        raise remote_error(error) from error
