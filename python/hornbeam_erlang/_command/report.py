"""What --print-config shows: a file that says the same again, with where each value comes from."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from hornbeam_erlang._command import mounts, values
from hornbeam_erlang._command.options import ROWS, SECRET, Row
from hornbeam_erlang._command.settings import DEFAULT, Setting, cluster_key

WIDTH = 44


def report(app: str | None, app_origin: str, settled: Mapping[str, Setting]) -> str:
    """Return the lines, in the order of the table."""
    lines = [_line("app", json.dumps(app), app_origin)] if app else []
    lines += [_of_row(row, settled.get(row.name)) for row in ROWS if row.means is None]
    if all_mounts := settled.get("mounts"):
        lines += [_mount(mount, all_mounts.origin) for mount in all_mounts.value]
    return "".join(lines)


def _mount(mount: mounts.Mount, origin: str) -> str:
    lines = ["\n", _line("[[mount]]", None, origin)]
    for name, value in mounts.shown(mount, SECRET).items():
        is_secret = value is None
        line = _line(name, "hidden" if is_secret else _toml(value), origin)
        lines.append(f"# {line}" if is_secret else line)
    return "".join(lines)


def _of_row(row: Row, setting: Setting | None) -> str:
    if setting is None:
        if row.name == "python":
            return _line(row.name, json.dumps(sys.executable), DEFAULT)
        return _default_line(row)
    if row.name == "cluster":
        return _cluster(setting)
    return _value_line(row, setting)


def _value_line(row: Row, setting: Setting) -> str:
    if row.name in SECRET:
        return f"# {_line(row.name, 'hidden', setting.origin)}"
    return _line(row.name, _toml(values.shown(row.kind, setting.value)), setting.origin)


def _cluster(setting: Setting) -> str:
    """Return a line for each of its keys that was said, by the name of that key's row."""
    rows = [row for row in ROWS if row.target == "cluster"]
    parts = [
        (row, Setting(value, setting.origin, row.kind))
        for row in rows
        if (value := setting.value.get(cluster_key(row))) is not None
    ]
    return "".join(_value_line(row, part) for row, part in parts)


def _default_line(row: Row) -> str:
    """A default that is nothing cannot be written in a file, and need not be."""
    if not row.default:
        return f"# {_line(row.name, '', DEFAULT)}"
    default = values.read(row.kind, row.default, row.words)
    return _line(row.name, _toml(values.shown(row.kind, default)), DEFAULT)


def _line(name: str, value: str | None, origin: str) -> str:
    said = name if value is None else f"{name} = {value}"
    return f"{said:<{WIDTH}} # {origin}\n"


def _toml(value: Any) -> str:
    """JSON is TOML for texts, numbers, truths and lists of them."""
    return json.dumps(value, ensure_ascii=False)
