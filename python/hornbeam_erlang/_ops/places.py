"""Places in the app's code: where an op was sent of which nobody asks, for the log if it fails.

Knows code objects and numbers. A place is looked up for each op, and told only for one that fails:
so it is a number until then. No code is kept: an app may run some that it makes for each request.
"""

import itertools
import threading
import weakref
from types import CodeType, FrameType

# How many are known; of those that were first used longest ago there is no line any more.
MOST = 16_384


class Places:
    """Places by their numbers."""

    def __init__(self) -> None:
        # The numbers of a code object's instructions, by its identity, while it lives.
        self._numbers: dict[int, dict[int, int]] = {}
        self._codes: dict[int, weakref.ref[CodeType]] = {}
        # Each place as it is told, and what its number is known by.
        self._places: dict[int, tuple[str, int, int]] = {}
        self._next = itertools.count(1)
        # Reentrant, because a finalizer may send something inside of `_note`.
        self._lock = threading.RLock()

    def number(self, frame: FrameType) -> int:
        """Return the number of the place at which a frame is."""
        code = frame.f_code
        try:
            return self._numbers[id(code)][frame.f_lasti]
        except KeyError:
            return self._note(code, frame.f_lasti, frame.f_lineno)

    def _note(self, code: CodeType, instruction: int, line: int | None) -> int:
        identity = id(code)
        with self._lock:
            number = next(self._next)
            if identity not in self._codes:
                self._codes[identity] = weakref.ref(code, lambda _: self._forget(identity))
            self._numbers.setdefault(identity, {})[instruction] = number
            text = f"{code.co_filename}:{line or code.co_firstlineno}"
            self._places[number] = text, identity, instruction
            if len(self._places) > MOST:
                self._drop_oldest()
        return number

    def _drop_oldest(self) -> None:
        number = next(iter(self._places))
        _, identity, instruction = self._places.pop(number)
        numbers = self._numbers.get(identity, {})
        if numbers.get(instruction) == number:
            del numbers[instruction]

    def _forget(self, identity: int) -> None:
        """Know another code object, which may have the identity of one that is gone, anew."""
        self._numbers.pop(identity, None)
        self._codes.pop(identity, None)

    def text(self, number: int) -> str:
        """Return a place as `file:line`."""
        return self._places[number][0] if number in self._places else "an op"


PLACES = Places()
