"""The soak's curves as a picture: counts, memory of the node, and memory of the processes."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from soaking.accounts import MIB

Sample = dict[str, Any]

_KINDS = ("total", "processes", "binary", "ets", "code", "atom")
_SHADES = {"warm-up": "0.93", "soak": "white", "rest": "#dfeedd"}


def draw(path: Path, title: str, samples: list[Sample], kills: list[float]) -> None:
    """Write the picture; `kills` are the seconds at which workers were killed."""
    figure, panels = pyplot.subplots(5, 1, figsize=(11, 15), sharex=True, layout="constrained")
    _curves(panels[0], samples, "clients and counts", {
        "clients": lambda s: s["clients"],
        "processes": lambda s: s["processes"],
        "ports": lambda s: s["ports"],
        "descriptors of the BEAM": lambda s: s["beam_descriptors"],
    })  # fmt: skip
    _curves(panels[1], samples, "rows in ETS", {"rows": lambda s: s["rows"]})
    _curves(panels[2], samples, "atoms", {"atoms": lambda s: s["atoms"]})
    kinds = {kind: _memory(kind) for kind in _KINDS}
    _curves(panels[3], samples, "erlang:memory, MiB", kinds)
    _curves(panels[4], samples, "resident, MiB", {
        "BEAM": lambda s: s["beam_rss"] / MIB,
        "eldest worker": lambda s: _worker(s, 0),
        "youngest worker": lambda s: _worker(s, 1),
    })  # fmt: skip
    for panel in panels:
        _phases(panel, samples)
        for second in kills:
            panel.axvline(second, color="red", linewidth=0.5, alpha=0.5)
    figure.suptitle(f"{title}\ngrey: warm-up, green: at rest, red lines: kill -9 of a worker")
    panels[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _curves(
    panel: Any, samples: list[Sample], title: str, curves: dict[str, Callable[[Sample], float]]
) -> None:
    times = [s["at"] for s in samples]
    for name, value in curves.items():
        panel.plot(times, [value(s) for s in samples], label=name, linewidth=1.2)
    panel.set_ylabel(title)
    panel.legend(loc="upper left", fontsize=8, ncols=3)
    panel.margins(x=0)
    panel.set_ylim(0, 1.3 * panel.get_ylim()[1])  # room for the legend
    panel.grid(alpha=0.3)


def _phases(panel: Any, samples: list[Sample]) -> None:
    for sample, following in pairwise(samples):
        color = _SHADES[following["phase"]]
        panel.axvspan(sample["at"], following["at"], color=color, linewidth=0, zorder=0)


def _memory(kind: str) -> Callable[[Sample], float]:
    return lambda sample: sample["memory"][kind] / MIB


def _worker(sample: Sample, place: int) -> float:
    sizes = sample["workers"]
    return sizes[place] / MIB if place < len(sizes) else float("nan")
