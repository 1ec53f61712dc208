"""Who may import whom: docs/internals.md's arrows, read from the source."""

import ast
from pathlib import Path

import hornbeam_erlang
import pytest

PACKAGE = Path(hornbeam_erlang.__file__).parent
PUBLIC = sorted(path for path in PACKAGE.glob("*.py"))
WORKER = sorted(path for path in (PACKAGE / "_worker").glob("*.py"))
OURS = "hornbeam_erlang"


def imports(path):
    """Return every module that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path):
    """Return our modules that a file imports, by their names below the package."""
    names = {name.removeprefix(f"{OURS}.") for name in imports(path) if name.startswith(f"{OURS}.")}
    return {name for name in names if is_module(name)}


def is_module(name):
    path = PACKAGE.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.stem)
def test_public_module_does_not_import_the_worker(path):
    assert not any(name.startswith("_worker") for name in ours(path))


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.stem)
def test_only_values_and_watch_need_more_than_the_standard_library(path):
    found = {name.partition(".")[0] for name in imports(path)} & {"msgpack", "uvloop", "watchfiles"}
    assert found == {"_values": {"msgpack"}, "_watch": {"watchfiles"}}.get(path.stem, set())


LOWER = {
    "exceptions": set(),
    "terms": set(),
    "_watch": set(),
    "_ops": {"exceptions"},
    "_values": {"exceptions", "terms"},
    "_identity": {"exceptions"},
    "_handlers": {"exceptions", "_identity"},
    "_mailbox": {"exceptions", "_identity", "_values"},
    "_bridge": {"exceptions", "_handlers", "_mailbox"},
    "_quota": set(),
    "_memory": {"terms", "_handlers", "_ops", "_quota", "_values"},
}


@pytest.mark.parametrize("module", LOWER)
def test_lower_modules_import_only_those_below(module):
    assert ours(PACKAGE / f"{module}.py") <= LOWER[module]


@pytest.mark.parametrize("path", [p for p in PUBLIC if p.stem not in LOWER], ids=lambda p: p.stem)
def test_public_modules_reach_erlang_by_the_bridge(path):
    assert not ours(path) & {"_memory"} or path.stem == "testing"
    assert path.stem in ("__init__", "_requests") or "_bridge" in ours(path)


@pytest.mark.parametrize("path", WORKER, ids=lambda path: path.stem)
def test_only_the_start_of_the_worker_installs_the_bridge(path):
    assert ("_bridge" in ours(path)) is (path.stem == "__main__")


@pytest.mark.parametrize("module", ["connection", "wire", "headers", "asgi", "config", "text"])
def test_pure_module_does_no_io(module):
    found = {name.partition(".")[0] for name in imports(PACKAGE / "_worker" / f"{module}.py")}
    assert not found & {"asyncio", "os", "socket", "threading", "select", "time", "uvloop"}


def test_connection_awaits_nothing():
    tree = ast.parse((PACKAGE / "_worker" / "connection.py").read_text())
    assert not any(isinstance(node, ast.Await | ast.AsyncFunctionDef) for node in ast.walk(tree))


@pytest.mark.parametrize("module", ["asgi_http", "asgi_websocket", "response", "stream"])
def test_streams_do_not_know_the_pipes(module):
    path = PACKAGE / "_worker" / f"{module}.py"
    assert not imports(path) & {"os", "select", "threading"}
    assert not ours(path) & {"_worker.transport", "_worker.server", "_worker.process"}


def test_modules_import_each_other_in_no_circle():
    graph = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ours(path)
        for path in [*PUBLIC, *WORKER]
    }
    while leaves := [name for name, needs in graph.items() if not needs & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph
