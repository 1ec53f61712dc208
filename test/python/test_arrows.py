"""Who may import whom: docs/internals.md's arrows, read from the source."""

import ast
from pathlib import Path

import hornbeam_erlang
import pytest

PACKAGE = Path(hornbeam_erlang.__file__).parent
OURS = "hornbeam_erlang"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# Who may import whom, by folders; what is in none is public. All may have what apps see of us.
WORDS = {"exceptions", "terms"}
ROOMS = {
    "_wire": set(),
    "_ops": {"_wire"},
    "_asgi": {"_wire", "_ops"},
    "_local": {"_wire", "_ops"},
    "_worker": {"_wire", "_ops", "_asgi"},
    "_outside": {"_wire", "_ops"},
    "_control": {"_wire", "_outside"},
    "_command": {"_wire", "_control"},
    "": {"_wire", "_ops"},
}


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


def room(module):
    """Return the folder of a module."""
    folder = module.partition(".")[0]
    return folder if folder in ROOMS else ""


def in_room(name):
    return [module for module in MODULES if room(module) == name and module not in ROOMS]


@pytest.mark.parametrize("module", MODULES)
def test_rooms_import_only_those_below(module):
    rooms = {room(name) for name in ours(MODULES[module]) - WORDS - ROOMS.keys()}
    allowed = ROOMS[room(module)] | {room(module)} | ({"_local"} if module == "testing" else set())
    assert rooms <= (set() if module in WORDS else allowed)


def test_only_the_package_itself_knows_of_the_way_from_outside():
    assert [m for m in in_room("") if "_outside" in ours(MODULES[m])] == ["__init__"]
    assert ours(MODULES["_outside"]) - ROOMS.keys() == {
        "exceptions",
        "_ops.carrier",
        "_outside.visitor",
    }


def test_folders_are_the_rooms():
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == (
        ROOMS.keys() - {""}
    )


@pytest.mark.parametrize("module", MODULES)
def test_others_than_the_standard_library_are_needed_where_the_wire_is_packed(module):
    found = {name.partition(".")[0] for name in imports(MODULES[module])}
    allowed = {
        "_wire.packets": {"msgpack"},
        "_wire.values": {"msgpack"},
        "_watch": {"watchfiles"},
        "_command.command": {"click", "dotenv"},
        "_command.operate": {"click"},
        "_command.top": {"rich"},
        "channels": {"channels"},
        "litestar": {"litestar"},
        "socketio": {"socketio"},
    }
    others = {
        *("channels", "litestar", "socketio"),
        *("msgpack", "uvloop", "watchfiles", "click", "dotenv", "rich"),
    }
    assert found & others == allowed.get(module, set())


