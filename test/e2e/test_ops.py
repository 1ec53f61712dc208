"""Every op of docs/wire.md, through a real app in a real node: its good and its bad input.

The table of the document drives these tests: a row that has no example here fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hornbeam_erlang
import pytest
from harness import ROOT
from terms import Atom, text

DOCUMENT = (ROOT / "docs" / "wire.md").read_text()


def rows() -> dict[str, tuple[int, dict[str, str]]]:
    """Read the op table: name → number and the types of its arguments."""
    lines = DOCUMENT.split("| op | name | args | result |\n")[1].split("\n\n")[0].splitlines()[1:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {
        name: (int(number), dict(arg.split(": ") for arg in args.split(", ") if arg))
        for number, name, args, _result in cells
    }


OPS = rows()


@dataclass
class Example:
    """What an app writes, what it gets; what else it may not write, and what that raises.

    `k` is a key that is nobody else's. Both begin with SETUP.
    """

    good: str
    value: Any
    bad: str
    raises: type[Exception]
    setup: str = ""


NotFound = hornbeam_erlang.NotFound
PermissionDenied = hornbeam_erlang.PermissionDenied
RemoteError = hornbeam_erlang.RemoteError
HOOK = """
    class Handler:
        def double(self, n, plus=0): return 2 * n + plus
        def fail(self): raise ValueError("asked for")
        def count(self, n): yield from range(n)
        def count_badly(self): yield object()
    register_hook(k, Handler())
"""

LAYER = """
    from hornbeam_erlang.channels import HornbeamChannelLayer
    global layer
    layer = HornbeamChannelLayer(capacity=1)
"""

LED = """
    global led
    async def led(name):
        async with leader(name) as token:
            return token > 1_600_000_000_000_000
"""

# What they answer where there is a consistent state, test_consistent.py knows.
REFUSED = """
    global refused
    from hornbeam_erlang import Unavailable, cluster
    def refused(call):
        try:
            call()
        except Unavailable as error:
            return "no consistent state" in str(error)
