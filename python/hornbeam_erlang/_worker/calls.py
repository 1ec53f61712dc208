"""Calls from Erlang and from other workers: this worker's functions, hooks and streams of items.

Knows the messages of calls, and how app code is run beside the loop; must not know pipes. Code
that is not async runs in a thread, where it cannot stop the loop. A call has a task only if it
has something to do in the loop. Each has context variables of its own, wherever it runs.
"""

import asyncio
import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from hornbeam_erlang._ops.handlers import Action, Handlers, Missing, is_async
from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.packets import Packet
from hornbeam_erlang._wire.values import pack, unpack
from hornbeam_erlang._worker.crew import Crew
from hornbeam_erlang._worker.failure import describe
from hornbeam_erlang._worker.tasks import begin, first_turn

FUNCTION, HOOK, STREAM = range(3)

OK, EXHAUSTED, RAISED, MISSING = 0, 2, 8, 9

# The status and the value of a result.
Outcome = tuple[int, Any]

# What was called: the mode, and the names of target and function.
Name = tuple[int, str, str]

# What a function has returned, and what it has raised: in a list, out of which it is taken to be
# raised again. A frame that holds the exception which it raises is a circle.
Tried = tuple[Any, list[BaseException]]

# Results that are no awaitables for sure: the question costs more than the answer of most calls.
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple})

_NO_KEYWORDS = pack({})

_END = object()


class Running:
    """One call that is not over: its task, and how many items are wanted of it."""

    __slots__ = ("bell", "cancelled", "context", "ended", "room", "task")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.task: asyncio.Task[None] | None = None
        self.cancelled = False
        self.room = 0
        self.bell: asyncio.Future[None] | None = None
        # Set when the call ends, for whoever waits for a call that has no task.
        self.ended: asyncio.Future[None] | None = None

    def cancel(self) -> None:
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()

    def add(self, items: int) -> None:
        self.room += items
        _ring(self.bell)

    def end(self) -> None:
        self.task = None
        _ring(self.ended)

    def ending(self) -> asyncio.Future[None]:
        """Return what is done once the call is over."""
        if self.task is not None:
            return self.task
        if self.ended is None:
            self.ended = asyncio.get_running_loop().create_future()
        return self.ended

    async def wait_for_room(self) -> None:
        while self.room <= 0:
            self.bell = asyncio.get_running_loop().create_future()
            await self.bell
        self.room -= 1


def _ring(bell: asyncio.Future[None] | None) -> None:
    if bell is not None and not bell.done():
        bell.set_result(None)


