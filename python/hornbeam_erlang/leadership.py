"""One of all: of the workers that stand for a name, one leads, on whatever node.

`only_one` runs a coroutine in exactly one worker, `leader` is what it is made of: a block that
waits until this worker leads. Who leads is bound to its process: whatever ends that (a kill, a
hang, recycling, a reload), the next one in line leads. First come, first served.

Each leader has a fencing token, an int that is greater than those of all leaders before it. What
is changed in the leader's name, a row of a database for example, can keep the greatest token that
it has seen and refuse a smaller one: then also a leader that has lost the lead and does not know
it yet, because its process or machine stood still, changes nothing.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from hornbeam_erlang._ops import identity, leader_requests
from hornbeam_erlang._ops.leader_requests import Standing
from hornbeam_erlang._ops.perform import follow, follow_async, perform, perform_async
from hornbeam_erlang._ops.requests import Plan, Request
from hornbeam_erlang._wire.values import checked_seconds, checked_text
from hornbeam_erlang.exceptions import (
    HornbeamError,
    LeadershipLost,
    LimitExceeded,
    NotFound,
    OpTimeout,
    RemoteError,
)

__all__ = ["Leadership", "OnlyOne", "leader", "only_one"]

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("hornbeam.leader")

_refs = itertools.count(1)

# How long the node is asked to wait with its answer (seconds), and then how long we wait before a
# question is put again to a node that had no room for it.
_PATIENCE = 30.0
_PAUSE = 0.1

# How long a function that has raised is not run again (seconds): longer each time.
_FIRST_REST = 1.0
_LONGEST_REST = 30.0

# What the node answers that has no room, or no time, just now.
_BUSY = (OpTimeout, RemoteError, LimitExceeded)


def leader(name: str, timeout: float | None = None) -> "Leadership":
    """Lead while a block runs: wait until this worker is the leader of that name.

    `async with` gives the fencing token. When the lead is lost the block is cancelled, and ends
    with `LeadershipLost`. Raises `OpTimeout` when this worker does not lead within `timeout`
    seconds. In a thread, `with` does the same, but cannot be cancelled: there the token is what
    protects, and `is_held` tells.

    >>> import asyncio
    >>> async def example():
    ...     async with leader("nightly") as token:
    ...         return token > 0
    >>> asyncio.run(example())
    True
    """
    return Leadership(name, timeout)


class Leadership:
    """One block's lead; see `leader`."""

    def __init__(self, name: str, timeout: float | None = None, *, is_lock: bool = False) -> None:
        self._name = checked_text(name, "name")
        self._timeout = checked_seconds(timeout)
        self._is_lock = is_lock
        self._ref = 0
        self._token = 0
        # Until when the node's last answer is good (monotonic, seconds).
        self._until: float | None = None
        self._is_lost = False
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._watcher: asyncio.Task[None] | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the block had the lead and has lost it."""
        return self._is_lost

    def is_held(self) -> bool:
        """Ask the node whether the block still has the lead; blocks."""
        asked = time.monotonic()
        try:
            standing = perform(leader_requests.await_standing(self._ref, self._token, 0))
        except HornbeamError:
            return False
        return standing.token == self._token and self._note(asked, standing)

    # As coroutines

    async def __aenter__(self) -> int:
        self._begin()
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        with identity.as_worker():
            await self._stand()
        watch = asyncio.get_running_loop().create_task
        self._watcher = watch(self._watch(), context=identity.worker_context())
        return self._token

    async def _stand(self) -> None:
        """Stand until we lead; whoever is cancelled meanwhile stands no more."""
        end = self._end()
        await follow_async(self._stood())
        try:
            while not self._token:
                await self._hear_or_stand(end)
        except BaseException:
            await follow_async(leader_requests.resigned(self._ref))
            raise

    async def _hear_or_stand(self, end: float | None) -> None:
        try:
            await self._hear(end)
        except NotFound:  # the node has forgotten us
            await follow_async(self._stood())

    async def _hear(self, end: float | None) -> None:
        """Ask once what our standing is."""
        asked, request = time.monotonic(), self._question(end)
        try:
            self._take(asked, await perform_async(request))
        except _BUSY:
            await asyncio.sleep(_PAUSE)

    async def _watch(self) -> None:
        """Cancel the block when its token is ours no more, or nobody says that it is."""
        held = self._token
        with contextlib.suppress(TimeoutError, HornbeamError):
            while self._token == held:
                async with asyncio.timeout_at(self._loop_time(self._until)):
                    await self._hear(None)
        self._is_lost = True
        assert self._task is not None
        self._task.cancel()

    def _loop_time(self, until: float | None) -> float | None:
        if until is None:
            return None
        return asyncio.get_running_loop().time() + until - time.monotonic()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._watcher is not None
        assert self._task is not None
        self._watcher.cancel()
        is_ours = self._is_lost and self._task.uncancel() <= self._cancelling
        with identity.as_worker(), contextlib.suppress(HornbeamError):
            await follow_async(leader_requests.resigned(self._ref))
        if is_ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise LeadershipLost(f"this worker does not lead {self._name!r} any more") from error

    # In a thread

    def __enter__(self) -> int:
        self._begin()
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            raise TypeError("in a coroutine it is `async with`: this one would stop the loop")
        end = self._end()
        with identity.as_worker():
            follow(self._stood())
            try:
                while not self._token:
                    self._hear_here(end)
            except BaseException:
                perform(leader_requests.resign(self._ref))
                raise
        return self._token

    def _hear_here(self, end: float | None) -> None:
        asked, request = time.monotonic(), self._question(end)
        try:
            self._take(asked, perform(request))
        except NotFound:
            follow(self._stood())
        except _BUSY:
            time.sleep(_PAUSE)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with identity.as_worker(), contextlib.suppress(HornbeamError):
            perform(leader_requests.resign(self._ref))

    # What both do

    def _begin(self) -> None:
        if self._ref:
            raise RuntimeError("a lead is for one block: call leader(…) again")
        self._ref = next(_refs)

    def _end(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout

    def _stood(self) -> Plan[None]:
        return leader_requests.stood(self._name, self._is_lock, self._ref)

    def _question(self, end: float | None) -> Request[Standing]:
        return leader_requests.await_standing(self._ref, self._token, self._patience(end))

    def _patience(self, end: float | None) -> float:
        """Return for how long to ask: for a part of what is certain, so that it stays so."""
        now = time.monotonic()
        if end is not None and now >= end:
            raise OpTimeout(f"this worker does not lead {self._name!r} within {self._timeout} s")
        left = [] if end is None else [end - now]
        certain = [] if self._until is None else [max(self._until - now, 0) / 3]
        return min([_PATIENCE, *left, *certain])

    def _take(self, asked: float, standing: Standing) -> None:
        self._token = standing.token
        self._note(asked, standing)

    def _note(self, asked: float, standing: Standing) -> bool:
        """Note for how long an answer is good, counted from when it was asked for."""
        self._until = None if standing.lease is None else asked + standing.lease
        return self._until is None or time.monotonic() < self._until


def only_one(
    name: str,
) -> Callable[[Callable[P, Awaitable[T]]], "OnlyOne[P, T]"]:
    """Let a coroutine function run in one worker of all.

    All workers begin it, and in one of them it runs; when that ends, it runs in the next one. In
    the lifespan of an app:

        @only_one("nightly")
        async def nightly() -> None:
            while True:
                await asyncio.sleep(seconds_until_three())
                await clean_up()

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            async with nightly.running():
                yield

    >>> import asyncio
    >>> @only_one("greeting")
    ... async def greet(who):
    ...     return f"Hello {who}, with a token: {greet.token > 0}"
    >>> asyncio.run(greet("Ada"))
    'Hello Ada, with a token: True'
    """
    checked_text(name, "name")

    def decorate(function: Callable[P, Awaitable[T]]) -> OnlyOne[P, T]:
        return OnlyOne(name, function)

    return decorate


class OnlyOne(Generic[P, T]):
    """A coroutine function that runs in one worker of all; see `only_one`.

    `token` is the fencing token while it runs here, else None.
    """

    def __init__(self, name: str, function: Callable[P, Awaitable[T]]) -> None:
        self.name = name
        self.token: int | None = None
        self._function = function
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", name)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Wait until this worker is the one, run the function and return its result.

        When the lead is lost the function is cancelled, and runs again when this worker is the one
        again. When it is done, or has raised, the next worker is the one.
        """
        while True:
            lead = leader(self.name)
            try:
                async with self._led(lead):
                    return await self._function(*args, **kwargs)
            except LeadershipLost:
                if not lead.is_lost:  # another lead's, inside of the function
                    raise

    @contextlib.asynccontextmanager
    async def running(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator["OnlyOne[P, T]"]:
        """Have the function run beside a block, in the worker that is the one.

        At the block's end it is cancelled, and waited for. When it has returned it is done, and
        does not run in another worker as long as this one lives. When it has raised, that is logged
        and the next worker has its turn.
        """
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._keep(*args, **kwargs), context=identity.worker_context())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _keep(self, *args: P.args, **kwargs: P.kwargs) -> None:
        rest = _FIRST_REST
        while True:
            lead = leader(self.name)
            try:
                async with self._led(lead):
                    await self._function(*args, **kwargs)
                    await asyncio.get_running_loop().create_future()
            except Exception:
                if lead.is_lost:
                    continue
                _log.exception("%s has raised, and runs again", self.name)
                await asyncio.sleep(rest)
                rest = min(2 * rest, _LONGEST_REST)

    @contextlib.asynccontextmanager
    async def _led(self, lead: Leadership) -> AsyncIterator[None]:
        async with lead as token:
            self.token = token
            _log.info("%s runs in this worker, with the token %d", self.name, token)
            try:
                yield
            finally:
                self.token = None
                if lead.is_lost:
                    _log.warning("%s ends here: this worker is not the one any more", self.name)
