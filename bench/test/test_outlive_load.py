"""Does the load of `outlive` notice what becomes of its sockets and messages?"""

from typing import Any

from faulty import Faulty

from harness.load import window

SOCKETS = 3
LOAD = {"sockets": SOCKETS, "period": 0.02, "seconds": 1.5, "patience": 0.5}


def figures_of(fault: str) -> dict[str, Any]:
    with Faulty("wrong_echo", fault) as server:
        return window(server, "outlive", **LOAD)


def test_an_honest_echo_loses_drops_and_doubles_nothing() -> None:
    figures = figures_of("none")
    assert figures["said"] > 100
    assert (figures["lost"], figures["dropped"], figures["doubled"]) == (0, 0, 0)


def test_a_message_that_is_not_echoed_is_lost() -> None:
    assert figures_of("lost")["lost"] == SOCKETS


def test_an_echo_that_comes_twice_is_counted() -> None:
    assert figures_of("doubled")["doubled"] == SOCKETS


def test_a_client_that_is_dropped_comes_back_and_loses_one_message_each_time() -> None:
    figures = figures_of("closed")
    assert figures["codes"] == {"4001": figures["dropped"]}
    assert figures["dropped"] >= SOCKETS
    assert figures["lost"] >= figures["dropped"] - SOCKETS
    assert 0 < figures["gap"] < 1.5
