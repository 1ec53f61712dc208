"""Sums of numbers that can travel. Pure."""

import math
import sys
from typing import Any

from hornbeam_erlang._wire.values import MAX_INTEGER

# The largest int that can travel; a float is as large as it can be.
_LARGEST = (1 << (8 * MAX_INTEGER - 1)) - 1


def total(a: Any, b: Any) -> Any:
    """Return the sum of two numbers; raise `OverflowError` if it is none that can travel."""
    found = a + b
    if not (math.isfinite(found) if isinstance(found, float) else abs(found) <= _LARGEST):
        raise OverflowError
    return found


def rest(value: Any, taken: Any) -> Any:
    """Return what is left of a number, or the last one that can travel on that side."""
    try:
        return total(value, -taken)
    except OverflowError:
        is_float = isinstance(value, float) or isinstance(taken, float)
        last = sys.float_info.max if is_float else _LARGEST
        return last if max(value, -taken, key=abs) > 0 else -last
