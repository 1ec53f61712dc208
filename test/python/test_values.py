"""The table of types, both ways, and what is said of values that cannot travel."""

import math
from collections import OrderedDict

import msgpack
import pytest
from hornbeam_erlang._wire.values import (
    MAX_KEY_DEPTH,
    MAX_TIMEOUT,
    MAX_TTL,
    MAX_VALUE,
    checked_key,
    checked_timeout,
    milliseconds_to_live,
    pack,
    unpack,
)
from hornbeam_erlang.terms import Atom, Fun, Pid, Port, Reference, Term

PID = bytes.fromhex("8358770d6e6f6e6f6465406e6f686f7374000000000000000000000000")
REFERENCE = bytes.fromhex("835a0003770d6e6f6e6f6465406e6f686f737400000000000000010000000200000003")
FUN = bytes.fromhex("837177056c697374737707726576657273656101")
PORT = bytes.fromhex("8378770d6e6f6e6f6465406e6f686f7374000000000000000100000000")

# Each type of Python's, and its bytes.
TYPES = [
    (None, "c0"),
    (True, "c3"),
    (False, "c2"),
    (5, "05"),
    (-1, "ff"),
    (2**64, "c70904010000000000000000"),
    (-(2**63) - 1, "c70904ff7fffffffffffffff"),
    (1.5, "cb3ff8000000000000"),
    (1.0, "cb3ff0000000000000"),
    ("ü", "a2c3bc"),
    (b"\xff", "c401ff"),
    ([1, [None]], "920191c0"),
    ((1, "a"), "d6029201a161"),
    ({"a": 1, 2: b"x", (3,): None}, "83a16101 02c40178 d5029103c0"),
    (Atom("ok"), "d5016f6b"),
    (Pid(PID), "c71d03" + PID.hex()),
    (Reference(REFERENCE), "c72303" + REFERENCE.hex()),
    (Port(PORT), "c71d03" + PORT.hex()),
    (Fun(FUN), "c71403" + FUN.hex()),
]


@pytest.mark.parametrize(("value", "data"), TYPES, ids=repr)
def test_value_is_these_bytes_and_comes_back(value, data):
    assert pack(value) == bytes.fromhex(data)
    back = unpack(pack(value))
    assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ({1}, TypeError, "message: set has no form in Erlang"),
        ({"users": [1, 2, 3, {4}]}, TypeError, r"message\['users'\]\[3\]: set has"),
        ([(1, object())], TypeError, r"message\[0\]\[1\]: object has"),
        ({"a": {b"b": 1j}}, TypeError, r"message\['a'\]\[b'b'\]: complex has"),
        ({frozenset(): 1}, TypeError, r"the key message\[frozenset\(\)\]: frozenset has"),
        ({("a", 1j): 1}, TypeError, r"the key message\[\('a', 1j\)\]\[1\]: complex has"),
        (OrderedDict(a={1}), TypeError, r"message\['a'\]: set"),
        ({"x" * 200: {1}}, TypeError, r"message\['x+\.\.\.\]: set"),
        (math.nan, ValueError, "message: nan is no number"),
        ([1.0, {"x": math.inf}], ValueError, r"message\[1\]\['x'\]: inf is no number"),
        ((-math.inf,), ValueError, r"message\[0\]: -inf is no number"),
        ({"a": ["\ud800"]}, ValueError, r"message\['a'\]\[0\]: the text has surrogates"),
        (Atom("\ud800"), ValueError, "message: the text has surrogates"),
        ([1 << 8 * 16_384], ValueError, r"message\[0\]: an integer has at most 16384 bytes"),
        ([-1 << 8 * 16_384], ValueError, r"message\[0\]: an integer has at most"),
        ({1 << 8 * 16_384: 1}, ValueError, r"the key message\[int\]: an integer has at most"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_value_that_cannot_travel_is_named_by_its_path(value, error, text):
    with pytest.raises(error, match=f"^{text}"):
        pack(value, "message")


def test_the_largest_integer_travels():
    largest = (1 << 8 * 16_384 - 1) - 1
    assert unpack(pack([largest, -largest])) == [largest, -largest]


def test_bytes_that_look_like_infinity_in_a_text_are_no_number():
    value = [b"\xcb\x7f\xf0" + bytes(6), "Ë\x7f"]
    assert unpack(pack(value)) == value


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_is_limited():
    assert unpack(pack(nested(511))) == nested(511)
    with pytest.raises(ValueError, match=r"^message: is nested deeper than 511 levels"):
        pack(nested(1100), "message")


def test_value_that_contains_itself_is_refused():
    loop = {}
    loop["me"] = [loop]
    with pytest.raises(ValueError, match="contains itself"):
        pack(loop, "message")


def test_the_longest_value_travels_and_one_byte_more_does_not():
    assert len(pack(bytes(MAX_VALUE - 5))) == MAX_VALUE
    with pytest.raises(ValueError, match=rf"^message: has {MAX_VALUE + 1} bytes, at most"):
        pack(bytes(MAX_VALUE - 4), "message")


# An Erlang map may have any key


@pytest.mark.parametrize("key", ["9101", "8101c0", "d5029190"], ids=["list", "map", "tuple"])
def test_map_with_a_key_that_cannot_be_hashed_says_so(key):
    with pytest.raises(TypeError, match="Erlang map has a key that Python cannot hash"):
        unpack(bytes.fromhex(f"81{key}01"))


def test_value_too_deep_for_python_says_so():
    with pytest.raises(ValueError, match="too deep"):
        unpack(b"\x91" * 5000 + b"\xc0")


def test_term_with_an_unknown_tag_is_kept_as_it_is():
    assert unpack(msgpack.packb(msgpack.ExtType(3, b"\x83\x00abc"))) == Term(b"\x83\x00abc")


def test_terms_are_equal_when_they_are_the_same_term():
    assert Pid(PID) == Pid(PID)
    assert {Pid(PID): 1}[Pid(PID)] == 1
    assert Pid(PID) != Reference(PID)


# Keys and times


class Text(str):
    pass


@pytest.mark.parametrize("key", ["a", b"a", 1, 2**100, (), ("a", (b"b", 1)), Text("a")], ids=repr)
def test_key_travels_as_its_base(key):
    checked = checked_key(key)
    assert checked == key
    assert type(checked) in (str, bytes, int, tuple)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, "key: NoneType is no key"),
        (True, "key: bool"),
        (1.0, "key: float"),
        (Atom("a"), "key: Atom"),
        ([1], "key: list"),
        (bytearray(b"a"), "key: bytearray"),
        (("a", (1, None)), r"key\[1\]\[1\]: NoneType is no key"),
    ],
    ids=repr,
)
def test_other_keys_are_refused(key, text):
    with pytest.raises(TypeError, match=f"^{text}"):
        checked_key(key)


