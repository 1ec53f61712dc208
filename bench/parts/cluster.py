"""Publish to sockets that are open at three servers: what a delivery costs, how long it takes.

The publisher is at one of them, a third of the subscribers at each.
"""

import argparse
from typing import Any

from harness.machine import raise_descriptors
from harness.panel import CPU, RATE, Panel
from harness.rounds import Times
from parts import fanout
from servers.process import Server
from servers.several import COUNT, HornbeamCluster, UvicornsChannels, UvicornsRedis

SERVERS: dict[str, type[Server]] = {
    "uvicorn-redis": UvicornsRedis,
    "uvicorn-channels": UvicornsChannels,
    "hornbeam-messages": HornbeamCluster,
    "hornbeam-forward": HornbeamCluster,
}
PATHS = fanout.PATHS
TIMES = Times(rounds=3, warmup=0.5, seconds=2.0)
PANELS = (RATE, CPU, Panel("p50 ms", "p50_us", 1e-3))
WORKERS = 1

table = fanout.table


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--cluster-sockets", default="3,999,15000", help=f"in all, by {COUNT}")
    parser.add_argument("--cluster-depths", default="1,8", help="publishes in flight")
    parser.add_argument("--cluster-sizes", default="128", help="bytes in a message, at least 16")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    raise_descriptors()
    chosen.workers = chosen.workers or WORKERS
    loads = [
        load
        for sockets in chosen.cluster_sockets.split(",")
        for load in fanout.all_loads(int(sockets), chosen.cluster_depths, chosen.cluster_sizes)
    ]
    return fanout.measure_all(chosen, SERVERS, PATHS, loads)
