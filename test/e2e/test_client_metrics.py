"""Metrics of prometheus_client in the workers: one scrape for all, and no counter goes back."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from harness import DEADLINE, eventually
from scrapes import HERE, OPEN_METRICS, Scrape

APP = "registered:application"


@pytest.fixture
def server(serve):
    return serve(APP, fresh=True, metrics=HERE, workers=2)


@pytest.mark.parametrize("accept", ["text/plain", OPEN_METRICS])
def test_the_registries_of_all_workers_are_one(server, accept):
    pids = [int(httpx.get(server.http).text) for _ in range(8)]
    scrape = Scrape(server, accept)
    assert scrape.value("lib_orders_total", kind="book") == 8
    assert scrape.value("lib_weight_count", by="us") == 8
    assert scrape.value("lib_weight_bucket", by="us", le="0.5") == 0
    assert scrape.value("lib_weight_bucket", by="us", le="1.0") == 8
    assert scrape.value("lib_weight_sum", by="us") == pytest.approx(5.6)
    assert (scrape.value("lib_size_count"), scrape.value("lib_size_sum")) == (8, 24)
    assert scrape.value("lib_sum") == 2 * len(set(pids))
    assert scrape.value("lib_highest") == max(pids)
    assert scrape.sum("lib_each", worker="mine") == len(set(pids))
    assert scrape.value("lib_build_info", version="1") == 1
    assert len(scrape.of("process_resident_memory_bytes")) == 2
    assert not [name for name, _ in scrape if name.endswith("_created")]


def test_what_a_dead_worker_had_stays(server):
    counted = 0
    for how in ("killed", "reloaded"):
        for _ in range(3):
            httpx.get(server.http)
        counted += 3
        assert Scrape(server).value("lib_orders_total", kind="book") == counted
        if how == "killed":
            for pid in server.worker_pids():
                os.kill(pid, signal.SIGKILL)
        else:
            assert server.node.eval("hornbeam:reload()", 60) == "ok"
        eventually(lambda: Scrape(server).sum("hornbeam_worker_up") == 2)
        scrape = Scrape(server)
        assert scrape.value("lib_orders_total", kind="book") == counted
        assert scrape.value("lib_weight_bucket", by="us", le="+Inf") == counted
    assert Scrape(server).value("lib_sum") == 0


def test_what_was_counted_since_the_last_scrape_stays_when_workers_retire(server):
    for _ in range(3):
        for _ in range(4):
            httpx.get(server.http)
        assert server.node.eval("hornbeam:reload()", 60) == "ok"
    eventually(lambda: Scrape(server).value("hornbeam_worker_ends_total", mount="/",
                                            reason="reloaded") == 6)  # fmt: skip
    assert Scrape(server).value("lib_orders_total", kind="book") == 12


def test_recycled_workers_lose_next_to_nothing(serve):
    server = serve(APP, fresh=True, metrics=HERE, workers=2, max_requests=20)
    answered = 0
    with httpx.Client(base_url=server.http) as client:

        def are_recycled() -> bool:
            nonlocal answered
            for _ in range(20):
                answered += client.get("/").status_code == 200
            return server.info()["ended"].get("recycled", 0) >= 8

        eventually(are_recycled)
    counted = Scrape(server).value("lib_orders_total", kind="book")
    assert 0.9 * answered <= counted <= answered


def test_a_worker_that_stands_still_counts_as_before(server):
    httpx.get(server.http)
    assert Scrape(server).value("lib_orders_total", kind="book") == 1
    pids = server.worker_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert Scrape(server).value("lib_orders_total", kind="book") == 1
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_apps_without_the_library_have_nothing_of_it(serve):
    server = serve("settings:application", metrics=HERE)
    httpx.get(server.http)
    assert not [name for name, _ in Scrape(server) if name.startswith(("python_", "process_"))]


# What nobody should have in a registry, and some do. Whatever it is, the scrape is one that its
# parsers read, has the rest, and the server lives.


@pytest.fixture
def unruly(serve):
    server = serve("unruly:application", fresh=True, metrics=HERE, workers=2)
    yield server
    assert server.node.eval("erlang:is_pid(whereis(hornbeam_client_metrics))") is True


def by_both(server, kind: str) -> None:
    """Ask each of two workers: the first waits until the other one has been asked, too."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.get, f"{server.http}/{kind}?{kind}", timeout=DEADLINE)
        eventually(lambda: httpx.get(f"{server.http}/{kind}?{kind}") and first.done())
        assert first.result().status_code == 200


def scrapes(server) -> list[Scrape]:
    """Scrape as often as would use up a supervisor's restarts, in both formats."""
    made = [Scrape(server, accept) for accept in ["text/plain", OPEN_METRICS] * 6]
    assert {scrape.value("good_things_total") for scrape in made} == {2}
    return made[:2]


