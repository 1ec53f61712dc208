"""An app with metrics of prometheus_client, in its default registry."""

import os

from prometheus_client import Counter, Gauge, Histogram, Info, Summary

from gallery import respond

ORDERS = Counter("lib_orders", "Orders", ["kind"])
WEIGHT = Histogram("lib_weight", "Of parcels", ["by"], buckets=(0.5, 1, 10))
SIZE = Summary("lib_size", "Of parcels")
SUM = Gauge("lib_sum", "Summed", multiprocess_mode="livesum")
HIGHEST = Gauge("lib_highest", "The highest", multiprocess_mode="max")
EACH = Gauge("lib_each", "Of each", ["worker"])
Info("lib_build", "What runs").info({"version": "1"})


async def application(scope, receive, send):
    if scope["type"] == "http":
        ORDERS.labels("book").inc()
        WEIGHT.labels("us").observe(0.7)
        SIZE.observe(3)
        SUM.set(2)
        HIGHEST.set(os.getpid())
        EACH.labels("mine").set(1)
        await respond(send, str(os.getpid()).encode())
