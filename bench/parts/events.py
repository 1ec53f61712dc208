"""Publish to a thousand EventSources: what one delivery costs, and how long it takes."""

import argparse
from typing import Any

from parts import fanout
from parts.fanout import PANELS as PANELS
from parts.fanout import TIMES as TIMES
from parts.fanout import table as table
from servers.hornbeam import HornbeamEvents
from servers.process import Server
from servers.uvicorn import UvicornEvents

SERVERS: dict[str, type[Server]] = {
    "uvicorn-redis": UvicornEvents,
    "hornbeam-messages": HornbeamEvents,
    "hornbeam-forward": HornbeamEvents,
}


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--events-streams", type=int, default=1000, help="open event streams")
    parser.add_argument("--events-depths", default="1,8", help="publishes in flight")
    parser.add_argument("--events-sizes", default="128", help="bytes in a message, at least 16")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    loads = fanout.all_loads(chosen.events_streams, chosen.events_depths, chosen.events_sizes)
    return fanout.measure_all(chosen, SERVERS, fanout.PATHS, loads, events=1)
