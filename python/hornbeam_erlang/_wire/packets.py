"""The wire as bytes: what docs/wire.md says, written by hand.

Pure: knows msgpack and the tables, neither pipes nor streams; values are packed elsewhere.
Messages *from* the BEAM come out of `unpacker()` as lists, `check` compares one with its row;
messages *to* it are made by `encode_…`, still without the length that precedes them on the pipe.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import msgpack

from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import from_extension, to_msgpack
from hornbeam_erlang.exceptions import ProtocolError

VERSION = 1
MAX_MESSAGE = 134_217_728

START = 1
OPEN_HTTP = 2
OPEN_WEBSOCKET = 3
REQUEST_BODY = 4
RECEIVE_TEXT = 5
RECEIVE_BYTES = 6
DISCONNECT = 7
ACCEPTED = 8
CREDIT = 9
REPLY = 10
STOP = 11
EVENT = 12
CALL = 13
MORE = 14
CANCEL = 15
HEARTBEAT = 16
MOVE = 17
REOPEN_WEBSOCKET = 18
FLUSH = 19
TELL_FAILED = 20
REFUSED = 21
HELLO = 33
READY = 34
FAILED = 35
RESPONSE_START = 36
RESPONSE_BODY = 37
ACCEPT = 38
SEND_TEXT = 39
SEND_BYTES = 40
CLOSE = 41
ENDED = 42
LOG = 43
OP = 44
STOPPED = 45
RESULT = 46
ITEM = 47
MOVED = 49
FLUSHED = 50
MULTICAST_TEXT = 51
MULTICAST_BYTES = 52
TELL = 53
EVENT_STREAM = 54
RESPONSE = 55


class MessageType(NamedTuple):
    """One row of the table of messages; `fields` are (name, type) pairs."""

    code: int
    name: str
    sender: str
    fields: tuple[tuple[str, str], ...]


def _row(code: int, name: str, sender: str, fields: str = "") -> MessageType:
    pairs = (field.split(": ") for field in fields.split(", ") if field)
    return MessageType(code, name, sender, tuple((name, kind) for name, kind in pairs))


MESSAGES = (
    _row(START, "start", "beam", "config: map"),
    _row(OPEN_HTTP, "open_http", "beam", "scope: array, body: bin, more: bool"),
    _row(OPEN_WEBSOCKET, "open_websocket", "beam", "scope: array"),
    _row(REQUEST_BODY, "request_body", "beam", "body: bin, more: bool"),
    _row(RECEIVE_TEXT, "receive_text", "beam", "text: bin"),
    _row(RECEIVE_BYTES, "receive_bytes", "beam", "bytes: bin"),
    _row(DISCONNECT, "disconnect", "beam", "code: uint?, reason: bin"),
    _row(ACCEPTED, "accepted", "beam"),
    _row(CREDIT, "credit", "both", "bytes: uint, messages: uint"),
    _row(REPLY, "reply", "beam", "ref: uint, status: uint, value: any"),
    _row(STOP, "stop", "beam", "timeout: uint"),
    _row(EVENT, "event", "beam", "topic: str, value: packed"),
    _row(
        CALL,
        "call",
        "beam",
        "ref: uint, mode: uint, target: str, function: str, args: packed, kwargs: packed",
    ),
    _row(MORE, "more", "beam", "ref: uint, items: uint"),
    _row(CANCEL, "cancel", "beam", "ref: uint"),
    _row(HEARTBEAT, "heartbeat", "both", "number: uint"),
    _row(MOVE, "move", "beam"),
    _row(
        REOPEN_WEBSOCKET,
        "reopen_websocket",
        "beam",
        "scope: array, attempt: uint, reason: str, topics: array",
    ),
    _row(FLUSH, "flush", "beam"),
    _row(TELL_FAILED, "tell_failed", "beam", "ref: uint, op: uint, status: uint, value: any"),
    _row(REFUSED, "refused", "beam", "sentence: str"),
    _row(HELLO, "hello", "python", "version: uint, about: map"),
    _row(READY, "ready", "python", "about: map"),
    _row(FAILED, "failed", "python", "stage: str, class: str, message: str, traceback: str"),
    _row(
        RESPONSE_START,
        "response_start",
        "python",
        "status: uint, headers: array, body: bin, more: bool",
    ),
    _row(RESPONSE_BODY, "response_body", "python", "body: bin, more: bool"),
    _row(ACCEPT, "accept", "python", "subprotocol: str?, headers: array"),
    _row(SEND_TEXT, "send_text", "python", "text: bin"),
    _row(SEND_BYTES, "send_bytes", "python", "bytes: bin"),
    _row(CLOSE, "close", "python", "code: uint, reason: bin"),
    _row(ENDED, "ended", "python", "class: str?, message: str, traceback: str"),
    _row(LOG, "log", "python", "level: uint, logger: str, text: str"),
    _row(OP, "op", "python", "ref: uint, op: uint, args: array"),
    _row(STOPPED, "stopped", "python"),
    _row(RESULT, "result", "python", "ref: uint, status: uint, value: any"),
    _row(ITEM, "item", "python", "ref: uint, value: packed"),
    _row(MOVED, "moved", "python"),
    _row(FLUSHED, "flushed", "python"),
    _row(MULTICAST_TEXT, "multicast_text", "python", "streams: array, text: bin"),
    _row(MULTICAST_BYTES, "multicast_bytes", "python", "streams: array, bytes: bin"),
    _row(TELL, "tell", "python", "ref: uint, op: uint, args: array"),
    _row(
        EVENT_STREAM,
        "event_stream",
        "python",
        "status: uint, headers: array, forwardable: bool",
    ),
    _row(RESPONSE, "response", "python", "status: uint, headers: array, body: bin"),
)

EXTENSIONS = {1: "atom", 2: "tuple", 3: "term", 4: "integer"}
OPS = ops.NAMES
STATUSES = ops.STATUSES

Headers = list[tuple[bytes, bytes]]


class StreamScope(NamedTuple):
    """The array that opens a stream, in its order."""

    http_version: str
    scheme: str
    method: str
    raw_path: bytes
    query_string: bytes
    headers: list[list[bytes]]
    client: list[Any] | None
    server: list[Any] | None
    connect: dict[Any, Any] | None
    tls: list[Any] | None = None
    """Only over TLS; in the array there is nothing in its place otherwise."""


# Makes a `StreamScope` as a tuple is made, in half the time of calling it.
_new = tuple.__new__

# BEAM → Python

# One of them, unpacked: its code, its stream, its fields.
Packet = list[Any]


def unpacker() -> Any:
    """Return the unpacker for everything that comes from the BEAM.

    Its buffer holds the longest message and what was read behind it.
    """
    return msgpack.Unpacker(
        max_buffer_size=2 * MAX_MESSAGE, ext_hook=from_extension, strict_map_key=False
    )


_ROWS = {row.code: row for row in MESSAGES}

_TYPES: dict[str, tuple[type, ...]] = {
    "uint": (int,),
    "int": (int,),
    "str": (str,),
    "bin": (bytes,),
    "packed": (bytes,),
    "bool": (bool,),
    "map": (dict,),
    "array": (list,),
    "any": (object,),
}


# What nearly all messages of a code look like, and how to get their counts, where there are some
# beside the stream: who looks so needs no closer look.
_EXACT = {
    row.code: (types, itemgetter(1, *counts) if counts else None)
    for row in MESSAGES
    for types in [(int, int, *(_TYPES[kind.removesuffix("?")][0] for _, kind in row.fields))]
    for counts in [[n for n, kind in enumerate(types) if kind is int and n > 1]]
    if all(kind not in ("int", "any") for _, kind in row.fields)
}


def check(message: Any) -> None:
    """Raise `ProtocolError` unless the message has its row's fields with their types."""
    try:
        types, counts = _EXACT[message[0]]
        is_exact = tuple(map(type, message)) == types and message[1] >= 0
        if is_exact and (counts is None or min(counts(message)) >= 0) and type(message) is list:
            return
    except (TypeError, LookupError):
        pass
    _check_closely(message)


