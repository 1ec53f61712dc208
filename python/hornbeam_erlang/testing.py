"""A stand-in for Erlang in memory, for an app's own tests: no node, no worker.

    import pytest
    from hornbeam_erlang import testing

    @pytest.fixture
    def beam():
        with testing.Beam() as beam:
            yield beam

Inside of `with Beam()` the functions of `hornbeam_erlang` do what they do in a worker: the same
tests hold both to that. What the block runs calls for the worker, and inside of `connection()` for
a connection, by context variables as in a worker. What is different: there is one worker and no
other node, handlers run where they are called, and only `aio` keeps a `timeout`. What is sent
without waiting is done at once; that it failed, and nobody has asked, is said by the logger
`hornbeam.ops`.
"""

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar

from hornbeam_erlang._local.memory import Memory
from hornbeam_erlang._local.quota import Limits
from hornbeam_erlang._ops import identity
from hornbeam_erlang._ops.carrier import Carrier, install, installed, uninstall
from hornbeam_erlang._ops.handlers import Action, Handlers, Missing, remote_error, task_in
from hornbeam_erlang._ops.requests import Request
from hornbeam_erlang._ops.sent import Answer, Sent
from hornbeam_erlang._ops.tally import TALLY
from hornbeam_erlang._ops.topics import Topics
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import pack, unpack
from hornbeam_erlang.exceptions import NotFound, OpNotImplemented, OpTimeout

__all__ = ["Beam", "Connection"]

# A number is never that of another connection, also not of another `Beam`.
_numbers = itertools.count(1)

_END = object()

Kind: TypeAlias = Literal["websocket", "event_stream", "http"]

T = TypeVar("T")

_log = logging.getLogger("hornbeam.ops")


class Connection:
    """One connection of a `Beam`: `forwarded` is what went to its client as (topic, message)."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.forwarded: list[tuple[str, Any]] = []


class Beam:
    """Stand in for Erlang while the block runs.

    `queue_messages` and `queue_bytes` are the options `pubsub_queue_messages` and
    `pubsub_queue_bytes`; `limits` are the options of those names, for what may be kept.

    >>> from hornbeam_erlang import state_get, state_incr
    >>> with Beam() as beam:
    ...     with beam.connection():
    ...         during = state_incr("online", scope="connection")
    ...     during, state_get("online")
    (1, 0)

    >>> from hornbeam_erlang import state_set
    >>> with Beam(state_max_rows=1) as beam:
    ...     state_set("first", 1).result()
    ...     state_set("second", 2).result()
    Traceback (most recent call last):
        ...
    hornbeam_erlang.exceptions.LimitExceeded: the option state_max_rows of this node, which is 1, \
