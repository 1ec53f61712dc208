"""Who is present in a topic as one who watches knows it, whatever is told twice or was lost.

Knows the shapes in which the node tells of it (docs/guide/presence.md). Pure.
"""

from collections.abc import Iterable
from typing import Any, TypedDict

TOPICS = "hornbeam:presence:"
"""What the topics begin with by which those who watch are told."""

Meta = dict[str, Any]


class Metas(TypedDict):
    """What is present under one key: a meta for each connection."""

    metas: list[Meta]


Members = dict[str, Metas]


class Diff(TypedDict):
    """Who has come and who has left; whoever has another meta now has done both."""

    joins: Members
    leaves: Members


class Roster:
    """Those who are known to be present, by their refs."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, Meta]] = {}

    def replace(self, members: Members) -> Diff:
        """Note who is present now; return what has changed by that."""
        now = {meta["phx_ref"]: (key, meta) for key, meta in _each(members)}
        left = [found for ref, found in self._known.items() if ref not in now]
        came = [found for ref, found in now.items() if self._is_news(ref, found[1])]
        self._known = now
        return {"joins": _by_key(came), "leaves": _by_key(left)}

    def hear(self, message: dict[str, Any]) -> Diff:
        """Note what the node has told; return what of it is new."""
        payload = message["payload"]
        if message["event"] == "presence_state":
            return self.replace(payload)
        came = [each for each in _each(payload["joins"]) if self._is_news(_ref(each), each[1])]
        self._known |= {_ref(each): each for each in came}
        leaving = map(_ref, _each(payload["leaves"]))
        left = [self._known.pop(ref) for ref in leaving if ref in self._known]
        return {"joins": _by_key(came), "leaves": _by_key(left)}

    def _is_news(self, ref: str, meta: Meta) -> bool:
        known = self._known.get(ref)
        return known is None or _given(known[1]) != _given(meta)


def _ref(member: tuple[str, Meta]) -> str:
    return member[1]["phx_ref"]  # type: ignore[no-any-return]


def _given(meta: Meta) -> Meta:
    """Return what the app has given; the ref before depends on what was told before."""
    return {name: value for name, value in meta.items() if name != "phx_ref_prev"}


def _each(members: Members) -> Iterable[tuple[str, Meta]]:
    return ((key, meta) for key, found in members.items() for meta in found["metas"])


def _by_key(found: Iterable[tuple[str, Meta]]) -> Members:
    members: Members = {}
    for key, meta in found:
        members.setdefault(key, {"metas": []})["metas"].append(meta)
    return members
