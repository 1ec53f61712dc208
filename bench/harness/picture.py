"""Results as pictures: bars for each load and server, curves, and one picture of all parts.

Needs matplotlib, and so the environment of _build/venv; measuring needs neither. A bar is the
median of all rounds and the line over it goes from the least to the most. What a part's bars
show is the part's to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter

from harness import report
from harness.panel import PANELS, Panel

Window = dict[str, Any]

HORNBEAM = "#c8511b"
_REST = "#7a8797"
_GREEN = "#3d9a6a"
_COLORS = (
    ("hornbeam", HORNBEAM),
    ("uvicorn", "#2f6db3"),
    ("cowboy", _GREEN),
    ("redis", "#4a4a4a"),
    ("granian", "#8d6bb8"),
    ("gunicorn", "#b8963b"),
    ("hypercorn", "#5aa9b8"),
    ("daphne", "#b35a84"),
)
# Those behind which there is no app: the least that is possible.
_FLOORS = ("engine", "bare", "cowboy", "pipe", "node")
_FLOOR = "a floor: no app"
_BAR = 0.27  # inches that a bar takes
_STYLES = ("o-", "s-", "^-", "d-")
_SHADES = (1.0, 0.62, 0.42)  # of servers of one color


def bars(
    path: Path,
    title: str,
    about: dict[str, Any],
    windows: Sequence[Window],
    panels: Sequence[Panel] = PANELS,
) -> None:
    """Draw a row for each load and a column for each panel, in each a bar for each server."""
    panels = [panel for panel in panels if panel.of(windows)]
    loads = [_cells(windows, load) for load in report.distinct(list(windows), "load")]
    heights = [_BAR * len(cells) + 0.7 for cells in loads]
    figure, grid = pyplot.subplots(
        *(len(loads), len(panels)),
        figsize=(1.8 + 3.6 * len(panels), 0.9 + sum(heights)),
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
        squeeze=False,
    )
    for row, cells in zip(grid, loads, strict=True):
        for place, (axes, panel) in enumerate(zip(row, panels, strict=True)):
            if place and not any(panel.of(cell) for cell in cells):
                axes.set_visible(False)
                continue
            _bars(axes, cells, panel, named=place == 0)
            load = f"{cells[0][0]['load']}\n" if place == 0 else ""
            words = load + panel.titled([w for cell in cells for w in cell])
            axes.set_title(words, fontsize=9, loc="left")
    finish(figure, path, title, about)


def curves(
    path: Path,
    title: str,
    about: dict[str, Any],
    panels: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]],
) -> None:
    """Draw a panel for each name: lines by name, of each the figures of all rounds by size."""
    figure, grid = pyplot.subplots(2, -(-len(panels) // 2), figsize=(11, 8), layout="constrained")
    for axes, (name, lines) in zip(grid.flat, panels.items(), strict=False):
        colors = _colors(list(lines))
        for (line, points), style in zip(lines.items(), cycle(_STYLES), strict=False):
            sizes, middles = list(points), [median(values) for values in points.values()]
            least, most = ([f(values) for values in points.values()] for f in (min, max))
            axes.plot(sizes, middles, style, color=colors[line], label=line, markersize=4)
            axes.fill_between(sizes, least, most, color=colors[line], alpha=0.2, linewidth=0)
        axes.set(xscale="log", ylim=(0, 1.05 * axes.get_ylim()[1]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: report.number(value)))
        axes.set_title(name, fontsize=10, loc="left")
        axes.grid(alpha=0.3)
        if lines:
            axes.legend(fontsize=8)
    finish(figure, path, title, about)


@dataclass(frozen=True)
class Dots:
    """A row of the picture of all parts: each server's cost over that of one of them."""

    label: str
    ratios: dict[str, float]


def compared(windows: Sequence[Window], base: str) -> list[Dots]:
    """The medians of CPU of all servers under each load, over that of the server `base`."""
    rows = []
    for load in report.distinct(list(windows), "load"):
        cells = _cells(windows, load)
        costs = {c[0]["server"]: median(w["cpu_us"] for w in c) for c in cells if _costs(c)}
        if costs.get(base):
            ratios = {server: cost / costs[base] for server, cost in costs.items()}
            rows.append(Dots(load, ratios))
    return rows


