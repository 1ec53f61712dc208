"""Results as JSON (every window) and as a Markdown table (medians with their spread).

`publish` also puts the table into bench/README.md, between the part's two markers.
"""

import json
import re
from pathlib import Path
from statistics import median
from typing import Any

BENCH = Path(__file__).resolve().parent.parent
DISTURBED = 0.05  # cores used by processes that are no part of the measurement

Window = dict[str, Any]


def write(folder: Path, part: str, about: dict[str, Any], windows: list[Window]) -> str:
    """Write PART.json and PART.md into the folder; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}.json").write_text(json.dumps(about | {"windows": windows}, indent=1) + "\n")
    markdown = "\n".join([*_table(windows), "", *_notes(about, windows), ""])
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


def _table(windows: list[Window]) -> list[str]:
    rows = [
        "| load | server | messages/s | p50 µs | p99 µs | server CPU µs/message | × uvicorn "
        "| of it Python | generator CPU µs/message | errors |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for load in _distinct(windows, "load"):
        cells = {s: _of(windows, load, s) for s in _distinct(windows, "server")}
        rival = _median(cells.get("uvicorn", []), "cpu_us")
        rows += [_row(load, server, cell, rival) for server, cell in cells.items()]
    return rows


def _row(load: str, server: str, cell: list[Window], rival: float | None) -> str:
    good = [w for w in cell if not w["error"]]
    errors = len(cell) - len(good)
    if not good:
        return f"| {load} | {server} | | | | | | | | {errors} |"
    cpu = [w["cpu_us"] for w in good]
    python = median(w["cpu_us_by_process"]["Python"] for w in good)
    ratio = f"{median(cpu) / rival:.2f}" if rival else ""
    return (
        f"| {load} | {server} | {_spread([w['rate'] for w in good], 0)} "
        f"| {median(w['p50_us'] for w in good):.0f} | {median(w['p99_us'] for w in good):.0f} "
        f"| {_spread(cpu, 1)} | {ratio} | {python:.1f} "
        f"| {median(w['generator_cpu_us'] for w in good):.1f} | {errors} |"
    )


def _notes(about: dict[str, Any], windows: list[Window]) -> list[str]:
    good = [w for w in windows if not w["error"]]
    disturbed = [w["cores_used_beside"] for w in good if w["cores_used_beside"] > DISTURBED]
    notes = [
        f"Medians of {about['rounds']} interleaved rounds (least–most), windows of "
        f"{about['seconds']} s; workers: {about['workers']}.",
        "",
        *(f"- {name}: {_line(value)}" for name, value in about["versions"].items()),
        f"- machine: {_line(about['machine'])}",
    ]
    if disturbed:
        notes.append(
            f"- **not a quiet machine**: in {len(disturbed)} of {len(good)} windows other "
            f"processes used more than {DISTURBED} cores, {max(disturbed):.2f} at most"
        )
    notes += [f"- error: {w['server']} {w['load']}: {w['error']}" for w in windows if w["error"]]
    return notes


def _line(value: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in value.items())


def _distinct(windows: list[Window], key: str) -> list[str]:
    return list(dict.fromkeys(w[key] for w in sorted(windows, key=lambda w: w["order"])))


def _of(windows: list[Window], load: str, server: str) -> list[Window]:
    return [w for w in windows if w["load"] == load and w["server"] == server]


def _median(cell: list[Window], key: str) -> float | None:
    values = [w[key] for w in cell if not w["error"]]
    return median(values) if values else None


def _spread(values: list[float], digits: int) -> str:
    low, middle, high = (
        f"{v:,.{digits}f}".replace(",", " ") for v in (min(values), median(values), max(values))
    )
    return f"{middle} ({low}–{high})"
