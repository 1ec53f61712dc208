"""Values between Python and Erlang, packed: the types of docs/wire.md, both ways.

Pure: knows msgpack and the terms, neither messages nor how they travel. What cannot travel is
refused here, by the path to it: `message['users'][3]: set …`.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgpack

from hornbeam_erlang.exceptions import ProtocolError
from hornbeam_erlang.terms import Atom, Fun, Pid, Port, Reference, Term

# What fits into one message of the wire, with room for what stands around it (bytes).
MAX_VALUE = 134_152_192

# Containers within containers, and the bytes of one integer: Erlang reads no more.
MAX_DEPTH = 511
MAX_INTEGER = 16_384

# The tags of Erlang's external term format that tell the four apart.
_TERMS: dict[bytes, type[Term]] = {
    bytes([131, tag]): kind
    for kind, tags in {
        Pid: (88, 103),
        Reference: (90, 101, 114),
        Port: (89, 102, 120),
        Fun: (112, 113),
    }.items()
    for tag in tags
}

# A packed float whose exponent is all ones is infinite or no number. The same bytes may stand
# in a text by chance: they are a reason to look, not a proof.
_MAYBE_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]").search

_Problem = tuple[type[Exception], str]


def pack(value: Any, name: str = "value") -> bytes:
    """Return a value as msgpack, for Erlang or another worker.

    `name` is what the value is called in an error. Raises `TypeError` for what Erlang has no
    term for, `ValueError` for what is too large, too deep, or no number.
    """
    try:
        packed = to_msgpack(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _named(value, name, error) from None
    if len(packed) > MAX_VALUE:
        raise ValueError(f"{name}: has {len(packed)} bytes, at most {MAX_VALUE} can travel")
    if _MAYBE_NOT_FINITE(packed):
        for kind, text in _problems(value, name, 0):
            raise kind(text)
    return packed


def to_msgpack(value: Any) -> bytes:
    """Return a value as msgpack, without a look at what is in it."""
    try:
        packer = _packers.pop()
    except IndexError:
        packer = msgpack.Packer(default=_to_extension, strict_types=True)
    packed: bytes = packer.pack(value)
    if len(packed) <= _KEPT:
        _packers.append(packer)
    return packed


# Packers that nobody uses now: a new one costs five times what most values do. One at a time, for
# a tuple is packed while what it stands in is, and threads pack too. A packer keeps the room of
# the longest value it has packed (bytes), so one that had more is not used again.
_packers: list[msgpack.Packer] = []
_KEPT = 65_536


def unpack(data: bytes) -> Any:
    """Return the value that Erlang or another worker packed.

    Raises `TypeError` for an Erlang map with a key that Python cannot hash, such as a list, and
    `ValueError` for a value that is nested too deeply.
    """
    try:
        return msgpack.unpackb(data, ext_hook=from_extension, strict_map_key=False)
    except TypeError as error:
        raise TypeError(f"an Erlang map has a key that Python cannot hash: {error}") from error
    except (msgpack.StackError, RecursionError) as error:
        raise ValueError("the value is nested too deeply for Python") from error


# Python's types that msgpack does not know


def _to_extension(value: Any) -> Any:
    match value:
        case Atom():
            return msgpack.ExtType(1, str.encode(value))
        case tuple():
            return msgpack.ExtType(2, to_msgpack(list(value)))
        case Term():
            return msgpack.ExtType(3, value.data)
        case int():
            return _to_integer(int.__int__(value))
    return _to_base(value)


def _to_integer(value: int) -> Any:
    if -(1 << 63) <= value < 1 << 64:
        return value
    magnitude = value if value >= 0 else ~value
    size = magnitude.bit_length() // 8 + 1
    if size > MAX_INTEGER:
        raise OverflowError
    return msgpack.ExtType(4, value.to_bytes(size, "big", signed=True))


def _to_base(value: Any) -> Any:
    """Return a subclass's instance as its base: an enum's member, a defaultdict, …"""
    match value:
        case str():
            return str.__str__(value)
        case float():
            return float.__float__(value)
        case bytes() | bytearray():
            return bytes(value)
        case dict():
            return dict(value)
        case list():
            return list(value)
    raise TypeError(f"Erlang has no term for a {type(value).__name__}")


def from_extension(code: int, data: bytes) -> Any:
    """Return the value of a msgpack extension."""
    match code:
        case 1:
            return Atom(data.decode())
        case 2 if isinstance(elements := unpack(data), list):
            return tuple(elements)
        case 3:
            return _TERMS.get(data[:2], Term)(data)
        case 4:
            return int.from_bytes(data, "big", signed=True)
    raise ProtocolError(f"not an extension of this wire: type {code}, {data[:40]!r}")


# What is wrong with a value, and where: only looked for when something is


def _named(value: Any, name: str, error: Exception) -> Exception:
    for kind, text in _problems(value, name, 0):
        return kind(text)
    return (TypeError if isinstance(error, TypeError) else ValueError)(f"{name}: {error}")


def _problems(value: Any, path: str, depth: int) -> Iterator[_Problem]:
    if depth > MAX_DEPTH:
        outer = path.partition("[")[0]
        yield ValueError, f"{outer}: is nested deeper than {MAX_DEPTH} levels, or contains itself"
        return
    match value:
        case dict():
            for key, item in value.items():
                inner = f"{path}[{shown(key)}]"
                yield from _problems(key, f"the key {inner}", depth + 1)
                yield from _problems(item, inner, depth + 1)
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _problems(item, f"{path}[{index}]", depth + 1)
        case _:
            yield from _problem_of_scalar(value, path)


def _problem_of_scalar(value: Any, path: str) -> Iterator[_Problem]:
    match value:
        case None | bool() | bytes() | bytearray() | memoryview() | Term():
            return
        case float() if not math.isfinite(value):
            yield ValueError, f"{path}: {value} is no number in Erlang"
        case int() if value.bit_length() >= 8 * MAX_INTEGER:
            yield ValueError, f"{path}: an integer has at most {MAX_INTEGER} bytes in Erlang"
        case str() if not _encodable(value):
            yield ValueError, f"{path}: the text has surrogates, which UTF-8 cannot hold"
        case float() | int() | str():
            return
        case _:
            yield TypeError, f"{path}: {type(value).__name__} has no form in Erlang"


def shown(key: Any) -> str:
    """Return a key as a part of a path; a long one would hide the rest."""
    try:
        text = repr(key)
    except Exception:  # the app's own, or an integer that is too long
        text = type(key).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Keys of shared state, topics, times: what ops take besides values

Key: TypeAlias = str | bytes | int | tuple["Key", ...]

# What travels: None, bool, int, float, str, bytes, terms, and lists, tuples and dicts of them. For
# who checks types it is `Any`: a reader knows what was stored, and a list of one type is no list
# of a union. `pack` refuses what else it is given.
Value: TypeAlias = Any


# Tuples within tuples of a key.
MAX_KEY_DEPTH = 16

# The bytes of a key as it travels, and those of a topic or another name.
MAX_KEY = 65_535
MAX_NAME = 4096


def checked_key(key: Any, name: str = "key") -> Key:
    """Return a key as it travels; raises `TypeError` for what is none, `ValueError` if too big."""
    checked = _checked_key(key, name, 0)
    if _most_bytes(checked) > MAX_KEY and len(to_msgpack(checked)) > MAX_KEY:
        raise ValueError(f"{name}: is longer than {MAX_KEY} bytes")
    return checked


def _most_bytes(key: Key) -> int:
    """Return what a key may have at most, without packing it."""
    if isinstance(key, str):
        return 4 * len(key) + 5
    if isinstance(key, bytes):
        return len(key) + 5
    return 10 + sum(map(_most_bytes, key)) if isinstance(key, tuple) else MAX_INTEGER


def _checked_key(key: Any, name: str, depth: int) -> Key:
    kind = type(key)
    if kind is bytes or (kind is str and key.isascii()):
        return key  # type: ignore[no-any-return]
    if isinstance(key, tuple):
        if depth >= MAX_KEY_DEPTH:
            outer = name.partition("[")[0]
            raise ValueError(f"{outer}: is nested deeper than {MAX_KEY_DEPTH} levels")
        return tuple(_checked_key(part, f"{name}[{n}]", depth + 1) for n, part in enumerate(key))
    if not isinstance(key, bool | Atom):
        if isinstance(key, str | int):
            for problem, text in _problem_of_scalar(key, name):
                raise problem(text)
        for base in _BASES:
            if isinstance(key, base):
                return _BASES[base](key)
    raise TypeError(
        f"{name}: {kind.__name__} is no key; keys are str, bytes, int or tuples of them"
    )


_BASES: dict[type, Callable[[Any], Key]] = {str: str.__str__, bytes: bytes, int: int.__int__}


def checked_text(text: Any, name: str) -> str:
    """Return a name or a topic; raises `TypeError` for what is no str."""
    if not isinstance(text, str):
        raise TypeError(f"{name}: is a str, not {type(text).__name__}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{name}: the text has surrogates, which UTF-8 cannot hold") from None
    if size > MAX_NAME:
        raise ValueError(f"{name}: is longer than {MAX_NAME} bytes")
    return str.__str__(text)


def checked_number(number: Any, name: str) -> int | float:
    """Return an int or a float; raises `TypeError` for others and `ValueError` for infinity."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{name}: is an int or a float, not {type(number).__name__}")
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"{name}: {number} is no number in Erlang")
    if isinstance(number, int):
        for problem, text in _problem_of_scalar(number, name):
            raise problem(text)
    return number


