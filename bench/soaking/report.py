"""What a soak found, as Markdown."""

from typing import Any

from harness.report import head, number, row
from soaking.accounts import MIB, Line

_DETAILS = ("rows of", "processes of")


def table(lines: list[Line]) -> list[str]:
    """What was compared: all that leaks, all counts but the rows of each table, all sizes."""
    rows = head("what", " before", " after", " allowed", "back")
    shown = (line for line in lines if line.leaks or not line.what.startswith(_DETAILS))
    return rows + [_row(line) for line in shown]


def notes(about: dict[str, Any]) -> list[str]:
    """How it was measured, what was done, and what went wrong."""
    done = ", ".join(f"{number(count)} {what}" for what, count in sorted(about["done"].items()))
    cpu = ", ".join(f"{kind} {cores:.2f}" for kind, cores in about["cores"].items())
    return [
        f"Warm-up {about['warmup']:.0f} s, soak {60 * about['minutes']:.0f} s, {about['clients']} "
        f"clients at a time, {about['workers']} workers, {about['kills']} killed; seed "
        f"{about['seed']}. Bytes may grow by {about['share']:.0%} and {about['extra']:.0f} MiB; "
        "the rows of each table of ETS and the processes of each kind must be what they were, "
        "and are shown where they are not.",
        "",
        f"- in the soak: {done}",
        f"- cores used in it: {cpu}; longest mailbox of a sample: {about['longest_mailbox']}",
        f"- hornbeam: {_said(about['versions'])}",
        f"- machine: {_said(about['machine'])}",
        *(f"- error: {error}" for error in about["errors"]),
    ]


def _row(line: Line) -> str:
    digits = 0
    values = [line.before, line.after, line.allowed]
    if line.what.startswith("memory:") or line.what.endswith("resident"):
        values, digits = [value / MIB for value in values], 2
    unit = " MiB" if digits else ""
    return row(
        *(line.what, *(number(value, digits) + unit for value in values)),
        "**no**" if line.leaks else "yes",
    )


def _said(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
