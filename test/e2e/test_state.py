"""State: one table for all workers and Erlang; what belongs to a connection goes with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading

import httpx
import pytest
from clients import kept
from consoles import posted, ready
from harness import EvalError, eventually
from hornbeam_erlang import OpTimeout
from terms import Atom, text

TWO = {"workers": 2}


@pytest.fixture
def server(serve):
    return serve("console:application", **TWO)


@pytest.fixture
def console(server, consoles):
    (console,) = consoles(server)
    return console


@pytest.fixture
def two(server, consoles):
    """Two consoles in two workers."""
    return consoles(server, 2)


# Reading and writing


def test_what_one_worker_sets_another_reads(two, key):
    here, there = two
    value = {"rooms": ["lobby", ("a", 1)], "open": True, "load": 0.5, "raw": b"\xff"}
    assert here("state_set(k, value)", k=key, value=value) is None
    assert there("state_get(k)", k=key) == value


def test_an_absent_key_reads_as_the_default_and_a_stored_none_as_none(console, key):
    assert console("[state_get(k), state_get(k, 'default')]", k=key) == [None, "default"]
    console("state_set(k, None)", k=key)
    assert console("[state_get(k), state_get(k, 'default')]", k=key) == [None, None]


def test_delete_says_whether_there_was_something(console, key):
    console("state_set(k, 1)", k=key)
    steps = "[state_delete(k), state_delete(k), state_get(k)]"
    assert console(steps, k=key) == [True, False, None]


def test_the_short_names_are_the_same_functions(console):
    assert (
        console("""
        [getattr(hornbeam_erlang, short) is getattr(hornbeam_erlang, f"state_{short}")
         for short in ("get", "set", "delete", "incr", "decr")]
    """)
        == [True] * 5
    )


def test_add_sets_only_what_is_absent(two, key):
    here, there = two
    assert here("state_add(k, 'first')", k=key) is True
    assert there("state_add(k, 'second')", k=key) is False
    assert here("state_get(k)", k=key) == "first"


def test_cas_replaces_only_what_it_expects(console, key):
    console("state_set(k, {'a': 1})", k=key)
    assert console("state_cas(k, {'a': 2}, 'wrong')", k=key) is False
    assert console("state_cas(k, {'a': 1}, 'new')", k=key) is True
    assert console("state_get(k)", k=key) == "new"
    assert console("state_cas(k + 'absent', None, 'new')", k=key) is False
    assert console("state_get(k + 'absent')", k=key) is None


def test_cas_lets_exactly_one_of_many_win(two, key):
    two[0]("state_set(k, 0)", k=key)
    for console in two:
        console.ask(
            """
            won = 0
            while (old := state_get(k)) < 500:
                won += state_cas(k, old, old + 1)
            won
            """,
            k=key,
        )
    assert sum(console.answer() for console in two) == 500


def test_take_gets_and_deletes(console, key):
    console("state_set(k, [1])", k=key)
    assert console("[state_take(k), state_take(k), state_get(k)]", k=key) == [[1], None, None]


def test_a_value_that_a_cancelled_take_had_is_put_back_with_the_rest_of_its_time(
    console, server, key
):
    console(
        """
        state_set(k, "ticket", ttl=3600)
        task = asyncio.create_task(aio.state_take(k))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        """,
        k=key,
    )
    # Its reply came before that of any later op, and it is put back in front of the next.
    assert console("[await aio.state_get(k) for _ in range(2)][1]", k=key) == "ticket"
    _, _, left = server.node.eval(f"hornbeam_state_table:take({text(key)})")
    assert 0 < left <= 3_600_000


def test_take_gives_a_value_to_one_of_many(two, key):
    two[0]("state_set_multi({(k, n): n for n in range(500)})", k=key)
    for console in two:
        console.ask("[n for n in range(500) if state_take((k, n)) is not None]", k=key)
    first, second = (console.answer() for console in two)
    assert sorted(first + second) == list(range(500))


def test_many_are_set_and_got_at_once(two, key):
    here, there = two
    here("state_set_multi({(k, 'a'): 1, (k, 'b'): None})", k=key)
    assert there("state_get_multi([(k, 'a'), (k, 'b'), (k, 'c')])", k=key) == {
        (key, "a"): 1,
        (key, "b"): None,
    }


KEYS = ["größe ☃", "", b"\xff\x00", b"", 1, -1, 2**80, (), ("a", 1), (("a", b"b"), 2)]


@pytest.mark.parametrize("key_", KEYS, ids=repr)
def test_keys_are_str_bytes_int_or_tuples_of_them(two, key_, key):
    here, there = two
    here("state_set(k, 'value')", k=(key, key_))
    assert there("state_get(k)", k=(key, key_)) == "value"
    assert there("state_delete(k)", k=(key, key_)) is True


def test_keys_of_different_types_are_different(console, key):
    keys = ["1", b"1", 1, ("1",), (1,)]
    console("for one in keys: state_set((k, one), repr(one))", keys=keys, k=key)
    assert console("[state_get((k, one)) for one in keys]", keys=keys, k=key) == list(
        map(repr, keys)
    )


@pytest.mark.parametrize("bad", [None, 1.5, True, ["list"], {"a": 1}, ("a", None), ("a", 1.0)])
def test_other_keys_are_refused_everywhere(console, bad):
    for source in (
        "state_get(k)", "state_set(k, 1)", "state_delete(k)", "state_incr(k)", "state_decr(k)",
        "state_add(k, 1)", "state_cas(k, 1, 2)", "state_take(k)", "state_get_multi([k])",
        "state_set_multi([(k, 1)])" if isinstance(bad, list | dict) else "state_set_multi({k: 1})",
    ):  # fmt: skip
        with pytest.raises(TypeError):
            console(source, k=bad)


def test_a_prefix_finds_its_keys_and_no_others(console, key):
    keys = [key, f"{key}:", f"{key}:a", f"{key}:b", f"{key};"]
    console("for k in keys: state_set(k, len(k))", keys=keys)
    assert sorted(console("state_keys(p)", p=f"{key}:")) == [f"{key}:", f"{key}:a", f"{key}:b"]
    assert dict(console("state_items(p)", p=f"{key}:")) == {
        f"{key}:": len(key) + 1,
        f"{key}:a": len(key) + 2,
        f"{key}:b": len(key) + 2,
    }
    assert set(console("state_keys()")) >= {key, f"{key};"}


def test_a_prefix_of_a_tuple_is_its_first_elements(console, key):
    keys = [(key, 1), (key, 2, "a"), (key,), (key + "x", 1)]
    console("for k in keys: state_set(k, 0)", keys=keys)
    assert sorted(console("state_keys((k,))", k=key)) == [(key,), (key, 1), (key, 2, "a")]


def test_a_prefix_of_bytes_finds_bytes(console, key):
    raw = key.encode()
    console("for k in keys: state_set(k, 0)", keys=[raw + b"\xff", raw + b"\xff\xff", raw, key])
    assert sorted(console("state_keys(p)", p=raw + b"\xff")) == [raw + b"\xff", raw + b"\xff\xff"]


REDUCTIONS = """
Keys = fun() ->
    {reductions, Before} = process_info(self(), reductions),
    10 = length(hornbeam_state:keys(%s)),
    {reductions, After} = process_info(self(), reductions),
    After - Before
