"""The project's file: `hornbeam.toml`, or the table `tool.hornbeam` of `pyproject.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hornbeam_erlang._command.options import ROWS
from hornbeam_erlang._command.values import did_you_mean

OWN = "hornbeam.toml"
PROJECT = "pyproject.toml"

KEYS: Mapping[str, str] = {"app": "app"} | {key: row.name for row in ROWS for key in row.keys}
"""The names of rows by what they may be called."""


@dataclass(frozen=True)
class File:
    """What a file says, by the names of rows, and what it is called."""

    name: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)


def find() -> File:
    """Read the file of the working folder; its own comes before a part of another."""
    for name in (OWN, PROJECT):
        if Path(name).is_file():
            return read(Path(name))
    return File()


def read(path: Path) -> File:
    """Read a file. Raises `ValueError` with a sentence."""
    try:
        whole = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    table = whole
    if path.name == PROJECT:
        table = whole.get("tool", {}).get("hornbeam", {})
    return File(str(path), by_rows(str(path), table))


def by_rows(place: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a table says, by the names of rows. Raises `ValueError` with a sentence."""
    said: dict[str, Any] = {}
    for given, value in table.items():
        key = given.replace("-", "_")
        if key not in KEYS:
            raise ValueError(f"{place} has an unknown key {given}{did_you_mean(key, list(KEYS))}")
        if KEYS[key] in said:
            raise ValueError(f"{place} says {given} twice, under two names")
        said[KEYS[key]] = value
    return said
