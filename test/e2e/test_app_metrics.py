"""Metrics of apps: one number for all workers, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest
from harness import PYTHON, eventually
from scrapes import HERE, OPEN_METRICS, Scrape
from terms import Atom

APP = "measured:application"


@pytest.fixture
def shop(serve):
    return lambda app=APP, **options: serve(app, fresh=True, **{"metrics": HERE} | options)


def reaches(server, expected: float, name: str, **labels: str) -> None:
    eventually(lambda: Scrape(server).value(name, **labels) == expected)


def by_worker(server, path: str) -> None:
    """Ask each of two workers for a path: one waits for the other."""
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(httpx.get, f"{server.http}{path}?met={path}") for _ in range(2)]
        assert {int(each.result().text) for each in asked} == set(server.worker_pids())


def test_counters_of_all_workers_are_one(shop):
    server = shop(workers=2)
    for _ in range(20):
        httpx.get(f"{server.http}/orders/book")
    httpx.get(f"{server.http}/spent/1.5")
    httpx.get(f"{server.http}/spent/2")
    reaches(server, 20, "shop_orders_total", kind="book")
    reaches(server, 3.5, "shop_spent_euros_total")
    scrape = Scrape(server, OPEN_METRICS)
    assert scrape.families["shop_orders"].documentation == 'Orders "taken"\nby kind'


def test_nothing_is_lost_when_workers_are_killed_and_code_is_loaded_anew(shop):
    server = shop(workers=2)
    for n in range(3):
        httpx.get(f"{server.http}/orders/book")
        reaches(server, n + 1, "shop_orders_total", kind="book")
        killed = server.worker_pids()[0]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda gone=killed: gone not in server.worker_pids())
    assert server.node.eval("hornbeam:reload()", 60) == "ok"
    httpx.get(f"{server.http}/orders/book")
    reaches(server, 4, "shop_orders_total", kind="book")


def test_gauges_are_made_one_by_their_mode_and_go_with_their_worker(shop):
    server = shop(workers=2, worker_connections=1)
    by_worker(server, "/set/baskets/3")
    httpx.get(f"{server.http}/set/lowest/7")
    httpx.get(f"{server.http}/set/highest/7")
    httpx.get(f"{server.http}/set/latest/7")
    httpx.get(f"{server.http}/add/latest/1")
    reaches(server, 6, "shop_baskets")
    for name, value in (("lowest", 7), ("highest", 7), ("latest", 8)):
        reaches(server, value, f"shop_{name}")
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    reaches(server, 3, "shop_baskets")
    reaches(server, 8, "shop_latest")


def test_histograms_of_all_workers_are_one(shop):
    server = shop(workers=2)
    for weight in (0.1, 0.5, 0.7, 5, 100):
        httpx.get(f"{server.http}/weight/{weight}")
    reaches(server, 5, "shop_weight_count")
    scrape = Scrape(server, OPEN_METRICS)
    counts = [scrape.value("shop_weight_bucket", le=le) for le in ("0.5", "1.0", "10.0", "+Inf")]
    assert counts == [2, 3, 4, 5]
    assert scrape.value("shop_weight_sum") == pytest.approx(106.3)


def test_threads_of_a_wsgi_app_count_too(shop):
    server = shop("measured:in_threads", worker_class=Atom("wsgi"), threads=4)
    for _ in range(10):
        httpx.get(f"{server.http}/orders/book")
    reaches(server, 10, "shop_orders_total", kind="book")


def test_whatever_stands_in_a_label_stands_in_the_scrape(shop):
    server = shop()
    kind = 'a "book"\\n\n,le="5e3" {ü}'
    httpx.get(f"{server.http}/kind/x?kind={quote(kind)}")
    reaches(server, 1, "shop_orders_total", kind=kind)
    assert Scrape(server, OPEN_METRICS).value("shop_orders_total", kind=kind) == 1


def test_too_many_series_are_refused_and_counted(shop):
    server = shop()
    httpx.get(f"{server.http}/many/10500", timeout=30)
    eventually(lambda: Scrape(server).value("hornbeam_app_metrics_refused_total") >= 500)
    scrape = Scrape(server)
    assert len(scrape.of("shop_orders_total")) == 10_000
    httpx.get(f"{server.http}/orders/kind-1")
    reaches(server, 2, "shop_orders_total", kind="kind-1")


def test_processes_outside_of_the_workers_count_too(shop, tmp_path):
    server = shop(local_socket=str(tmp_path / "node.sock"))
    code = (
        "from hornbeam_erlang.metrics import Counter, Gauge\n"
        "from hornbeam_erlang import state_get\n"
        "Counter('shop_orders', 'Orders \"taken\"\\nby kind', ['kind']).labels('book').inc(5)\n"
        "Gauge('shop_imports', 'Running').set(1)\n"
        "state_get('none')\n"
        "print('counted', flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [PYTHON, "-c", code], env=os.environ | {"HORNBEAM_SOCKET": str(tmp_path / "node.sock")},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "counted\n"
        reaches(server, 5, "shop_orders_total", kind="book")
        reaches(server, 1, "shop_imports")
        process.communicate("\n", timeout=20)
    eventually(lambda: not Scrape(server).of("shop_imports"))
    reaches(server, 5, "shop_orders_total", kind="book")


def test_nothing_is_kept_where_nobody_asks_for_metrics(shop):
    server = shop(metrics=False)
    assert httpx.get(f"{server.http}/orders/book").status_code == 200
    assert server.node.eval("hornbeam_app_metrics:families()") == []


@pytest.mark.parametrize("accept", ["text/plain", OPEN_METRICS])
def test_bounds_may_be_negative_small_and_large(shop, accept):
    server = shop()
    httpx.get(f"{server.http}/change/-3")
    reaches(server, 1, "shop_change_bucket", le="+Inf")
    scrape = Scrape(server, accept)
    buckets = {dict(labels)["le"]: of for labels, of in scrape.of("shop_change_bucket").items()}
    assert buckets == {"-10.0": 0, "-1.0e-12": 1, "1.0e300": 1, "+Inf": 1}
    assert scrape.value("shop_change_sum") == (0 if accept == OPEN_METRICS else -3)
