"""What the functions of `hornbeam_erlang` do: one table for all who claim to do it.

Each case is Python source whose last expression is compared with a value, or that raises. It
sees the public names, and `k`, a text that no other case has. The stand-in of
`hornbeam_erlang.testing`, a worker, and its three ways to call (in the handler, by `aio`, in a
thread) are held to it. `prepare` is what the node's side has to offer.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple, get_origin

import hornbeam_erlang
from hornbeam_erlang import (
    LimitExceeded,
    NodeDown,
    NotFound,
    PermissionDenied,
    RemoteError,
    Sent,
    aio,
    cluster,
    presence,
)
from hornbeam_erlang.terms import Atom

# A star import does not bring these.
SHORT = {"get", "set", "delete", "incr", "decr"}

NAMES = {
    **{name: getattr(hornbeam_erlang, name) for name in {*hornbeam_erlang.__all__, *SHORT}},
    "cluster": cluster,
    "presence": presence,
}


class Case(NamedTuple):
    source: str
    expected: Any

    @property
    def raises(self) -> bool:
        return isinstance(self.expected, type) and issubclass(self.expected, BaseException)


def divide(a: Any, b: Any) -> Any:
    return a / b


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "divide": divide,
    "ok": lambda value: (Atom("ok"), value),
    "error": lambda reason: (Atom("error"), reason),
    "same": lambda value: value,
}
ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("lists", "reverse"): lambda items: items[::-1],
    ("erlang", "div"): divide,
}

HOOKS = """
import asyncio

def by_name(action, *args, **kwargs):
    return [action, list(args), kwargs]

class Greeter:
    def __init__(self):
        self.greeted = 0
    def greet(self, who, punctuation="!"):
        self.greeted += 1
        return f"Hello {who}{punctuation} {self.greeted}"
    def fail(self):
        raise KeyError("no such thing")
    def unsendable(self):
        return {"set": {1, 2}}
    def count(self, limit):
        yield from range(limit)
    def count_and_fail(self, limit):
        yield from range(limit)
        raise ValueError("enough")
    def no_items(self):
        return 5
    def _private(self):
        return "secret"
    async def slowly(self, value):
        await asyncio.sleep(0)
        return value
    async def async_count(self, limit):
        for number in range(limit):
            await asyncio.sleep(0)
            yield number
