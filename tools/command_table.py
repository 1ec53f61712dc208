"""Writes the tables of docs/guide/command.md from the table of the command's options.

.venv/bin/python tools/command_table.py
"""

from pathlib import Path

from hornbeam_erlang._command.options import ELSEWHERE, SECTIONS, Row

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "command.md"

BEGIN = "<!-- made by tools/command_table.py -->"
END = "<!-- end -->"


def tables() -> str:
    parts = [_section(title, rows) for title, rows in SECTIONS.items()]
    refused = "\n".join(f"| `{flag}` | {sentence} |" for flag, sentence in ELSEWHERE.items())
    parts.append(f"### What means nothing here\n\n| flag | instead |\n|---|---|\n{refused}\n")
    return "\n".join(parts)


def _section(title: str, rows: tuple[Row, ...]) -> str:
    lines = "\n".join(map(_line, rows))
    return f"### {title}\n\n| flag | default | meaning |\n|---|---|---|\n{lines}\n"


def _line(row: Row) -> str:
    flags = ", ".join(f"`{flag}`" for flag in (*row.short_flags, *row.long_flags))
    words = f" ({', '.join(f'`{word}`' for word in row.words)})" if row.words else ""
    others = f" Also `{'`, `'.join(row.variables)}`." if row.variables else ""
    default = f"`{row.default}`" if row.default else ""
    return f"| {flags} {row.kind.value}{words} | {default} | {row.help}{others} |"


def page(text: str) -> str:
    """Return the page with its tables made anew."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n\n{tables()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
