"""Functions for test_calls_load.py that go wrong once, after a while."""

from itertools import count

_calls = count(1)
FAULTY_CALL = 20


def changed(value: str) -> str:
    """Return what came, but for one call."""
    return value if next(_calls) != FAULTY_CALL else value[:-1] + "."


def raises(value: str) -> str:
    """Return what came, and raise once."""
    if next(_calls) == FAULTY_CALL:
        raise ValueError("the twentieth call")
    return value


def right(value: str) -> str:
    """Return what came."""
    return value
