"""RPC: functions of this node and of others, closed until `rpc_allow` opens them."""

from __future__ import annotations

import os
import signal

import pytest
from harness import Node, eventually
from hornbeam_erlang import NodeDown, NotFound, OpTimeout, PermissionDenied, RemoteError
from hornbeam_erlang.terms import Atom as ReadAtom
from terms import Atom

ALLOWED = [
    Atom("lists"),
    (Atom("erlang"), Atom("node"), 0),
    (Atom("erlang"), Atom("error"), 1),
    (Atom("erlang"), Atom("throw"), 1),
    (Atom("erlang"), Atom("exit"), 1),
    (Atom("erlang"), Atom("self"), 0),
    (Atom("timer"), Atom("sleep"), 1),
    (Atom("hornbeam_state"), Atom("set"), 2),
]


@pytest.fixture
def console(serve, consoles):
    (console,) = consoles(serve("console:application", rpc_allow=ALLOWED))
    return console


@pytest.fixture
def closed(serve, consoles):
    (console,) = consoles(serve("console:application"))
    return console


def call(console, module, function, args, **options):
    return console(
        "rpc_call(node(), m, f, args, **options)", m=module, f=function, args=args, options=options
    )


# Closed by default


def test_nothing_may_be_called_by_default_and_the_error_names_the_option(closed):
    for source in (
        "rpc_call(node(), 'erlang', 'node', [])",
        "rpc_cast(node(), 'erlang', 'node', [])",
        "rpc_call('nowhere@127.0.0.1', 'erlang', 'node', [])",
    ):
        with pytest.raises(PermissionDenied, match="rpc_allow"):
            closed(source)


def test_what_is_not_on_the_list_is_refused(console):
    for module, function, args in (
        ("erlang", "halt", []),
        ("erlang", "node", [1]),
        ("timer", "sleep", []),
        ("os", "cmd", ["true"]),
        ("no_such_module_here", "f", []),
        ("lists:reverse", "f", []),
    ):
        with pytest.raises(PermissionDenied, match="rpc_allow"):
            call(console, module, function, args)


@pytest.mark.parametrize(
    "value", [Atom("all"), [("erlang", "node", 0)], [(Atom("erlang"), Atom("node"))], [1]], ids=repr
)
def test_a_list_that_names_no_functions_is_refused_at_the_start(shared, value):
    assert shared.refused("console:application", rpc_allow=value).reason[1] == "rpc_allow"


# Calling


def test_a_function_of_this_node(console):
    assert call(console, "erlang", "node", []) == "nonode@nohost"
    assert isinstance(call(console, "erlang", "node", []), ReadAtom)
    assert call(console, "lists", "reverse", [[1, "a", None]]) == [None, "a", 1]
    assert call(console, "lists", "keyfind", ["b", 1, [("a", 1), ("b", 2)]]) == ("b", 2)


@pytest.mark.parametrize(
    ("function", "args", "kind", "reason"),
    [
        ("error", ["broken"], "error", "broken"),
        ("throw", [(1, "thrown")], "throw", "thrown"),
        ("exit", ["gone"], "exit", "gone"),
    ],
)
def test_what_the_function_raises_is_a_remote_error(console, function, args, kind, reason):
    with pytest.raises(RemoteError, match=reason) as failure:
        call(console, "erlang", function, args)
    assert failure.value.class_ == kind
    assert reason in failure.value.reason
    assert isinstance(failure.value.stacktrace, str)


def test_a_remote_error_tells_where(console):
    with pytest.raises(RemoteError) as failure:
        call(console, "lists", "nth", [5, [1, 2]])
    assert "function_clause" in failure.value.reason
    assert "lists" in failure.value.stacktrace


def test_a_call_that_takes_too_long_raises_op_timeout(console):
    with pytest.raises(OpTimeout):
        call(console, "timer", "sleep", [60_000], timeout=0.05)
    assert call(console, "timer", "sleep", [1], timeout=10) == "ok"


def test_other_ops_go_on_while_a_call_runs(console, key):
    source = """
        slow = asyncio.create_task(aio.rpc_call(node(), 'timer', 'sleep', [500]))
        counts = [state_incr(k) for _ in range(10)]
        (counts[-1], slow.done(), await slow)
    """
    assert console(source, k=key) == (10, False, "ok")


def test_a_cast_runs_and_nobody_waits(console, key):
    cast = "rpc_cast(node(), 'hornbeam_state', 'set', [k, 'cast'])"
    assert console(cast, k=key) is None
    eventually(lambda: console("state_get(k)", k=key) == "cast")
    assert console("rpc_cast(node(), 'erlang', 'error', ['lost'])") is None
    assert console("state_get(k)", k=key) == "cast"


def test_a_node_alone_has_no_neighbours(console):
    assert console("(node(), nodes())") == ("nonode@nohost", [])


def test_a_node_that_is_not_there_is_down(console):
    for name in ("nowhere@127.0.0.1", "no node at all", ""):
        with pytest.raises(NodeDown):
            console("rpc_call(n, 'erlang', 'node', [])", n=name)


@pytest.mark.parametrize(
    "args", [(1, "erlang", "node", []), ("n", None, "node", []), ("n", "erlang", b"node", []),
             ("n", "erlang", "node", "text"), ("n", "erlang", "node", None)], ids=repr,
)  # fmt: skip
def test_arguments_of_other_types_are_refused(console, args):
    with pytest.raises(TypeError):
        console("rpc_call(*args)", args=args)


