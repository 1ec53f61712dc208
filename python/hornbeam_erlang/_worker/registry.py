"""What this worker's `prometheus_client` has in its default registry, for a scrape of the server.

Called by Erlang like a function of the app, in a thread. The library is the app's own: one that no
code of the app has imported has nothing to say. Must not import it.
"""

import itertools
import math
import sys
import threading
from typing import Any

from hornbeam_erlang._worker.logs import Log

MOST_SAMPLES = 20_000
"""Of a worker; what is behind those is left out."""

OURS = ("hornbeam_", "erlang_")

PATIENCE = 0.5
"""Seconds that a call waits for another one to return: less than the node waits for an answer."""

_collecting = threading.Lock()

_log = Log("hornbeam.metrics")

_full = threading.Event()


def collect() -> list[Any]:
    """Return families: name, type, help, mode of a gauge, and samples: name, labels, value.

    Raises `TimeoutError` where another call does not return: a collector of the app's that hangs
    shall not take one thread after the other.
    """
    library = sys.modules.get("prometheus_client")
    if library is None:
        return []
    if not _collecting.acquire(timeout=PATIENCE):
        raise TimeoutError("a collector of prometheus_client has not returned since it was asked")
    try:
        return _families(library)
    finally:
        _collecting.release()


def _families(library: Any) -> list[Any]:
    left = itertools.count(MOST_SAMPLES, -1)
    families = [
        [
            family.name,
            family.type,
            _text(family.documentation),
            _mode(library.REGISTRY, family.name),
            [
                [sample.name, _labels(sample.labels), value]
                for sample in family.samples
                if (value := _number(sample)) is not None and next(left) > 0
            ],
        ]
        for family in library.REGISTRY.collect()
        if not family.name.startswith(OURS)
    ]
    if next(left) < 0 and not _full.is_set():
        _full.set()
        _log.warning(f"more than {MOST_SAMPLES} samples of prometheus_client: others are left out")
    return families


def _number(sample: Any) -> float | None:
    """Return a finite value, as Erlang has them; when something was created is no metric."""
    try:
        value = float(sample.value)
    except OverflowError:
        return None
    return value if math.isfinite(value) and not sample.name.endswith("_created") else None


def _labels(labels: dict[str, Any]) -> list[list[str]]:
    return [[name, _text(value)] for name, value in sorted(labels.items())]


def _text(value: Any) -> str:
    """Return a text as UTF-8 can hold it."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _mode(registry: Any, name: str) -> str:
    """Return what is to be made of several workers' values: a gauge knows it in private only."""
    collectors = getattr(registry, "_names_to_collectors", {})
    return str(getattr(collectors.get(name), "_multiprocess_mode", "all"))
