"""Writes the table of metrics into docs/guide/operations.md, from that of the code.

rebar3 compile && .venv/bin/python tools/metrics_table.py
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]

PAGE = ROOT / "docs" / "guide" / "operations.md"

BEGIN = "<!-- made by tools/metrics_table.py -->"
END = "<!-- end of the metrics -->"

LINES = """
[io:format("| `~s` | ~s | ~s | ~s |~n",
           [Name, Type, [lists:join(", ", [["`", atom_to_list(Label), "`"] || Label <- Labels])],
            Help])
 || {Name, Type, Labels, Help} <- hornbeam_metrics:table()], halt().
"""


def table() -> str:
    code = ROOT / "_build" / "default" / "lib" / "hornbeam" / "ebin"
    lines = subprocess.run(
        ["erl", "-noinput", "-pa", code, "-eval", LINES], check=True, text=True, timeout=60,
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip
    return f"| metric | type | labels | meaning |\n|---|---|---|---|\n{lines}"


def page() -> str:
    """Return the page with its table made anew."""
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return f"{head}{BEGIN}\n\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
