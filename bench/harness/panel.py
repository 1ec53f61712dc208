"""What a part's picture shows: figures of its windows, each with a title and a unit.

Knows nothing of how they are drawn, so that measuring needs nothing of what drawing needs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness import report

Window = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """One figure of a window, by its key or by what it is made of, in a unit of its own."""

    title: str
    value: str | Callable[[Window], float]
    unit: float = 1.0
    generator: str = ""  # the key of the same figure of the load generator

    def of(self, windows: Sequence[Window]) -> list[float]:
        """The figures of those windows without an error that have it."""
        good = report.good(list(windows))
        if isinstance(self.value, str):
            return [w[self.value] * self.unit for w in good if self.value in w]
        return [self.value(w) * self.unit for w in good]

    def of_generator(self, windows: Sequence[Window]) -> list[float]:
        """The same of the load generator."""
        return [w[self.generator] * self.unit for w in report.good(list(windows))
                if self.generator in w]  # fmt: skip

    def titled(self, windows: Sequence[Window]) -> str:
        """The title over these windows."""
        return f"{self.title} (thin: generator)" if self.of_generator(windows) else self.title


RATE = Panel("per second", "rate")
CPU = Panel("server CPU µs", "cpu_us", generator="generator_cpu_us")
MEDIAN = Panel("p50 µs", "p50_us")
PANELS = (RATE, CPU, MEDIAN)
