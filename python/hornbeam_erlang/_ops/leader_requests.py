"""What standing for a name asks of Erlang: arguments checked, results read.

Pure: performs nothing.
"""

from typing import Any, NamedTuple

from hornbeam_erlang._ops.requests import Plan, Request
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import checked_text


class Standing(NamedTuple):
    """What one who stands has: a token, or 0; for how long that is certain (s, None: for good)."""

    token: int
    lease: float | None


def stand(name: str, is_lock: bool, ref: int) -> Request[None]:
    return Request(ops.LEADER_STAND, [checked_text(name, "name"), is_lock, ref], _nothing)


def await_standing(ref: int, known: int, seconds: float) -> Request[Standing]:
    """Ask for the standing as soon as its token is not the known one, or after so long."""
    limit = max(round(seconds * 1000), 0)
    return Request(ops.LEADER_AWAIT, [ref, known, limit], _standing, limit)


def resign(ref: int) -> Request[None]:
    return Request(ops.LEADER_RESIGN, [ref], _nothing)


def stood(name: str, is_lock: bool, ref: int) -> Plan[None]:
    """Stand, or not at all: who does not hear that it stands may do so all the same."""
    try:
        yield stand(name, is_lock, ref)
    except BaseException:
        yield resign(ref)
        raise


def resigned(ref: int) -> Plan[None]:
    yield resign(ref)


def _standing(answer: list[Any]) -> Standing:
    token, lease = answer
    return Standing(token, None if lease is None else lease / 1000)


def _nothing(result: Any) -> None:
    return None