"""

STATE = [
    Case("state_get(k)", None),
    Case("state_get(k, 'default')", "default"),
    Case("state_set(k, {'a': [1, 2.5, None, True, b'x', (1, 'y')]}), state_get(k)",
         (None, {"a": [1, 2.5, None, True, b"x", (1, "y")]})),
    Case("state_set(k, None), state_get(k, 'default')", (None, None)),
    Case("state_set(k, 1), state_delete(k), state_delete(k), state_get(k)",
         (None, True, False, None)),
    Case("[get is state_get, set is state_set, delete is state_delete, incr is state_incr, "
         "decr is state_decr]", [True] * 5),
    Case("state_incr(k), state_incr(k, 5), state_decr(k), state_decr(k, 0.5)", (1, 6, 5, 4.5)),
    Case("state_incr(k, 2**70), state_incr(k)", (2**70, 2**70 + 1)),
    Case("state_set(k, 'text'), state_incr(k)", TypeError),
    Case("state_set(k, True), state_incr(k)", TypeError),
    Case("state_incr(k, '1')", TypeError),
    Case("state_incr(k, True)", TypeError),
    Case("state_incr(k, float('nan'))", ValueError),
    Case("state_incr(k, 1e308), state_incr(k, 1e308)", ValueError),
    Case("state_incr(k, 2**2000), state_incr(k, 1.5)", ValueError),
    Case("state_incr(k, 2**131071 - 1) - 2**131071, state_decr(k) - 2**131071", (-1, -2)),
    Case("state_incr(k, 2**131071 - 1), state_incr(k)", ValueError),
    Case("state_set_multi({(k, 'a'): 1, (k, 'b'): None}), "
         "state_get_multi([(k, 'b'), (k, 'c'), (k, 'a')]) == {(k, 'a'): 1, (k, 'b'): None}",
         (None, True)),
    Case("state_set_multi({}), state_get_multi([])", (None, {})),
    Case("state_set_multi([(k, 1)])", TypeError),
    Case("state_set_multi({k + c: c for c in ('', ':a', ':b', ';')}), "
         "[key[len(k):] for key in state_keys(k + ':')]", (None, [":a", ":b"])),
    Case("state_set_multi({(k, 2): 'two', (k, 1): 'one', (k,): 'none', k: 0}), "
         "[(key[1:], value) for key, value in state_items((k,))]",
         (None, [((), "none"), ((1,), "one"), ((2,), "two")])),
    Case("state_set_multi({k.encode() + b'\\xff': 1, k: 2}), state_keys(k.encode()) == "
         "[k.encode() + b'\\xff']", (None, True)),
    Case("state_set_multi({(k, key): 0 for key in ('é', 'z', b'z', 5, -1, (1,), 2**70)}), "
         "[key[1] for key in state_keys((k,))]",
         (None, [-1, 5, 2**70, (1,), b"z", "z", "é"])),
    Case("state_set(k, 0), k in state_keys()", (None, True)),
    Case("state_keys(1)", TypeError),
    Case("state_items([1])", TypeError),
    Case("state_add(k, 1), state_add(k, 2), state_get(k)", (True, False, 1)),
    Case("state_set(k, 1), state_cas(k, 2, 3), state_cas(k, 1, 3), state_get(k)",
         (None, False, True, 3)),
    Case("state_cas(k, None, 1), state_get(k)", (False, None)),
    Case("state_set(k, 1), state_cas(k, 1.0, 2), state_cas(k, True, 2)", (None, False, False)),
    Case("state_set(k, 'a'), state_cas(k, b'a', 2)", (None, False)),
    Case("state_set(k, {'a': 1, 'b': 2}), state_cas(k, {'b': 2, 'a': 1}, 'new'), state_get(k)",
         (None, True, "new")),
    Case("state_set(k, [1]), state_take(k), state_take(k), state_take(k, 0)",
         (None, [1], None, 0)),
    Case("state_set((k, 1, b'x', ('y',)), 1), state_get((k, 1, b'x', ('y',)))", (None, 1)),
    Case("state_set((k, '1'), 'str'), state_set((k, b'1'), 'bytes'), state_set((k, 1), 'int'), "
         "[state_get((k, key)) for key in ('1', b'1', 1)]",
         (None, None, None, ["str", "bytes", "int"])),
    *(Case(f"{function}", TypeError) for function in (
        "state_get(None)", "state_set(1.5, 1)", "state_delete(True)", "state_incr([k])",
        "state_decr({})", "state_add((k, None), 1)", "state_cas((k, 1.0), 1, 2)",
        "state_take({1})", "state_get_multi([k, None])", "state_set_multi({None: 1})",
        "state_get(Atom('ok'))",
    )),
    Case("state_set(k, {1, 2})", TypeError),
    Case("state_set(k, float('inf'))", ValueError),
    Case("state_set(k, 1, ttl=0)", ValueError),
    Case("state_set(k, 1, ttl=-1)", ValueError),
    Case("state_set(k, 1, ttl=1e308)", ValueError),
    Case("state_set(k, 1, ttl=float('inf'))", ValueError),
    Case("state_set(k, 1, ttl=2**32)", ValueError),
    Case("state_set(k, 2**200000)", ValueError),
    Case("state_set((k, 2**200000), 1)", ValueError),
    Case("state_incr(k, 2**200000)", ValueError),
    Case("state_set_multi({(k, 10**5000): 1}), state_get((k, 10**5000))", (None, 1)),
    Case("state_set_multi({(k, 10**5000): {1}})", TypeError),
    Case("state_get(__import__('functools').reduce(lambda key, _: (key,), range(600), k))",
         ValueError),
    Case("state_get('\\ud800')", ValueError),
    Case("state_keys('\\ud800')", ValueError),
    Case("state_set(k, 1, ttl='1')", TypeError),
    Case("state_set(k, 1, ttl=True)", TypeError),
    Case("state_set(k, 1, ttl=3600), state_get(k)", (None, 1)),
    Case("state_add(k, 1, ttl=0.5), state_set_multi({k: 2}, ttl=0.5)", (True, None)),
    Case("state_set(k, 1, scope='connection'), state_get(k)", (None, 1)),
    Case("state_incr(k, scope='connection'), state_decr(k, 2, scope='connection')", (1, -1)),
    Case("state_incr(k, 2**2000, scope='connection') - 2**2000, state_decr(k, 2**2000), "
         "state_incr(k, 1.5)", (0, 0, 1.5)),
    Case("state_incr(k, 2**2000, scope='connection'), state_decr(k, 2**2000), "
         "state_incr(k, 1.5, scope='connection')", ValueError),
    Case("state_set(k, 1, scope='session')", ValueError),
    Case("state_incr(k, scope='worker')", ValueError),
]  # fmt: skip

CONNECTION = [
    Case("connection_state().get(k)", None),
    Case("connection_state().get(k, 'default')", "default"),
    Case("connection_state().update({k: {'a': [1, None, b'x', (1, 2.5)]}}), "
         "connection_state().get(k)", (None, {"a": [1, None, b"x", (1, 2.5)]})),
    Case("connection_state().update({k: None}), connection_state().get(k, 1)", (None, None)),
    Case("connection_state().update([(k, 1), ((k, b'x', 2), 'two')], three=3), "
         "connection_state().get((k, b'x', 2)), connection_state().get('three')",
         (None, "two", 3)),
    Case("connection_state().clear(), connection_state().update({(k, key): n for n, key in "
         "enumerate(('1', b'1', 1, 2**70, ('t',)))}), "
         "[(key[1], value) for key, value in connection_state().items()]",
         (None, None, [(1, 2), (2**70, 3), (("t",), 4), (b"1", 1), ("1", 0)])),
    Case("connection_state().clear(), [*connection_state().items()]", (None, [])),
    Case("connection_state().setdefault(k, [1]), connection_state().setdefault(k, 2), "
         "connection_state().setdefault((k, 1)), connection_state().get((k, 1), 0)",
         ([1], [1], None, None)),
    Case("connection_state().update({k: None}), connection_state().pop(k, 1), "
         "connection_state().pop(k, 1)", (None, None, 1)),
    Case("connection_state().update({k: 1}), state_get(k), state_set(k, 2), "
         "connection_state().get(k)", (None, None, None, 1)),
    Case("connection_state().pop(k)", KeyError),
    Case("connection_state().get(1.5)", TypeError),
    Case("connection_state().pop(None, 1)", TypeError),
    Case("connection_state().setdefault(k, {1})", TypeError),
    Case("connection_state().update({(k, True): 1})", TypeError),
    Case("connection_state().update({k: float('nan')})", ValueError),
    Case("connection_state(1)", TypeError),
]  # fmt: skip

# What only a dict has, and what only its coroutines are.
MAPPING = [
    Case("connection_state().__setitem__(k, [1]), connection_state()[k]", (None, [1])),
    Case("connection_state()[k]", KeyError),
    Case("connection_state()[1.5]", TypeError),
    Case("connection_state().__setitem__(k, {1})", TypeError),
    Case("connection_state().__setitem__(k, None), k in connection_state(), "
         "connection_state().__delitem__(k), k in connection_state()", (None, True, None, False)),
    Case("connection_state().__delitem__(k)", KeyError),
    Case("None in connection_state()", TypeError),
    Case("connection_state().clear(), bool(connection_state()), "
         "connection_state().update({(k, 2): 'two', (k, 1): 'one'}), len(connection_state()), "
         "[key[1] for key in connection_state()], [*connection_state().values()], "
         "[key[1] for key in connection_state().keys()], "
         "connection_state() == {(k, 1): 'one', (k, 2): 'two'}",
         (None, False, None, 2, [1, 2], ["one", "two"], [1, 2], True)),
    Case("connection_state().clear(), connection_state().update({k: 1}), "
         "connection_state().popitem()[1], len(connection_state())", (None, None, 1, 0)),
    Case("isinstance(connection_state(), ConnectionState)", True),
]  # fmt: skip
COROUTINES = [
    Case("connection_state().set(k, [1]), connection_state().get(k)", (None, [1])),
    Case("connection_state().set(k, 1), connection_state().delete(k), "
         "connection_state().delete(k)", (None, True, False)),
    Case("connection_state().set(k, {1})", TypeError),
    Case("connection_state().delete(1.5)", TypeError),
]  # fmt: skip

PUBSUB = [
    Case("publish(k, 1)", 0),
    Case("subscribe(k), subscribe(k), publish(k, [1]), check_pubsub(), check_pubsub()",
         (None, None, 1, [1], None)),
    Case("subscribe(k), unsubscribe(k), unsubscribe(k), publish(k, 1), check_pubsub()",
         (None, None, None, 0, None)),
    Case("subscribe(k), subscribe(k + 'b'), publish(k + 'b', 1), publish(k, 2), "
         "check_pubsub(), check_pubsub()", (None, None, 1, 1, 1, 2)),
    Case("subscribe(k), subscribe(k, forward=True), publish(k, 1), check_pubsub()",
         (None, None, 1, None)),
    Case("subscribe(k, forward=True), subscribe(k), publish(k, 1), check_pubsub()",
         (None, None, 1, 1)),
    Case("subscribe(k, True), unsubscribe(k), publish(k, 1)", (None, None, 0)),
    Case("subscribe(k), publish(k, 'x'), (receive_pubsub(5))[1]", (None, 1, "x")),
    Case("subscribe(k), publish(k, 'x'), (receive_pubsub()).value", (None, 1, "x")),
    Case("subscribe(k), publish(k, 'x'), receive_pubsub(timeout=0) == Message(k, 'x')",
         (None, 1, True)),
    *(Case(f"receive_pubsub(timeout={wrong})", TypeError) for wrong in ("'1'", "True", "[]")),
    *(Case(f"receive_pubsub(timeout={wrong})", ValueError)
      for wrong in ("-1", "float('nan')", "float('inf')", "2_000_001")),
    Case("pubsub_dropped()", 0),
    Case("publish(k, {1, 2})", TypeError),
    Case("publish(None, 1)", TypeError),
    Case("subscribe(b'bytes')", TypeError),
    Case("unsubscribe(1)", TypeError),
]  # fmt: skip

CALLS = [
    Case("node()", "nonode@nohost"),
    Case("nodes()", []),
    Case("rpc_call(node(), 'lists', 'reverse', [[1, 2]])", [2, 1]),
    Case("rpc_call(node(), 'lists', 'reverse', ([1, 2],), timeout=1)", [2, 1]),
    Case("rpc_call(node(), 'os', 'cmd', ['true'])", PermissionDenied),
    Case("rpc_call('other@nohost', 'lists', 'reverse', [[1]])", NodeDown),
    Case("rpc_call(node(), 'erlang', 'div', [1, 0])", RemoteError),
    Case("rpc_call(node(), 'lists', 'reverse', 'ab')", TypeError),
    *(
        Case(f"rpc_call(node(), 'lists', 'reverse', [[1]], timeout={wrong})", TypeError)
        for wrong in ("'1'", "True", "b'1'")
    ),
    *(
        Case(f"rpc_call(node(), 'lists', 'reverse', [[1]], timeout={wrong})", ValueError)
        for wrong in ("-0.001", "float('nan')", "float('inf')", "2_000_001")
    ),
    *(
        Case(f"rpc_call(node(), 'lists', 'reverse', [[1]], timeout={good})", [1])
        for good in ("None", "5", "5.5", "2_000_000")
    ),
    Case("rpc_cast(node(), 'lists', 'reverse', [[1]])", None),
    Case("rpc_cast(node(), 'os', 'cmd', ['true'])", PermissionDenied),
    Case("call('add', 1, 2)", 3),
    Case("call('same', {'a': (1, [None])}, timeout=1)", {"a": (1, [None])}),
    Case("call('ok', 5)", 5),
    Case("call('error', 'reason')", RemoteError),
    Case("call('divide', 1, 0)", RemoteError),
    Case("call('missing')", NotFound),
    Case("call(5)", TypeError),
    Case("call('same', {1})", TypeError),
    Case("cast('divide', 1, 0), cast('add', 1, 2)", (None, None)),
    Case("cast('missing')", NotFound),
]

HOOK_CASES = [
    Case("register_hook(k, by_name), execute(k, 'act', 1, two=2)",
         (None, ["act", [1], {"two": 2}])),
    Case("register_hook(k, Greeter), execute(k, 'greet', 'Ada'), "
         "execute(k, 'greet', 'Bob', punctuation='?')", (None, "Hello Ada! 1", "Hello Bob? 2")),
    Case("register_hook(k, Greeter()), execute(k, 'greet', 'Ada', timeout=1)",
         (None, "Hello Ada! 1")),
    Case("register_hook(k, by_name), register_hook(k, Greeter), execute(k, 'greet', 'Ada')",
         (None, None, "Hello Ada! 1")),
    Case("register_hook(k, Greeter), execute(k, 'fail')", RemoteError),
    Case("register_hook(k, Greeter), execute(k, 'unsendable')", RemoteError),
    Case("register_hook(k, Greeter), execute(k, 'greet')", RemoteError),
    Case("register_hook(k, Greeter), execute(k, 'missing')", NotFound),
    Case("register_hook(k, Greeter), execute(k, '_private')", NotFound),
    Case("register_hook(k, Greeter), execute(k, 'greet', {1})", TypeError),
    Case("register_hook(k, None)", TypeError),
    Case("execute(k, 'greet')", NotFound),
    Case("execute_async(k, 'greet')", NotFound),
    Case("Execution('nonsense').result()", NotFound),
    Case("Execution('nonsense').result(timeout='1')", TypeError),
    Case("Execution(b'bytes')", TypeError),
    Case("Execution('an id').id, repr(Execution('an id'))", ("an id", "Execution('an id')")),
    Case("register_hook(k, by_name), unregister_hook(k), execute(k, 'act')", NotFound),
    Case("unregister_hook(k)", None),
    Case("register_hook(k, Greeter), [*stream(k, 'count', 5)]", (None, [0, 1, 2, 3, 4])),
    Case("register_hook(k, Greeter), [*stream(k, 'count', 0)]", (None, [])),
    Case("register_hook(k, Greeter), [*stream(k, 'count_and_fail', 3)]", RemoteError),
    Case("register_hook(k, Greeter), [*stream(k, 'no_items')]", RemoteError),
    Case("register_hook(k, Greeter), [*stream(k, 'missing')]", NotFound),
    Case("[*stream(k, 'count', 1)]", NotFound),
]  # fmt: skip

# Where something has to run meanwhile: not by a call that blocks the loop.
WAITING = [
    Case("register_hook(k, Greeter), execute(k, 'slowly', [1])", (None, [1])),
    Case("register_hook(k, Greeter), [*stream(k, 'async_count', 5)]", (None, [0, 1, 2, 3, 4])),
]  # fmt: skip

# A handle's result blocks, and to await it does not.
RESULTS = [
    Case("register_hook(k, Greeter), execute_async(k, 'greet', 'Ada').result()",
         (None, "Hello Ada! 1")),
    Case("register_hook(k, Greeter), [execution.result(timeout=9) for execution in "
         "[execute_async(k, 'greet', 'Ada')] * 2]", (None, ["Hello Ada! 1"] * 2)),
    Case("register_hook(k, Greeter), Execution(execute_async(k, 'slowly', [1]).id).result(None)",
         (None, [1])),
    Case("register_hook(k, Greeter), execute_async(k, 'fail').result()", RemoteError),
]  # fmt: skip
AWAITED = [
    Case("register_hook(k, Greeter), await execute_async(k, 'greet', 'Ada')",
         (None, "Hello Ada! 1")),
    Case("register_hook(k, Greeter), [await execution for execution in "
         "[execute_async(k, 'greet', 'Ada')] * 2]", (None, ["Hello Ada! 1"] * 2)),
    Case("register_hook(k, Greeter), await Execution((execute_async(k, 'slowly', [1])).id)",
         (None, [1])),
    Case("register_hook(k, Greeter), await execute_async(k, 'fail')", RemoteError),
    Case("await Execution('nonsense')", NotFound),
]  # fmt: skip

CLUSTER = [
    Case("state_get(k, cluster=True), state_get(k, 0, cluster=True)", (None, 0)),
    Case("state_incr(k, cluster=True), state_incr(k, 5, cluster=True), "
         "state_decr(k, 0.5, cluster=True), state_get(k, cluster=True)", (1, 6, 5.5, 5.5)),
    Case("state_incr(k, 2, cluster=True, scope='connection'), state_incr(k, 3, cluster=True), "
         "state_incr(k, cluster=True, scope='connection'), state_get(k, cluster=True)",
         (2, 5, 6, 6)),
    Case("state_set(k, 7), state_incr(k, cluster=True), state_get(k)", (None, 1, 7)),
    Case("state_incr((k, b'x', (1,)), 2**70, cluster=True), state_get((k, b'x', (1,)), "
         "cluster=True)", (2**70, 2**70)),
    Case("state_incr(k, 1e308, cluster=True), state_incr(k, 1e308, cluster=True)", ValueError),
    Case("state_incr(k, 2**131071 - 1, cluster=True), "
         "state_incr(k, cluster=True, scope='connection')", ValueError),
    Case("state_incr(k, '1', cluster=True)", TypeError),
    Case("state_incr(1.5, cluster=True)", TypeError),
    Case("state_get(None, cluster=True)", TypeError),
    Case("state_incr(k, cluster=True, scope='worker')", ValueError),
]  # fmt: skip

PRESENCE = [
    Case("presence.list(k), presence.count(k)", ({}, 0)),
    Case("isinstance(presence.track(k, 'ada', {'age': 36}), str), [meta['age'] for meta in "
         "presence.list(k)['ada']['metas']], presence.count(k)", (True, [36], 1)),
    Case("presence.track(k, 'ada', {}) == presence.track(k, 'ada', {}), presence.list(k)['ada']"
         "['metas'][0].keys() == {'phx_ref'}", (True, True)),
    Case("[presence.track(k, 'ada', {'n': 1}), presence.track(k, 'ada', {'n': 2})] == "
         "[presence.list(k)['ada']['metas'][0][name] for name in ('phx_ref_prev', 'phx_ref')]",
         True),
    Case("presence.track(k, 'ada', {}) != presence.update(k, 'ada', {'n': [1, None, 'é']}), "
         "presence.list(k)['ada']['metas'][0]['n']", (True, [1, None, "é"])),
    Case("presence.track(k, 'b', {}) > '', presence.track(k, 'a', {}) > '', [*presence.list(k)], "
         "presence.untrack(k, 'b'), presence.untrack(k, 'b'), [*presence.list(k)], "
         "presence.count(k)", (True, True, ["a", "b"], True, False, ["a"], 1)),
    Case("presence.subscribe(k), presence.track(k, 'ada', {}) > '', "
         "[*check_pubsub()['payload']['joins']]", (None, True, ["ada"])),
    Case("presence.subscribe(k), presence.unsubscribe(k), presence.track(k, 'ada', {}) > '', "
         "check_pubsub()", (None, None, True, None)),
    Case("presence.subscribe(k, forward=True)", None),
    Case("presence.update(k, 'ada', {})", NotFound),
    Case("presence.track(k, 'ada', {}), presence.update(k, 'bob', {})", NotFound),
    Case("presence.track(k, 'ada', [1])", TypeError),
    Case("presence.track(k, 'ada', None)", TypeError),
    Case("presence.track(k, 'ada', {'a': {1}})", TypeError),
    Case("presence.track(k, 'ada', {'a': b'bytes'})", TypeError),
    Case("presence.track(k, 'ada', {'phx_ref': 'mine'})", ValueError),
    Case("presence.update(k, 'ada', {'phx_ref_prev': 'mine'})", ValueError),
    Case("presence.track(1, 'ada', {})", TypeError),
    Case("presence.track(k, 1, {})", TypeError),
    Case("presence.untrack(k, None)", TypeError),
    Case("presence.list(b'topic')", TypeError),
    Case("presence.count(None)", TypeError),
    Case("presence.subscribe(1)", TypeError),
    Case("presence.unsubscribe(None)", TypeError),
]  # fmt: skip

CONSISTENT = [
    Case("cluster.get(k), cluster.get(k, 7)", (None, 7)),
    Case("cluster.set(k, {'a': [1, None, b'x', (1,)]}), cluster.get(k)",
         (None, {"a": [1, None, b"x", (1,)]})),
    Case("cluster.add(k, 1), cluster.add(k, 2), cluster.get(k)", (True, False, 1)),
    Case("cluster.add(k, True), cluster.add(k, True)", (True, False)),
    Case("cluster.set(k, 'x' * (2**20 - 5)), len(cluster.get(k))", (None, 2**20 - 5)),
    Case("cluster.set(k, 'x' * (2**20 - 4))", LimitExceeded),
    Case("cluster.add(k, 'x' * (2**20 - 4))", LimitExceeded),
    Case("cluster.cas(k, 'x' * (2**20 - 4), 1)", LimitExceeded),
    Case("cluster.cas(k, 1, 'x' * (2**20 - 4))", LimitExceeded),
    Case("cluster.cas(k, 1, 2), cluster.set(k, 1), cluster.cas(k, 1.0, 2), cluster.cas(k, 1, 2), "
         "cluster.get(k)", (False, None, False, True, 2)),
    Case("cluster.set(k, {1: 2, 3: 4}), cluster.cas(k, {3: 4, 1: 2}, 5)", (None, True)),
    Case("cluster.incr(k), cluster.incr(k, 1.5), cluster.get(k)", (1, 2.5, 2.5)),
    Case("cluster.delete(k), cluster.set(k, 1), cluster.delete(k), cluster.get(k)",
         (False, None, True, None)),
    Case("cluster.set((k, b'x', 1), 7), state_get((k, b'x', 1))", (None, None)),
    Case("cluster.set(k, 'one'), cluster.incr(k)", TypeError),
    Case("cluster.incr(k, 1e308), cluster.incr(k, 1e308)", ValueError),
    Case("cluster.incr(k, '1')", TypeError),
    Case("cluster.get(1.5)", TypeError),
    Case("cluster.set(k, {1, 2})", TypeError),
    Case("cluster.add(None, 1)", TypeError),
    Case("cluster.cas(k, {1}, 2)", TypeError),
    Case("cluster.delete([k])", TypeError),
]  # fmt: skip

CASES = CONSISTENT + STATE + CLUSTER + PRESENCE + CONNECTION + PUBSUB + CALLS + HOOK_CASES


def is_awaited(function: Any) -> bool:
    """Tell whether what a function returns is a coroutine, or may be awaited as one."""
    if not inspect.isroutine(function):
        return False
    returned = inspect.signature(function).return_annotation
    return inspect.iscoroutinefunction(function) or get_origin(returned) is Sent


_AWAITED = sorted(
    (name for name in {*aio.__all__, *SHORT} if is_awaited(getattr(aio, name))),
    key=len,
    reverse=True,
)
_OBJECTS = r"connection_state\(\)|presence|cluster"
_CALLED = re.compile(rf"\b((?:{_OBJECTS})\.\w+|{'|'.join(_AWAITED)})\(")


def by_aio(source: str) -> str:
    """Return the source with `await aio.name(…)` in the place of each `name(…)`."""
    source = re.sub(r"\[\*stream\((.*)\)\]", r"[item async for item in aio.stream(\1)]", source)
    result, position = "", 0
    for found in _CALLED.finditer(source):
        if source[: found.start()].endswith("aio."):
            continue
        end = _end_of_call(source, found.end())
        inner = by_aio(source[found.end() : end])
        if found.start() >= position:
            result += f"{source[position : found.start()]}(await aio.{found[1]}({inner}))"
            position = end + 1
    return result + source[position:]


def _end_of_call(source: str, position: int) -> int:
    """Return where the bracket closes that is open there."""
    depth = 1
    while depth:
        depth += {"(": 1, ")": -1}.get(source[position], 0)
        position += 1
    return position - 1
