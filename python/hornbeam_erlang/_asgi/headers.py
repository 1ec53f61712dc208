"""Headers and statuses that an app sends, checked where it sends them. Pure."""

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import NoReturn

from hornbeam_erlang._wire.packets import Headers

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
# All control characters but the tab.
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
# What is as long as this (bytes) is not worth its place among those that are known.
_LONG = 256
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


# What a header takes beside its name and value (bytes), and how much of a value is shown.
_FIELD = 4
_SHOWN = 64

# Those about the connection that nobody sends who means well. The others (connection, keep-alive,
# upgrade, transfer-encoding) are the node's to say: apps that pass on what another server has
# answered have them too, and there they are dropped.
_REFUSED = {
    b"te": "it is a request's (RFC 9110, 10.1.4)",
    b"trailer": "trailers are not sent",
    b"proxy-connection": "HTTP knows none",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the head of a response may have: bytes in all, and headers."""

    head: int
    fields: int


def check_headers(headers: Iterable[Iterable[bytes]], limits: Limits) -> Headers:
    """Return the headers as pairs with lower-case names, in their order, each as often as given.

    Blanks around a value are no part of it (RFC 9110, 5.5) and are taken off.

    Raises `TypeError` for what is not bytes, `ValueError` for a name that is no token
    (RFC 9110, 5.1) or no response's, for a value with control characters (RFC 9110, 5.5), which
    could split a response, and for more than the limits let pass.
    """
    checked: Headers = []
    size = 0
    # Written out: each response waits for this. What an app gives may have no end.
    for name, value in islice(headers, limits.fields + 1):
        if type(name) is bytes and type(value) is bytes and len(name) + len(value) < _LONG:
            checked.append(_known_header(name, value))
            size += len(name) + len(value)
        else:
            checked.append(_check_header(name, value))
            size += sum(map(len, checked[-1]))
            if size > limits.head:
                break
    size += _FIELD * len(checked)
    if size > limits.head or len(checked) > limits.fields:
        _refuse_size(checked, size, limits)
    return checked


def _refuse_size(headers: Headers, size: int, limits: Limits) -> NoReturn:
    if len(headers) > limits.fields:
        raise ValueError(f"more headers than limit_response_fields, which is {limits.fields}")
    name, value = max(headers, key=lambda header: len(header[0]) + len(header[1]))
    raise ValueError(
        f"headers of {size} bytes are more than limit_response_head, which is {limits.head}; the "
        f"largest is {_shown(name)} with {len(value)}"
    )


def _shown(data: bytes) -> str:
    return repr(data[:_SHOWN]) + ("…" if len(data) > _SHOWN else "")


def _check_header(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if type(name) is not bytes or type(value) is not bytes:
        name, value = check_bytes("a header name", name), check_bytes("a header value", value)
    lowered = _lowered(name)
    if _FORBIDDEN(value):
        raise ValueError(
            f"the value of header {name.decode()} has control characters: {_shown(value)}"
        )
    return lowered, value.strip(b" \t")


# Most of an app's headers are those of the response before.
_known_header = lru_cache(maxsize=1024)(_check_header)


@lru_cache(maxsize=1024)
def _lowered(name: bytes) -> bytes:
    if not _NAME(name):
        raise ValueError(f"not a header name: {_shown(name)}")
    lowered = name.lower()
    if lowered in _REFUSED:
        raise ValueError(f"no response has a header {name.decode()}: {_REFUSED[lowered]}")
    return lowered


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


def is_event_stream(headers: Headers) -> bool:
    """Tell whether the body is an event stream (HTML, 9.2.5)."""
    for name, value in headers:
        if name == b"content-type":
            return value.partition(b";")[0].rstrip().lower() == b"text/event-stream"
    return False


def is_encoded(headers: Headers) -> bool:
    """Tell whether the body is encoded, as by gzip, so that nobody else can add to it."""
    return any(
        name == b"content-encoding" and value.lower() != b"identity" for name, value in headers
    )


def check_bytes(name: str, value: object) -> bytes:
    """Return a body or a binary message, called `name`, as bytes."""
    if type(value) is bytes:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"{name} is bytes, not {type(value).__name__}")


def check_accept_headers(headers: Iterable[Iterable[bytes]], limits: Limits) -> Headers:
    """Return the headers of an accept; those of the handshake itself are not the app's to say."""
    checked = check_headers(headers, limits)
    for name, _ in checked:
        if name == b"sec-websocket-protocol":
            raise ValueError("sec-websocket-protocol is set by the key subprotocol of the accept")
        if name.startswith(b"sec-websocket-"):
            raise ValueError(f"{name.decode()} is what client and server agree on, not the app's")
    return checked


def check_subprotocol(subprotocol: str | None, offered: Container[str]) -> str | None:
    """Return the subprotocol to accept: one that the client has offered (RFC 6455, 4.2.2)."""
    if subprotocol is None:
        return None
    if not isinstance(subprotocol, str):
        raise TypeError(f"a subprotocol is a str, not {type(subprotocol).__name__}")
    if not _TOKEN(subprotocol):
        raise ValueError(f"not a subprotocol: {subprotocol!r}")
    if subprotocol not in offered:
        raise ValueError(f"the client has not offered the subprotocol {subprotocol!r}")
    return str(subprotocol)
