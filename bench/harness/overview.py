"""One picture for who has a minute: six plain questions, the last of which we lose.

Each panel is about one load of a part, and a bar is the median.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib import pyplot

from harness import picture, report

Window = dict[str, Any]
Results = Callable[[str], tuple[dict[str, Any], list[Window]]]

RIVALS = ("uvicorn", "gunicorn", "granian", "hypercorn")


@dataclass(frozen=True)
class Question:
    """What a panel asks of one load of a part, and of whom of ours."""

    title: str
    hint: str
    part: str
    load: str
    key: str
    ours: str = "hornbeam"


QUESTIONS = (
    Question("A worker is killed: dropped sockets", "of 500 that were open, two workers",
             "outlive", "kill", "dropped", "hornbeam-resume"),
    Question("New code is loaded: dropped sockets", "of 500 that were open, two workers",
             "outlive", "reload", "dropped", "hornbeam-resume"),
    Question("An open WebSocket that is silent: KiB", "less is better; server and app together",
             "memory", "5 000, silent", "kib"),
    Question("FastAPI: requests a second", "more is better; one worker",
             "http", "GET FastAPI, 64 × 1", "rate"),
    Question("15 000 sockets: µs of CPU an echo", "less is better; all of a server's processes",
             "growth", "15000 sockets", "cpu_us"),
    Question("A bare GET: µs of CPU", "less is better; here two processes cost more than one",
             "http", "GET, 64 × 1", "cpu_us"),
)  # fmt: skip


def draw(path: Path, results: Results) -> None:
    """Draw all panels into one file, from what `results` tells of a part."""
    found = {question.part: results(question.part) for question in QUESTIONS}
    figure, grid = pyplot.subplots(2, 3, figsize=(11, 4.6), layout="constrained")
    for axes, question in zip(grid.flat, QUESTIONS, strict=True):
        _panel(axes, question, _medians(found[question.part][1], question))
    abouts = [about for about, _ in found.values()]
    shown = ("hornbeam", *RIVALS)
    versions = {name: about["versions"][name] for about in abouts for name in shown
                if name in about["versions"]}  # fmt: skip
    title = "Hornbeam beside other servers: the same app, the same machine, the same load"
    picture.finish(figure, path, title, abouts[0] | {"versions": versions})


def _medians(windows: Sequence[Window], question: Question) -> Mapping[str, float]:
    medians = {}
    for server in (question.ours, *RIVALS):
        cell = report.good(report.cell(list(windows), load=question.load, server=server))
        if cell:
            medians[server] = median(window[question.key] for window in cell)
    return medians


def _panel(axes: Any, question: Question, medians: Mapping[str, float]) -> None:
    longest = max(medians.values()) or 1
    for place, (server, value) in enumerate(medians.items()):
        axes.barh(place, value, 0.7, color=picture.color_of(server))
        axes.text(value + longest / 50, place, picture.short(value), va="center", fontsize=9)
    names = [server.partition("-")[0] for server in medians]
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set(xlim=(0, 1.25 * longest), ylim=(len(names) - 0.5, -0.5))
    axes.set_title(question.title, fontsize=10, loc="left", fontweight="bold", pad=18)
    axes.text(0, 1.03, question.hint, transform=axes.transAxes, fontsize=8, color="0.35")
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
