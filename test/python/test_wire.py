"""The wire's bytes: values and messages there and back, whole and byte by byte."""

import enum
from collections import OrderedDict, namedtuple

import msgpack
import pytest
from beam import ABOUT_THE_WORKER
from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.endpoint import Endpoint
from hornbeam_erlang._wire.values import pack, unpack
from hornbeam_erlang.exceptions import ProtocolError
from hornbeam_erlang.terms import Atom, Pid, Term
from hypothesis import given
from hypothesis import strategies as st

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 200), 1 << 200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.builds(Atom, st.text(st.characters(exclude_categories=["Cs"])))
    | st.builds(Term, st.binary().map(b"\0".__add__))
    | st.builds(Pid, st.binary().map(b"\x83\x58".__add__))
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.integers() | st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)

uints = st.integers(0, (1 << 64) - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]))
FIELDS = {
    "uint": uints,
    "str": texts,
    "bin": st.binary(),
    "packed": st.binary(),
    "bool": st.booleans(),
    "map": st.dictionaries(texts, scalars),
    "array": st.lists(st.binary()),
    "any": values,
}
FROM_BEAM = [row for row in packets.MESSAGES if row.sender in ("beam", "both")]
FROM_PYTHON = [row for row in packets.MESSAGES if row.sender in ("python", "both")]


def fields_of(row):
    return [
        st.none() | FIELDS[kind[:-1]] if kind.endswith("?") else FIELDS[kind]
        for _, kind in row.fields
    ]


def exact(value):
    """Return a value with its types, where Python takes 1, 1.0 and True for the same."""
    if isinstance(value, list | tuple):
        return type(value), [exact(inner) for inner in value]
    if isinstance(value, dict):
        return dict, [(exact(key), exact(inner)) for key, inner in value.items()]
    return type(value), value


@given(values)
def test_value_comes_back_with_its_types(value):
    assert exact(unpack(pack(value))) == exact(value)


@given(st.integers(-(1 << 200), 1 << 200))
def test_integer_beyond_64_bits_is_the_shortest_extension(number):
    packed = msgpack.unpackb(pack(number))
    if -(1 << 63) <= number < 1 << 64:
        assert packed == number
        return
    assert packed.code == 4
    assert int.from_bytes(packed.data, "big", signed=True) == number
    with pytest.raises(OverflowError):
        number.to_bytes(len(packed.data) - 1, "big", signed=True)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (enum.IntEnum("E", "A").A, 1),
        (enum.StrEnum("S", "A").A, "a"),
        (enum.Enum("M", {"A": "x"}, type=str).A, "x"),
        (OrderedDict(a=1), {"a": 1}),
        (namedtuple("P", "x y")(1, 2), (1, 2)),
        (type("B", (bytes,), {})(b"a"), b"a"),
        (type("F", (float,), {})(0.5), 0.5),
        (type("L", (list,), {})([1]), [1]),
        (bytearray(b"a"), b"a"),
    ],
)
def test_instance_of_a_subclass_travels_as_its_base(value, plain):
    assert exact(unpack(pack(value))) == exact(plain)


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, len, ValueError("a")])
def test_value_that_erlang_has_no_term_for_raises(value):
    with pytest.raises(TypeError, match=type(value).__name__):
        pack([value])


@pytest.mark.parametrize("code", [0, 5, 127])
def test_unknown_extension_is_a_protocol_error(code):
    with pytest.raises(ProtocolError):
        unpack(msgpack.packb(msgpack.ExtType(code, b"")))


def test_atom_equals_its_name_and_shows_what_it_is():
    assert Atom("ok") == "ok"
    assert hash(Atom("ok")) == hash("ok")
    assert repr([Atom("ok")]) == "[Atom('ok')]"


@pytest.mark.parametrize("row", FROM_PYTHON, ids=lambda row: row.name)
@given(data=st.data())
def test_encoded_message_is_its_row_as_an_array(row, data):
    fields = [data.draw(strategy) for strategy in fields_of(row)]
    worker_wide = row.name in ABOUT_THE_WORKER
    stream = 0 if worker_wide else data.draw(uints)
    encode = getattr(packets, f"encode_{row.name}")
    encoded = encode(*fields) if worker_wide else encode(stream, *fields)
    assert exact(unpack(encoded)) == exact([row.code, stream, *fields])


@pytest.mark.parametrize("row", FROM_BEAM, ids=lambda row: row.name)
@given(data=st.data())
def test_message_of_the_beam_is_read_whole_and_byte_by_byte(row, data):
    message = [row.code, data.draw(uints), *(data.draw(strategy) for strategy in fields_of(row))]
    packed = pack(message)
    (whole,) = Endpoint().receive(packed)
    packets.check(whole)
    assert exact(whole) == exact(message)
    endpoint = Endpoint()
    pieces = [list(endpoint.receive(packed[n : n + 1])) for n in range(len(packed))]
    assert not any(pieces[:-1])
    assert exact(pieces[-1]) == exact([message])


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 40))
def test_messages_are_read_however_the_pipe_cuts_them(texts, size):
    messages = [[packets.RECEIVE_TEXT, n, text] for n, text in enumerate(texts)]
    stream = b"".join(msgpack.packb(message) for message in messages)
    endpoint = Endpoint()
    read = []
    for start in range(0, len(stream), size):
        read += endpoint.receive(stream[start : start + size])
    assert read == messages


@pytest.mark.parametrize(
    "message",
    [
        5,
        [],
        [1],
        [99, 0],
        ["start", 0, {}],
        [packets.START, 0],
        [packets.START, 0, {}, 1],
        [packets.START, 0, []],
        [packets.START, -1, {}],
        [packets.STOP, 0, True],
        [packets.STOP, 0, -1],
        [packets.STOP, 0, None],
        [packets.DISCONNECT, 1, "1000", b""],
        [packets.DISCONNECT, 1, None, "reason"],
        [packets.REQUEST_BODY, 1, b"", 1],
    ],
    ids=str,
)
def test_message_that_is_not_its_row_is_a_protocol_error(message):
    with pytest.raises(ProtocolError):
        packets.check(message)


def test_absent_optional_field_is_nil():
    packets.check([packets.DISCONNECT, 1, None, b""])


def test_scope_with_a_field_too_few_is_a_protocol_error():
    with pytest.raises(ProtocolError):
        packets.decode_scope(["1.1", "ws"])