end,
Few = Keys(),
[hornbeam_state:set({%s, N}, N) || N <- lists:seq(1, 50000)],
[hornbeam_state:set(<<"other:", (integer_to_binary(N))/binary>>, N) || N <- lists:seq(1, 50000)],
{Few, Keys()}
"""


def test_a_prefix_query_costs_what_it_finds_and_not_what_is_stored(serve, key, consoles):
    server = serve("console:application", fresh=True)
    (console,) = consoles(server)
    console("for n in range(10): state_set(f'{k}:{n}', n)", k=key)
    few, many = server.node.eval(REDUCTIONS % (text(f"{key}:"), text("other")))
    assert many < 3 * few + 1000


# Counting


def test_counters_start_at_zero_and_go_both_ways(console, key):
    steps = "[state_incr(k), state_incr(k, 5), state_decr(k), state_decr(k, 10)]"
    assert console(steps, k=key) == [1, 6, 5, -5]
    assert console("state_get(k)", k=key) == -5


def test_floats_count_and_integers_have_no_limit(console, key):
    assert console("[state_incr(k), state_incr(k, 0.5), state_incr(k, 2)]", k=key) == [1, 1.5, 3.5]
    assert console("state_incr(k + 'big', 2**70)", k=key) == 2**70
    assert console("state_incr(k + 'big')", k=key) == 2**70 + 1


@pytest.mark.parametrize("value", ["text", None, True, [1], {"n": 1}], ids=repr)
def test_an_increment_of_no_number_raises_and_changes_nothing(console, key, value):
    console("state_set(k, value)", k=key, value=value)
    with pytest.raises(TypeError):
        console("state_incr(k)", k=key)
    assert console("state_get(k)", k=key) == value


@pytest.mark.parametrize("delta", ["1", None, True, [1]], ids=repr)
def test_an_increment_by_no_number_raises_and_changes_nothing(console, key, delta):
    console("state_set(k, 7)", k=key)
    with pytest.raises(TypeError):
        console("state_incr(k, delta)", k=key, delta=delta)
    assert console("state_get(k)", k=key) == 7


COUNT = "[hornbeam_state:incr({key}, 1) || _ <- lists:seq(1, {times})]"


def test_counters_under_eight_processes_on_both_sides_sum_exactly(serve, consoles, key):
    server = serve("console:application", workers=4, fresh=True)
    counting = consoles(server, 4)
    counted = threading.Thread(
        target=server.node.eval,
        args=(
            f"""
            Count = fun() -> {COUNT.format(key=text(key), times=1000)} end,
            Waiting = [element(2, spawn_monitor(Count)) || _ <- lists:seq(1, 4)],
            [receive {{'DOWN', Ref, process, _, normal}} -> ok end || Ref <- Waiting]
        """,
        ),
    )
    for console in counting:
        console.ask("for _ in range(1000): state_incr(k)", k=key)
    counted.start()
    for console in counting:
        console.answer()
    counted.join()
    assert server.node.eval(f"hornbeam_state:get({text(key)})") == 8000
    assert counting[0]("state_get(k)", k=key) == 8000


# Time to live


def test_a_value_with_a_ttl_is_there_until_then(console, key):
    source = """
        began = time.monotonic()
        state_set(k, 'soon gone', ttl=0.5)
        seen = []
        while (value := state_get(k)) is not None:
            seen.append(value)
            await asyncio.sleep(0.02)
        ({*seen}, time.monotonic() - began)
    """
    seen, lived = console(source, k=key)
    assert seen == {"soon gone"}
    assert lived >= 0.499  # the table's clock has milliseconds


def test_what_has_expired_is_absent_for_every_function(console, key):
    source = """
        state_set_multi({(k, n): 'old' for n in range(8)}, ttl=0.05)
        while state_get((k, 7)) is not None:
            await asyncio.sleep(0.01)
        [state_get((k, 0)), state_add((k, 1), 'new'), state_cas((k, 2), 'old', 'new'),
         state_take((k, 3)), state_delete((k, 4)), state_incr((k, 5)),
         state_get_multi([(k, 6)]), sorted(state_keys((k,))), sorted(dict(state_items((k,))))]
    """
    left = [(key, 1), (key, 5)]
    assert console(source, k=key) == [None, True, False, None, False, 1, {}, left, left]


def test_setting_again_without_a_ttl_lifts_it(console, key):
    source = """
        state_set(k, 'short', ttl=0.05)
        state_set(k, 'long')
        state_set((k, 'clock'), 0, ttl=0.2)
        while state_get((k, 'clock')) is not None:
            await asyncio.sleep(0.01)
        state_get(k)
    """
    assert console(source, k=key) == "long"


SIZE = """
lists:sum([ets:info(T, size) || T <- ets:all(),
    lists:prefix("hornbeam_state", atom_to_list(ets:info(T, name)))])
