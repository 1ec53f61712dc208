"""What users write, made what the node understands: durations, sizes, words, lists. Pure.

A value comes as text from a flag or the environment, and as what TOML has from a file. Whether it
is allowed is the node's to say (hornbeam_config); here it only has to be of its kind.
"""

import enum
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from hornbeam_erlang.terms import Atom

INFINITY = Atom("infinity")

MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
BYTES = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

# OTP's names of uvicorn's levels.
LEVELS = {
    "critical": "critical",
    "error": "error",
    "warning": "warning",
    "info": "info",
    "debug": "debug",
    "trace": "debug",
}

_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d)?")
_SIZE = re.compile(r"(\d+) ?([KMG]?)(?:I?B)?", re.IGNORECASE)
_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_FALSE = frozenset({"0", "false", "no", "off", "n", "f"})


class Kind(enum.Enum):
    """What a value is; the name is what a reader of the help sees."""

    TEXT = "TEXT"
    PATH = "PATH"
    WORD = "WORD"
    SWITCH = "BOOLEAN"
    COUNT = "NUMBER"
    DURATION = "DURATION"
    SIZE = "SIZE"
    NAMES = "NAMES"
    """A list; commas part its items where it is one text."""
    PATHS = "PATHS"
    """A list that colons part, as they do in PATH."""
    FIELDS = "NAME=VALUE"
    """A table of names and text."""
    LINES = "NAME:VALUE"
    """A list of headers; only lines part them where they are one text."""
    ADDRESS = "[ADDRESS]"
    """An address, or whether there is one; the flag alone means the usual one."""
    ADDRESSES = "ADDRESS"
    """One address or a list of them; commas part them where they are one text."""
    MOUNTS = "PATH=APP"
    """Apps by their paths, or tables of their options; read by mounts.py."""


def read(kind: Kind, value: Any, words: Sequence[str] = ()) -> Any:
    """Return a value of a kind as a term for the node.

    `words` are what may stand in its place or, of a `Kind.WORD`, all that it may be. Raises
    `ValueError` with the end of a sentence that begins with the value.
    """
    if kind is not Kind.NAMES and isinstance(value, str) and value in words:
        return Atom(value)
    if kind not in (Kind.SWITCH, Kind.ADDRESS) and isinstance(value, bool):
        raise ValueError(f"is not {EXPECTED[kind]}")
    return _READERS[kind](value, words)


def _word(value: Any, words: Sequence[str]) -> Any:
    raise ValueError(f"is not one of {', '.join(words)}{did_you_mean(str(value), words)}")


def _text(value: Any, _words: Sequence[str]) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"is not {EXPECTED[Kind.TEXT]}")


def _switch(value: Any, _words: Sequence[str]) -> bool:
    word = str(value).lower()
    if word in _TRUE | _FALSE:
        return word in _TRUE
    raise ValueError(f"is not {EXPECTED[Kind.SWITCH]}")


def _address(value: Any, _words: Sequence[str]) -> bool | str:
    if str(value).lower() in _TRUE | _FALSE:
        return _switch(value, ())
    return _text(value, ())


def _count(value: Any, words: Sequence[str]) -> int:
    if isinstance(value, int):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        return int(value)
    raise ValueError(_expected(Kind.COUNT, words))


def _duration(value: Any, words: Sequence[str]) -> int:
    match = _DURATION.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(_expected(Kind.DURATION, words))
    return round(float(match[1]) * MILLISECONDS[match[2] or "s"])


def _size(value: Any, words: Sequence[str]) -> int:
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(_expected(Kind.SIZE, words))
    return int(match[1]) * BYTES[match[2].upper()]


def _expected(kind: Kind, words: Sequence[str]) -> str:
    return f"is not {EXPECTED[kind]}" + "".join(f" or {word}" for word in words)


def _names(value: Any, words: Sequence[str]) -> list[str | Atom]:
    return [Atom(item) if item in words else item for item in _items(value, ",")]


