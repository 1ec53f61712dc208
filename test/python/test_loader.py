"""From a name to an app, and what is said when there is none."""

import asyncio
import functools
import sys

import pytest
from hornbeam_erlang._worker.loader import load, prepare_path

SOURCE = """
async def app(scope, receive, send): ...
async def two(environ, start_response): ...
async def one(scope): ...
def factory(): return app
async def keyword(scope, receive, *, send): ...
class Class:
    def __init__(self, scope, receive, send): ...
called = []
class Double:
    def __init__(self, scope): called.append(scope)
    async def __call__(self, receive, send): called.extend([receive, send])
class WsgiClass:
    def __init__(self, environ, start_response): ...
    def __iter__(self): ...
class Callable:
    async def __call__(self, scope, receive, send): ...
class Nested:
    inner = Callable()
    wsgi = two
nested = Nested()
value = 5
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "loaded.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield "loaded"
    sys.modules.pop("loaded", None)


@pytest.mark.parametrize("name", ["app", "Class", "nested.inner"])
def test_callable_of_three_arguments_is_an_app(module, name):
    found = load(f"{module}:{name}")
    assert found is functools.reduce(getattr, name.split("."), sys.modules[module])


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("lodaed:app", "No module named 'lodaed'; did you mean 'loaded'?"),
        ("loaded:ap", "has no attribute 'ap'; did you mean 'app'?"),
        ("loaded:nested.iner", "has no attribute 'nested.iner'; did you mean 'inner'?"),
    ],
)
def test_what_may_have_been_meant_is_named(module, target, meant):
    with pytest.raises((ImportError, AttributeError)) as raised:
        load(target)
    assert str(raised.value).endswith(meant)


def test_module_that_the_app_lacks_is_no_mistake_in_its_name(module, tmp_path):
    (tmp_path / "lacking.py").write_text("import lodaed\n")
    with pytest.raises(ModuleNotFoundError) as raised:
        load("lacking:app")
    assert str(raised.value) == "No module named 'lodaed'"


def test_factory_is_called_and_what_it_returns_is_the_app(module):
    made = load("loaded:factory()")
    assert made is sys.modules["loaded"].app


@pytest.mark.parametrize(
    ("target", "part"),
    [("loaded:value", "no factory but a int"), ("loaded:one", "argument")],
)
def test_what_is_no_factory_is_refused(module, target, part):
    with pytest.raises(TypeError, match=part):
        load(f"{target}()")


@pytest.mark.parametrize(
    ("target", "error", "part"),
    [
        ("loaded:absent", AttributeError, "absent"),
        ("loaded:nested.absent", AttributeError, "nested.absent"),
        ("loaded:value", TypeError, "not callable: its type is int"),
        ("loaded:one", TypeError, "cannot be called with scope, receive and send"),
        ("loaded:two", TypeError, "say --interface wsgi"),
        ("loaded:factory", TypeError, "say --factory"),
        ("loaded:keyword", TypeError, "cannot be called"),
        ("absent_module:app", ModuleNotFoundError, "absent_module"),
        ("loaded", ImportError, "module:attribute"),
        ("loaded:", ImportError, "module:attribute"),
        (":app", ImportError, "module:attribute"),
    ],
)
def test_anything_else_raises_and_says_what_it_is(module, target, error, part):
    with pytest.raises(error, match=part):
        load(target)


# Other interfaces


@pytest.mark.parametrize("interface", ["asgi", "asgi2"])
def test_app_that_is_called_with_the_scope_alone_speaks_asgi_2(module, interface):
    app = load("loaded:Double", interface)
    asyncio.run(app({"type": "http"}, "receive", "send"))
    assert sys.modules[module].called == [{"type": "http"}, "receive", "send"]


@pytest.mark.parametrize("name", ["two", "Nested.wsgi", "WsgiClass"])
def test_callable_of_two_arguments_is_a_wsgi_app(module, name):
    found = load(f"loaded:{name}", "wsgi")
    assert found is functools.reduce(getattr, name.split("."), sys.modules[module])


@pytest.mark.parametrize(
    ("target", "interface", "part"),
    [
        ("loaded:app", "wsgi", "three arguments, as ASGI apps do"),
        ("loaded:Double", "wsgi", "cannot be called with an environ and start_response"),
        ("loaded:factory", "wsgi", "say --factory"),
        ("loaded:value", "wsgi", "not callable"),
        ("loaded:app", "asgi2", "cannot be called with a scope alone"),
        ("loaded:factory", "asgi2", "say --factory"),
    ],
)
def test_app_of_another_interface_is_refused(module, target, interface, part):
    with pytest.raises(TypeError, match=part):
        load(target, interface)


def test_given_folders_the_current_one_and_those_of_pythons_variable_come_first(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/x/..:/behind")
    monkeypatch.setattr(sys, "path", ["/own", str(tmp_path), "/libraries", "/behind"])
    monkeypatch.chdir("/")
    prepare_path(["/b", "/a"])
    assert sys.path == ["/b", "/a", "/", str(tmp_path), "/behind", "/own", "/libraries"]
