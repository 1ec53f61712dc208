"""Send to a group of Django Channels: what one delivery costs by each channel layer."""

import argparse
from typing import Any

from harness.rounds import Times
from parts import fanout
from parts.fanout import PANELS, Load, table
from servers.daphne import DaphneChannels, DaphneCore
from servers.hornbeam import HornbeamChannels, HornbeamFanout
from servers.process import Server
from servers.uvicorn import UvicornChannels, UvicornCore, UvicornNats

__all__ = ["PANELS", "SERVERS", "TIMES", "measure", "options", "table"]

SERVERS: dict[str, type[Server]] = {
    "daphne-core": DaphneCore,
    "daphne-pubsub": DaphneChannels,
    "uvicorn-core": UvicornCore,
    "uvicorn-pubsub": UvicornChannels,
    "uvicorn-nats": UvicornNats,
    "hornbeam-layer": HornbeamChannels,
    "core-receive": UvicornCore,
    "pubsub-receive": UvicornChannels,
    "nats-receive": UvicornNats,
    "hornbeam-receive": HornbeamChannels,
    "hornbeam-messages": HornbeamFanout,
}
# Where members connect.
RECEIVING = ("core-receive", "pubsub-receive", "nats-receive", "hornbeam-receive")
PATHS = dict.fromkeys(RECEIVING, "/receive") | {"hornbeam-messages": "/messages"}
TIMES = Times(rounds=3, warmup=1.0, seconds=3.0)


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--channels-members", default="1000,10000", help="sockets in the group")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    loads = [Load(int(members), 1, 128) for members in chosen.channels_members.split(",")]
    return fanout.measure_all(chosen, SERVERS, PATHS, loads)
