"""Results as JSON (every window) and as a Markdown table (medians with their spread).

`publish` also puts the table into bench/README.md, between the part's two markers. What a
table's columns are is the part's to say.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

BENCH = Path(__file__).resolve().parent.parent
DISTURBED = 0.05  # cores used by processes that are no part of the measurement

Window = dict[str, Any]


def write(
    folder: Path, part: str, about: dict[str, Any], windows: list[Window], rows: list[str]
) -> str:
    """Write PART.json, and PART.md with the table's rows, into the folder; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}.json").write_text(json.dumps(about | {"windows": windows}, indent=1) + "\n")
    markdown = "\n".join([*rows, "", *_notes(about, windows), ""])
    (folder / f"{part}.md").write_text(markdown)
    return markdown


def publish(part: str, markdown: str) -> None:
    """Replace the part's table in bench/README.md."""
    readme = BENCH / "README.md"
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    text, count = pattern.subn(lambda _: f"{begin}\n{markdown}{end}", readme.read_text())
    assert count == 1, f"README.md has no markers for {part}"
    readme.write_text(text)


def head(*titles: str) -> list[str]:
    """The first two lines of a table; a title that begins with a space is one of figures."""
    rules = ("---:" if title.startswith(" ") else "---" for title in titles)
    return [row(*(title.strip() for title in titles)), f"|{'|'.join(rules)}|"]


def row(*cells: str) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def distinct(windows: list[Window], key: str) -> list[str]:
    """The values of a key, in the order in which a round measures them."""
    return list(dict.fromkeys(w[key] for w in sorted(windows, key=lambda w: w["order"])))


def cell(windows: list[Window], **keys: str) -> list[Window]:
    """The windows with these values."""
    return [w for w in windows if all(w[key] == value for key, value in keys.items())]


def cells(windows: list[Window]) -> Iterator[tuple[str, str, list[Window]]]:
    """Each load with each server that had it, and their windows."""
    for load in distinct(windows, "load"):
        for server in distinct(windows, "server"):
            if found := cell(windows, load=load, server=server):
                yield load, server, found


def good(windows: list[Window]) -> list[Window]:
    """The windows without an error."""
    return [w for w in windows if not w["error"]]


def middle(windows: list[Window], key: str, digits: int = 0) -> str:
    """The median of a figure."""
    return f"{median(w[key] for w in windows):.{digits}f}"


def share(windows: list[Window], kind: str, digits: int = 1) -> str:
    """The median of the CPU of one kind of process."""
    return f"{median(w['cpu_us_by_process'][kind] for w in windows):.{digits}f}"


def spread(windows: list[Window], key: str, digits: int = 0) -> str:
    """The median of a figure, and its least and most."""
    values = [w[key] for w in windows]
    low, mid, high = (number(v, digits) for v in (min(values), median(values), max(values)))
    return f"{mid} ({low}–{high})"


def number(value: float, digits: int = 0) -> str:
    """A number with a thin gap at each thousand."""
    return f"{value:,.{digits}f}".replace(",", " ")


def size(count: int) -> str:
    """So many bytes."""
    return f"{count} B" if count < 1024 else f"{count // 1024} KiB"


def _notes(about: dict[str, Any], windows: list[Window]) -> list[str]:
    whole = good(windows)
    disturbed = [w["cores_used_beside"] for w in whole if w["cores_used_beside"] > DISTURBED]
    notes = [
        f"Medians of {about['rounds']} interleaved rounds (least–most), windows of "
        f"{about['seconds']} s; workers: {about['workers']}.",
        "",
        *(f"- {name}: {_line(value)}" for name, value in about["versions"].items()),
        f"- machine: {_line(about['machine'])}",
        *(f"- {note}" for note in about.get("notes", [])),
    ]
    if disturbed:
        notes.append(
            f"- **not a quiet machine**: in {len(disturbed)} of {len(whole)} windows other "
            f"processes used more than {DISTURBED} cores, {max(disturbed):.2f} at most"
        )
    notes += [f"- error: {w['server']} {w['load']}: {w['error']}" for w in windows if w["error"]]
    return notes


def _line(value: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in value.items())