# The longest time that the node keeps count of (seconds).
MAX_TTL = 4_294_967_295


def milliseconds_to_live(seconds: Any) -> int | None:
    """Return a `ttl` as it travels."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"ttl: is an int or a float, not {type(seconds).__name__}")
    if not 0 < seconds <= MAX_TTL:
        raise ValueError(f"ttl: is more than 0 and at most {MAX_TTL} seconds, not {shown(seconds)}")
    return max(round(seconds * 1000), 1)


# The longest time that can be waited (seconds): timers of the operating system end soon after it.
MAX_TIMEOUT = 2_000_000


def checked_seconds(timeout: Any) -> float | None:
    """Return a `timeout`, or None for as long as it takes."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout: is a number of seconds or None, not {type(timeout).__name__}")
    if not 0 <= timeout <= MAX_TIMEOUT:
        raise ValueError(
            f"timeout: is 0 to {MAX_TIMEOUT} seconds, or None for no end, not {shown(timeout)}"
        )
    return timeout


def checked_timeout(timeout: Any) -> int:
    """Return a `timeout` as it travels, in milliseconds."""
    seconds = checked_seconds(timeout)
    if seconds is None:
        return MAX_TIMEOUT * 1000
    return max(round(seconds * 1000), 1) if seconds else 0
