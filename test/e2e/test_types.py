"""The types table of the guide, row by row and both ways, on each road a value may take."""

from __future__ import annotations

import contextlib
import re

import hornbeam_erlang
import pytest
from harness import ROOT
from hornbeam_erlang import terms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from terms import Atom, text

GUIDE = (ROOT / "docs" / "guide" / "erlang-integration.md").read_text()
HEAD = "| Python | | Erlang | |\n|---|---|---|---|\n"


def table() -> list[tuple[str, str, str]]:
    """Read the table: Python, direction, Erlang; each of several examples with each other's."""
    lines = GUIDE.split(HEAD)[1].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    found = []
    for python, arrow, erlang, _ in cells:
        lefts, rights = (re.findall(r"`([^`]+)`", cell) for cell in (python.lstrip("| "), erlang))
        pairs = zip(lefts, rights, strict=True) if arrow == "↔" else (
            [(left, right) for left in lefts for right in rights]
        )  # fmt: skip
        found += [(left, arrow, right) for left, right in pairs]
    return found


TO_ERLANG = [(left, right) for left, arrow, right in table() if arrow in "↔→"]
TO_PYTHON = [(left, right) for left, arrow, right in table() if arrow in "↔←"]


@pytest.fixture
def server(serve):
    return serve("console:application", rpc_allow=[Atom("lists")])


@pytest.fixture
def console(server, consoles):
    (console,) = consoles(server)
    return console


def python(source):
    """Evaluate a cell of the table."""
    return eval(source, vars(terms))


def alike(left, right) -> bool:
    """Whether values are equal and of the same types throughout."""
    if type(left) is not type(right) or left != right:
        return False
    if isinstance(left, dict):
        pairs = {(type(key), key): value for key, value in right.items()}
        return all(alike(value, pairs.get((type(key), key))) for key, value in left.items())
    return not isinstance(left, list | tuple) or all(map(alike, left, right))


def test_the_table_has_what_matters():
    assert len(TO_ERLANG) > 15
    assert len(TO_PYTHON) > 20


@pytest.mark.parametrize(("left", "right"), TO_ERLANG)
def test_python_to_erlang(server, console, key, left, right):
    """By state and by the arguments of a function."""
    console("state_set(k, value)", k=key, value=python(left))
    assert server.node.eval(f"hornbeam_state:get({text(key)}) =:= {right}") is True
    is_it = f"fun([V]) -> V =:= {right} end"
    server.node.eval(f"hornbeam:register_function({text(key)}, {is_it})")
    assert console("call(k, [value])", k=key, value=python(left)) is True
    server.node.eval(f"hornbeam:unregister_function({text(key)})")


@pytest.mark.parametrize(("left", "right"), TO_PYTHON)
def test_erlang_to_python(server, console, key, left, right):
    """By state and by the result of a function."""
    server.node.eval(f"hornbeam_state:set({text(key)}, {right})")
    assert alike(console("state_get(k)", k=key), python(left))
    server.node.eval(f"hornbeam:register_function({text(key)}, fun() -> [{right}] end)")
    assert alike(console("call(k)", k=key), [python(left)])
    server.node.eval(f"hornbeam:unregister_function({text(key)})")


@pytest.mark.parametrize(
    ("term", "kind"),
    [
        ("self()", terms.Pid),
        ("make_ref()", terms.Reference),
        ("hd(erlang:ports())", terms.Port),
        ("fun lists:reverse/1", terms.Fun),
        ("fun() -> ok end", terms.Fun),
    ],
)
def test_what_only_erlang_understands_comes_back_as_it_went(server, console, key, term, kind):
    server.node.eval(
        f"T = {term}, hornbeam:register_function({text(key)},"
        " fun([]) -> {T, 1}; ([Back]) -> Back =:= {T, 1} end)"
    )
    there, one = console("term = call(k, [])", k=key) or console("term")
    assert (type(there), one) == (kind, 1)
    assert console("call(k, [term])", k=key) is True
    console("state_set(k, term)", k=key)
    assert console("state_get(k) == term and hash(term) == hash(state_get(k))", k=key) is True
    server.node.eval(f"hornbeam:unregister_function({text(key)})")


def test_python_values_pass_through_the_node_unchanged(console, key):
    value = {
        "str": "größe ☃ \0", "bytes": b"text that stays bytes",
        b"key": 1, 1: [], 2.5: (), (1, "a"): {},
        "deep": [[[[({"a": (None, True, False)},)]]]], "big": [2**63, 2**64, -(2**64), 2**1000],
        "atom": terms.Atom("ok"), "floats": [0.0, -0.0, 1e308, 5e-324],
    }  # fmt: skip
    back = console("state_set(k, value); publish(k, value); state_get(k)", k=key, value=value)
    assert alike(back, value)
    assert list(back) == list(value)
    console("subscribe(k); publish(k, value)", k=key, value=value)
    assert alike(console("(await aio.receive_pubsub())[1]"), value)


scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.binary()
    | st.sampled_from([terms.Atom("ok"), terms.Atom("error")])
)  # fmt: skip
keys = scalars | st.tuples(scalars, scalars)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner, max_size=8)
    ),
    max_leaves=20,
)
MANY = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@MANY
@given(value=values)
def test_any_value_passes_between_workers_as_it_is(console, value):
    back = console("state_set('any', value); state_get('any')", value=value)
    assert alike(back, value)


@MANY
@given(value=values)
def test_any_value_passes_through_erlang_as_its_table_says(console, server, value):
    """A binary has one type there, so that two keys may become one: that is refused."""
    server.node.eval(f"hornbeam:register_function({text('same')}, fun(V) -> {{ok, V}} end)")
    try:
        due = through_erlang(value)
    except KeyError:
        with pytest.raises(ValueError, match="duplicate"):
            console("call('same', value)", value=value)
    else:
        assert alike(console("call('same', value)", value=value), due)


def through_erlang(value):
    """What is left of the types when Erlang has had a value; `KeyError` when a key is lost."""
    match value:
        case bytes():
            with contextlib.suppress(UnicodeDecodeError):
                return value.decode()
        case list() | tuple():
            return type(value)(map(through_erlang, value))
        case dict():
            found = {through_erlang(key): through_erlang(item) for key, item in value.items()}
            if len(found) != len(value):
                raise KeyError
            return found
    return value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("{'users': [1, 2, 3, {4}]}", r"\['users'\]\[3\]: set"),
        ("object()", ": object"),
        ("[(1, lambda: 0)]", r"\[0\]\[1\]: function"),
        ("{frozenset(): 1}", "frozenset"),
        ("[1.0, float('nan')]", r"\[1\]: nan"),
        ("{'a': float('-inf')}", r"\['a'\]: -inf"),
        ("['\\udc00']", r"\[0\]: .*surrogate"),
        ("1j", "complex"),
    ],
)
def test_what_cannot_travel_is_named_by_its_path_wherever_it_is_given(console, key, value, path):
    sources = {
        "state_set(k, {0})": "value",
        "state_add(k, {0})": "value",
        "publish(k, {0})": "message",
        "call(k, {0})": "args",
        "rpc_call(node(), 'lists', 'max', [{0}])": "args",
        "execute(k, 'action', {0})": "args",
        "execute(k, 'action', name={0})": "kwargs",
    }
    for source, name in sources.items():
        with pytest.raises((TypeError, ValueError), match=rf"{name}.*{path}"):
            console(source.format(value), k=key)


@pytest.mark.parametrize(
    "term", ["[1 | 2]", "<<1:3>>", "#{[] => 1}", "[lists:duplicate(2, #{key => <<1:1>>})]"]
)
def test_erlangs_terms_that_cannot_travel_are_an_error_and_not_the_end(server, console, key, term):
    server.node.eval(f"hornbeam_state:set({text(key)}, {term})")
    with pytest.raises((TypeError, ValueError)):
        console("state_get(k)", k=key)
    assert console("state_incr(k + 'next')", k=key) == 1


def test_an_atom_that_erlang_does_not_know_is_not_made(server, console, key):
    console("state_set(k, terms.Atom('a' + k))", k=key)
    assert console("state_get(k)", k=key) == terms.Atom(f"a{key}")
    server.node.eval(f"hornbeam:register_function({text(key)}, fun(A) -> A end)")
    with pytest.raises(ValueError, match=f"atom a{key}"):
        console("call(k, terms.Atom('a' + k))", k=key)
    server.node.eval(f"hornbeam:unregister_function({text(key)})")


# Outside of a worker


def test_outside_a_worker_every_function_says_so():
    calls = {
        "state_get": ("k",), "state_set": ("k", 1), "state_delete": ("k",), "state_incr": ("k",),
        "publish": ("t", 1), "subscribe": ("t",), "unsubscribe": ("t",), "check_pubsub": (),
        "rpc_call": ("n", "m", "f", []), "nodes": (), "node": (), "call": ("n",), "cast": ("n",),
        "register_hook": ("n", print), "execute": ("n", "a"), "execute_async": ("n", "a"),
    }  # fmt: skip
    for name, args in calls.items():
        with pytest.raises(hornbeam_erlang.NotConnected, match="Hornbeam worker"):
            getattr(hornbeam_erlang, name)(*args)
