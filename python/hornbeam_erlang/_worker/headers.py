"""Headers and statuses that an app sends, checked where it sends them. Pure."""

import re
from collections.abc import Iterable
from functools import lru_cache

from hornbeam_erlang._worker.wire import Headers

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_FORBIDDEN = re.compile(rb"[\x00\r\n]").search
# What is as long as this (bytes) is not worth its place among those that are known.
_LONG = 256
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


def check_headers(headers: Iterable[Iterable[bytes]]) -> Headers:
    """Return the headers as pairs with lower-case names, in their order, each as often as given.

    Raises `TypeError` for what is not bytes, `ValueError` for a name that is no token
    (RFC 9110, 5.1) and for a value that would end its line: a response could be split there.
    """
    return [
        _known_header(name, value)
        if type(name) is bytes and type(value) is bytes and len(value) < _LONG
        else _check_header(name, value)
        for name, value in headers
    ]


def _check_header(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if type(name) is not bytes or type(value) is not bytes:
        name, value = check_bytes("a header name", name), check_bytes("a header value", value)
    lowered = _lowered(name)
    if _FORBIDDEN(value):
        raise ValueError(f"the value of header {name.decode()} has a line end or a NUL: {value!r}")
    return lowered, value


# Most of an app's headers are those of the response before.
_known_header = lru_cache(maxsize=1024)(_check_header)


@lru_cache(maxsize=1024)
def _lowered(name: bytes) -> bytes:
    if not _NAME(name):
        raise ValueError(f"not a header name: {name!r}")
    return name.lower()


def check_status(status: int) -> int:
    """Return the status of a final response."""
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"a status is an int, not {type(status).__name__}")
    if not 200 <= status <= 599:
        raise ValueError(f"not the status of a final response: {status}")
    return int(status)


def content_length(headers: Headers) -> int | None:
    """Return the length that the headers promise for the body."""
    length = None
    for name, value in headers:
        if name == b"content-length":
            if not value.isdigit() or (length is not None and value != length):
                raise ValueError(f"not a content-length: {value!r}")
            length = value
    return None if length is None else int(length)


def check_bytes(name: str, value: object) -> bytes:
    """Return a body or a binary message, called `name`, as bytes."""
    if type(value) is bytes:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"{name} is bytes, not {type(value).__name__}")


def check_subprotocol(subprotocol: str | None) -> str | None:
    """Return the subprotocol to accept."""
    if subprotocol is None:
        return None
    if not isinstance(subprotocol, str):
        raise TypeError(f"a subprotocol is a str, not {type(subprotocol).__name__}")
    if not _TOKEN(subprotocol):
        raise ValueError(f"not a subprotocol: {subprotocol!r}")
    return str(subprotocol)
