"""An app that counts: what it is asked for, by its path. ASGI, and WSGI as `in_threads`."""

from __future__ import annotations

import asyncio
import os
from urllib.parse import parse_qs

from hornbeam_erlang import state_get, state_incr
from hornbeam_erlang.metrics import Counter, Gauge, Histogram

from gallery import respond

ORDERS = Counter("shop_orders", 'Orders "taken"\nby kind', ["kind"])
SPENT = Counter("shop_spent", "In euros", unit="euros")
BASKETS = Gauge("shop_baskets", "Baskets now")
LOWEST = Gauge("shop_lowest", "The lowest", multiprocess_mode="min")
HIGHEST = Gauge("shop_highest", "The highest", multiprocess_mode="max")
LATEST = Gauge("shop_latest", "The latest", multiprocess_mode="mostrecent")
CHANGE = Histogram("shop_change", "Of a balance", buckets=[-10, -1e-12, 1e300])
WEIGHT = Histogram("shop_weight", "Of parcels", buckets=[0.5, 1, 10])

GAUGES = {"baskets": BASKETS, "lowest": LOWEST, "highest": HIGHEST, "latest": LATEST}


def count(path: str, query: dict[str, list[str]]) -> str:
    match path.strip("/").split("/"):
        case ["orders", kind]:
            ORDERS.labels(kind=kind).inc()
        case ["many", number]:
            for n in range(int(number)):
                ORDERS.labels(f"kind-{n}").inc()
        case ["spent", euros]:
            SPENT.inc(float(euros))
        case ["set", gauge, number]:
            GAUGES[gauge].set(float(number))
        case ["add", gauge, number]:
            GAUGES[gauge].inc(float(number))
        case ["change", number]:
            CHANGE.observe(float(number))
        case ["weight", number]:
            WEIGHT.observe(float(number))
        case ["kind", kind]:
            ORDERS.labels(kind="".join(query["kind"])).inc()
    return str(os.getpid())


async def application(scope, receive, send):
    if scope["type"] == "http":
        query = parse_qs(scope["query_string"].decode())
        answer = count(scope["path"], query)
        if "met" in query:  # once the other worker has come, too
            await meet(query["met"][0])
        await respond(send, answer.encode())


async def meet(key: str) -> None:
    state_incr(key)
    while state_get(key) < 2:
        await asyncio.sleep(0.01)


def in_threads(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    return [count(environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"])).encode()]
