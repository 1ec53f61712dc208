"""The golden vectors of test/wire/vectors.txt, as Python encodes and decodes them.

The file says at its top how to read it; the Erlang suite holds its own side to the same lines.
"""

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
from beam import ABOUT_THE_WORKER
from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.values import pack, unpack
from hornbeam_erlang.exceptions import ProtocolError
from hornbeam_erlang.terms import Atom, Fun, Pid, Reference, Term

VECTORS = Path(__file__).parents[1] / "wire" / "vectors.txt"


class Vector(NamedTuple):
    sender: str
    name: str
    data: bytes
    values: list[Any]


def read_vectors() -> Iterator[Any]:
    for number, line in enumerate(VECTORS.read_text("utf-8").split("\n"), 1):
        if line and not line.startswith("#"):
            message, values = line.split(" = ", 1)
            sender, name, groups = message.split(" ", 2)
            vector = Vector(sender, name, from_hex(groups), value_of(json.loads(values)))
            yield pytest.param(vector, id=f"{number}-{sender}-{name}")


def from_hex(groups: str) -> bytes:
    parts = (group.partition("*") for group in groups.split())
    return b"".join(bytes.fromhex(digits) * int(times or 1) for digits, _, times in parts)


def value_of(value: Any) -> Any:
    match value:
        case {"$bin": groups}:
            return from_hex(groups)
        case {"$str": groups}:
            return from_hex(groups).decode()
        case {"$atom": name}:
            return Atom(name)
        case {"$tuple": elements}:
            return tuple(value_of(elements))
        case {"$term": groups}:
            return term(from_hex(groups))
        case {"$map": pairs}:
            return {value_of(key): value_of(item) for key, item in pairs}
        case dict():
            return {key: value_of(item) for key, item in value.items()}
        case list():
            return [value_of(item) for item in value]
    return value


def term(data: bytes) -> Term:
    """Return what the tag of Erlang's external term format names: a pid, reference or fun."""
    return {88: Pid, 90: Reference, 113: Fun}[data[1]](data)


def exactly(value: Any) -> Any:
    """Return the value with its types: `==` takes 1 for 1.0 or True, and an `Atom` for a `str`."""
    match value:
        case dict():
            return {exactly(key): exactly(item) for key, item in value.items()}
        case list() | tuple():
            return type(value), type(value)(exactly(item) for item in value)
    return type(value), value


ALL = list(read_vectors())
FROM_BEAM = [param for param in ALL if param.values[0].sender == "beam"]
FROM_PYTHON = [param for param in ALL if param.values[0].sender == "python"]
CODES = {row.name: row.code for row in packets.MESSAGES}


def message_of(vector: Vector) -> list[Any]:
    return [CODES[vector.name], *vector.values]


def assert_message(vector: Vector, messages: list[Any]) -> None:
    assert exactly(messages) == exactly([message_of(vector)])


def encoder(name: str) -> Callable[..., bytes]:
    encode: Callable[..., bytes] = getattr(packets, f"encode_{name}")
    return encode


@pytest.mark.parametrize("vector", FROM_PYTHON)
def test_message_to_the_beam_is_these_bytes(vector: Vector) -> None:
    fields = vector.values[1:] if vector.name in ABOUT_THE_WORKER else vector.values
    assert encoder(vector.name)(*fields) == vector.data


@pytest.mark.parametrize("vector", FROM_BEAM)
def test_message_of_the_beam_is_read_whole(vector: Vector) -> None:
    unpacker = packets.unpacker()
    unpacker.feed(vector.data)
    messages = list(unpacker)
    assert_message(vector, messages)
    packets.check(messages[0])


@pytest.mark.parametrize("vector", FROM_BEAM)
def test_message_of_the_beam_is_read_byte_by_byte(vector: Vector) -> None:
    unpacker = packets.unpacker()
    last = len(vector.data) - 1
    for position in range(last):
        unpacker.feed(vector.data[position : position + 1])
        assert list(unpacker) == []
    unpacker.feed(vector.data[last:])
    assert_message(vector, list(unpacker))


@pytest.mark.parametrize("vector", FROM_PYTHON)
def test_message_to_the_beam_can_be_read_back(vector: Vector) -> None:
    assert_message(vector, [unpack(vector.data)])
    packets.check(unpack(vector.data))


def test_messages_that_follow_each_other_are_told_apart() -> None:
    unpacker = packets.unpacker()
    unpacker.feed(b"".join(param.values[0].data for param in FROM_BEAM))
    expected = [message_of(param.values[0]) for param in FROM_BEAM]
    assert exactly(list(unpacker)) == exactly(expected)


@pytest.mark.parametrize("vector", [p for p in FROM_BEAM if "open" in p.values[0].name])
def test_scope_has_its_elements_by_name(vector: Vector) -> None:
    scope = packets.decode_scope(vector.values[1])
    assert list(scope) == vector.values[1]
    assert isinstance(scope.raw_path, bytes)
    assert isinstance(scope.query_string, bytes)
    assert all(isinstance(part, bytes) for header in scope.headers for part in header)


@pytest.mark.parametrize("vector", FROM_BEAM)
def test_message_with_a_field_more_or_less_is_refused(vector: Vector) -> None:
    message = message_of(vector)
    with pytest.raises(ProtocolError):
        packets.check([*message, 0])
    with pytest.raises(ProtocolError):
        packets.check(message[:-1])


@pytest.mark.parametrize("vector", [p for p in ALL if p.values[0].name in ("reply", "op")])
def test_value_is_packed_as_erlang_packs_it(vector: Vector) -> None:
    assert pack(message_of(vector)) == vector.data


def test_every_message_has_a_vector() -> None:
    senders = {"both": ("beam", "python"), "beam": ("beam",), "python": ("python",)}
    rows = {(sender, row.name) for row in packets.MESSAGES for sender in senders[row.sender]}
    assert rows == {(param.values[0].sender, param.values[0].name) for param in ALL}


def test_every_encoder_has_a_vector() -> None:
    encoders = {name for name, _ in inspect.getmembers(packets) if name.startswith("encode_")}
    assert encoders == {f"encode_{param.values[0].name}" for param in FROM_PYTHON}


def test_vectors_are_plain_msgpack() -> None:
    """Nothing of ours: the reference library alone finds the code and the stream."""
    for param in ALL:
        code, stream, *_ = msgpack.unpackb(param.values[0].data, strict_map_key=False)
        assert [code, stream] == [CODES[param.values[0].name], param.values[0].values[0]]