def test_integer_of_a_key_has_as_many_bytes_as_one_of_a_value():
    largest = (1 << 8 * 16_384 - 1) - 1
    assert checked_key((largest, -largest)) == (largest, -largest)
    with pytest.raises(ValueError, match=r"^key\[1\]: an integer has at most 16384 bytes"):
        checked_key((1, largest + 1))


@pytest.mark.parametrize("key", ["\ud800", Text("\ud800")], ids=["str", "Text"])
def test_text_of_a_key_has_no_surrogates(key):
    with pytest.raises(ValueError, match=r"^key\[0\]: the text has surrogates"):
        checked_key((key,))


def nested_key(depth):
    key = "x"
    for _ in range(depth):
        key = (key,)
    return key


def test_nesting_of_keys_is_limited():
    assert checked_key(nested_key(MAX_KEY_DEPTH)) == nested_key(MAX_KEY_DEPTH)
    for depth in (MAX_KEY_DEPTH + 1, 600, 100_000):
        with pytest.raises(ValueError, match=r"^key: is nested deeper than 16 levels"):
            checked_key(nested_key(depth))


@pytest.mark.parametrize("wrong", [MAX_TTL + 1, 1e300, 1e308, math.inf, math.nan, 10**400])
def test_ttl_that_no_clock_can_count_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^ttl: is more than 0 and at most 4294967295 seconds"):
        milliseconds_to_live(wrong)


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [(None, None), (1, 1000), (0.5, 500), (1e-9, 1), (MAX_TTL, MAX_TTL * 1000)],
)
def test_ttl_is_in_seconds(seconds, milliseconds):
    assert milliseconds_to_live(seconds) == milliseconds


@pytest.mark.parametrize(
    ("given", "travels"),
    [
        (0, 0),
        (0.0, 0),
        (5, 5000),
        (0.07, 70),
        (0.0001, 1),
        (MAX_TIMEOUT, 2_000_000_000),
        (None, 2_000_000_000),
    ],
)
def test_timeout_travels_in_milliseconds(given, travels):
    assert checked_timeout(given) == travels


@pytest.mark.parametrize("wrong", ["1", True, b"1", [1], 1j])
def test_timeout_that_is_no_number_is_refused(wrong):
    with pytest.raises(TypeError, match="timeout: is a number of seconds or None, not"):
        checked_timeout(wrong)


@pytest.mark.parametrize("wrong", [-1, -0.001, math.nan, math.inf, MAX_TIMEOUT + 1, 10**400])
def test_timeout_that_cannot_be_waited_is_refused(wrong):
    with pytest.raises(ValueError, match="timeout: is 0 to 2000000 seconds, or None"):
        checked_timeout(wrong)