allows no more
    """

    def __init__(
        self, *, queue_messages: int = 1000, queue_bytes: int = 1 << 20, **limits: int
    ) -> None:
        self._connections: dict[int, Connection] = {}
        self.topics = Topics(queue_messages, queue_bytes, self._connections)
        self.handlers = Handlers()
        self._memory = Memory(self.now, self.topics.deliver, self._forward, Limits(**limits))
        self._ahead = 0.0
        self._ids = map(str, itertools.count(1))
        self._results: dict[str, Callable[[], Any]] = {}
        self._streams: dict[str, _Items] = {}
        self._before: tuple[Carrier | None, int | None] = (None, None)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        self._before = installed(), identity.current.get()
        identity.current.set(identity.WORKER)
        self.handlers.keep_context()
        install(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.topics.leave(0)
        if self._loop is not None:
            self._loop.close()
        carrier, number = self._before
        identity.current.set(number)
        if carrier is None:
            uninstall()
        else:
            install(carrier)

    # What a test prepares

    @contextlib.contextmanager
    def connection(self, kind: Kind = "websocket") -> Iterator[Connection]:
        """Run the block as the handler of a connection, which ends with the block.

        It is a WebSocket that is accepted, an "event_stream", or a request by "http" whose response
        is none, where `forward=True` is refused.

        >>> from hornbeam_erlang import publish, subscribe
        >>> with Beam() as beam, beam.connection() as connection:
        ...     subscribe("news", forward=True)
        ...     publish("news", "extra!").result(), connection.forwarded
        (1, [('news', 'extra!')])
        """
        connection = Connection(next(_numbers))
        self._connections[connection.number] = connection
        if kind == "http":
            self._memory.requests.add(connection.number)
        before = identity.current.get()
        identity.current.set(connection.number)
        try:
            yield connection
        finally:
            identity.current.set(before)  # in a fixture, not always in the context of the start
            self._memory.disconnect(connection.number)
            self._memory.requests.discard(connection.number)
            del self._connections[connection.number]
            self.topics.forget(connection.number)

    def register_function(self, name: str, function: Callable[..., Any]) -> None:
        """Offer a function for `call` and `cast`, as `hornbeam:register_function` does.

        >>> from hornbeam_erlang import call
        >>> with Beam() as beam:
        ...     beam.register_function("add", lambda a, b: a + b)
        ...     call("add", 1, 2)
        3
        """
        self._memory.functions[name] = function

    def allow_rpc(self, module: str, name: str, function: Callable[..., Any]) -> None:
        """Allow a function for `rpc_call`, as the option `rpc_allow` does, and say what it does.

        >>> from hornbeam_erlang import node, rpc_call
        >>> with Beam() as beam:
        ...     beam.allow_rpc("lists", "reverse", lambda items: items[::-1])
        ...     rpc_call(node(), "lists", "reverse", [[1, 2]])
        [2, 1]
        """
        self._memory.allowed[module, name] = function

    def advance(self, seconds: float) -> None:
        """Let that much time go by for what has a time to live: values, and messages in channels.

        >>> from hornbeam_erlang import state_get, state_set
        >>> with Beam() as beam:
        ...     state_set("soon gone", 1, ttl=30).result()
        ...     beam.advance(30)
        ...     state_get("soon gone") is None
        True
        """
        self._ahead += seconds

    def depose(self, name: str) -> None:
        """Let who leads by `leader` or `only_one` have lost the lead, which the next one gets.

        Raises `LookupError` where nobody leads.

        >>> from hornbeam_erlang import LeadershipLost, leader
        >>> async def example(beam):
        ...     async with leader("nightly"):
        ...         beam.depose("nightly")
        ...         await asyncio.sleep(60)
        >>> with Beam() as beam:
        ...     asyncio.run(example(beam))
        Traceback (most recent call last):
            ...
        hornbeam_erlang.exceptions.LeadershipLost: this worker does not lead 'nightly' any more
        """
        self._memory.depose(name)

    def metric(self, name: str, **labels: str) -> Any:
        """Return what was counted in a series of `metrics`; of a histogram how often and the sum.

        None where nothing was.

        >>> from hornbeam_erlang.metrics import Counter
        >>> with Beam() as beam:
        ...     Counter("orders", "Orders that were taken", ["kind"]).labels("book").inc(2)
        ...     beam.metric("orders_total", kind="book")
        2
        """
        TALLY.flush()
        return self._memory.metrics.value(name, labels)

    # What the public functions ask of a carrier

    def now(self) -> float:
        return time.monotonic() + self._ahead

    def caller(self) -> int:
        return identity.caller(self._connections)

    def is_alone(self) -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    def call(self, op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
        if op in ops.HOOKS:
            return self._call_hooks(op, *args)
        if op == ops.LEADER_AWAIT:
            return self._hear_standing(*args)
        return ops.result(*self._answer(op, args))

    def _hear_standing(self, ref: int, known: int, limit: int) -> Any:
        if (other := self._memory.other_standing(ref, known)) is not None:
            with contextlib.suppress(FutureTimeout):
                return other.result(limit / 1000)
        return self._standing(ref, known)

    async def _hear_standing_async(self, ref: int, known: int, limit: int) -> Any:
        if (other := self._memory.other_standing(ref, known)) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit / 1000):
                    return await asyncio.wrap_future(other)
        return self._standing(ref, known)

    def _standing(self, ref: int, known: int) -> Any:
        return ops.result(*self._answer(ops.LEADER_AWAIT, [ref, known, 0]))

    def tell(self, request: Request[T], place: int, *, is_asked: bool = False) -> Sent[T]:
        sent = Sent(self, request.op, request.read, place)
        sent.answer().set(*self._answer(request.op, request.args))
        return sent

    def ask(self, sent: Sent[Any], tell: bytes) -> bytes:
        raise AssertionError("all that is sent is done at once")

    def answer(self, op: int, place: int) -> Answer:
        return Answer(op, place, _log.error)

    def hear(self, answer: Answer, op: int, timeout: float | None) -> None:
        assert answer.reply is not None

    async def hear_async(self, answer: Answer, op: int) -> None:
        # As in a worker, the loop goes on between what an op does and its result.
        await asyncio.sleep(0)

    def _answer(self, op: int, args: Sequence[Any]) -> tuple[int, Any]:
        is_of_connection = ops.is_of_connection(op, args)
        number = self.caller() if is_of_connection else identity.WORKER
        return self._memory.answer(number, op, list(args))

    async def call_async(self, op: int, args: Sequence[Any], timeout: float | None = None) -> Any:
        if op == ops.LEADER_AWAIT:
            return await self._hear_standing_async(*args)
        if op not in ops.HOOKS:
            answer = self._answer(op, args)
            # As in a worker, the loop goes on between what an op does and its result.
            await asyncio.sleep(0)
            return ops.result(*answer)
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(args[-1] / 1000 if timeout is not None else None):
                return await self._call_hooks_async(op, *args)
        except TimeoutError:
            raise OpTimeout("no answer came in time") from None

    def _forward(self, number: int, topic: str, packed: bytes) -> None:
        self._connections[number].forwarded.append((topic, unpack(packed)))

    # Hooks

    def _call_hooks(self, op: int, *args: Any) -> Any:
        """Call an op of hooks and block; what is async runs in a loop of ours."""
        if self.is_alone():
            context = copy_context()
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(context.run, self._call_hooks, op, *args).result()
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
            return self._loop.run_until_complete(self._call_hooks_async(op, *args))

    async def _call_hooks_async(self, op: int, *args: Any) -> Any:
        match op:
            case ops.HOOKS_REGISTER | ops.HOOKS_UNREGISTER:
                return None
            case ops.HOOKS_EXECUTE:
                return await self._execute(*args[:4])
            case ops.HOOKS_EXECUTE_ASYNC:
                return await self._start(*args)
            case ops.HOOKS_AWAIT_RESULT:
                if (give := self._results.pop(args[0], None)) is None:
                    raise NotFound(_UNKNOWN)
                return give()
            case ops.HOOKS_STREAM:
                id = next(self._ids)
                context = self.handlers.new_context()
                self._streams[id] = _Items(context, self._action(*args[:2]), *args[2:])
                return id
            case ops.HOOKS_NEXT:
                return await self._next(args[0])
            case ops.HOOKS_CLOSE:
                if (items := self._streams.pop(args[0], None)) is not None:
                    await items.close()
                return None
        raise OpNotImplemented(f"this node has no op {op}")

    def _action(self, name: str, action: str) -> Action:
        if name not in self.handlers:
            raise NotFound("no handler is registered for this hook")
        try:
            return self.handlers.action(name, action)
        except Missing as error:
            raise NotFound(str(error)) from None

    async def _execute(self, name: str, action: str, args: bytes, kwargs: bytes) -> bytes:
        function = self._action(name, action)
        context = self.handlers.new_context()
        with _as_remote():
            result = context.run(function, *unpack(args), **unpack(kwargs))
            if hasattr(result, "__await__"):
                result = await _awaited(result, context)
            return pack(result, "result")

    async def _start(self, name: str, action: str, args: bytes, kwargs: bytes) -> str:
        id = next(self._ids)
        if name not in self.handlers:
            raise NotFound("no handler is registered for this hook")
        try:
            packed = await self._execute(name, action, args, kwargs)
            self._results[id] = lambda: packed
        except Exception as error:
            self._results[id] = _raiser(error)
        return id

    def _stream(self, id: str) -> "_Items":
        if (items := self._streams.get(id)) is None:
            raise NotFound(_UNKNOWN)
        return items

    async def _next(self, id: str) -> list[bytes]:
        items = self._stream(id)
        try:
            with _as_remote():
                packed = await items.next()
        except BaseException:
            self._streams.pop(id, None)
            raise
        if not packed:
            self._streams.pop(id, None)
        return packed


_UNKNOWN = "this id is unknown: its result was taken, closed or given up"


class _Items:
    """What a hook's stream yields, one at a time."""

    def __init__(self, context: Context, function: Action, args: bytes, kwargs: bytes) -> None:
        self._context = context
        self._call = (function, args, kwargs)
        self._source: Any = None

    async def next(self) -> list[bytes]:
        if self._source is None:
            function, args, kwargs = self._call
            source = self._context.run(function, *unpack(args), **unpack(kwargs))
            if hasattr(source, "__await__"):
                source = await _awaited(source, self._context)
            self._source = aiter(source) if hasattr(source, "__aiter__") else iter(source)
        if hasattr(self._source, "__anext__"):
            item = await _awaited(anext(self._source, _END), self._context)
        else:
            item = self._context.run(next, self._source, _END)
        return [] if item is _END else [pack(item, "item")]

    async def close(self) -> None:
        if hasattr(self._source, "aclose"):
            await _awaited(self._source.aclose(), self._context)
        elif hasattr(self._source, "close"):
            self._context.run(self._source.close)


def _raiser(error: Exception) -> Callable[[], Any]:
    def give() -> Any:
        raise error

    return give


@contextlib.contextmanager
def _as_remote() -> Iterator[None]:
    """Tell a failure of the app's code as that of a hook elsewhere."""
    try:
        yield
    except Exception as error:
        raise remote_error(error) from error


async def _awaited(awaitable: Awaitable[T], context: Context) -> T:
    """Wait for what a handler does, in the context of its call."""

    async def wait() -> T:
        return await awaitable

    return await task_in(context, asyncio.get_running_loop(), wait())
