"""Ops that were sent, and what may be asked of them afterwards.

Knows that somebody carries ops (`Sender`); must not know how. Safe from any thread.
"""

import asyncio
import concurrent.futures
import operator
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol, TypeVar, cast

from hornbeam_erlang._ops.places import PLACES
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import checked_seconds
from hornbeam_erlang.exceptions import ConnectionEnded

T = TypeVar("T")

# Whoever waits for a reply, in a loop or in a thread.
Waiter = asyncio.Future[Any] | concurrent.futures.Future[Any]


class Answer:
    """What comes back for one op that was sent: its status and its value, once they are there."""

    __slots__ = ("_log", "_op", "_place", "_waiters", "heard", "reply")

    def __init__(self, op: int, place: int, log: Callable[[str], None]) -> None:
        self._op = op
        self._place = place
        self._log = log
        self._waiters: list[Waiter] = []
        self.reply: tuple[int, Any] | None = None
        self.heard = False

    def set(self, status: int, value: Any) -> None:
        """Note what has come, and wake who waits for it."""
        self.reply = status, value
        while self._waiters:
            _wake(self._waiters.pop())

    def add_waiter(self, waiter: Waiter) -> None:
        """Let a future have a result once something has come."""
        self._waiters.append(waiter)
        if self.reply is not None:  # meanwhile, in another thread
            _wake(waiter)

    def fail(self, error: Exception) -> None:
        """Tell those who wait that nothing will come."""
        for waiter in self._waiters:
            if isinstance(waiter, concurrent.futures.Future) and not waiter.done():
                waiter.set_exception(error)

    def __del__(self) -> None:
        if self.reply is not None and self.reply[0] != 0 and not self.heard:
            log_failure(self._log, self._place, self._op, *self.reply)


def _wake(waiter: Waiter) -> None:
    if not waiter.done():
        try:
            waiter.set_result(True)
        except concurrent.futures.InvalidStateError:  # cancelled by its own loop just now
            return


def log_failure(log: Callable[[str], None], place: int, op: int, status: int, value: Any) -> None:
    """Say in the log what has become of an op of which nobody asks."""
    try:
        ops.result(status, value)
    except ConnectionEnded:
        return  # it was for a client that is gone, and so is what it was to change
    except Exception as error:
        name = ops.NAMES.get(op, str(op))
        log(f"{PLACES.text(place)}: {name} has failed: {type(error).__name__}: {error}")


class Sender(Protocol):
    """Who has sent an op, and hears what becomes of it."""

    def ask(self, sent: "Sent[Any]", tell: bytes) -> bytes:
        """Return the op to write in the place of a `tell`, so that the answer will come."""

    def answer(self, op: int, place: int) -> Answer:
        """Return an answer that has not come yet."""

    def hear(self, answer: Answer, op: int, timeout: float | None) -> None:
        """Block until an answer has come; raises `OpTimeout`. None is the carrier's own time."""

    async def hear_async(self, answer: Answer, op: int) -> None:
        """Wait until an answer has come; raises `OpTimeout`."""


# Reentrant, because a finalizer may ask inside of `answer`.
_asking = threading.RLock()