def _check_closely(message: Any) -> None:
    if not isinstance(message, list) or len(message) < 2 or message[0] not in _ROWS:
        raise ProtocolError(f"not a message: {str(message)[:200]}")
    row = _ROWS[message[0]]
    if len(message) != len(row.fields) + 2:
        raise ProtocolError(f"{row.name} has {len(row.fields)} fields, not {len(message) - 2}")
    _check_field(row, "stream", "uint", message[1])
    for (name, kind), value in zip(row.fields, message[2:], strict=True):
        _check_field(row, name, kind, value)


def _check_field(row: MessageType, name: str, kind: str, value: Any) -> None:
    if kind.endswith("?") and value is None:
        return
    kind = kind.removesuffix("?")
    right = isinstance(value, _TYPES[kind])
    if kind in ("uint", "int"):
        right = type(value) is int and (kind == "int" or value >= 0)
    if not right:
        raise ProtocolError(f"{name} of {row.name} is not a {kind}: {type(value).__name__}")


def stream_of(message: bytes) -> int:
    """Return the stream of an encoded message, in front of which stand the array and the code."""
    first = message[2]
    if first < 0x80:
        return first
    return int.from_bytes(message[3 : 3 + (1 << (first - 0xCC))], "big")


def decode_scope(fields: list[Any]) -> StreamScope:
    """Return the scope of a stream; raises `ProtocolError` if it is not one."""
    if len(fields) + 1 == len(StreamScope._fields):
        fields.append(None)
    if len(fields) != len(StreamScope._fields):
        raise ProtocolError(f"not a scope: {str(fields)[:200]}")
    return _new(StreamScope, fields)


# Python → BEAM. One reused packer: a new one costs more than the packing.

_pack: Callable[[tuple[Any, ...]], bytes]
_pack = msgpack.Packer(unicode_errors="backslashreplace").pack


def encode_hello(version: int, about: dict[str, Any]) -> bytes:
    return to_msgpack([HELLO, 0, version, about])


def encode_ready(about: dict[str, Any]) -> bytes:
    return to_msgpack([READY, 0, about])


def encode_failed(stage: str, class_: str, message: str, traceback: str) -> bytes:
    return _pack((FAILED, 0, stage, class_, message, traceback))


def encode_response_start(
    stream: int, status: int, headers: Headers, body: bytes, more: bool
) -> bytes:
    return _pack((RESPONSE_START, stream, status, headers, body, more))


def encode_response_body(stream: int, body: bytes, more: bool) -> bytes:
    return _pack((RESPONSE_BODY, stream, body, more))


def encode_response(stream: int, status: int, headers: Headers, body: bytes) -> bytes:
    return _pack((RESPONSE, stream, status, headers, body))


def encode_event_stream(stream: int, status: int, headers: Headers, forwardable: bool) -> bytes:
    return _pack((EVENT_STREAM, stream, status, headers, forwardable))


def encode_accept(stream: int, subprotocol: str | None, headers: Headers) -> bytes:
    return _pack((ACCEPT, stream, subprotocol, headers))


def encode_send_text(stream: int, text: bytes) -> bytes:
    return _pack((SEND_TEXT, stream, text))


def encode_send_bytes(stream: int, data: bytes) -> bytes:
    return _pack((SEND_BYTES, stream, data))


def encode_multicast_text(streams: list[int], text: bytes) -> bytes:
    return _pack((MULTICAST_TEXT, 0, streams, text))


def encode_multicast_bytes(streams: list[int], data: bytes) -> bytes:
    return _pack((MULTICAST_BYTES, 0, streams, data))


# What carries a payload to the client of a stream, or to those of several.
SENDING: dict[int, Callable[[Any, bytes], bytes]] = {
    SEND_TEXT: encode_send_text,
    SEND_BYTES: encode_send_bytes,
    MULTICAST_TEXT: encode_multicast_text,
    MULTICAST_BYTES: encode_multicast_bytes,
}
MULTICAST = {SEND_TEXT: MULTICAST_TEXT, SEND_BYTES: MULTICAST_BYTES}


def encode_close(stream: int, code: int, reason: bytes) -> bytes:
    return _pack((CLOSE, stream, code, reason))


def encode_ended(stream: int, class_: str | None, message: str, traceback: str) -> bytes:
    return _pack((ENDED, stream, class_, message, traceback))


def encode_credit(stream: int, size: int, messages: int) -> bytes:
    return _pack((CREDIT, stream, size, messages))


def encode_heartbeat(number: int) -> bytes:
    return _pack((HEARTBEAT, 0, number))


def encode_log(level: int, logger: str, text: str) -> bytes:
    return _pack((LOG, 0, level, logger, text))


def encode_op(stream: int, ref: int, op: int, args: Sequence[Any]) -> bytes:
    return to_msgpack([OP, stream, ref, op, list(args)])


def encode_tell(stream: int, ref: int, op: int, args: list[Any]) -> bytes:
    return to_msgpack([TELL, stream, ref, op, args])


def as_op(tell: bytes, ref: int) -> bytes:
    """Return an encoded `tell` as the `op` of that number, whose answer is waited for."""
    stream_end = 2 + _uint_size(tell[2])
    args = stream_end + _uint_size(tell[stream_end])
    return b"%c%c%b%b%b" % (tell[0], OP, tell[2:stream_end], to_msgpack(ref), tell[args:])


def _uint_size(first: int) -> int:
    """Return the bytes of an encoded uint, by the first of them."""
    return 1 if first < 0x80 else 1 + (1 << (first - 0xCC))


def encode_stopped() -> bytes:
    return _pack((STOPPED, 0))


def encode_result(ref: int, status: int, value: Any) -> bytes:
    return to_msgpack([RESULT, 0, ref, status, value])


def encode_item(ref: int, value: bytes) -> bytes:
    return _pack((ITEM, 0, ref, value))


def encode_moved(stream: int) -> bytes:
    return _pack((MOVED, stream))


def encode_flushed(stream: int) -> bytes:
    return _pack((FLUSHED, stream))
