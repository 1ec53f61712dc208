"""What this process has counted for its metrics since it last told Erlang.

Changes of one turn of a loop go together, in one op that nobody waits for; without a loop each
goes by itself. Safe from any thread. Knows amounts by their families; must not know what a metric
is for.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from hornbeam_erlang._ops.background import soon
from hornbeam_erlang._ops.perform import tell
from hornbeam_erlang._ops.requests import Request
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import pack
from hornbeam_erlang.exceptions import NotConnected, OpTimeout


class Family(NamedTuple):
    """What docs/wire.md says of one, but for its samples."""

    kind: int
    name: str
    documentation: str
    labels: tuple[str, ...]
    options: Any
    """None, a mode, or a tuple of bounds."""


Values = tuple[str, ...]
"""Those of a series' labels."""

Merge = Callable[[Any, Any], Any]
"""Makes one amount of what there is already, or None, and what comes."""


class Tally:
    """The changes that wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changes: dict[Family, dict[Values, Any]] = {}

    def add(self, family: Family, values: Values, amount: Any, merge: Merge) -> None:
        """Note a change, which goes to Erlang soon. A metric never fails who counts."""
        with self._lock:
            is_first = not self._changes
            samples = self._changes.setdefault(family, {})
            samples[values] = merge(samples.get(values), amount)
        if is_first:
            soon(self.flush)

    def flush(self) -> None:
        """Send what waits. Where there is no node, or it does not keep up, it is lost."""
        with self._lock:
            changes, self._changes = self._changes, {}
        if changes:
            try:
                tell(_request(changes))
            except (NotConnected, OpTimeout):
                return


def _request(changes: dict[Family, dict[Values, Any]]) -> Request[None]:
    families = [[*family, list(samples.items())] for family, samples in changes.items()]
    return Request(ops.METRICS_UPDATE, [pack(_plain(families), "metrics")], lambda _: None)


def _plain(value: Any) -> Any:
    """Make lists of tuples, which would travel as tuples of Erlang."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


TALLY = Tally()