def test_bounds_may_be_as_small_and_as_large_as_a_float(unruly):
    by_both(unruly, "narrow")
    for scrape in scrapes(unruly):
        buckets = scrape.of("odd_narrow_bucket").items()
        assert {dict(labels)["le"]: value for labels, value in buckets} == {
            "0.00001": 0, "0.0005": 2, "1.0e16": 2, "+Inf": 2,
        }  # fmt: skip


def test_a_sum_that_would_be_too_large_stays_as_it_was(unruly):
    by_both(unruly, "huge")
    for scrape in scrapes(unruly):
        assert scrape.value("odd_huge_total") == 1.7e308
        assert scrape.value("odd_huge_gauge") == -1.7e308
        assert scrape.value("odd_huge_weight_sum") == 1.7e308
        assert scrape.value("odd_huge_weight_bucket", le="1.0e300") == 0
        assert scrape.value("odd_huge_weight_count") == 2
        assert not scrape.of("odd_beyond")


def test_what_is_no_finite_number_is_left_out(unruly):
    by_both(unruly, "infinite")
    for scrape in scrapes(unruly):
        assert scrape.of("odd_infinite") == {frozenset({("kind", "none")}): 1}
        assert scrape.value("odd_endless_count") == 2


def test_names_that_are_none_are_left_out_and_values_are_quoted(unruly):
    by_both(unruly, "names")
    for scrape in scrapes(unruly):
        names = {name for name, _ in scrape if name.startswith("odd")}
        assert names == {"odd_numbers", "odd_surrogates", "odd_values"}
        assert "evil" not in scrape.text
        assert scrape.sum("odd_surrogates", a="\\ud800") == 2
        assert scrape.sum("odd_values", text='a"b\\c\nd\x00e\U0001f600') == 2
        assert scrape.families["odd_values"].documentation == 'H"elp\nwith \\ all\x00'
    said = unruly.node.log_file.read_text().count("metric: odd_labels")
    assert said == 1


def test_types_that_are_no_counter_and_no_histogram_are_gauges(unruly):
    by_both(unruly, "kinds")
    for scrape in scrapes(unruly):
        assert scrape.sum("odd_sizes_bucket", le="+Inf") == 4
        assert (scrape.sum("odd_sizes_gcount"), scrape.sum("odd_sizes_gsum")) == (4, 6)
        assert scrape.sum("odd_states", odd_states="a") == 2
        assert scrape.sum("odd_unknown") == 8
        assert scrape.value("odd_count_total") == 8
        assert scrape.of("odd_bounds_bucket") == {
            frozenset({("le", "1.0")}): 2, frozenset({("le", "+Inf")}): 4
        }  # fmt: skip
        assert scrape.value("odd_untold_sum") == 2


def test_of_families_with_names_in_common_one_is_served(unruly):
    by_both(unruly, "twice")
    for scrape in scrapes(unruly):  # a gauge, which may be the one, has its worker's name
        assert scrape.sum("odd_twice_total") == 1
        assert scrape.sum("odd_parts_count") == 1
        assert scrape.sum("odd_told_info", a="1") == 1
        assert scrape.sum("odd_kind_total") + scrape.sum("odd_kind") == 1


def test_of_too_many_samples_the_first_are_served_and_the_log_says_so(unruly):
    by_both(unruly, "many")
    many = "more than 20000 samples of prometheus_client"
    eventually(lambda: Scrape(unruly) and unruly.node.log_file.read_text().count(many) == 2)
    series = Scrape(unruly).of("odd_many")
    assert 19_000 < len(series) < 20_001
    assert set(series.values()) == {2}
    assert unruly.node.log_file.read_text().count(many) == 2


@pytest.mark.parametrize("kind", ["raising", "stuck"])
def test_a_collector_that_fails_leaves_what_was_before(unruly, kind):
    assert Scrape(unruly).value("good_things_total") == 0
    by_both(unruly, kind)
    for _ in range(3):
        scrape = Scrape(unruly)
        assert scrape.value("good_things_total") == 0
        assert scrape.sum("hornbeam_worker_up") == 2
    log = unruly.node.log_file.read_text()
    assert "client_metrics_not_collected" in log
    stacks = unruly.node.eval('hornbeam:stacks(<<"worker-1">>)')
    assert str(stacks).count("in stuck") == (1 if kind == "stuck" else 0)


def test_many_who_scrape_at_once_wait_for_a_stuck_worker_together(unruly):
    assert Scrape(unruly).value("good_things_total") == 0
    httpx.get(unruly.http)
    assert Scrape(unruly).value("good_things_total") == 1
    for pid in unruly.worker_pids():
        os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(20) as pool:
            made = list(pool.map(Scrape, [unruly] * 20))
    finally:
        for pid in unruly.worker_pids():
            os.kill(pid, signal.SIGCONT)
    assert [scrape.value("good_things_total") for scrape in made] == [1] * 20
