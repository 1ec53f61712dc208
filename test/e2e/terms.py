"""Erlang terms as the tests write and read them.

`text` writes a Python value as an Erlang expression; `decode` reads the external term
format. Knows nothing of nodes or sockets.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any


class Atom(str):
    """An Erlang atom; equal to the string of its name."""

    __slots__ = ()


class Expression(str):
    """An Erlang expression, such as a fun, that stands for its value."""

    __slots__ = ()


def text(value: Any) -> str:
    """Write a value as an Erlang expression: text becomes a UTF-8 binary."""
    match value:
        case bool():
            return str(value).lower()
        case Expression():
            return str(value)
        case Atom():
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        case str() | Path():
            return binary(str(value).encode())
        case bytes():
            return binary(value)
        case int() | float():
            return repr(value)
        case dict():
            return "#{" + ", ".join(f"{text(k)} => {text(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(text, value)) + "]"
        case tuple():
            return "{" + ", ".join(map(text, value)) + "}"
    raise TypeError(f"no Erlang term for {value!r}")


def binary(data: bytes) -> str:
    return "<<" + ",".join(map(str, data)) + ">>"


def charlist(value: str) -> str:
    """Write text as Erlang's list of characters, the form of a double-quoted string."""
    return "[" + ",".join(str(ord(char)) for char in value) + "]"


def decode(data: bytes) -> Any:
    """Read one external term.

    Binaries that are UTF-8 and lists of bytes come back as text, `true` and `false` as
    bools.
    """
    if data[0] != 131:
        raise ValueError("not an external term")
    value, end = read(data, 1)
    if end != len(data):
        raise ValueError("bytes after the term")
    return value


def read(data: bytes, at: int) -> tuple[Any, int]:
    tag, at = data[at], at + 1
    match tag:
        case 97:
            return data[at], at + 1
        case 98:
            return number(data, at, ">i")
        case 70:
            return number(data, at, ">d")
        case 110 | 111:
            size, at = number(data, at, ">B" if tag == 110 else ">I")
            magnitude = int.from_bytes(data[at + 1 : at + 1 + size], "little")
            return (-magnitude if data[at] else magnitude), at + 1 + size
        case 100 | 118:
            return atom(data, *number(data, at, ">H"))
        case 115 | 119:
            return atom(data, *number(data, at, ">B"))
        case 104 | 105:
            size, at = number(data, at, ">B" if tag == 104 else ">I")
            items, at = sequence(data, at, size)
            return tuple(items), at
        case 106:
            return [], at
        case 107:
            size, at = number(data, at, ">H")
            return data[at : at + size].decode("latin-1"), at + size
        case 108:
            size, at = number(data, at, ">I")
            items, at = sequence(data, at, size)
            _tail, at = read(data, at)
            return items, at
        case 109:
            size, at = number(data, at, ">I")
            return readable(data[at : at + size]), at + size
        case 116:
            size, at = number(data, at, ">I")
            items, at = sequence(data, at, 2 * size)
            return dict(zip(items[::2], items[1::2], strict=True)), at
    raise ValueError(f"external term tag {tag}")


def number(data: bytes, at: int, form: str) -> tuple[Any, int]:
    return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)


def atom(data: bytes, size: int, at: int) -> tuple[Any, int]:
    name = data[at : at + size].decode()
    return {"true": True, "false": False}.get(name, Atom(name)), at + size


def sequence(data: bytes, at: int, size: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(size):
        item, at = read(data, at)
        items.append(item)
    return items, at


def readable(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
