"""The metrics of the node of `testing`: what was counted, in memory. Pure."""

from typing import Any

from hornbeam_erlang._wire.values import unpack

COUNTER, GAUGE, HISTOGRAM = 0, 1, 2


class Metrics:
    """What `metrics.update` has brought."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, tuple[tuple[str, str], ...]], Any] = {}

    def update(self, packed: bytes) -> None:
        for kind, name, _help, labels, _options, samples in unpack(packed):
            for values, amount in samples:
                key = name, tuple(sorted(zip(labels, values, strict=True)))
                self._samples[key] = _merged(kind, self._samples.get(key), amount)

    def value(self, name: str, labels: dict[str, str]) -> Any:
        """Return a number, of a histogram how many were observed and their sum; None if absent."""
        return self._samples.get((name, tuple(sorted(labels.items()))))


def _merged(kind: int, before: Any, amount: Any) -> Any:
    if kind == COUNTER:
        return (before or 0) + amount
    if kind == GAUGE:
        is_set, number = amount
        return number if is_set else (before or 0) + number
    counts, total = amount
    count, all_before = before or (0, 0)
    return count + sum(counts), all_before + total
