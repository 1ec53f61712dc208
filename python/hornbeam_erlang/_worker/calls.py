"""Calls from Erlang and from other workers: this worker's functions, hooks and streams of items.

Knows the messages of calls, and how app code is run beside the loop; must not know pipes. Code
that is not async runs in a thread, where it cannot stop the loop.
"""

import asyncio
import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hornbeam_erlang._handlers import Action, Handlers, Missing, is_async
from hornbeam_erlang._values import pack, unpack
from hornbeam_erlang._worker import wire
from hornbeam_erlang._worker.failure import describe
from hornbeam_erlang._worker.transport import Message

FUNCTION, HOOK, STREAM = range(3)

OK, EXHAUSTED, RAISED, MISSING = 0, 2, 8, 9

_END = object()


class Running:
    """One call that is not over: its task, and how many items are wanted of it."""

    __slots__ = ("bell", "cancelled", "room", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.cancelled = False
        self.room = 0
        self.bell: asyncio.Future[None] | None = None

    def add(self, items: int) -> None:
        self.room += items
        if self.bell is not None and not self.bell.done():
            self.bell.set_result(None)

    async def wait_for_room(self) -> None:
        while self.room <= 0:
            self.bell = asyncio.get_running_loop().create_future()
            await self.bell
        self.room -= 1


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
        self._threads = ThreadPoolExecutor(thread_name_prefix="hornbeam-call")

    # From the BEAM

    def call(self, message: Message) -> None:
        _, _, ref, mode, target, function, args, kwargs = message
        running = self._running[ref] = Running()
        running.task = self._loop.create_task(
            self._run(ref, running, mode, (target, function, args, kwargs))
        )

    def more(self, message: Message) -> None:
        if (running := self._running.get(message[2])) is not None:
            running.add(message[3])

    def cancel(self, message: Message) -> None:
        running = self._running.get(message[2])
        if running is not None and running.task is not None:
            running.cancelled = True
            running.task.cancel()

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks of what still runs."""
        return [running.task for running in self._running.values() if running.task is not None]

    # One call

    async def _run(
        self, ref: int, running: Running, mode: int, what: tuple[str, str, bytes, bytes]
    ) -> None:
        """Run app code. Here is its outermost edge: nothing that it raises goes further."""
        try:
            status, value = await self._outcome(ref, running, mode, what)
        except Missing as error:
            status, value = MISSING, _text(str(error))
        except BaseException as error:  # also SystemExit: it is one call's, not the worker's
            status, value = RAISED, [_text(text) for text in describe(error)]
        del self._running[ref]
        running.task = None
        if not running.cancelled:
            self._write(wire.encode_result(ref, status, value))

    async def _outcome(
        self, ref: int, running: Running, mode: int, what: tuple[str, str, bytes, bytes]
    ) -> tuple[int, Any]:
        target, function, args, kwargs = what
        find = (
            (lambda: _function(target, function))
            if mode == FUNCTION
            else (lambda: self._handlers.action(target, function))
        )
        if mode == STREAM:
            await self._stream(ref, running, await self._called(find, args, kwargs))
            return EXHAUSTED, None
        result = await self._called(find, args, kwargs)
        return OK, pack(result, "result")

    async def _called(self, find: Callable[[], Action], args: bytes, kwargs: bytes) -> Any:
        """Find the function and call it, where it belongs; return its result."""
        result = await self._in_thread(_call, find, args, kwargs)
        if isinstance(result, _Async):
            result = result.function(*result.args, **result.kwargs)
        return await result if inspect.isawaitable(result) else result

    async def _stream(self, ref: int, running: Running, source: Any) -> None:
        items = source if hasattr(source, "__aiter__") else self._in_steps(iter(source))
        iterator = aiter(items)
        try:
            await running.wait_for_room()
            async for item in iterator:
                self._write(wire.encode_item(ref, pack(item, "item")))
                await running.wait_for_room()
        finally:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()

    async def _in_steps(self, iterator: Iterator[Any]) -> AsyncIterator[Any]:
        """Yield what a plain iterator yields, each step of it taken in a thread."""
        try:
            while (item := await self._in_thread(next, iterator, _END)) is not _END:
                yield item
        finally:
            if inspect.isgenerator(iterator):
                await self._in_thread(iterator.close)

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function beside the loop, to its end: a thread cannot be cancelled."""
        running = self._loop.run_in_executor(self._threads, function, *args)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            running.cancelled() or running.exception()  # nobody else looks at it
            raise


class _Async:
    """A call that has to be made in the loop."""

    __slots__ = ("args", "function", "kwargs")

    def __init__(self, function: Action, args: list[Any], kwargs: dict[str, Any]) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs


def _call(find: Callable[[], Action], packed_args: bytes, packed_kwargs: bytes) -> Any:
    function, args, kwargs = find(), unpack(packed_args), unpack(packed_kwargs)
    if is_async(function):
        return _Async(function, args, kwargs)
    return function(*args, **kwargs)


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
