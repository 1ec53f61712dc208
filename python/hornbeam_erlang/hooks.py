"""Hooks: handlers that one worker serves and anyone, Python or Erlang, may call by name.

A handler is a function, called as `handler(action, *args, **kwargs)`, or an instance whose
methods are the actions, or a class of which an instance is made; those that are not async run
in a thread. Of several workers that serve a hook, the least loaded is asked.
"""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextvars import Context
from typing import Any

from hornbeam_erlang._ops import requests
from hornbeam_erlang._ops.carrier import connected
from hornbeam_erlang._ops.handlers import Handlers, Missing, is_async, remote_error
from hornbeam_erlang._ops.perform import follow, perform, perform_async
from hornbeam_erlang._wire.values import Value, checked_text, checked_timeout, pack, unpack
from hornbeam_erlang.exceptions import NotFound, RemoteError

__all__ = [
    "Execution",
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
    follow(registration(name, handler))


def unregister_hook(name: str) -> None:
    """Serve a hook no more in this worker; others that serve it go on.

    >>> register_hook("short-lived", lambda action: action)
    >>> unregister_hook("short-lived")
    >>> execute("short-lived", "anything")
    Traceback (most recent call last):
        ...
    hornbeam_erlang.exceptions.NotFound: no handler is registered for this hook
    """
    follow(deregistration(name))


def registration(name: str, handler: Any) -> requests.Plan[None]:
    """Put the handler in place before anyone can ask for it."""
    if handler is None or not (callable(handler) or _has_actions(handler)):
        raise TypeError(f"handler: {type(handler).__name__} is no function and has no methods")
    handlers = connected().handlers
    request = requests.register_hook(name)
    before = handlers.entry(name)
    ours = handlers.put(name, handler)
    try:
        yield request
    except BaseException as error:
        handlers.replace(name, ours, before)
        if isinstance(error, requests.UNSURE):
            with contextlib.suppress(Exception):
                yield from _agree(handlers, name, known=True)
        raise
    yield from _agree(handlers, name, known=True)


def _has_actions(handler: Any) -> bool:
    return any(callable(getattr(handler, name, None)) for name in dir(handler) if name[0] != "_")


def deregistration(name: str) -> requests.Plan[None]:
    handlers = connected().handlers
    there = handlers.entry(name)
    try:
        yield requests.unregister_hook(name)
    except requests.UNSURE:
        handlers.replace(name, there, None)
        with contextlib.suppress(Exception):
            yield from _agree(handlers, name, known=False)
        raise
    handlers.replace(name, there, None)
    yield from _agree(handlers, name, known=False)


def _agree(handlers: Handlers, name: str, *, known: bool) -> requests.Plan[None]:
    """Tell Erlang until it was told whether the hook is served now.

    Several tasks may change a hook at once, and their ops need not be heard in their order.
    """
    while (is_served := name in handlers) != known:
        yield (requests.register_hook if is_served else requests.unregister_hook)(name)
        known = is_served


def execute(
    name: str, action: str, /, *args: Value, timeout: float | None = 5.0, **kwargs: Value
) -> Value:
    """Execute an action of a hook, wherever it lives, and return its result.

    A hook that only other nodes of the cluster have is executed on one of them. Raises
    `RemoteError` when the handler fails, `OpTimeout` past `timeout` seconds (None: waits as long as
    it takes), `NotFound` where there is no such hook or action, and `NodeDown` when the node that
    was asked goes out of reach, whether or not it has done that. Called in a coroutine, it blocks
    the loop: a hook of this same worker is then run on the spot, if it is not async
    (`RuntimeError` says so), and of another one it is not waited for any longer (`OpTimeout`) when
    others wait for this loop. `await aio.execute(...)` has no such limit. A parameter of the
    handler that is called `timeout` too is given by its position.

    >>> register_hook("calc", lambda action, *numbers: sum(numbers))
    >>> execute("calc", "add", 1, 2, 3)
    6
    """
    request = requests.execute(name, action, args, kwargs, timeout)
    if _is_ours_to_run(name):
        return _run_here(name, action, *request.args[2:4])
    return perform(request)


class Execution:
    """An execution of a hook that `execute_async` has started, and the way to its result.

    `await execution` waits in a coroutine, as long as it takes, and `result` in a thread. Erlang
    keeps a result that nobody asks for a minute and gives it once; the handle remembers it, so one
    may ask a handle again. `id` is a text by which another worker can make a handle of its own.

    >>> register_hook("calc", lambda action, *numbers: sum(numbers))
    >>> execution = execute_async("calc", "add", 1, 2)
    >>> Execution(execution.id).result(timeout=1)
    3
    """

    __slots__ = ("_end", "_task", "id")

    def __init__(self, id: str) -> None:
        self.id = checked_text(id, "id")
        # The result, or how the handler failed.
        self._end: tuple[Value, RemoteError | None] | None = None
        # Asks for it on behalf of all coroutines of a loop that wait: one of them that is cancelled
        # takes it from nobody.
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Execution({self.id!r})"

    def result(self, timeout: float | None = 5.0) -> Value:
        """Block until the result is there, and return it.

        Raises what `execute` raises. After `OpTimeout` the execution goes on, and one may ask
        again.
        """
        request = requests.await_result(self.id, timeout)
        if self._end is None:
            try:
                self._end = perform(request), None
            except RemoteError as error:
                self._end = None, error
            except NotFound:  # a coroutine may have been given it meanwhile
                if self._end is None:
                    raise
        return _given(*self._end)

    def __await__(self) -> Generator[Any, None, Value]:
        return self._wait().__await__()

    async def _wait(self) -> Value:
        while self._end is None:
            await asyncio.shield(self._asking())
        return _given(*self._end)

    def _asking(self) -> asyncio.Task[None]:
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._task = loop.create_task(self._ask())
        return self._task

    async def _ask(self) -> None:
        try:
            self._end = await perform_async(requests.await_result(self.id, None)), None
        except RemoteError as error:
            self._end = None, error


def _given(value: Value, error: RemoteError | None) -> Value:
    if error is not None:
        raise error.with_traceback(None)
    return value


def execute_async(name: str, action: str, /, *args: Value, **kwargs: Value) -> Execution:
    """Start an execution without waiting for it.

    Raises `NotFound` where there is no such hook.

    >>> register_hook("calc", lambda action, *numbers: sum(numbers))
    >>> execute_async("calc", "add", 1, 2, 3).result()
    6
    """
    return Execution(perform(requests.execute_async(name, action, args, kwargs)))


def stream(
    name: str, action: str, /, *args: Value, timeout: float | None = 5.0, **kwargs: Value
) -> Generator[Value, None, None]:
    """Yield what a hook's generator yields, a few items ahead of the reader and no more.

    Waits at most `timeout` seconds for an item. Nothing runs before the first item is asked for;
    closing this generator early, or leaving its loop, closes the hook's.

    >>> register_hook("count", lambda action, limit: iter(range(limit)))
    >>> list(stream("count", "up", 3))
    [0, 1, 2]
    """
    request, limit = requests.stream(name, action, args, kwargs), checked_timeout(timeout)
    if _is_ours_to_run(name):
        yield from _iterate_here(name, action, *request.args[2:4])
        return
    id = perform(request)
    ended = False
    try:
        while items := perform(requests.next_items(id, limit)):
            yield from items
        ended = True
    finally:
        if not ended:
            perform(requests.close(id))


async def stream_async(
    name: str, action: str, /, *args: Value, timeout: float | None = 5.0, **kwargs: Value
) -> AsyncGenerator[Value, None]:
    """Yield in a coroutine what a hook's generator yields; see `stream`.

    >>> import asyncio
    >>> async def count():
    ...     return [n async for n in stream_async("count", "up", 3)]
    >>> register_hook("count", lambda action, limit: iter(range(limit)))
    >>> asyncio.run(count())
    [0, 1, 2]
    """
    request, limit = requests.stream(name, action, args, kwargs), checked_timeout(timeout)
    id = await perform_async(request)
    ended = False
    try:
        while items := await perform_async(requests.next_items(id, limit)):
            for item in items:
                yield item
        ended = True
    finally:
        if not ended:
            await perform_async(requests.close(id))


# A hook of this worker that is called where nothing else could run it: waiting for the answer
# would be waiting for ourselves.


def _is_ours_to_run(name: str) -> bool:
    carrier = connected()
    return name in carrier.handlers and carrier.is_alone()


def _run_here(name: str, action: str, args: bytes, kwargs: bytes) -> Any:
    context = connected().handlers.new_context()
    result = _call_here(context, name, action, args, kwargs)
    return unpack(_as_remote(pack, result, "result"))


def _iterate_here(name: str, action: str, args: bytes, kwargs: bytes) -> Iterator[Any]:
    context = connected().handlers.new_context()
    items = _call_here(context, name, action, args, kwargs)
    iterator = _as_remote(iter, items)
    try:
        while True:
            item = _as_remote(context.run, next, iterator, _END)
            if item is _END:
                return
            yield unpack(_as_remote(pack, item, "item"))
    finally:
        if inspect.isgenerator(iterator):
            context.run(iterator.close)


_END = object()


def _call_here(context: Context, name: str, action: str, args: bytes, kwargs: bytes) -> Any:
    function = connected().handlers.action(name, action)
    if is_async(function):
        _refuse(name)
    result = _as_remote(context.run, function, *unpack(args), **unpack(kwargs))
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


def _as_remote(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the app's code; its failure is told as that of a hook elsewhere."""
    try:
        return function(*args, **kwargs)
    except Missing:
        raise
    except Exception as error:
        raise remote_error(error) from error
