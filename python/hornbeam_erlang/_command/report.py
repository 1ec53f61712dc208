"""What --print-config shows: a file that says the same again, with where each value comes from."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from hornbeam_erlang._command import values
from hornbeam_erlang._command.options import ROWS, Row
from hornbeam_erlang._command.settings import DEFAULT, Setting

SECRET = frozenset({"keyfile_password", "env"})

WIDTH = 44


def report(app: str | None, app_origin: str, settled: Mapping[str, Setting]) -> str:
    """Return the lines, in the order of the table."""
    lines = [_line("app", json.dumps(app), app_origin)] if app else []
    lines += [_of_row(row, settled.get(row.name)) for row in ROWS if row.means is None]
    return "".join(lines)


def _of_row(row: Row, setting: Setting | None) -> str:
    if setting is None:
        if row.name == "python":
            return _line(row.name, json.dumps(sys.executable), DEFAULT)
        return _default_line(row)
    if row.name in SECRET:
        return f"# {_line(row.name, 'hidden', setting.origin)}"
    return _line(row.name, _toml(values.shown(row.kind, setting.value)), setting.origin)


def _default_line(row: Row) -> str:
    """A default that is nothing cannot be written in a file, and need not be."""
    if not row.default:
        return f"# {_line(row.name, '', DEFAULT)}"
    default = values.read(row.kind, row.default, row.words)
    return _line(row.name, _toml(values.shown(row.kind, default)), DEFAULT)


def _line(name: str, value: str, origin: str) -> str:
    return f"{f'{name} = {value}':<{WIDTH}} # {origin}\n"


def _toml(value: Any) -> str:
    """JSON is TOML for texts, numbers, truths and lists of them."""
    return json.dumps(value, ensure_ascii=False)
