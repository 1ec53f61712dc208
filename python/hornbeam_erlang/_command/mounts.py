"""Several apps on one server: `--mount PATH=APP`, and the tables `[[mount]]` of a file. Pure.

A table has the keys of a file, with what they mean there, beside its path and app; which of them a
mount may have of its own is the node's to say.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hornbeam_erlang._command import files, values
from hornbeam_erlang._command.options import SECRET, Row
from hornbeam_erlang._command.settings import BY_NAME, Rank, Said, settle

Mount = dict[str, Any]
"""Options by their names, and `path` and `app`, as the node takes them."""

Read = Callable[[Row, Any], Any]
"""Reads a value of a row; raises `ValueError` with the end of a sentence."""


def read(given: Any, place: str, inherited: Mapping[str, str], read_value: Read) -> list[Mount]:
    """Return the mounts that texts or tables say. Raises `ValueError` with a sentence."""
    mounts = []
    for each in given if isinstance(given, list | tuple) else [given]:
        if isinstance(each, Mapping):
            mounts.append(_table(each, place, inherited, read_value))
        else:
            mounts += [_text(text.strip()) for text in str(each).split(",")]
    return mounts


def _text(text: str) -> Mount:
    path, equals, app = text.rpartition("=")
    if not (path and equals):
        raise ValueError(f"{text} is not PATH=APP, such as /api=api:app")
    return {"path": path, "app": _app(app)}


def _app(name: Any) -> str:
    try:
        return values.app(name)
    except ValueError as error:
        raise ValueError(f'"{name}" {error}') from error


def _table(
    table: Mapping[str, Any], place: str, inherited: Mapping[str, str], read_value: Read
) -> Mount:
    own = {key: table[key] for key in ("path", "app") if key in table}
    of = f"the mount {own['path']}" if "path" in own else "a mount"
    if "app" in own:
        own["app"] = _app(own["app"])
    rows = files.by_rows(of, {key: value for key, value in table.items() if key not in own})
    said = [_said(BY_NAME[name], value, of, place, read_value) for name, value in rows.items()]
    return own | {name: setting.value for name, setting in settle(said, inherited).items()}


def _said(row: Row, value: Any, of: str, place: str, read_value: Read) -> Said:
    if row.target in ("command", "mounts"):
        raise ValueError(f"{of} cannot have {row.name} of its own")
    try:
        return Said(row, read_value(row, value), Rank.FILE, place)
    except ValueError as error:
        shown = "the value" if row.name in SECRET else value
        raise ValueError(f"{of}: {row.name}: {shown} {error}") from error


def shown(mount: Mount, secret: Iterable[str]) -> dict[str, Any]:
    """Return a mount as a user would write it, and None for what nobody is to see."""
    return {
        name: None
        if name in secret
        else (values.shown(BY_NAME[name].kind, value) if name in BY_NAME else value)
        for name, value in mount.items()
    }