class Sent(Coroutine[Any, Any, T]):
    """What has been sent to Erlang without waiting for the answer.

    Who wants to know the answer awaits it or asks for it; who does not drops what is here, and
    Erlang answers nothing. An exception goes to who asks; if nobody does, it is in the log with
    the line that has sent the op.

    Where a plain value was expected, it asks by itself: in comparisons, in arithmetic, as a
    condition, by `int()`, `str()`, in a format and when it is pickled. That blocks, as `result()`
    does. Its `repr` never asks. As a key of a dict or in a set it is itself, not its answer, and
    `json` knows nothing of it: there, take `result()`.

    >>> publish("news", "extra!").result()
    0
    >>> publish("news", "extra!") == 0, f"{publish('news', 'more!')} readers"
    (True, '0 readers')
    """

    __slots__ = ("_answer", "_place", "_read", "_sender", "_steps", "op")

    def __init__(self, sender: Sender, op: int, read: Callable[[Any], T], place: int) -> None:
        self._sender = sender
        self.op = op
        self._read = read
        self._place = place
        self._answer: Answer | None = None

    def result(self, timeout: float | None = None) -> T:
        """Return the answer, for which it blocks; raises what has gone wrong.

        Raises `OpTimeout` past `timeout` seconds, or past the option `op_timeout` of the node.
        """
        seconds = checked_seconds(timeout)
        answer = self.answer()
        if answer.reply is None:
            self._sender.hear(answer, self.op, seconds)
        return self._heard(answer)

    async def _wait(self) -> T:
        answer = self.answer()
        await self._sender.hear_async(answer, self.op)
        return self._heard(answer)

    def answer(self) -> Answer:
        """Return the answer, whether it has come or not."""
        if self._answer is None:
            with _asking:
                if self._answer is None:
                    self._answer = self._sender.answer(self.op, self._place)
        return self._answer

    @property
    def is_asked(self) -> bool:
        """Tell whether an answer will come, or has."""
        return self._answer is not None

    def _heard(self, answer: Answer) -> T:
        answer.heard = True
        assert answer.reply is not None
        return self._read(ops.result(*answer.reply))

    def ask(self, tell: bytes) -> bytes:
        """Return the op to write in the place of a `tell`: somebody may ask for the answer."""
        return self._sender.ask(self, tell)

    # As a coroutine, so that `asyncio.create_task` takes it

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()

    def send(self, value: Any) -> Any:
        return self._begun().send(value)

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:
        error = value if isinstance(value, BaseException) else kind
        try:
            return self._begun().throw(error)
        finally:
            del error, kind, value  # which hold what is raised, and that this frame

    def close(self) -> None:
        if (steps := getattr(self, "_steps", None)) is not None:
            steps.close()

    def _begun(self) -> Coroutine[Any, Any, T]:
        try:
            return self._steps
        except AttributeError:
            self._steps: Coroutine[Any, Any, T] = self._wait()
            return self._steps

    # As the answer, where that was expected

    def __repr__(self) -> str:
        name = ops.NAMES.get(self.op, str(self.op))
        if self._answer is None or self._answer.reply is None:
            return f"<{name}: sent>"
        status, value = self._answer.reply
        return f"<{name}: {self._read(value)!r}>" if status == 0 else f"<{name}: failed>"

    __hash__ = object.__hash__

    def __reduce__(self) -> Any:
        """Be pickled, and copied, as the answer."""
        return _as_it_is, (self.result(),)

    def __str__(self) -> str:
        return str(self.result())

    def __format__(self, spec: str) -> str:
        return format(self.result(), spec)

    def __bool__(self) -> bool:
        return bool(self.result())

    def __int__(self) -> int:
        return int(self.result())  # type: ignore[call-overload, no-any-return]

    def __index__(self) -> int:
        return operator.index(self.result())  # type: ignore[arg-type]

    def __float__(self) -> float:
        return float(self.result())  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return self is other or self.result() == _value(other)

    def __lt__(self, other: Any) -> bool:
        return cast(bool, self.result() < _value(other))

    def __le__(self, other: Any) -> bool:
        return cast(bool, self.result() <= _value(other))

    def __gt__(self, other: Any) -> bool:
        return cast(bool, self.result() > _value(other))

    def __ge__(self, other: Any) -> bool:
        return cast(bool, self.result() >= _value(other))

    def __add__(self, other: "T | Sent[T]") -> T:
        return cast(T, self.result() + _value(other))

    def __radd__(self, other: T) -> T:
        return cast(T, cast(Any, other) + self.result())

    def __sub__(self, other: "T | Sent[T]") -> T:
        return cast(T, self.result() - _value(other))

    def __rsub__(self, other: T) -> T:
        return cast(T, cast(Any, other) - self.result())

    def __mul__(self, other: "T | Sent[T]") -> T:
        return cast(T, self.result() * _value(other))

    def __rmul__(self, other: T) -> T:
        return cast(T, cast(Any, other) * self.result())

    def __truediv__(self, other: Any) -> Any:
        return self.result() / _value(other)

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.result()


def _as_it_is(answer: Any) -> Any:
    return answer


def _value(other: Any) -> Any:
    return other.result() if isinstance(other, Sent) else other