def _addresses(value: Any, _words: Sequence[str]) -> str | list[str]:
    addresses = _items(value, ",")
    return addresses[0] if len(addresses) == 1 else addresses


def _paths(value: Any, _words: Sequence[str]) -> list[str]:
    return _items(value, ":")


def _items(value: Any, separator: str) -> list[str]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(separator) if item.strip()]
    if isinstance(value, Sequence) and all(isinstance(item, str) for item in value):
        return [item for text in value for item in _items(text, separator)]
    raise ValueError("is not a list of texts")


def _fields(value: Any, _words: Sequence[str]) -> dict[str, str]:
    if isinstance(value, dict):
        return {name: _field_text(text) for name, text in value.items()}
    items = value if isinstance(value, list | tuple) else [value]
    pairs = [str(text).partition("=") for text in items]
    if all(name and equals for name, equals, _ in pairs):
        return {name: text for name, _, text in pairs}
    raise ValueError(f"is not {EXPECTED[Kind.FIELDS]}")


def _lines(value: Any, _words: Sequence[str]) -> list[str]:
    if isinstance(value, dict):
        return [f"{name}: {_field_text(text)}" for name, text in value.items()]
    lines = _items(value, "\n")
    if not all(":" in line for line in lines):
        raise ValueError(f"is not {EXPECTED[Kind.LINES]}")
    return lines


def _field_text(value: Any) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError("has a value that is no text")


_READERS: dict[Kind, Callable[[Any, Sequence[str]], Any]] = {
    Kind.TEXT: _text,
    Kind.PATH: _text,
    Kind.WORD: _word,
    Kind.SWITCH: _switch,
    Kind.COUNT: _count,
    Kind.DURATION: _duration,
    Kind.SIZE: _size,
    Kind.NAMES: _names,
    Kind.PATHS: _paths,
    Kind.FIELDS: _fields,
    Kind.LINES: _lines,
    Kind.ADDRESS: _address,
    Kind.ADDRESSES: _addresses,
}

EXPECTED = {
    Kind.TEXT: "a text",
    Kind.PATH: "a path",
    Kind.WORD: "a word",
    Kind.SWITCH: "true or false",
    Kind.COUNT: "a whole number",
    Kind.DURATION: "a duration such as 30s, 5m or 250ms (a number without a unit is seconds)",
    Kind.SIZE: "a size such as 64K, 16M or 1G (a number without a unit is bytes)",
    Kind.NAMES: "a list of names",
    Kind.PATHS: "a list of paths",
    Kind.FIELDS: "NAME=VALUE",
    Kind.ADDRESS: "true, false or an address such as 127.0.0.1:9464",
    Kind.ADDRESSES: "an address or a list of them",
    Kind.LINES: "NAME:VALUE, such as x-frame-options:DENY",
}


def app(name: Any) -> str:
    """Return the name of an app, of which a beginner may have given only the file.

    Raises `ValueError` with the end of a sentence that begins with it.
    """
    module, _, attribute = str(name).partition(":")
    if not (module and attribute) or module.endswith(".py"):
        module = (module or "main").removesuffix(".py").strip("./").replace("/", ".")
        raise ValueError(f"is not MODULE:ATTRIBUTE; did you mean {module}:{attribute or 'app'}?")
    return str(name)


def shown(kind: Kind, value: Any) -> Any:
    """Return a term as a user would write it."""
    match kind:
        case Kind.DURATION if isinstance(value, int):
            return _in_units(value, MILLISECONDS)
        case Kind.SIZE if isinstance(value, int):
            return _in_units(value, {unit: size for unit, size in BYTES.items() if unit != "B"})
    return value


def _in_units(value: int, units: dict[str, int]) -> str:
    """Write a number in the largest unit that it has a whole number of."""
    unit = max((unit for unit in units if value % units[unit] == 0), key=units.__getitem__)
    return f"{value // units[unit]}{unit}" if value else "0"


def did_you_mean(given: str, known: Sequence[str]) -> str:
    """Return the end of a sentence that names what was meant; empty if nothing is like it."""
    near = get_close_matches(given, known, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""
