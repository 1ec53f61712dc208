"""docs/wire.md and `hornbeam_erlang._wire.packets` say the same, row by row and nothing more."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from beam import ABOUT_THE_WORKER
from hornbeam_erlang._wire import ops, packets
from hornbeam_erlang._wire.values import pack, unpack
from hornbeam_erlang.exceptions import ProtocolError
from hornbeam_erlang.terms import Atom, Term

DOCUMENT = (Path(__file__).parents[2] / "docs" / "wire.md").read_text("utf-8")

# What an array holds is told by the name of its field.
SAMPLES: dict[str, list[Any]] = {
    "uint": [0, 127, 128, 65536, 2**64 - 1],
    "str": ["", "text", "größe", "x" * 300],
    "bin": [b"", b"text", b"\xff\x00", b"x" * 70000],
    "packed": [b"", b"\xc0"],
    "bool": [True, False],
    "map": [{}, {"k": [1, True]}],
    "array": [[], [[b"name", b"value"]]],
    "any": [None, Atom("ok"), (1, "x")],
}
WRONG: dict[str, list[Any]] = {
    "uint": [-1, "1", None, 1.0, True, []],
    "str": [1, None, b"text", []],
    "bin": [1, None, "text", []],
    "packed": [1, None, "text", []],
    "bool": [0, 1, None, "true"],
    "map": [1, None, [], "text"],
    "array": [1, None, {}, "text", b"text"],
    "any": [],
}
# Where Python's own words stand in the way of the document's.
PARAMETERS = {"class_": "class", "size": "bytes", "data": "bytes"}


def table(*head: str) -> list[list[str]]:
    """Return the rows under the one table that has these columns."""
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in DOCUMENT.split("\n")]
    start = rows.index(list(head)) + 2
    end = next(i for i in range(start, len(rows) + 1) if i == len(rows) or not rows[i])
    return rows[start:end]


def messages() -> list[packets.MessageType]:
    return [
        packets.MessageType(int(code), name, sender, fields_of(fields))
        for code, name, sender, fields in table("code", "name", "from", "fields")
    ]


def fields_of(cell: str) -> tuple[tuple[str, str], ...]:
    pairs = (field.split(": ") for field in cell.split(", ") if field)
    return tuple((name, kind) for name, kind in pairs)


def described(start: str, end: str) -> list[str]:
    """Return the names in code that are followed by what they hold, in brackets."""
    text = DOCUMENT.split(start, 1)[1].split(end, 1)[0]
    return re.findall(r"`(\w+)`\s+\(", text)


FROM_BEAM = [row for row in messages() if row.sender in ("beam", "both")]
FROM_PYTHON = [row for row in messages() if row.sender in ("python", "both")]


def samples(kind: str) -> list[Any]:
    return [None, *SAMPLES[kind[:-1]]] if kind.endswith("?") else SAMPLES[kind]


def wrong(kind: str) -> list[Any]:
    if kind.endswith("?"):
        return [value for value in WRONG[kind[:-1]] if value is not None]
    return WRONG[kind]


def fillings(row: packets.MessageType) -> list[list[Any]]:
    """Return values for the row's fields, so that each sample stands somewhere."""
    columns = [samples(kind) for _, kind in row.fields]
    longest = max((len(column) for column in columns), default=1)
    return [[column[i % len(column)] for column in columns] for i in range(longest)]


def ids(row: Any) -> str | None:
    return row.name if isinstance(row, packets.MessageType) else None


def test_version_is_the_documents() -> None:
    found = re.search(r"the version of this page \(\*\*(\d+)\*\*\)", DOCUMENT)
    assert found is not None
    assert int(found[1]) == packets.VERSION


def test_longest_message_is_the_documents() -> None:
    found = re.search(r"longest message is ([\d\s]+) bytes", DOCUMENT)
    assert found is not None
    assert int(re.sub(r"\s", "", found[1])) == packets.MAX_MESSAGE


def test_messages_are_those_of_the_document() -> None:
    assert len(messages()) > 20
    assert list(packets.MESSAGES) == messages()


def test_codes_and_names_are_unique() -> None:
    assert len({row.code for row in messages()}) == len(messages())
    assert len({row.name for row in messages()}) == len(messages())


