"""Figures that a server's own app measures: asked for by an HTTP request, answered by JSON.

Knows the talk, not what the app does.
"""

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from harness import cpu
from harness.load import LoadError, per_message
from servers.process import Server

PATIENCE = 30.0  # seconds for what is beside the measuring

Query = dict[str, Any]


def window(
    server: Server, pids: list[int], query: Query, warmup: float, seconds: float
) -> dict[str, Any]:
    """Ask for so many seconds of work; returns its figures and the CPU of the trees of `pids`."""
    if warmup:
        ask(server, query, warmup)
    before, start = cpu.processes(), time.monotonic()
    figures = ask(server, query, seconds)
    after, took = cpu.processes(), time.monotonic() - start
    return per_message(figures, cpu.used(before, after, pids, os.getpid()), took)


def ask(server: Server, query: Query, seconds: float) -> dict[str, Any]:
    """Ask once. Raises LoadError, with what the server printed, when that is not answered."""
    words = urllib.parse.urlencode(query | {"seconds": seconds})
    url = f"http://{server.host}:{server.port}/?{words}"
    try:
        with urllib.request.urlopen(url, timeout=seconds + PATIENCE) as response:
            figures: dict[str, Any] = json.load(response)
            return figures
    except (urllib.error.URLError, TimeoutError) as error:
        raise LoadError(f"{url}: {error}\n{server.output()[-2000:]}") from error