"""

EXAMPLES = {
    "state.get": Example("state_get(k, 7)", 7, "state_get(1.5)", TypeError),
    "state.set": Example(
        "state_set(k, [1], ttl=60); state_get(k)", [1], "state_set(k, {1, 2})", TypeError
    ),
    "state.delete": Example(
        "state_delete(k)", True, "state_delete(None)", TypeError, "state_set(k, 1)"
    ),
    "state.incr": Example(
        "state_incr(k, 2, scope='connection')",
        3,
        "state_incr((k, 'text'))",
        TypeError,
        "state_set(k, 1); state_set((k, 'text'), 'one')",
    ),
    "state.get_multi": Example(
        "list(state_get_multi([(k, 1), (k, 2)]).values())",
        ["one"],
        "state_get_multi([k, 0.5])",
        TypeError,
        "state_set((k, 1), 'one')",
    ),
    "state.set_multi": Example(
        "state_set_multi({k: 1}, ttl=60); state_get(k)",
        1,
        "state_set_multi({k: object()})",
        TypeError,
    ),
    "state.keys": Example(
        "[key[1] for key in state_keys((k,))]",
        [1, 2],
        "state_keys(1)",
        TypeError,
        "state_set((k, 2), 0); state_set((k, 1), 0)",
    ),
    "state.items": Example(
        "[(key[1], value) for key, value in dict(state_items((k,))).items()]",
        [(1, "one")],
        "state_items([k])",
        TypeError,
        "state_set((k, 1), 'one')",
    ),
    "state.add": Example(
        "[state_add(k, 1), state_add(k, 2)]", [True, False], "state_add([k], 1)", TypeError
    ),
    "state.cas": Example(
        "[state_cas(k, 1, 2), state_cas(k, 1, 3)]",
        [True, False],
        "state_cas(k, 2, {1})",
        TypeError,
        "state_set(k, 1)",
    ),
    "state.take": Example(
        "[state_take(k), state_take(k)]",
        ["v", None],
        "state_take({})",
        TypeError,
        "state_set(k, 'v')",
    ),
    "counters.incr": Example(
        "[state_incr(k, cluster=True), state_incr(k, 2, cluster=True, scope='connection')]",
        [1, 3],
        "state_incr(k, 'one', cluster=True)",
        TypeError,
    ),
    "counters.get": Example(
        "[state_get(k, cluster=True), state_get((k, 1), cluster=True)]",
        [0.5, None],
        "state_get(1.5, cluster=True)",
        TypeError,
        "state_incr(k, 0.5, cluster=True)",
    ),
    "presence.track": Example(
        "presence.track(k, 'ada', {'n': 1}) == presence.track(k, 'ada', {'n': 1})",
        True,
        "presence.track(k, 'ada', {'n': b'bytes'})",
        TypeError,
    ),
    "presence.update": Example(
        "presence.update(k, 'ada', {'n': 2}); presence.list(k)['ada']['metas'][0]['n']",
        2,
        "presence.update(k, 'bob', {})",
        NotFound,
        "presence.track(k, 'ada', {'n': 1})",
    ),
    "presence.untrack": Example(
        "[presence.untrack(k, 'ada'), presence.untrack(k, 'ada')]",
        [True, False],
        "presence.untrack(k, 1)",
        TypeError,
        "presence.track(k, 'ada', {})",
    ),
    "presence.list": Example(
        "[*presence.list(k)]",
        ["ada", "bob"],
        "presence.list(b'topic')",
        TypeError,
        "presence.track(k, 'bob', {}); presence.track(k, 'ada', {})",
    ),
    "presence.count": Example(
        "presence.count(k)",
        1,
        "presence.count(1)",
        TypeError,
        "presence.track(k, 'ada', {})",
    ),
    "presence.show": Example(
        "presence.subscribe(k, forward=True)",
        None,
        "presence.subscribe(1, forward=True)",
        TypeError,
    ),
    "connection.get": Example(
        "connection_state().get(k, 7)", 7, "connection_state()[1.5]", TypeError
    ),
    "connection.set": Example(
        "connection_state()[k] = [1]; connection_state()[k]",
        [1],
        "connection_state()[k] = {1, 2}",
        TypeError,
    ),
    "connection.delete": Example(
        "[connection_state().pop(k), connection_state().pop(k, None)]",
        ["v", None],
        "del connection_state()[None]",
        TypeError,
        "connection_state()[k] = 'v'",
    ),
    "connection.items": Example(
        "[*connection_state().values()]",
        ["one", "two"],
        "connection_state(1)",
        TypeError,
        "connection_state().update({(k, 2): 'two', (k, 1): 'one'})",
    ),
    "pubsub.subscribe": Example("subscribe(k); publish(k, 1)", 1, "subscribe(1)", TypeError),
    "pubsub.unsubscribe": Example(
        "unsubscribe(k); publish(k, 1)", 0, "unsubscribe(b'topic')", TypeError, "subscribe(k)"
    ),
    "pubsub.publish": Example("publish(k, None)", 0, "publish(k, [object()])", TypeError),
    "pubsub.dropped": Example("pubsub_dropped()", 0, "pubsub_dropped(1)", TypeError),
    "rpc.call": Example(
        "rpc_call(node(), 'lists', 'max', [[1, 3, 2]])",
        3,
        "rpc_call(node(), 'os', 'cmd', ['true'])",
        PermissionDenied,
    ),
    "rpc.cast": Example(
        "rpc_cast(node(), 'lists', 'max', [[1]])",
        None,
        "rpc_cast(node(), 'os', 'cmd', ['true'])",
        PermissionDenied,
    ),
    "rpc.nodes": Example("nodes()", [], "nodes(1)", TypeError),
    "rpc.node": Example("node()", "nonode@nohost", "node(1)", TypeError),
    "functions.call": Example("call('sum', 1, 2)", 3, "call(k)", NotFound),
    "functions.cast": Example("cast('sum', 1, 2)", None, "cast(k)", NotFound),
    "hooks.register": Example(
        "register_hook(k, print)", None, "register_hook(1, print)", TypeError
    ),
    "hooks.unregister": Example(
        "unregister_hook(k)", None, "unregister_hook(None)", TypeError, HOOK
    ),
    "hooks.execute": Example(
        "await aio.execute(k, 'double', 2, plus=1)",
        5,
        "await aio.execute(k, 'fail')",
        RemoteError,
        HOOK,
    ),
    "hooks.execute_async": Example(
        "len(execute_async(k, 'double', 2).id) > 10",
        True,
        "execute_async(k + 'no', 'double')",
        NotFound,
        HOOK,
    ),
    "hooks.await_result": Example(
        "await (await aio.execute_async(k, 'double', 2))",
        4,
        "await Execution(k)",
        NotFound,
        HOOK,
    ),
    "hooks.stream": Example(
        "[n async for n in aio.stream(k, 'count', 3)]",
        [0, 1, 2],
        "[n async for n in aio.stream(k + 'no', 'count', 3)]",
        NotFound,
        HOOK,
    ),
    "hooks.next": Example(
        "[n async for n in aio.stream(k, 'count', 40)][-1]",
        39,
        "[n async for n in aio.stream(k, 'count_badly')]",
        RemoteError,
        HOOK,
    ),
    "hooks.close": Example(
        """
        items = aio.stream(k, 'count', 1000)
        first = await anext(items)
        await items.aclose()
        [first, [n async for n in items]]
        """,
        [0, []],
        "await anext(aio.stream(k, 'count', object()))",
        TypeError,
        HOOK,
    ),
    "channels.send": Example(
        "name = await layer.new_channel(); await layer.send(name, {'n': 1})\n"
        "await layer.receive(name)",
        {"n": 1},
        "await layer.send(await layer.new_channel(), {'n': object()})",
        TypeError,
        LAYER,
    ),
    "channels.put": Example(
        "await layer.send(k, {'n': 1}); await layer.receive(k)",
        {"n": 1},
        "await layer.send(k, {1: object()})",
        TypeError,
        LAYER,
    ),
    "channels.put_back": Example(
        """
        tasks = [asyncio.create_task(layer.receive(k)) for _ in range(2)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await layer.send(k, {'n': 1})
        await tasks[1]
        """,
        {"n": 1},
        "await layer.receive('not a name')",
        TypeError,
        LAYER,
    ),
    "channels.want": Example(
        "task = asyncio.create_task(layer.receive(k)); await layer.send(k, {'n': 1}); await task",
        {"n": 1},
        "await layer.receive(7)",
        TypeError,
        LAYER,
    ),
    "channels.full": Example(
        "name = await layer.new_channel(); await layer.send(name, {'n': 1})\n"
        "await layer.receive(name); await layer.send(name, {'n': 2}); await layer.receive(name)",
        {"n": 2},
        "await layer.send(3, {})",
        TypeError,
        LAYER,
    ),
    "channels.join": Example(
        "await layer.group_add('g', k); await layer.group_send('g', {'n': 1})\n"
        "await layer.receive(k)",
        {"n": 1},
        "await layer.group_add('no group!', k)",
        TypeError,
        LAYER,
    ),
    "channels.leave": Example(
        "await layer.group_add('g', k); await layer.group_discard('g', k)\n"
        "await layer.group_send('g', {'n': 1}); await layer.send(k, {'n': 2})\n"
        "await layer.receive(k)",
        {"n": 2},
        "await layer.group_discard('g', None)",
        TypeError,
        LAYER,
    ),
    "channels.clear": Example(
        "await layer.send(k, {'n': 1}); await layer.flush(); await layer.send(k, {'n': 2})\n"
        "await layer.receive(k)",
        {"n": 2},
        "await layer.flush('all')",
        TypeError,
        LAYER,
    ),
    "metrics.update": Example(
        "from hornbeam_erlang.metrics import Counter\nCounter('ops', 'Of this test').inc()",
        None,
        "Counter('hornbeam_ops', 'Of this test')",
        ValueError,
        "from hornbeam_erlang.metrics import Counter",
    ),
    "channels.lost": Example(
        "await layer.group_add('g', await layer.new_channel())\n"
        "for n in range(3): await layer.group_send('g', {'n': n})\n"
        "await layer.flush(); layer.dropped",
        2,
        "await layer.group_send('g', {'n': {1, 2}})",
        TypeError,
        LAYER,
    ),
    "leader.stand": Example("await led(k)", True, "await led(1)", TypeError, LED),
    "leader.await": Example(
        "[await led(k), await led(k)]", [True, True], "leader(k, timeout='soon')", TypeError, LED
    ),
    "leader.resign": Example(
        "[await led(k), await led(k)]", [True, True], "await led(b'k')", TypeError, LED
    ),
    "cluster.get": Example(
        "refused(lambda: cluster.get(k))", True, "cluster.get(1.5)", TypeError, REFUSED
    ),
    "cluster.set": Example(
        "refused(lambda: cluster.set(k, 1))", True, "cluster.set(k, {1})", TypeError, REFUSED
    ),
    "cluster.add": Example(
        "refused(lambda: cluster.add(k, 1))", True, "cluster.add([k], 1)", TypeError, REFUSED
    ),
    "cluster.cas": Example(
        "refused(lambda: cluster.cas(k, 1, 2))", True, "cluster.cas(k, 1, {2})", TypeError, REFUSED
    ),
    "cluster.delete": Example(
        "refused(lambda: cluster.delete(k))", True, "cluster.delete(None)", TypeError, REFUSED
    ),
    "cluster.incr": Example(
        "refused(lambda: cluster.incr(k))", True, "cluster.incr(k, 'one')", TypeError, REFUSED
    ),
}


@pytest.fixture
def console(serve, consoles, key):
    """A console in a node that offers a function; lists is open to it."""
    server = serve("console:application", workers=2, rpc_allow=[Atom("lists")])
    server.node.eval(f"hornbeam:register_function({text('sum')}, fun(A, B) -> A + B end)")
    (console,) = consoles(server)
    console("None", k=key)
    return console


def test_every_op_has_an_example():
    assert sorted(EXAMPLES) == sorted(OPS)


@pytest.mark.parametrize("name", OPS)
def test_good_input(console, name):
    example = EXAMPLES[name]
    console(example.setup or "None")
    assert console(example.good) == example.value


@pytest.mark.parametrize("name", OPS)
def test_bad_input(console, name):
    example = EXAMPLES[name]
    console(example.setup or "None")
    with pytest.raises(example.raises):
        console(example.bad)
    assert console("state_incr(k + 'alive')") == 1


# The wire itself, without the checks of the Python functions


PACKED = b"\x90"
GOOD = {
    "key": "a key", "packed": PACKED, "uint?": 60_000, "bool": False, "number": 1, "array": [],
    "key?": None, "str": "a name", "str?": None, "uint": 0,
}  # fmt: skip
BAD = {
    "key": [None, 1.5, [], {}, True],
    "packed": [None, 1, "text", b"", []],
    "uint?": ["1", -1, 1.5, []],
    "bool": [None, 0, "true"],
    "number": [None, "1", True, []],
    "array": [None, 1, "text", {}, [None]],
    "key?": [1.5, True, []],
    "str": [None, 1, b"bytes", []],
    "str?": [1, b"bytes", [], "of none of the known kinds"],
    "uint": [None, -1, "1", 1.5, []],
}


@pytest.mark.parametrize("name", OPS)
def test_arguments_that_are_not_of_their_type_are_refused_by_the_node(console, name):
    number, arguments = OPS[name]
    good = [GOOD[kind] for kind in arguments.values()]
    wrong = [
        [*good[:at], value, *good[at + 1 :]]
        for at, kind in enumerate(arguments.values())
        for value in BAD[kind]
    ]
    assert refusals(console, number, [*wrong, [*good, None], *([good[:-1]] if good else [])]) == []
    assert console("os.getpid()") == console.pid


def refusals(console, number, inputs):
    """Send an op with each input; return those that were not refused as the wrong type or value."""
    return console(
        """
        accepted = []
        for args in inputs:
            try:
                accepted.append((args, hornbeam_erlang._ops.carrier.connected().call(number, args)))
            except (TypeError, ValueError):
                pass
        accepted
        """,
        number=number,
        inputs=inputs,
    )


def test_an_op_that_does_not_exist_is_not_implemented(console):
    with pytest.raises(hornbeam_erlang.OpNotImplemented):
        console("hornbeam_erlang._ops.carrier.connected().call(99, [])")
