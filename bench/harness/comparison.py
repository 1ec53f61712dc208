"""A table of servers beside one of them: rate, latency and CPU under each load.

Knows what harness.load.window tells; knows nothing of what was asked of the servers.
"""

from collections.abc import Callable
from statistics import median

from harness import report
from harness.report import Window

RIVAL = "uvicorn"

# Makes a line of a load, a server, its windows and the rival's.
Row = Callable[[str, str, list[Window], list[Window]], str]


def table(windows: list[Window], one: str, many: str, rival: str = RIVAL) -> list[str]:
    """One row for each server under each load; the load counts `many`, each is `one`."""
    rows = report.head(
        *("load", "server", f" {many}/s", f" × {rival}", " p50 µs", " p99 µs"),
        *(f" server CPU µs/{one}", f" × {rival}", " of it Python"),
        *(f" generator CPU µs/{one}", " errors"),
    )
    return rows + each(windows, _row, rival)


def each(windows: list[Window], row: Row, rival: str = RIVAL) -> list[str]:
    """One row for each server under each load that it had, beside the rival's windows under the
    same load."""
    return [
        row(load, server, cell, report.good(report.cell(windows, load=load, server=rival)))
        for load, server, cell in report.cells(windows)
    ]


def ratio(windows: list[Window], rival: list[Window], key: str) -> str:
    """The quotient of the medians of a figure, nothing where the rival was not measured."""
    if not rival:
        return ""
    return f"{median(w[key] for w in windows) / median(w[key] for w in rival):.2f}"


def _row(load: str, server: str, cell: list[Window], rival: list[Window]) -> str:
    good = report.good(cell)
    errors = str(len(cell) - len(good))
    if not good:
        return report.row(load, server, *[""] * 8, errors)
    return report.row(
        *(load, server, report.spread(good, "rate"), ratio(good, rival, "rate")),
        *(report.middle(good, "p50_us"), report.middle(good, "p99_us")),
        *(report.spread(good, "cpu_us", 1), ratio(good, rival, "cpu_us")),
        *(report.share(good, "Python"), report.middle(good, "generator_cpu_us", 1), errors),
    )