"""


def test_what_nobody_reads_is_swept(serve, consoles, key):
    server = serve("console:application", fresh=True)
    (console,) = consoles(server)
    before = server.node.eval(SIZE)
    console("state_set_multi({(k, n): n for n in range(1000)}, ttl=0.2)", k=key)
    assert server.node.eval(SIZE) >= before + 1000
    eventually(lambda: server.node.eval(SIZE) <= before)


@pytest.mark.parametrize("ttl", [0, -1, "1", True, float("nan"), float("inf")], ids=repr)
def test_a_ttl_that_is_no_time_is_refused(console, key, ttl):
    with pytest.raises((TypeError, ValueError)):
        console("state_set(k, 1, ttl=ttl)", k=key, ttl=ttl)
    assert console("state_get(k)", k=key) is None


# Connection-scoped state


SCOPED = """
    state_incr((k, 'count'), scope='connection')
    state_set((k, 'who'), 'me', scope='connection')
    state_incr((k, 'count'), 2, scope='connection')
"""


def scoped(console, key):
    return console("(state_get((k, 'count')), state_get((k, 'who')))", k=key)


@pytest.mark.parametrize("how", ["leave", "vanish", "kill_worker"])
def test_what_a_connection_holds_goes_with_it_however_it_ends(serve, consoles, key, how):
    server = serve("console:application", **TWO, fresh=how == "kill_worker")
    watcher, holder = consoles(server, 2)
    holder(SCOPED, k=key)
    assert scoped(watcher, key) == (3, "me")
    getattr(holder, how)()
    eventually(lambda: scoped(watcher, key) in [(0, None), (None, None)])


def test_what_a_connection_holds_goes_when_its_handler_ends(console, server, consoles, key):
    (other,) = consoles(server)
    other(SCOPED, k=key)
    with pytest.raises(RuntimeError):
        other("raise RuntimeError('answered, not raised')")
    assert scoped(console, key) == (3, "me")
    other.ask("await send({'type': 'websocket.close'})")
    eventually(lambda: scoped(console, key) in [(0, None), (None, None)])


def test_a_connection_undoes_its_own_share_of_a_counter(two, server, consoles, key):
    first, second = two
    (third,) = consoles(server)
    for console in (first, second, third):
        console("state_incr(k, 10, scope='connection')", k=key)
    first("state_incr(k, 100)", k=key)
    third("state_decr(k, 4, scope='connection')", k=key)
    assert first("state_get(k)", k=key) == 126
    third.leave()
    eventually(lambda: first("state_get(k)", k=key) == 120)


def test_scoped_state_reaches_the_tasks_and_threads_of_a_handler(console, server, consoles, key):
    (other,) = consoles(server)
    other(
        """
        async def task():
            state_incr(k, scope='connection')
            await asyncio.to_thread(state_incr, k, scope='connection')
            await aio.state_incr(k, scope='connection')
        await asyncio.create_task(task())
        """,
        k=key,
    )
    assert console("state_get(k)", k=key) == 3
    other.vanish()
    eventually(lambda: not console("state_get(k)", k=key))


def test_what_an_exchange_holds_goes_with_its_end(server, console, key):
    assert posted(server, "state_incr(k, scope='connection')", k=key) == 1
    eventually(lambda: not console("state_get(k)", k=key))


def test_what_a_worker_holds_since_its_lifespan_goes_with_it(serve, key):
    server = serve("listener:application", **TWO, env={"TOPIC": key}, fresh=True)
    alive = f"[{{Pid}} || {{_, _, Pid}} <- hornbeam_state:keys({{{text(key)}, {text('alive')}}})]"

    def holders():
        return {pid for (pid,) in server.node.eval(alive)}

    first, second = server.worker_pids()
    assert holders() == {first, second}
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(now := holders()) == 2 and first not in now)
    assert holders() == set(ready(server, 2))


def test_what_another_has_set_since_is_not_undone(console, server, consoles, key):
    (other,) = consoles(server)
    other("state_set(k, 'mine', scope='connection')", k=key)
    console("state_set(k, 'theirs')", k=key)
    other("state_incr((k, 'mark'), scope='connection')", k=key)
    other.leave()
    eventually(lambda: not console("state_get((k, 'mark'))", k=key))
    assert console("state_get(k)", k=key) == "theirs"


def test_a_scope_that_does_not_exist_is_refused(console, key):
    with pytest.raises(ValueError, match="scope"):
        console("state_set(k, 1, scope='session')", k=key)


# State of the connection itself


def test_a_connection_keeps_what_is_its_own(two, key):
    here, there = two
    here("connection_state().update({k: [1, None], (k, 1): b'raw'})", k=key)
    assert here("dict(connection_state())") == {key: [1, None], (key, 1): b"raw"}
    assert there("dict(connection_state())") == {}
    assert there("state_get(k)", k=key) is None


def test_the_connections_state_is_that_of_the_tasks_and_threads_of_a_handler(console, key):
    console(
        """
        async def task():
            await aio.connection_state().set('task', 1)
            await asyncio.to_thread(connection_state().update, {'thread': 2})
        await asyncio.create_task(task())
        """,
        k=key,
    )
    assert console("dict(connection_state())") == {"task": 1, "thread": 2}


@pytest.mark.parametrize("how", ["leave", "vanish", "kill_worker"])
def test_the_connections_state_goes_with_it_however_it_ends(serve, consoles, how):
    server = serve("console:application", **TWO, fresh=how == "kill_worker")
    (holder,) = consoles(server)
    holder("connection_state().update({n: n for n in range(100)})")
    assert kept(server) >= 100
    getattr(holder, how)()
    eventually(lambda: kept(server) == 0)


def test_an_exchange_has_a_state_of_its_own_until_its_end(server):
    keep = "connection_state().setdefault('visits', []); connection_state().popitem()"
    assert [posted(server, keep) for _ in range(2)] == [("visits", [])] * 2
    eventually(lambda: kept(server) == 0)


def test_the_state_of_a_connection_that_is_gone_raises(console, server, consoles, key):
    (other,) = consoles(server)
    other.ask(
        """
        connection_state()['here'] = True
        state_set(k, 'here')
        attempts = [lambda: connection_state().get('here'), lambda: connection_state().pop('a', 0),
                    lambda: connection_state().update({'b': 1}), lambda: dict(connection_state())]
        failed = 0
        while failed < len(attempts):
            try:
                attempts[failed]()
                await asyncio.sleep(0.01)
            except hornbeam_erlang.ConnectionEnded:
                failed += 1
        state_set(k, 'gone')
        """,
        k=key,
    )
    eventually(lambda: console("state_get(k)", k=key) == "here")
    other.vanish()
    eventually(lambda: console("state_get(k)", k=key) == "gone")


def test_one_of_many_pops_a_value(console):
    source = """
        connection_state().update({n: n for n in range(50)})
        def pops(): return [n for n in range(50) if connection_state().pop(n, None) is not None]
        sorted(sum(await asyncio.gather(*[asyncio.to_thread(pops) for _ in range(4)]), []))
    """
    assert console(source) == list(range(50))


def test_stopping_the_server_ends_all_connections(serve, consoles, key):
    server = serve("console:application", fresh=True)
    (console,) = consoles(server)
    console(SCOPED, k=key)
    server.stop()
    keys = ", ".join(f"{{{text(key)}, {text(name)}}}" for name in ("count", "who"))
    left = f"list_to_tuple(maps:values(hornbeam_state:get_multi([{keys}])))"
    eventually(lambda: server.node.eval(left) in ((), (0,)))


# Who may call, and when


def test_threads_of_every_kind_may_call(console, key):
    source = """
        results = []
        def work():
            for _ in range(100):
                state_incr(k)
            results.append(state_get(k) >= 100)
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        (results, await asyncio.to_thread(state_get, k))
    """
    assert console(source, k=key) == ([True] * 8, 800)


def test_the_loop_goes_on_while_a_thread_calls(console, key):
    source = """
        turns = 0
        async def turn():
            global turns
            while True:
                turns += 1
                await asyncio.sleep(0)
        turning = asyncio.create_task(turn())
        await asyncio.to_thread(lambda: [state_incr(k) for _ in range(200)])
        turning.cancel()
        (turns > 200, state_get(k))
    """
    assert console(source, k=key) == (True, 200)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_every_way_to_call_works_in_every_loop(serve, consoles, key, loop):
    (console,) = consoles(serve("console:application", loop=Atom(loop), fresh=True))
    source = """
        subscribe(k)
        counts = [state_incr(k), await asyncio.to_thread(state_incr, k), await aio.state_incr(k)]
        publish(k, counts)
        (type(asyncio.get_running_loop()).__module__.split(".")[0], await aio.receive_pubsub())
    """
    assert console(source, k=key) == (loop, (key, [1, 2, 3]))


def test_fastapis_def_endpoints_may_call(serve, key):
    server = serve("endpoints:app", **TWO)
    counted = [httpx.post(f"{server.http}/count/{key}").json() for _ in range(20)]
    assert sorted(counted) == list(range(1, 21))
    answer = httpx.get(f"{server.http}/count/{key}").json()
    assert answer == {"count": 20, "thread": True}


async def test_many_requests_at_once_each_in_a_thread(serve, key):
    server = serve("endpoints:app", **TWO)
    async with httpx.AsyncClient(base_url=server.http, timeout=30) as client:
        answers = await asyncio.gather(*(client.post(f"/count/{key}") for _ in range(100)))
    assert sorted(answer.json() for answer in answers) == list(range(1, 101))


def test_the_aio_names_let_the_loop_go_on(console, key):
    source = """
        turns = []
        async def turn():
            while True:
                turns.append(0)
                await asyncio.sleep(0)
        turning = asyncio.create_task(turn())
        counts = await asyncio.gather(*(aio.state_incr(k) for _ in range(100)))
        turning.cancel()
        (sorted(counts), len(turns) > 0, await aio.state_get(k))
    """
    assert console(source, k=key) == (list(range(1, 101)), True, 100)


def test_aio_has_the_same_names_as_coroutines(console):
    assert (
        console("""
        names = [name for name in hornbeam_erlang.__all__
                 if inspect.isfunction(getattr(hornbeam_erlang, name))]
        [name for name in names if not hasattr(aio, name)]
    """)
        == []
    )


def test_ops_work_at_import_in_the_lifespan_and_after_it(serve, shared, key):
    server = serve("early:application", env={"KEY": key}, fresh=True)
    seen = httpx.get(server.http).json()
    assert seen == {"import": 1, "startup": 1, "shutdown": None, "request": 1}
    server.stop()
    assert shared.node.eval(f"hornbeam_state:get({{{text(key)}, {text('shutdown')}}})") == 1


# Erlang's side


def test_erlang_reads_native_terms_and_writes_them(console, server, key):
    console("state_set(k, {'users': ['ada', 1, 2.5, None, True]})", k=key)
    assert server.node.eval(f"hornbeam_state:get({text(key)})") == {
        "users": ["ada", 1, 2.5, "undefined", True]
    }
    server.node.eval(f'hornbeam_state:set({text(key)}, #{{<<"back">> => [1, 2]}})')
    assert console("state_get(k)", k=key) == {"back": [1, 2]}
    assert server.node.eval(f"hornbeam_state:get({text(key + 'no')}, none)") == "none"


def test_erlang_and_python_count_together(console, server, key):
    assert server.node.eval(f"hornbeam_state:incr({text(key)}, 5)") == 5
    assert console("state_incr(k)", k=key) == 6
    assert server.node.eval(f"hornbeam_state:get({text(key)})") == 6


def test_the_processes_behind_the_ops_may_crash(serve, consoles, key):
    """State, what is owed to the dead, and subscriptions go on; no socket notices."""
    server = serve("console:application", **TWO, fresh=True)
    here, there = consoles(server, 2)
    here("state_set(k, 'kept'); state_incr((k, 1), 3, scope='connection')", k=key)
    here("subscribe(k); subscribe(k + 'f', forward=True)", k=key)
    for name in crash(server.node, "hornbeam_api_sup"):
        there("state_incr((k, 'crashes'))", k=key)
        assert there("(state_get(k), publish(k, name))", k=key, name=name)[0] == "kept"
    eventually(lambda: there("publish(k, 'after')", k=key) == 1)
    assert there("publish(k + 'f', 'forwarded')", k=key) == 1
    assert here.next_pushed() == "forwarded"
    assert here("while (message := check_pubsub()) != 'after': pass\nmessage") == "after"
    assert here("state_incr((k, 1), scope='connection')", k=key) == 4
    here.vanish()
    eventually(lambda: there("state_get((k, 1))", k=key) == 0)
    assert there("publish(k, 1)", k=key) == 0


def test_state_survives_every_process_but_the_node(serve, consoles, key):
    server = serve("console:application", fresh=True)
    (console,) = consoles(server)
    console("state_set(k, 'kept'); state_incr((k, 1), 3, scope='connection')", k=key)
    (old,) = ready(server, 1)
    server.node.eval(
        "[exit(Pid, kill) || Sup <- [hornbeam_sup, hornbeam_server_sup],"
        " {Id, Pid, _, _} <- supervisor:which_children(Sup), Id =/= hornbeam_server_sup]"
    )
    eventually(lambda: serves_anew(server, old))
    (again,) = consoles(server.node.running())
    assert again("state_get(k)", k=key) == "kept"
    eventually(lambda: again("state_get((k, 1))", k=key) == 0)


def serves_anew(server, old):
    """Whether the door is open and another worker than the old one is ready."""
    with contextlib.suppress(EvalError):
        info = server.info()
        ready = {w["os_pid"] for w in info.get("workers", ()) if w["state"] == "ready"}
        return "address" in info and bool(ready - {old})
    return False


def crash(node, supervisor):
    """Kill each child of a supervisor that has a name, then itself; wait until each is back."""
    children = node.eval(
        f"[Name || {{_, Pid, _, _}} <- supervisor:which_children({supervisor}),"
        " {registered_name, Name} <- [process_info(Pid, registered_name)]]"
    )
    assert len(children) > 3
    for name in [*children, supervisor]:
        old = node.eval(f"whereis({name})")
        node.eval(f"exit(whereis({name}), kill)")
        eventually(
            lambda name=name, old=old: node.eval(f"whereis({name})") not in (old, "undefined")
        )
        # A supervisor has its name before its children have theirs.
        eventually(lambda: "undefined" not in [node.eval(f"whereis({n})") for n in children])
        yield str(name)


# Deadlines


def test_an_op_that_gets_no_answer_is_an_op_timeout_and_its_late_answer_lost(serve, consoles, key):
    server = serve("console:application", op_timeout=300, fresh=True)
    (console,) = consoles(server)
    server.node.eval("sys:suspend(hornbeam_pubsub_registry)")
    for source in (
        "subscribe(k)",
        "await aio.subscribe(k)",
        "await asyncio.to_thread(subscribe, k)",
    ):
        with pytest.raises(OpTimeout):
            console(source, k=key)
        assert console("state_incr((k, 'next'))", k=key) > 0
    server.node.eval("sys:resume(hornbeam_pubsub_registry)")
    assert console("subscribe(k); publish(k, 1)", k=key) == 1
    assert console("state_incr((k, 'next'))", k=key) == 4


# Limits


def test_a_value_may_be_large_but_not_without_bound(console, key):
    assert console("state_set(k, 'x' * size); len(state_get(k))", k=key, size=2**23) == 2**23
    with pytest.raises(ValueError, match="bytes"):
        console("state_set(k, 'x' * size)", k=key, size=2**27)
    assert console("len(state_get(k))", k=key) == 2**23


def test_a_value_that_cannot_travel_is_named_by_its_path(console, key):
    for source, path in (
        ("state_set(k, {'users': [1, 2, 3, {4}]})", r"\['users'\]\[3\].*set"),
        ("state_set(k, object())", "object"),
        ("publish(k, {'at': [lambda: 0]})", r"\['at'\]\[0\].*function"),
        ("state_set(k, float('nan'))", "nan"),
        ("state_set(k, [0.5, float('inf')])", r"\[1\].*inf"),
    ):
        with pytest.raises((TypeError, ValueError), match=path):
            console(source, k=key)
    assert console("state_get(k)", k=key) is None


ATOMS = "erlang:system_info(atom_count)"


def test_no_data_becomes_an_atom(console, server, key):
    def everything(start):
        return console(
            """
            for n in range(start, start + 300):
                name = f'{k}{n}'
                state_set(name, {name: name})
                state_incr(('n', name))
                subscribe(name); publish(name, name); unsubscribe(name)
                state_keys(name); state_get_multi([name])
                for attempt in (
                    lambda: rpc_call(name, 'erlang', 'node', []),
                    lambda: rpc_call(node(), name, name, []),
                    lambda: call(name),
                    lambda: execute(name, name),
                    lambda: state_set((name, 'atom'), terms.Atom(name)),
                ):
                    try:
                        attempt()
                    except (hornbeam_erlang.HornbeamError, TypeError):
                        pass
            """,
            k=key,
            start=start,
        )

    everything(0)
    server.node.eval(f"hornbeam_state:get({text(key + '0')})")
    server.node.eval(ATOMS)
    before = server.node.eval(ATOMS)
    everything(300)
    # A module that is loaded late brings a few of its own; the names were hundreds.
    assert server.node.eval(ATOMS) - before < 50
