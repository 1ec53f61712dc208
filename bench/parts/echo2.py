"""The WebSocket echo of servers that have two Python workers."""

import argparse
from typing import Any

from parts import echo
from parts.echo import table
from servers.hornbeam import Hornbeam
from servers.process import Server
from servers.rivals import Granian, Gunicorn
from servers.uvicorn import Uvicorn

__all__ = ["SERVERS", "measure", "options", "table"]

SERVERS: dict[str, type[Server]] = {
    "uvicorn": Uvicorn,
    "granian": Granian,
    "gunicorn": Gunicorn,
    "hornbeam": Hornbeam,
}
TIMES = echo.TIMES
WORKERS = 2


def options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--echo2-loads", default="64x1x16,64x8x16", help="as of the echo")


def measure(chosen: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run all rounds; returns what was measured on, and every window."""
    return echo.run(chosen, chosen.workers or WORKERS, SERVERS, chosen.echo2_loads)
