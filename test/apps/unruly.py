"""An app whose metrics of prometheus_client no scraper should meet: one kind for each path."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator

from hornbeam_erlang import state_incr
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Info
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    HistogramMetricFamily,
    Metric,
    StateSetMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.samples import Sample

from gallery import respond
from measured import meet

GOOD = Counter("good_things", "Of which there is always one more")


class Collector:
    """One that somebody has written."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self.families = families

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self.families()


def families(*made: Metric) -> None:
    REGISTRY.register(Collector(lambda: made))


def sampled(name: str, kind: str, *samples: Sample) -> Metric:
    metric = Metric(name, "Of somebody's own", kind)
    metric.samples = list(samples)
    return metric


def raising() -> Iterable[Metric]:
    raise ValueError("no database")


def counter(name: str) -> None:
    Counter(name, "C").inc()


def narrow() -> None:
    Histogram("odd_narrow", "Microseconds", buckets=(0.00001, 0.0005, 1e16)).observe(0.0001)


def huge() -> None:
    Counter("odd_huge", "Near the end").inc(1.7e308)
    Gauge("odd_huge_gauge", "Near the end", multiprocess_mode="sum").set(-1.7e308)
    Histogram("odd_huge_weight", "Near the end", buckets=(1e300,)).observe(1.7e308)
    families(sampled("odd_beyond", "gauge", Sample("odd_beyond", {}, 10**400)))


def infinite() -> None:
    gauge = Gauge("odd_infinite", "Finite but for three", ["kind"], multiprocess_mode="max")
    gauge.labels("none").set(1)
    for kind in ("nan", "inf", "-inf"):
        gauge.labels(kind).set(float(kind))
    Histogram("odd_endless", "A sum that is none").observe(float("inf"))


def names() -> None:
    families(
        sampled("odd_names", "gauge", Sample('odd_names{evil="1"} 5\nevil', {}, 1)),
        sampled("odd_labels", "gauge", Sample("odd_labels", {'a="1"} 5\nevil{b': "x"}, 1)),
        sampled("odd_numbers", "gauge", Sample("odd_numbers", {"a": 1}, 1)),  # type: ignore[dict-item]
        sampled("odd_surrogates", "gauge", Sample("odd_surrogates", {"a": "\ud800"}, 1)),
    )
    gauge = Gauge("odd_values", 'H"elp\nwith \\ all\x00', ["text"])
    gauge.labels('a"b\\c\nd\x00e\U0001f600').set(1)


def kinds() -> None:
    families(
        GaugeHistogramMetricFamily("odd_sizes", "S", buckets=[("1", 1), ("+Inf", 2)], gsum_value=3),
        StateSetMetricFamily("odd_states", "S", value={"a": True, "b": False}),
        UnknownMetricFamily("odd_unknown", "U", value=4),
        HistogramMetricFamily("odd_bounds", "H", buckets=[("1", 1), ("many", 2)], sum_value=3),
        CounterMetricFamily("odd_count", "C", value=4),
        sampled("odd_untold", "histogram", Sample("odd_untold_sum", {}, 1)),
    )


def twice() -> None:
    """Have samples of one name in two families, and one family of two types."""
    is_first = state_incr("odd_twice") == 1
    if is_first:
        Counter("odd_twice", "C").inc()
        Info("odd_told", "I").info({"a": "1"})
        Histogram("odd_parts", "H").observe(1)
    else:
        Gauge("odd_twice_total", "G").set(1)
        Gauge("odd_told_info", "G").set(1)
        Gauge("odd_parts_count", "G").set(1)
    Counter("odd_kind", "C").inc() if is_first else Gauge("odd_kind", "G").set(1)


def many() -> None:
    gauge = Gauge("odd_many", "One for each client", ["client"], multiprocess_mode="sum")
    for number in range(20_001):
        gauge.labels(str(number)).set(1)


def stuck() -> Iterable[Metric]:
    threading.Event().wait()
    return ()


KINDS = {
    "narrow": narrow, "huge": huge, "infinite": infinite, "names": names, "kinds": kinds,
    "twice": twice, "many": many, "raising": lambda: REGISTRY.register(Collector(raising)),
    "stuck": lambda: REGISTRY.register(Collector(stuck)),
}  # fmt: skip


async def application(scope, receive, send):
    if scope["type"] == "http":
        make = KINDS.pop(scope["path"].strip("/"), None)
        key = scope["query_string"].decode()
        if make or not key:
            GOOD.inc()
        if make:
            make()
        if make and key:  # once the other worker has come, too
            await meet(key)
        await respond(send, str(os.getpid()).encode())
