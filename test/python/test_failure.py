"""How an exception is described, whatever its own code does."""

import traceback

import pytest
from hornbeam_erlang._wire.text import MAX_NAME
from hornbeam_erlang._worker.failure import describe


class BrokenText(Exception):
    def __str__(self):
        raise ValueError("no text")


class ExitingText(Exception):
    def __str__(self):
        raise SystemExit(3)


class BrokenNotes(Exception):
    @property
    def __notes__(self):
        raise SystemExit("no notes")


class BrokenCause(Exception):
    @property
    def __cause__(self):
        raise ValueError("no cause")


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


def nested(depth):
    error = KeyError("deep down")
    for _ in range(depth):
        error = ExceptionGroup("g", [error])
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BrokenText(), "<ValueError in __str__>"),
        (ExitingText(), "<SystemExit in __str__>"),
        (BrokenNotes("noted"), "noted"),
        (BrokenCause("caused"), "caused"),
        (nested(5000), "g (1 sub-exception)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exception_whose_own_code_raises_is_described_all_the_same(error, message):
    failure = describe(raised(error))
    assert failure.class_.endswith(type(error).__name__)
    assert failure.message == message
    assert failure.traceback.startswith(("Traceback (most", "  + Exception Group Traceback"))
    assert "in raised" in failure.traceback


def test_endless_name_of_a_class_is_cut():
    failure = describe(type("E" * 2_000_000, (Exception,), {})())
    assert len(failure.class_) == MAX_NAME + 1


def test_exception_is_named_although_the_app_has_broken_traceback(monkeypatch):
    for name in ("format_exception", "format_tb"):
        monkeypatch.setattr(traceback, name, None)
    failure = describe(raised(KeyError("the reason")))
    assert failure.traceback == "KeyError: 'the reason'"
