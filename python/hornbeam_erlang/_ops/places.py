"""Places in the app's code: where an op was sent of which nobody asks, for the log if it fails.

Knows code objects and numbers. A place is looked up for each op, and told only for one that fails:
so it is a number until then.
"""

import itertools
import threading
from types import CodeType, FrameType

# How many are known; of those that were first used longest ago there is no line any more.
MOST = 16_384


class Places:
    """Places by their numbers."""

    def __init__(self) -> None:
        # What an instruction is known by, and what it takes to tell of it. A code object is kept,
        # so that no other gets its identity.
        self._numbers: dict[tuple[int, int], int] = {}
        self._places: dict[int, tuple[CodeType, int]] = {}
        self._next = itertools.count(1)
        self._lock = threading.Lock()

    def number(self, frame: FrameType) -> int:
        """Return the number of the place at which a frame is."""
        code, instruction = frame.f_code, frame.f_lasti
        number = self._numbers.get((id(code), instruction))
        return self._note(code, instruction) if number is None else number

    def _note(self, code: CodeType, instruction: int) -> int:
        with self._lock:
            number = next(self._next)
            self._places[number] = code, instruction
            self._numbers[id(code), instruction] = number
            if len(self._places) > MOST:
                oldest, instruction = self._places.pop(next(iter(self._places)))
                self._numbers.pop((id(oldest), instruction), None)
        return number

    def text(self, number: int) -> str:
        """Return a place as `file:line`."""
        if (place := self._places.get(number)) is None:
            return "an op"
        code, instruction = place
        return f"{code.co_filename}:{_line(code, instruction)}"


def _line(code: CodeType, instruction: int) -> int:
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno


PLACES = Places()
