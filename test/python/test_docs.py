"""What the docstrings promise: their examples run, and each public name has one."""

import builtins
import doctest
import importlib
import inspect

import hornbeam_erlang
import pytest
from hornbeam_erlang import aio, testing
from op_cases import SHORT

MODULES = (
    "state",
    "connection",
    "presence",
    "pubsub",
    "rpc",
    "functions",
    "hooks",
    "leadership",
    "aio",
    "terms",
    "exceptions",
    "testing",
)


def module(name):
    return importlib.import_module(f"hornbeam_erlang.{name}")


def documented():
    for name in MODULES:
        yield from doctest.DocTestFinder().find(module(name), name)


@pytest.mark.parametrize(
    "test", [test for test in documented() if test.examples], ids=lambda t: t.name
)
def test_examples_of_the_docstrings_run(test):
    with testing.Beam() as beam, beam.connection():
        beam.register_function("add", lambda a, b: a + b)
        beam.allow_rpc("lists", "reverse", lambda items: items[::-1])
        outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert outcome.failed == 0
    assert outcome.attempted > 0


BY_ANOTHER = {
    "Fun": "Term",
    "Leadership": "leader",
    "Message": "receive_pubsub",
    "OnlyOne": "only_one",
    "Pid": "Term",
    "Port": "Term",
    "Reference": "Term",
    "Sent": "publish",
}
TYPES = {"Key", "Overflow", "Prefix", "Scope", "Value"}


def is_exception(found):
    return inspect.isclass(found) and issubclass(found, hornbeam_erlang.HornbeamError)


def test_every_public_name_has_an_example():
    examples = {test.name.partition(".")[2] for test in documented() if test.examples}
    for name in set(hornbeam_erlang.__all__) - TYPES:
        found = getattr(hornbeam_erlang, name)
        if is_exception(found):
            continue  # who raises it shows it
        shown = BY_ANOTHER.get(found.__name__, found.__name__)
        assert shown in examples, f"{name} has no example"


def test_every_public_name_has_a_docstring():
    for namespace in (hornbeam_erlang, aio, testing):
        for name in set(namespace.__all__) - TYPES:
            assert inspect.getdoc(getattr(namespace, name)), f"{name} has no docstring"


@pytest.mark.parametrize("name", MODULES)
def test_all_lists_what_there_is_and_in_order(name):
    names = module(name).__all__
    assert all(hasattr(module(name), each) for each in names)
    assert len(set(names)) == len(names)


def test_package_gives_all_that_its_modules_give():
    modules = set(MODULES) - {"aio", "presence", "testing"}
    names = {each for name in modules for each in module(name).__all__} - {"ProtocolError"}
    assert names == set(hornbeam_erlang.__all__)


PUBLIC = (hornbeam_erlang, *map(module, MODULES), module("functions"))


@pytest.mark.parametrize("namespace", PUBLIC, ids=lambda namespace: namespace.__name__)
def test_star_shadows_no_built_in_name(namespace):
    assert not [name for name in namespace.__all__ if hasattr(builtins, name)]


@pytest.mark.parametrize("namespace", [hornbeam_erlang, aio, module("state")])
@pytest.mark.parametrize("name", sorted(SHORT))
def test_short_names_can_be_imported_all_the_same(namespace, name):
    assert getattr(namespace, name) is getattr(namespace, f"state_{name}")
    assert name not in namespace.__all__