# Within a room: what it is made of, from below.
LOWER = {
    "_wire.ops": {"exceptions"},
    "_wire.values": {"exceptions", "terms"},
    "_wire.fair": set(),
    "_wire.text": set(),
    "_ops.identity": {"exceptions"},
    "_ops.handlers": {"exceptions", "_ops.identity"},
    "_ops.mailbox": {"exceptions", "_wire.values"},
    "_ops.topics": {"exceptions", "_ops.identity", "_ops.mailbox"},
    "_ops.places": set(),
    "_ops.sent": {"exceptions", "_ops.places", "_wire.ops", "_wire.values"},
    "_ops.carrier": {
        *("exceptions", "_ops.handlers", "_ops.topics", "_ops.requests", "_ops.sent"),
    },
    "_ops.inbox": {"exceptions"},
    "_ops.in_flight": {
        *("exceptions", "_ops.inbox", "_ops.sent", "_wire.ops", "_wire.packets"),
    },
    "_ops.roster": set(),
    "_ops.requests": {
        *("_ops.mailbox", "_ops.roster", "_ops.topics", "_wire.ops", "_wire.values"),
    },
    "_ops.channel_requests": {"_ops.requests", "_wire.ops", "_wire.values"},
    "_ops.leader_requests": {"_ops.requests", "_wire.ops", "_wire.values"},
    "_ops.cluster_requests": {"_ops.requests", "_wire.ops", "_wire.values"},
    "_ops.background": {"_ops.identity"},
    "_ops.channel_queue": {"_ops.identity", "_ops.mailbox"},
    "_ops.channel_everybody": {
        *("exceptions", "_ops.background", "_ops.channel_requests", "_ops.hearing"),
        *("_ops.mailbox", "_ops.perform", "_ops.requests", "_ops.topics", "_wire.values"),
    },
    "_ops.channels": {
        *("exceptions", "_ops.background", "_ops.carrier", "_ops.channel_everybody"),
        *("_ops.channel_queue", "_ops.channel_requests", "_ops.hearing", "_ops.identity"),
        *("_ops.mailbox", "_ops.perform"),
    },
    "_ops.hearing": {
        *("_ops.identity", "_ops.mailbox", "_ops.perform", "_ops.requests", "_ops.topics"),
    },
    "_ops.feed": {
        *("exceptions", "_ops.carrier", "_ops.identity", "_ops.mailbox", "_ops.perform"),
        *("_ops.requests", "_ops.topics"),
    },
    "_ops.tally": {
        *("exceptions", "_ops.background", "_ops.perform", "_ops.requests", "_wire.ops"),
        "_wire.values",
    },
    "_ops.perform": {"_ops.carrier", "_ops.requests", "_ops.places", "_ops.sent"},
    "_local.quota": set(),
    "_local.channels": {"_wire.values"},
    "_local.metrics": {"_wire.values"},
    "_local.numbers": {"_wire.values"},
    "_local.presence": {"_local.quota", "_ops.roster", "_wire.values"},
    "_local.counters": {"_local.numbers", "_local.quota"},
    "_local.memory": {
        *("terms", "_wire.ops", "_wire.values", "_ops.handlers", "_ops.roster"),
        *("_local.channels", "_local.counters", "_local.metrics", "_local.numbers"),
        *("_local.presence", "_local.quota", "_local.leaders", "_local.consistent"),
    },
    "_local.leaders": set(),
    "_local.consistent": {"_local.quota", "_wire.values"},
    "_watch": set(),
}


@pytest.mark.parametrize("module", LOWER)
def test_lower_modules_import_only_those_below(module):
    assert ours(MODULES[module]) - ROOMS.keys() <= LOWER[module]


PLAIN = WORDS | {"_watch", "__init__", "__main__"}


@pytest.mark.parametrize("module", [m for m in in_room("") if m not in PLAIN])
def test_public_modules_reach_erlang_by_the_carrier(module):
    assert ours(MODULES[module]) & {"_ops.carrier", "_ops.feed", "_ops.perform", "_ops.tally"}


@pytest.mark.parametrize("module", in_room("_worker"))
def test_only_the_start_of_the_worker_installs_the_carrier(module):
    assert ("_ops.carrier" in ours(MODULES[module])) is (module == "_worker.__main__")


PURE = [
    *in_room("_wire"),
    *("_asgi.headers", "_asgi.scope", "_local.quota", "_worker.config"),
    *("_command.values", "_command.options", "_command.refused", "_command.settings"),
    "_command.pages",
]


@pytest.mark.parametrize("module", PURE)
def test_pure_module_does_no_io(module):
    found = {name.partition(".")[0] for name in imports(MODULES[module])}
    assert not found & {"asyncio", "os", "socket", "threading", "select", "time", "uvloop"}


@pytest.mark.parametrize("module", in_room("_wire"))
def test_wire_awaits_nothing(module):
    tree = ast.parse(MODULES[module].read_text())
    assert not any(isinstance(node, ast.Await | ast.AsyncFunctionDef) for node in ast.walk(tree))


@pytest.mark.parametrize("module", in_room("_asgi"))
def test_streams_do_not_know_the_pipes(module):
    assert not imports(MODULES[module]) & {"os", "select", "threading"}


def test_modules_import_each_other_in_no_circle():
    graph = {module: ours(path) - ROOMS.keys() for module, path in MODULES.items()}
    while leaves := [name for name, needs in graph.items() if not needs & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph
