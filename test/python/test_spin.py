"""How long the answer to an op is looked for before the process sleeps, by a clock of our own."""

import pytest
from hornbeam_erlang._worker import spin

OP, OTHER = 1, 2


class Clock:
    def __init__(self):
        self.now = 1_000_000_000

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(spin, "perf_counter_ns", clock)
    return clock


def perform(spinning, clock, op, took):
    """Perform an op; tell whether its answer was looked for."""
    until = spinning.until(op)
    clock.now += took
    spinning.ended(op, until)
    return until > 0


def test_an_answer_is_looked_for_a_moment(clock):
    assert spin.Spin().until(OP) == clock.now + spin.MOMENT


def test_it_is_looked_for_as_long_as_it_comes_in_that_moment(clock):
    spinning = spin.Spin()
    assert all(perform(spinning, clock, OP, spin.MOMENT) for _ in range(100))


def test_after_one_in_vain_some_ops_of_the_kind_sleep_at_once(clock):
    spinning = spin.Spin()
    late = spin.MOMENT + 1
    looked = [perform(spinning, clock, OP, late) for _ in range(2 * (spin.RESTS + 1))]
    assert looked == 2 * [True, *[False] * spin.RESTS]


def test_one_kind_of_op_says_nothing_of_another(clock):
    spinning = spin.Spin()
    assert perform(spinning, clock, OP, spin.MOMENT + 1)
    assert perform(spinning, clock, OTHER, 0)
    assert not perform(spinning, clock, OP, 0)
