"""Counters, gauges and histograms of an app, of all workers together.

They are served with the server's own metrics, see the option `metrics`. What one worker counts and
what another does is one number, which no reload and no crash sets back; nothing is written to
files. The classes are called as those of `prometheus_client` are:

>>> from hornbeam_erlang.metrics import Counter, Gauge, Histogram
>>> ORDERS = Counter("shop_orders", "Orders that were taken", ["kind"])
>>> ORDERS.labels("book").inc()
>>> BASKETS = Gauge("shop_baskets", "Baskets with something in them")
>>> BASKETS.set(3)
>>> CHECKOUT = Histogram("shop_checkout_seconds", "From the basket to the receipt")
>>> with CHECKOUT.time():
...     pass

A change costs about what a dict does; those of one turn of the event loop go to Erlang together,
and nobody waits for that. It raises only for what is no finite number: without a server, or where
that does not keep up, it is lost. Labels are for what there is little of, such as a kind or a
status. Who takes them from what clients send would fill the server: past 10 000 series of all apps
no more are taken, and `hornbeam_app_metrics_refused_total` says how often.
"""

import contextlib
import math
import re
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Self

from hornbeam_erlang._ops.tally import TALLY, Family, Values

__all__ = ["Counter", "Gauge", "Histogram"]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED = re.compile(r"(hornbeam|erlang_vm|erlang_mnesia)_")

_COUNTER, _GAUGE, _HISTOGRAM = 0, 1, 2

MOST_LETTERS = 256
"""Of a name, as the node takes them."""

MOST_WHOLE = 2**63
"""Whole numbers below it are counted exactly."""

MOST_BYTES = 1024
"""Of a label's value, and of a documentation; what is longer is cut."""

MODES = ("sum", "min", "max", "mostrecent")

DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class _Metric:
    """A family, or one of its series."""

    def __init__(self, family: Family, values: Values = ()) -> None:
        self._family = family
        self._values = values

    def labels(self, *values: object, **named: object) -> Self:
        """Return the series that has these values, in the order of the labels or by their names.

        Raises `ValueError` where they are not those of the metric.
        """
        labels = self._family.labels
        if self._values or not labels:
            raise ValueError(f"{self._family.name}: has no labels to be given")
        if values and named:
            raise ValueError(f"{self._family.name}: labels are given in their order or by name")
        if named:
            if sorted(named) != sorted(labels):
                raise ValueError(f"{self._family.name}: its labels are {', '.join(labels)}")
            values = tuple(named[label] for label in labels)
        if len(values) != len(labels):
            raise ValueError(f"{self._family.name}: its labels are {', '.join(labels)}")
        series = object.__new__(type(self))
        _Metric.__init__(series, self._family, tuple(map(_text, values)))
        return series

    def _add(self, amount: Any, merge: Any) -> None:
        if len(self._values) != len(self._family.labels):
            raise ValueError(f"{self._family.name}: say which series, by its labels")
        TALLY.add(self._family, self._values, amount, merge)


class Counter(_Metric):
    """What only grows, such as requests or errors. Its name ends in `_total` for who scrapes.

    Raises `ValueError` for a name or a label that is none.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        namespace: str = "",
        subsystem: str = "",
        unit: str = "",
    ) -> None:
        whole = _name(name.removesuffix("_total"), namespace, subsystem, unit) + "_total"
        super().__init__(_family(_COUNTER, whole, documentation, labelnames, None))

    def inc(self, amount: float = 1) -> None:
        """Add an amount, which is not negative."""
        if not amount >= 0:
            raise ValueError(f"amount: a counter only grows, not by {amount!r}")
        self._add(_finite(amount), _sum)

    @contextlib.contextmanager
    def count_exceptions(self, exception: type[BaseException] = Exception) -> Iterator[None]:
        """Count the exceptions of a kind that leave a block or a function."""
        try:
            yield
        except exception:
            self.inc()
            raise


class Gauge(_Metric):
    """What goes up and down, such as a queue's length.

    Each worker, or process outside of them, has a value of its own, which goes with it;
    `multiprocess_mode` says what is served of those: their "sum", "min" or "max". With "mostrecent"
    there is one value, which is what anybody has set last, and stays.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        namespace: str = "",
        subsystem: str = "",
        unit: str = "",
        multiprocess_mode: str = "sum",
    ) -> None:
        if multiprocess_mode not in MODES:
            raise ValueError(f"multiprocess_mode: is one of {', '.join(MODES)}")
        whole = _name(name, namespace, subsystem, unit)
        super().__init__(_family(_GAUGE, whole, documentation, labelnames, multiprocess_mode))

    def set(self, value: float) -> None:
        """Make it a value."""
        self._add((True, _finite(value)), _changed)

    def inc(self, amount: float = 1) -> None:
        """Add an amount."""
        self._add((False, _finite(amount)), _changed)

    def dec(self, amount: float = 1) -> None:
        """Take an amount off."""
        self._add((False, -_finite(amount)), _changed)

    def set_to_current_time(self) -> None:
        """Make it the time, in seconds since 1970."""
        self.set(time.time())

    @contextlib.contextmanager
    def track_inprogress(self) -> Iterator[None]:
        """Add 1 while a block or a function runs."""
        self.inc()
        try:
            yield
        finally:
            self.dec()


