"""Counters, gauges and histograms of `hornbeam_erlang.metrics`, by the node of `testing`."""

import asyncio
import math
import threading

import pytest
from hornbeam_erlang._ops.tally import TALLY
from hornbeam_erlang.metrics import Counter, Gauge, Histogram
from hornbeam_erlang.testing import Beam


@pytest.fixture(autouse=True)
def beam():
    TALLY.flush()
    with Beam() as beam:
        yield beam


def test_a_counter_counts_by_its_labels_in_order_or_by_name(beam):
    orders = Counter("orders", "…", ["kind", "shop"])
    orders.labels("book", 1).inc()
    orders.labels(shop="1", kind="book").inc(2.5)
    assert beam.metric("orders_total", kind="book", shop="1") == 3.5


def test_a_counters_name_ends_in_total_once(beam):
    Counter("orders_total", "…", namespace="shop", subsystem="web").inc()
    assert beam.metric("shop_web_orders_total") == 1


def test_a_unit_stands_in_the_name_once(beam):
    Counter("sent", "…", unit="bytes").inc()
    Gauge("kept_bytes", "…", unit="bytes").set(1)
    assert (beam.metric("sent_bytes_total"), beam.metric("kept_bytes")) == (1, 1)


def test_a_gauge_goes_up_and_down_and_is_set(beam):
    gauge = Gauge("baskets", "…")
    gauge.inc(3)
    gauge.dec()
    assert beam.metric("baskets") == 2
    gauge.set(10)
    gauge.inc()
    assert beam.metric("baskets") == 11
    with gauge.track_inprogress():
        assert beam.metric("baskets") == 12
    assert beam.metric("baskets") == 11


def test_a_histogram_counts_values_up_to_their_bound(beam):
    weight = Histogram("weight", "…", buckets=[1, 2, math.inf])
    for value in (1, 1.5, 99):
        weight.observe(value)
    assert beam.metric("weight") == (3, 101.5)


def test_exceptions_and_times_are_counted(beam):
    failures, seconds = Counter("failures", "…"), Histogram("seconds", "…")
    with pytest.raises(KeyError), failures.count_exceptions(KeyError), seconds.time():
        raise KeyError("asked for")
    assert beam.metric("failures_total") == 1
    assert beam.metric("seconds")[0] == 1


async def changes_of_a_turn():
    counter = Counter("turns", "…")
    for _ in range(100):
        counter.inc()
    waiting = [dict(samples) for samples in TALLY._changes.values()]
    await asyncio.sleep(0)
    return waiting, TALLY._changes


def test_changes_of_one_turn_go_together(beam):
    waiting, left = asyncio.run(changes_of_a_turn())
    assert waiting == [{(): 100}]
    assert left == {}
    assert beam.metric("turns_total") == 100


def test_threads_count_together(beam):
    counter = Counter("threads", "…")
    threads = [
        threading.Thread(target=lambda: [counter.inc() for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert beam.metric("threads_total") == 2000


@pytest.mark.parametrize(
    "name", ["", "1st", "a b", "a-b", "ü", "hornbeam_x", "erlang_vm_x", "x" * 300, 'a"']
)
def test_a_bad_name_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        Gauge(name, "…")


@pytest.mark.parametrize("labels", [["a-b"], ["__a"], ["a", "a"], [""], ["1"]])
def test_a_bad_label_is_refused(labels):
    with pytest.raises(ValueError, match="labelnames"):
        Counter("orders", "…", labels)


@pytest.mark.parametrize("buckets", [[], [2, 1], [1, 1], [math.nan], [-math.inf, 1], [math.inf]])
def test_bad_buckets_are_refused(buckets):
    with pytest.raises(ValueError, match="buckets"):
        Histogram("weight", "…", buckets=buckets)


def test_a_histogram_has_a_label_le_already():
    with pytest.raises(ValueError, match="le is"):
        Histogram("weight", "…", ["le"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_what_is_no_finite_number_is_refused(value):
    for change in (Gauge("g", "…").set, Gauge("g", "…").inc, Histogram("h", "…").observe):
        with pytest.raises(ValueError, match="finite"):
            change(value)


def test_what_would_be_too_large_stays_as_it_was(beam):
    def twice():
        gauge, counter, histogram = Gauge("g", "…"), Counter("c", "…"), Histogram("h", "…")
        for _ in range(2):
            gauge.inc(1.7e308)
            counter.inc(1.7e308)
            histogram.observe(1.7e308)

    async def in_one_turn():
        twice()

    asyncio.run(in_one_turn())
    assert beam.metric("g") == beam.metric("c_total") == 1.7e308
    assert beam.metric("h") == (2, 1.7e308)


def test_whole_numbers_are_exact_as_far_as_the_wire_has_them(beam):
    Counter("c", "…").inc(2**63 - 1)
    Gauge("g", "…").set(2**80)
    assert (beam.metric("c_total"), beam.metric("g")) == (2**63 - 1, 2.0**80)


def test_a_label_of_whatever_a_client_has_sent_is_counted(beam):
    names = Counter("names", 'of \ud800 "x"', ["of"])
    names.labels("\udcff").inc()
    names.labels("é" * 2000).inc()
    assert beam.metric("names_total", of="\\udcff") == 1
    assert beam.metric("names_total", of="é" * 512) == 1


@pytest.mark.parametrize("value", [-1, -0.5, math.nan, -math.inf])
def test_a_counter_only_grows(value):
    with pytest.raises(ValueError, match="only grows"):
        Counter("c", "…").inc(value)


def test_labels_have_to_be_those_of_the_metric():
    orders = Counter("orders", "…", ["kind"])
    for wrong in (
        orders.inc,
        orders.labels,
        lambda: orders.labels("a", "b"),
        lambda: orders.labels(shop="a"),
        lambda: orders.labels("a", kind="a"),
        lambda: orders.labels("a").labels("a"),
        lambda: Counter("all", "…").labels("a"),
    ):
        with pytest.raises(ValueError, match="label"):
            wrong()


def test_a_gauge_has_a_mode_that_there_is():
    with pytest.raises(ValueError, match="multiprocess_mode"):
        Gauge("g", "…", multiprocess_mode="all")


def test_who_counts_without_a_node_goes_on():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hornbeam_erlang._ops.carrier._carrier", None)
        patch.setattr("hornbeam_erlang._ops.carrier._look_outside", None)
        Counter("alone", "…").inc()