def summary(path: Path, groups: Mapping[str, Sequence[Dots]], about: dict[str, Any]) -> None:
    """Draw all rows, by groups with a title, on one logarithmic axis; less is better."""
    rows: list[Dots | str] = []
    for title, group in groups.items():
        rows += [title, *group]
    figure, axes = pyplot.subplots(figsize=(10, 1.4 + 0.3 * len(rows)), layout="constrained")
    servers = list(dict.fromkeys(s for group in groups.values() for d in group for s in d.ratios))
    families = list(dict.fromkeys(_named(server) for server in servers))
    for place, row in enumerate(rows):
        if isinstance(row, str):
            axes.axhspan(place - 0.5, place + 0.5, color="0.93", linewidth=0)
            continue
        for server, ratio in row.ratios.items():
            axes.plot(ratio, place, **_mark(server))
        _name_variants(axes, place, row)
    for family in families:
        axes.plot([], [], label=family, **_mark(family))
    axes.axvline(1, color="0.4", linewidth=1)
    axes.set(xscale="log", ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [row if isinstance(row, str) else row.label for row in rows])
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if isinstance(row, str) else "normal")
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if _between(t, axes.get_xlim())]
    axes.set_xticks(ticks, [f"{tick:g} ×" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", alpha=0.3)
    axes.tick_params(labelsize=9)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=9, frameon=False)
    finish(figure, path, "CPU of the server for the same work (left is better)", about)


def _name_variants(axes: Any, place: int, row: Dots) -> None:
    """Say which of two marks of ours is which, one below and one above."""
    ours = {server: ratio for server, ratio in row.ratios.items() if server.startswith("hornbeam-")}
    for (server, ratio), shift in zip(ours.items(), cycle((0.38, -0.38)), strict=False):
        word = server.partition("-")[2]
        axes.text(ratio, place + shift, word, fontsize=7, ha="center", va="center", color=HORNBEAM)


def _bars(axes: Any, cells: list[list[Window]], panel: Panel, named: bool) -> None:
    names = [cell[0]["server"] for cell in cells]
    colors = _colors(names)
    for place, cell in enumerate(cells):
        values = panel.of(cell)
        if not values:
            axes.text(0, place, " errors", va="center", fontsize=8)
            continue
        middle, least, most = median(values), min(values), max(values)
        axes.barh(place, middle, 0.72, color=colors[names[place]])
        axes.plot([least, most], [place, place], color="black", linewidth=1)
        _thin(axes, place, cell, panel)
        axes.text(*(most, place, f"  {short(middle)}"), va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names if named else [""] * len(names), fontsize=9)
    axes.set(ylim=(len(names) - 0.5, -0.5))
    axes.set_xlim(0, 1.22 * axes.get_xlim()[1])  # room for the numbers
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _thin(axes: Any, place: int, cell: list[Window], panel: Panel) -> None:
    if values := panel.of_generator(cell):
        axes.barh(place + 0.36, median(values), 0.16, color="0.55")


def _cells(windows: Sequence[Window], load: str) -> list[list[Window]]:
    """The windows of each server under a load."""
    mine = report.cell(list(windows), load=load)
    return [report.cell(mine, server=server) for server in report.distinct(mine, "server")]


def _costs(cell: list[Window]) -> bool:
    good = report.good(cell)
    return len(good) == len(cell) and all(w.get("cpu_us") for w in good)


def _family(server: str) -> str:
    return server.partition("-")[0]


def _named(server: str) -> str:
    """What a server is called among all."""
    return _FLOOR if _family(server) in _FLOORS else _family(server)


def color_of(server: str) -> str:
    return next((color for name, color in _COLORS if server.startswith(name)), _REST)


def _colors(servers: list[str]) -> dict[str, tuple[float, ...]]:
    """A color for each, in lighter shades where several have the same."""
    seen: dict[str, int] = {}
    shades = {}
    for server in servers:
        color = color_of(server)
        shade = _SHADES[min(seen.get(color, 0), len(_SHADES) - 1)]
        seen[color] = seen.get(color, 0) + 1
        shades[server] = _lighter(color, shade)
    return shades


def _lighter(color: str, shade: float) -> tuple[float, ...]:
    return tuple(1 - shade * (1 - part) for part in matplotlib.colors.to_rgb(color))


def _mark(server: str) -> dict[str, Any]:
    """How a server is marked among all: Hornbeam stands out, and floors are lines."""
    if _named(server) == _FLOOR:
        return {"marker": "|", "markersize": 11, "markeredgewidth": 2, "color": _GREEN,
                "linestyle": "none", "zorder": 1}  # fmt: skip
    ours = server.startswith("hornbeam")
    return {
        "marker": "D" if ours else "o",
        "markersize": 9 if ours else 7,
        "color": color_of(server),
        "alpha": 1.0 if ours else 0.75,
        "linestyle": "none",
        "zorder": 3 if ours else 2,
        "markeredgecolor": "white",
    }


def _versions(about: dict[str, Any]) -> str:
    """The servers' own versions; the rest of what took part is in the tables."""
    found = {
        _family(server): versions.get(_family(server), "")
        for server, versions in about["versions"].items()
    }
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


def short(value: float) -> str:
    """A number with three digits that count, or more; a whole one as it is."""
    whole = value >= 100 or value == int(value)
    return report.number(value, 0 if whole else 1 if value >= 10 else 2)


def _between(value: float, ends: tuple[float, float]) -> bool:
    return ends[0] <= value <= ends[1]


def finish(figure: Any, path: Path, title: str, about: dict[str, Any]) -> None:
    machine = ", ".join(f"{name} {value}" for name, value in about["machine"].items())
    figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    figure.supxlabel(f"{_versions(about)}\n{machine}", fontsize=7, color="0.35")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