def test_a_pid_comes_back_as_it_went(console):
    console("pid = rpc_call(node(), 'erlang', 'self', [])")
    assert console("rpc_call(node(), 'lists', 'last', [[pid]]) == pid") is True


# Another node

OFFERED = "{rpc_allow, [{erlang, node, 0}, {erlang, error, 1}, lists, timer, hornbeam_state]}"
"""What one that serves nothing lets others call."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A node that serves a console, and one that only lives."""
    folder = tmp_path_factory.mktemp("meeting")
    here, there = (
        Node(tmp_path_factory.mktemp(name), OFFERED, name=f"{name}@127.0.0.1", meeting=folder)
        for name in ("here", "there")
    )
    allowed = [*ALLOWED, (Atom("erlang"), Atom("nodes"), 0), (Atom("erlang"), Atom("halt"), 0)]
    server = here.serve("console:application", rpc_allow=allowed)
    assert here.eval("net_kernel:connect_node('there@127.0.0.1')") is True
    yield server, there
    assert [here.close(), there.close()] == [[], []]


def test_casts_to_a_node_that_stands_still_keep_nobody(pair, consoles, key):
    """More of them than a worker may tell at once wait for the link."""
    server, there = pair
    (console,) = consoles(server)
    os.kill(there.process.pid, signal.SIGSTOP)
    try:
        source = """
            for n in range(60):
                rpc_cast('there@127.0.0.1', 'lists', 'max', [[bytes(1 << 20)]])
            for n in range(5000):
                rpc_cast('there@127.0.0.1', 'lists', 'max', [[n]])
            state_set(k, n)
            state_get(k)
        """
        assert console(source, k=key) == 4999
    finally:
        os.kill(there.process.pid, signal.SIGCONT)
    assert console("rpc_call('there@127.0.0.1', 'erlang', 'node', [])") == "there@127.0.0.1"


def test_functions_of_another_node(pair, consoles, key):
    server, there = pair
    (console,) = consoles(server)
    assert console("rpc_call('there@127.0.0.1', 'erlang', 'node', [])") == "there@127.0.0.1"
    assert console("(node(), nodes())") == ("here@127.0.0.1", ["there@127.0.0.1"])
    console("rpc_cast('there@127.0.0.1', 'hornbeam_state', 'set', [k, 1])", k=key)
    eventually(lambda: there.eval(f'hornbeam_state:get(<<"{key}">>)') == 1)
    assert console("state_get(k)", k=key) is None
    with pytest.raises(RemoteError, match="over there"):
        console("rpc_call('there@127.0.0.1', 'erlang', 'error', ['over there'])")
    with pytest.raises(OpTimeout):
        console("rpc_call('there@127.0.0.1', 'timer', 'sleep', [60_000], timeout=0.05)")


def test_a_node_that_is_called_offers_what_its_own_option_says(pair, consoles):
    (console,) = consoles(pair[0])
    with pytest.raises(PermissionDenied, match="of that node"):
        console("rpc_call('there@127.0.0.1', 'erlang', 'halt', [])")
    with pytest.raises(PermissionDenied, match="of this node"):
        console("rpc_call('there@127.0.0.1', 'os', 'cmd', ['true'])")


def test_what_only_another_node_has_is_called_there(pair, consoles, key):
    server, there = pair
    (console,) = consoles(server)
    there.eval("hornbeam:register_function(only_there, erlang, node)")
    there.eval(
        'hornbeam:register_hook(far, fun(<<"list">>, L) -> L; (Action, Args) -> {Action, Args} end)'
    )
    eventually(lambda: server.node.eval('length(hornbeam_call_peers:offering({hook, <<"far">>}))'))
    assert console("call('only_there')") == "there@127.0.0.1"
    assert console("execute('far', 'act', 1, 'a')") == ("act", [1, "a"])
    assert console("execute_async('far', 'act').result()") == ("act", [])
    assert console("list(stream('far', 'list', 1, 2))") == [1, 2]
    there.eval("hornbeam:register_function(put, hornbeam_state, set)")
    eventually(
        lambda: server.node.eval('length(hornbeam_call_peers:offering({function, <<"put">>}))')
    )
    console("cast('put', k, 7)", k=key)
    eventually(lambda: there.eval(f'hornbeam_state:get(<<"{key}">>)') == 7)
    there.eval("hornbeam:unregister_hook(far)")
    with pytest.raises(NotFound):
        eventually(lambda: console("execute('far', 'act')") is None)


def test_a_node_that_dies_during_a_call_is_down(pair, consoles, tmp_path):
    server, _ = pair
    (console,) = consoles(server)
    mortal = Node(tmp_path, OFFERED, name="mortal@127.0.0.1", meeting=server.node.meeting)
    try:
        server.node.eval("net_kernel:connect_node('mortal@127.0.0.1')")
        assert console("rpc_call('mortal@127.0.0.1', 'erlang', 'node', [])") == "mortal@127.0.0.1"
        console.ask("rpc_call('mortal@127.0.0.1', 'timer', 'sleep', [60_000], timeout=30)")
        mortal.kill()
        with pytest.raises(NodeDown):
            console.answer()
        with pytest.raises(NodeDown):
            console("rpc_call('mortal@127.0.0.1', 'erlang', 'node', [])")
    finally:
        mortal.close()
