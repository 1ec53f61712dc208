"""The load of calls believes no result: one that is wrong, or raised, stops it."""

import pytest
from conftest import BENCH

from harness.load import LoadError
from servers.calls import HornbeamCalls

FAULTS = {"changed": "badmatch", "raises": "the twentieth call"}


class WrongCalls(HornbeamCalls):
    """Calls of a function of wrong_calls.py."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self.FUNCTION = f"wrong_calls, {function}"  # type: ignore[misc]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(BENCH / "test")}


@pytest.mark.parametrize("function", FAULTS)
def test_a_wrong_result_is_an_error(function: str) -> None:
    with WrongCalls(function) as server, pytest.raises(LoadError, match=FAULTS[function]):
        server.window(size=32, callers=3, warmup=0, seconds=0.3)


def test_right_results_are_counted_and_paid_for() -> None:
    with WrongCalls("right") as server:
        figures = server.window(size=32, callers=3, warmup=0, seconds=0.3)
    assert figures["messages"] > 20
    assert figures["cpu_us_by_process"]["BEAM"] > 0
    assert figures["cpu_us_by_process"]["Python"] > 0
    assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["max_us"] * 1.02