class _Async:
    """A call that has to be made in the loop, and whether its function is known for that."""

    __slots__ = ("args", "function", "is_known", "kwargs")

    def __init__(
        self, function: Action, args: list[Any], kwargs: dict[str, Any], *, is_known: bool
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.is_known = is_known


class Calls:
    """All calls that this worker runs."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        write: Callable[[bytes], None],
        handlers: Handlers,
    ) -> None:
        self._loop = loop
        self._write = write
        self._handlers = handlers
        self._running: dict[int, Running] = {}
        self._crew = Crew(loop)
        # What turned out to be async when it was called first: it needs no thread again.
        self._async: set[Name] = set()

    # From the BEAM

    def call(self, message: Packet) -> None:
        _, _, ref, mode, target, function, args, kwargs = message
        running = self._running[ref] = Running(self._handlers.new_context())
        name = mode, target, function
        if mode == STREAM:
            find = partial(self._find, *name)
            self._begin(ref, running, self._stream(ref, running, find, args, kwargs))
        elif name in self._async:
            self._begin(ref, running, self._called_here(name, args, kwargs))
        else:
            work = partial(_outcome, running, partial(self._find, *name), args, kwargs)
            done = partial(self._called, ref, running, name)
            self._crew.submit(partial(running.context.run, work), done)

    def more(self, message: Packet) -> None:
        if (running := self._running.get(message[2])) is not None:
            running.add(message[3])

    def cancel(self, message: Packet) -> None:
        if (running := self._running.get(message[2])) is not None:
            running.cancel()

    def ends(self) -> list[asyncio.Future[None]]:
        """Return what is done when that which runs now is over."""
        return [running.ending() for running in self._running.values()]

    # One call

    def _find(self, mode: int, target: str, function: str) -> Action:
        if mode == FUNCTION:
            return _function(target, function)
        return self._handlers.action(target, function)

    def _called(self, ref: int, running: Running, name: Name, result: Outcome | _Async) -> None:
        """Go on, in the loop, with what the thread has brought."""
        if isinstance(result, _Async):
            if result.is_known:
                self._async.add(name)
            self._begin(ref, running, _awaited(result.function, result.args, result.kwargs))
        else:
            self._end(ref, running, *result)

    def _begin(self, ref: int, running: Running, work: Coroutine[Any, Any, Outcome]) -> None:
        """Give a call its task, unless it was cancelled while a thread had it."""
        if running.cancelled:
            work.close()
            self._end(ref, running, OK, None)  # which nobody hears
        else:
            running.task = begin(self._loop, self._run(ref, running, work), running.context)

    async def _run(self, ref: int, running: Running, work: Coroutine[Any, Any, Outcome]) -> None:
        try:
            await first_turn(self._loop)
            outcome = await work
        except BaseException as error:  # the edge, see `_failed`
            outcome = _failed(error)
            work.close()  # it may never have come to that
        self._end(ref, running, *outcome)

    def _end(self, ref: int, running: Running, status: int, value: Any) -> None:
        del self._running[ref]
        running.end()
        if not running.cancelled:
            self._write(packets.encode_result(ref, status, value))

    async def _called_here(self, name: Name, args: bytes, kwargs: bytes) -> Outcome:
        """Call a function that was async the last time; it may be another one now."""
        function = self._find(*name)
        if not is_async(function):
            function = partial(self._in_thread, copy_context(), function)
        result = function(*unpack(args), **_keywords(kwargs))
        if inspect.isawaitable(result):
            result = await result
        return OK, pack(result, "result")

    async def _stream(
        self, ref: int, running: Running, find: Callable[[], Action], args: bytes, kwargs: bytes
    ) -> Outcome:
        beside = copy_context()  # a context is entered by one thread at a time
        source = await self._in_thread(beside, _call, find, args, kwargs)
        if isinstance(source, _Async):
            source = source.function(*source.args, **source.kwargs)
        if inspect.isawaitable(source):
            source = await source
        items = source if hasattr(source, "__aiter__") else self._in_steps(beside, iter(source))
        iterator = aiter(items)
        try:
            await running.wait_for_room()
            async for item in iterator:
                self._write(packets.encode_item(ref, pack(item, "item")))
                await running.wait_for_room()
        finally:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()
        return EXHAUSTED, None

    async def _in_steps(self, beside: Context, iterator: Iterator[Any]) -> AsyncIterator[Any]:
        """Yield what a plain iterator yields, each step of it taken in a thread."""
        try:
            while (item := await self._in_thread(beside, next, iterator, _END)) is not _END:
                yield item
        finally:
            if inspect.isgenerator(iterator):
                await self._in_thread(beside, iterator.close)

    async def _in_thread(
        self, context: Context, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Run a function beside the loop, to its end: a thread cannot be cancelled."""
        done: asyncio.Future[Tried] = self._loop.create_future()
        work = partial(_tried, context.run, (function, *args), kwargs)
        self._crew.submit(work, done.set_result)
        try:
            result, errors = await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            raise
        if errors:
            raise errors.pop()
        return result


# In a thread


def _outcome(
    running: Running, find: Callable[[], Action], args: bytes, kwargs: bytes
) -> Outcome | _Async:
    """Run a call as far as a thread can take it."""
    if running.cancelled:
        return OK, None  # which nobody hears
    try:
        result = _call(find, args, kwargs)
        if isinstance(result, _Async):
            return result
        if type(result) not in _PLAIN and inspect.isawaitable(result):
            return _Async(lambda: result, [], {}, is_known=False)
        return OK, pack(result, "result")
    except BaseException as error:  # the edge, see `_failed`
        return _failed(error)


def _call(find: Callable[[], Action], packed_args: bytes, packed_kwargs: bytes) -> Any:
    function, args, kwargs = find(), unpack(packed_args), _keywords(packed_kwargs)
    if is_async(function):
        return _Async(function, args, kwargs, is_known=True)
    return function(*args, **kwargs)


def _keywords(packed: bytes) -> dict[str, Any]:
    return {} if packed == _NO_KEYWORDS else unpack(packed)


def _tried(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tried:
    """Return the result or the exception; whoever waits raises it."""
    try:
        return function(*args, **kwargs), []
    except BaseException as error:
        return None, [error]


# In the loop


async def _awaited(function: Action, args: list[Any], kwargs: dict[str, Any]) -> Outcome:
    result = function(*args, **kwargs)
    if inspect.isawaitable(result):
        result = await result
    return OK, pack(result, "result")


def _failed(error: BaseException) -> Outcome:
    """Tell what app code raised. This is its outermost edge: nothing goes further, also no
    SystemExit, which is one call's and not the worker's."""
    if isinstance(error, Missing):
        return MISSING, _text(str(error))
    return RAISED, [_text(text) for text in describe(error)]


def _function(module_name: str, name: str) -> Action:
    """Return a function of a module, which is imported if it has not been."""
    module = sys.modules.get(module_name) or _import(module_name)
    function = getattr(module, name, None)
    if not callable(function):
        raise Missing(f"the module {module_name!r} has no function {name!r}")
    return function  # type: ignore[no-any-return]


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, but something that it needs is not
        raise Missing(f"there is no module {name!r}") from error
    except (TypeError, ValueError) as error:  # an empty or a relative name
        raise Missing(f"{name!r} is no module: {error}") from error


def _text(text: str) -> str:
    """Return a text of the app as UTF-8 can hold it."""
    return text.encode("utf-8", "backslashreplace").decode()