def test_constants_are_the_codes_of_the_document() -> None:
    constants = {
        name: value
        for name, value in vars(packets).items()
        if type(value) is int and name not in ("VERSION", "MAX_MESSAGE")
    }
    assert constants == {row.name.upper(): row.code for row in messages()}


def test_each_message_to_the_beam_has_its_encoder_and_there_are_no_more() -> None:
    encoders = {name for name, _ in inspect.getmembers(packets) if name.startswith("encode_")}
    assert encoders == {f"encode_{row.name}" for row in FROM_PYTHON}


@pytest.mark.parametrize("row", FROM_PYTHON, ids=ids)
def test_encoder_takes_the_fields_of_its_row(row: packets.MessageType) -> None:
    parameters = [
        PARAMETERS.get(name, name)
        for name in inspect.signature(getattr(packets, f"encode_{row.name}")).parameters
    ]
    stream = [] if row.name in ABOUT_THE_WORKER else ["stream"]
    assert parameters == [*stream, *(name for name, _ in row.fields)]


@pytest.mark.parametrize("row", FROM_PYTHON, ids=ids)
def test_encoder_writes_the_fields_of_its_row(row: packets.MessageType) -> None:
    stream = [] if row.name in ABOUT_THE_WORKER else [300]
    for values in fillings(row):
        message = unpack(getattr(packets, f"encode_{row.name}")(*stream, *values))
        assert message == [row.code, *(stream or [0]), *values]
        packets.check(message)


@pytest.mark.parametrize("row", FROM_BEAM, ids=ids)
def test_message_of_the_beam_has_the_fields_of_its_row(row: packets.MessageType) -> None:
    for values in fillings(row):
        packets.check([row.code, 1, *values])
        with pytest.raises(ProtocolError):
            packets.check([row.code, 1, *values, 0])
        with pytest.raises(ProtocolError):
            packets.check([row.code, 1, *values][:-1])


@pytest.mark.parametrize("row", FROM_BEAM, ids=ids)
def test_field_of_another_type_is_refused(row: packets.MessageType) -> None:
    for values in fillings(row):
        for position, (_, kind) in enumerate(row.fields):
            for value in wrong(kind):
                changed = [*values[:position], value, *values[position + 1 :]]
                with pytest.raises(ProtocolError):
                    packets.check([row.code, 1, *changed])


def test_code_outside_the_document_is_refused() -> None:
    codes = {row.code for row in messages()}
    for code in set(range(256)) - codes:
        for fields in range(6):
            with pytest.raises(ProtocolError):
                packets.check([code, 1, *[None] * fields])


def test_extensions_are_those_of_the_document() -> None:
    rows = {int(ext): name for ext, name, _ in table("ext", "name", "payload")}
    assert rows == packets.EXTENSIONS


def test_extension_of_each_value_is_the_documents() -> None:
    values = {"atom": Atom("abc"), "tuple": (1, 2), "term": Term(b"abc"), "integer": 2**64}
    rows = {name: int(ext) for ext, name, _ in table("ext", "name", "payload")}
    assert {name: extension_of(pack(value)) for name, value in values.items()} == rows


def extension_of(data: bytes) -> int:
    """Return the type in a fixext header, or in that of an ext 8."""
    return data[2] if data[0] == 0xC7 else data[1]


def test_scope_has_the_elements_of_the_document() -> None:
    assert list(packets.StreamScope._fields) == described("`scope` is an array:", "\n\n")


def test_ops_are_those_of_the_document() -> None:
    rows = [
        ops.Op(int(op), name, fields_of(args), result)
        for op, name, args, result in table("op", "name", "args", "result")
    ]
    assert len(rows) > 20
    assert list(ops.OPS) == rows
    assert {row.code: row.name for row in rows} == packets.OPS


def test_constants_of_the_ops_are_their_names() -> None:
    constants = {name: value for name, value in vars(ops).items() if type(value) is int}
    assert constants == {op.name.upper().replace(".", "_"): op.code for op in ops.OPS}


def test_statuses_are_those_of_the_document() -> None:
    rows = {int(status): raised for status, raised in table("status", "raises") if raised}
    assert rows == {status: raised.__name__ for status, raised in packets.STATUSES.items()}