class Histogram(_Metric):
    """How often something was how large, such as seconds or bytes, in classes.

    `buckets` are the upper bounds of the classes, in their order; one without a bound is added.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        namespace: str = "",
        subsystem: str = "",
        unit: str = "",
        buckets: Sequence[float] = DEFAULT_BUCKETS,
    ) -> None:
        bounds = tuple(float(bound) for bound in buckets if bound != math.inf)
        if not bounds or list(bounds) != sorted(set(bounds)) or not all(map(math.isfinite, bounds)):
            raise ValueError("buckets: are upper bounds in their order, each once")
        if "le" in labelnames:
            raise ValueError("labelnames: le is the label of a histogram's buckets")
        whole = _name(name, namespace, subsystem, unit)
        super().__init__(_family(_HISTOGRAM, whole, documentation, labelnames, bounds))

    def observe(self, amount: float) -> None:
        """Count a value."""
        value = _finite(amount)
        bounds = self._family.options
        place = bisect_left(bounds, value)

        def merge(before: Any, _amount: Any) -> Any:
            counts, total = before or ([0] * (len(bounds) + 1), 0)
            counts[place] += 1
            return counts, _plus(total, value)

        self._add(value, merge)

    @contextlib.contextmanager
    def time(self) -> Iterator[None]:
        """Count the seconds that a block or a function takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(max(0.0, time.perf_counter() - began))


def _sum(before: float | None, amount: float) -> float:
    return amount if before is None else _plus(before, amount)


def _changed(before: tuple[bool, float] | None, change: tuple[bool, float]) -> tuple[bool, float]:
    is_set, amount = change
    if before is None or is_set:
        return change
    return before[0], _plus(before[1], amount)


def _plus(one: float, other: float) -> float:
    """Return a sum; what would be too large stays as it was, as in the node."""
    total = one + other
    return total if math.isfinite(total) else one


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"a metric is a finite number, not {value!r:.50}")
    return value if isinstance(value, int) and abs(value) < MOST_WHOLE else number


def _text(value: object) -> str:
    """Return a text as UTF-8 can hold it, cut where the node would not take it."""
    data = str(value).encode("utf-8", "backslashreplace")
    return data[:MOST_BYTES].decode("utf-8", "ignore")


def _name(name: str, namespace: str, subsystem: str, unit: str) -> str:
    whole = "_".join(part for part in (namespace, subsystem, name) if part)
    return whole if not unit or whole.endswith(f"_{unit}") else f"{whole}_{unit}"


def _family(
    kind: int, name: str, documentation: str, labelnames: Sequence[str], options: Any
) -> Family:
    if not _NAME.fullmatch(name) or len(name) > MOST_LETTERS:
        raise ValueError(f"name: {name!r} is no name of a metric")
    if _RESERVED.match(name):
        raise ValueError(f"name: {name!r} begins as the server's own do")
    labels = (labelnames,) if isinstance(labelnames, str) else tuple(labelnames)
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise ValueError(f"labelnames: {label!r} is no name of a label")
    if len(set(labels)) != len(labels):
        raise ValueError("labelnames: each is there once")
    return Family(kind, name, _text(documentation), labels, options)
