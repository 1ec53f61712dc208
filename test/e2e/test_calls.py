"""Calls both ways: registered Erlang functions, Python functions from Erlang, hooks."""

from __future__ import annotations

import re
import threading

import pytest
from clients import still
from consoles import ready
from harness import eventually
from hornbeam_erlang import NotFound, OpTimeout, RemoteError
from terms import Atom, charlist, text

TWO = {"workers": 2}


@pytest.fixture
def server(serve):
    return serve("console:application", **TWO)


@pytest.fixture
def two(server, consoles):
    """Two consoles in two workers."""
    return consoles(server, 2)


@pytest.fixture
def console(two):
    return two[0]


@pytest.fixture
def register(server):
    """Register Erlang functions for the time of a test."""
    names = []

    def registered(name, function):
        names.append(name)
        return server.node.eval(f"hornbeam:register_function({text(name)}, {function})")

    yield registered
    for name in names:
        server.node.eval(f"hornbeam:unregister_function({text(name)})")


# Python calls Erlang


def test_a_registered_fun_is_called_with_the_arguments(console, register, key):
    assert register(key, "fun(A, B) -> {A, B} end") == "ok"
    assert console("call(k, 1, 'two')", k=key) == (1, "two")


def test_a_registered_function_is_called_by_module_and_name(console, register, key):
    register(key, "lists, reverse")
    assert console("call(k, [1, 2])", k=key) == [2, 1]


def test_ok_gives_the_value_and_error_raises(console, register, key):
    register(key, "fun(ok) -> {ok, 1}; (V) -> {error, V} end")
    assert console("call(k, terms.Atom('ok'))", k=key) == 1
    with pytest.raises(RemoteError, match="not_found"):
        console("call(k, terms.Atom('not_found'))", k=key)


def test_what_the_function_raises_is_a_remote_error(console, register, key):
    register(key, "fun() -> error({broken, here}) end")
    with pytest.raises(RemoteError, match="broken") as failure:
        console("call(k)", k=key)
    assert failure.value.class_ == "error"
    with pytest.raises(TypeError, match="0 arguments, 1 were given"):
        console("call(k, 'one too many')", k=key)


def test_an_unknown_function_is_not_found(console, server, register, key):
    with pytest.raises(NotFound, match=key):
        console("call(k)", k=key)
    register(key, "fun() -> 1 end")
    assert console("call(k)", k=key) == 1
    server.node.eval(f"hornbeam:unregister_function({text(key)})")
    with pytest.raises(NotFound, match=key):
        console("call(k)", k=key)


def test_registering_again_replaces(console, register, key):
    register(key, "fun() -> 1 end")
    register(key, "fun() -> 2 end")
    assert console("call(k)", k=key) == 2


def test_a_function_that_takes_too_long_raises_op_timeout(console, register, key):
    register(key, "fun() -> timer:sleep(60000) end")
    with pytest.raises(OpTimeout):
        console("call(k, timeout=0.05)", k=key)


def test_a_function_may_use_all_of_hornbeam(console, register, key):
    register(key, "fun(K) -> hornbeam_state:incr(K, 1), hornbeam:publish(K, 1) end")
    assert console("subscribe(k); call(k, k)", k=key) == 1
    assert console("(await aio.receive_pubsub(), state_get(k))", k=key) == ((key, 1), 1)


def test_functions_do_not_wait_for_each_other(two, register, key):
    register(key, "fun(wait) -> timer:sleep(1500), slow; (_) -> quick end")
    two[0].ask("call(k, terms.Atom('wait'))", k=key)
    assert two[1]("[call(k, 0) for _ in range(50)]", k=key) == ["quick"] * 50
    assert two[0].answer() == "slow"


def test_a_cast_returns_at_once_and_runs(console, register, key):
    register(key, "fun(V) -> timer:sleep(100), hornbeam_state:set(V, done) end")
    assert console("(cast(k, k), state_get(k))", k=key) == (None, None)
    eventually(lambda: console("state_get(k)", k=key) == "done")


def test_aio_calls_let_the_loop_go_on(console, register, key):
    register(key, "fun(V) -> timer:sleep(200), V end")
    source = "await asyncio.gather(*(aio.call(k, n) for n in range(20)))"
    assert console(source, k=key) == list(range(20))


# Erlang calls Python


@pytest.fixture
def functions(serve):
    return serve("functions:application", **TWO)


def erlang(server, call: str):
    return server.node.eval(f"hornbeam:{call}")


def test_erlang_calls_plain_and_async_functions(functions):
    for name in ("add", "add_later"):
        assert erlang(functions, f"call(functions, {name}, [1, 2])") == ("ok", 3)
        assert erlang(functions, f'call("functions", "{name}", [<<"a">>, <<"b">>])') == ("ok", "ab")
        assert erlang(functions, f'call(<<"functions">>, <<"{name}">>, [1.5, 2])') == ("ok", 3.5)


def test_erlang_calls_functions_of_any_module(functions):
    assert erlang(functions, 'call("os.path", "basename", [<<"/a/b">>])') == ("ok", "b")
    assert erlang(functions, "call(math, sqrt, [16])") == ("ok", 4.0)


def test_erlang_passes_keyword_arguments(functions):
    options = '#{kwargs => #{b => 2, <<"a">> => 1}}'
    assert erlang(functions, f"call(functions, add_later, [], {options})") == ("ok", 3)


@pytest.mark.parametrize("name", ["fail", "fail_later"])
def test_what_python_raises_comes_with_class_message_and_traceback(functions, name):
    tag, (python, kind, message, traceback) = erlang(
        functions, f'call(functions, {name}, [<<"as asked">>])'
    )
    assert (tag, python, kind, message) == ("error", "python", "LookupError", "as asked")
    assert f"in {name}" in traceback
    assert "functions.py" in traceback


@pytest.mark.parametrize("call", ['"no_such_module", f', "functions, no_such_function"])
def test_what_is_not_there_is_an_error(functions, call):
    tag, reason = erlang(functions, f"call({call}, [])")
    assert tag == "error"
    assert "no_such" in repr(reason)


def test_a_result_that_cannot_travel_is_an_error_that_says_where(functions):
    tag, (_python, kind, message, _traceback) = erlang(functions, "call(functions, give_a_set, [])")
    assert (tag, kind) == ("error", "TypeError")
    assert re.search(r"\['things'\]\[1\].*set", message)


def test_a_call_that_takes_too_long_times_out_and_its_coroutine_is_cancelled(functions, key):
    options = "#{timeout => 100}"
    call = f"call(functions, sleep_and_note, [{text(key)}, 60], {options})"
    assert erlang(functions, call) == ("error", "timeout")
    eventually(lambda: functions.node.eval(f"hornbeam_state:get({text(key)})") == "cancelled")


def test_a_plain_function_that_blocks_does_not_stop_the_workers_sockets(functions, key):
    blocking = threading.Thread(target=erlang, args=(functions, "call(functions, block, [1.0])"))
    blocking.start()
    for _ in range(20):
        assert erlang(functions, "call(functions, add, [1, 1])") == ("ok", 2)
    blocking.join()


def test_a_worker_may_be_chosen(functions):
    workers = functions.workers()
    for worker in workers * 2:
        for name in (text(worker["name"]), charlist(worker["name"]), text(Atom(worker["name"]))):
            call = f"call(os, getpid, [], #{{worker => {name}}})"
            assert erlang(functions, call) == ("ok", worker["os_pid"])
    assert erlang(functions, 'call(os, getpid, [], #{worker => <<"nobody">>})')[0] == "error"
    pool = '#{pool => <<"/">>}'
    chosen = {erlang(functions, f"call(os, getpid, [], {pool})")[1] for _ in range(10)}
    assert chosen <= {worker["os_pid"] for worker in workers}


def test_a_worker_that_dies_during_a_call_is_an_error(serve):
    server = serve("functions:application", **TWO, fresh=True)
    tag, reason = erlang(server, "call(functions, die, [])")
    assert (tag, reason) == ("error", "worker_down")
    ready(server, 2)
    assert erlang(server, "call(functions, add, [1, 2])") == ("ok", 3)


def test_without_a_server_there_is_nobody_to_call(shared):
    shared.stop()
    assert shared.node.eval("hornbeam:call(functions, add, [1, 2])") == ("error", "no_worker")


def test_a_cast_is_run_and_its_failure_logged(functions, key):
    assert erlang(functions, f"cast(functions, note, [{text(key)}])") == "ok"
    eventually(lambda: functions.node.eval(f"hornbeam_state:get({text(key)})") == "noted")
    assert erlang(functions, 'cast(functions, fail, [<<"in a cast">>])') == "ok"
    functions.node.wait_log(r"Traceback.*LookupError: in a cast")


def test_a_called_function_may_call_back(functions, key):
    assert erlang(functions, f"call(functions, count, [{text(key)}, 5])") == ("ok", 5)
    assert erlang(functions, f"call(functions, count_later, [{text(key)}, 5])") == ("ok", 10)


# Hooks


HANDLERS = """
    def function(action, *args, **kwargs):
        return [action, args, kwargs, os.getpid()]

    class Handler:
        def __init__(self):
            self.calls = 0
        def count(self, by=1):
            self.calls += by
            return self.calls
        async def later(self, value):
            await asyncio.sleep(0.01)
            return value
        def fail(self):
            raise KeyError('asked for')
        def numbers(self, count):
            for n in range(count):
                yield n
        async def letters(self, word):
            for letter in word:
                await asyncio.sleep(0)
                yield letter
        def endless(self, key):
            try:
                n = 0
                while True:
                    state_set((key, 'made'), n)
                    yield n
                    n += 1
            finally:
                state_set((key, 'closed'), True)
        async def endless_later(self, key):
            try:
                n = 0
                while True:
                    state_set((key, 'made'), n)
                    yield n
                    n += 1
            finally:
                state_set((key, 'closed'), True)
        def breaks(self):
            yield 1
            raise KeyError('in the middle')
        def _hidden(self):
            return 'secret'
"""


@pytest.fixture
def hook(two, key):
    """A handler in the second worker; its name."""
    two[1](HANDLERS + "\n    register_hook(k, Handler())", k=key)
    yield key
    two[1]("unregister_hook(k)", k=key)


def test_a_function_serves_all_actions(two, key):
    here, there = two
    there(HANDLERS + "\n    register_hook(k, function)", k=key)
    action, args, kwargs, pid = here("execute(k, 'greet', 1, 'two', three=3)", k=key)
    assert (action, list(args), kwargs, pid) == ("greet", [1, "two"], {"three": 3}, there.pid)


def test_an_instance_serves_its_methods(two, hook):
    assert [console("execute(k, 'count', by=2)", k=hook) for console in two * 2] == [2, 4, 6, 8]


def test_a_class_is_made_an_instance(two, key):
    two[1](HANDLERS + "\n    register_hook(k, Handler)", k=key)
    assert [two[0]("execute(k, 'count')", k=key) for _ in range(3)] in ([1, 2, 3], [1, 1, 1])


def test_async_actions_are_awaited(two, hook):
    assert two[0]("execute(k, 'later', 'value')", k=hook) == "value"


def test_what_an_action_raises_comes_back(two, hook):
    with pytest.raises(RemoteError, match="asked for") as failure:
        two[0]("execute(k, 'fail')", k=hook)
    assert failure.value.class_ == "KeyError"
    assert "in fail" in failure.value.stacktrace


@pytest.mark.parametrize("action", ["missing", "_hidden", "__init__", "calls", ""])
def test_an_action_that_is_no_public_method_is_not_found(two, hook, action):
    with pytest.raises(NotFound):
        two[0]("execute(k, a)", k=hook, a=action)


def test_an_unknown_hook_is_not_found(console, key):
    with pytest.raises(NotFound, match=key):
        console("execute(k, 'any')", k=key)


def test_a_worker_may_call_its_own_hook_from_the_loop(two, hook):
    assert two[1]("await aio.execute(k, 'count')", k=hook) == 1
    assert two[1]("await asyncio.to_thread(execute, k, 'count')", k=hook) == 2
    assert two[1]("execute(k, 'count')", k=hook) == 3


def test_an_execution_may_be_awaited_later(two, hook):
    here, _ = two
    here("started = [execute_async(k, 'later', n) for n in range(5)]", k=hook)
    ids = here("[execution.id for execution in started]")
    assert len(set(ids)) == 5
    assert here("[execution.result() for execution in reversed(started)]") == [4, 3, 2, 1, 0]
    assert here("[await execution for execution in started]") == [0, 1, 2, 3, 4]
    with pytest.raises(NotFound):
        here("Execution(ids[0]).result(timeout=0.1)", ids=ids)


def test_an_execution_travels_to_another_worker_by_its_id(two, hook):
    here, there = two
    id = here("execute_async(k, 'later', 'value').id", k=hook)
    assert there("await Execution(id)", id=id) == "value"


def test_who_waits_for_an_execution_and_is_cancelled_has_not_lost_its_result(two, key):
    here, there = two
    there(
        """
        opened = asyncio.Event()
        async def slow(action):
            await opened.wait()
            return "value"
        register_hook(k, slow)
        """,
        k=key,
    )
    here(
        """
        execution = execute_async(k, 'any')
        waiting = asyncio.ensure_future(execution)
        await aio.state_get(k)
        waiting.cancel()
        await asyncio.wait([waiting])
        None
        """,
        k=key,
    )
    there("opened.set()")
    assert here("(waiting.cancelled(), await execution)") == (True, "value")


def test_a_result_that_is_not_there_in_time_is_an_op_timeout(two, key):
    two[1](
        """
        async def slow(action):
            await asyncio.sleep(2)
        register_hook(k, slow)
        """,
        k=key,
    )
    with pytest.raises(OpTimeout):
        two[0]("execute_async(k, 'any').result(timeout=0.05)", k=key)
    with pytest.raises(OpTimeout):
        two[0]("execute(k, 'any', timeout=0.05)", k=key)


def test_workers_whose_coroutines_wait_for_each_other_without_await_go_on(two, key):
    here, there = two
    here(
        """
        async def answer(action):
            return 42
        register_hook(k + 'here', answer)
        """,
        k=key,
    )
    there(
        """
        async def ask(action):
            return execute(k + 'here', 'any', timeout=60)
        register_hook(k + 'there', ask)
        """,
        k=key,
    )
    with pytest.raises(OpTimeout, match=r"await hornbeam_erlang.aio.execute\(...\) instead"):
        here("execute(k + 'there', 'any', timeout=60)", k=key)
    assert here("await aio.execute(k + 'there', 'any')", k=key) == 42


def test_an_op_that_stops_its_loop_is_given_up_before_the_worker_is_killed(serve, consoles, key):
    server = serve("console:application", fresh=True, worker_hang_timeout=2000)
    (here,) = consoles(server, 1)
    forever = "fun() -> receive never -> ok end end"
    server.node.eval(f"hornbeam:register_function({text(key)}, {forever})")
    with pytest.raises(OpTimeout, match=r"not for longer than 1\.5 s"):
        here("call(k, timeout=60)", k=key)
    assert here("os.getpid()") == here.pid


def test_erlang_executes_hooks(two, hook, server):
    execute = f'hornbeam_hooks:execute({text(hook)}, <<"count">>, [5])'
    assert server.node.eval(execute) == ("ok", 5)
    failed = server.node.eval(f'hornbeam_hooks:execute({text(hook)}, <<"fail">>, [])')
    assert failed[0] == "error"
    assert failed[1][:3] == ("python", "KeyError", "'asked for'")


def test_erlang_serves_hooks(server, two, key):
    handler = """fun
        (<<"sum">>, Numbers, #{}) -> lists:sum(Numbers);
        (<<"list">>, [N], #{}) -> lists:seq(1, N);
        (<<"fails">>, [], #{}) -> {error, on_purpose};
        (<<"named">>, [], #{<<"name">> := Name}) -> {ok, Name}
    end"""
    server.node.eval(f"hornbeam:register_hook({text(key)}, {handler})")
    here, _ = two
    assert here("execute(k, 'sum', 1, 2, 3)", k=key) == 6
    assert here("execute(k, 'named', name='Ada')") == "Ada"
    assert here("execute_async(k, 'sum', 4, 5).result()") == 9
    assert here("list(stream(k, 'list', 100))") == list(range(1, 101))
    with pytest.raises(RemoteError, match="on_purpose"):
        here("execute(k, 'fails')")
    server.node.eval(f"hornbeam:unregister_hook({text(key)})")
    with pytest.raises(NotFound):
        here("execute(k, 'sum')")


def test_erlang_reads_a_stream_and_leaves_it_early(server, two, hook):
    taken, closed = server.node.eval(f"""
        {{ok, Id}} = hornbeam_hooks:stream({text(hook)}, <<"endless">>, [{text(hook)}]),
        {{ok, [0 | _]}} = hornbeam_hooks:next(Id, 5000),
        {{ok, [Next | _]}} = hornbeam_hooks:next(Id, 5000),
        ok = hornbeam_hooks:close(Id),
        {{Next > 0, hornbeam_hooks:next(Id, 5000)}}
    """)
    assert (taken, closed) == (True, ("error", "unknown_id"))
    eventually(lambda: two[0]("state_get((k, 'closed'))", k=hook))


def test_a_hook_goes_with_its_worker_and_another_may_take_its_name(serve, consoles, key):
    server = serve("console:application", **TWO, fresh=True)
    here, there = consoles(server, 2)
    there(HANDLERS + "\n    register_hook(k, function)", k=key)
    assert here("execute(k, 'any')[3]", k=key) == there.pid
    there.kill_worker()
    with pytest.raises(NotFound):
        here("execute(k, 'any')", k=key)
    here(HANDLERS + "\n    register_hook(k, function)", k=key)
    assert here("execute(k, 'any')[3]", k=key) == here.pid


def test_an_unregistered_hook_is_gone(two, key):
    two[1](HANDLERS + "\n    register_hook(k, function); unregister_hook(k)", k=key)
    with pytest.raises(NotFound):
        two[0]("execute(k, 'any')", k=key)


# Streams


def test_generators_are_streamed(two, hook):
    here, _ = two
    assert here("list(stream(k, 'numbers', 1000))", k=hook) == list(range(1000))
    assert here("list(stream(k, 'letters', 'hornbeam'))", k=hook) == list("hornbeam")
    assert here("list(stream(k, 'numbers', 0))", k=hook) == []
    assert here("[n async for n in aio.stream(k, 'numbers', 100)]", k=hook) == list(range(100))


def test_a_stream_that_breaks_gives_what_came_before(two, hook):
    source = """
        came = []
        try:
            for item in stream(k, 'breaks'):
                came.append(item)
        except hornbeam_erlang.RemoteError as error:
            came.append(error.class_)
        came
    """
    assert two[0](source, k=hook) == [1, "KeyError"]


@pytest.mark.parametrize("action", ["endless", "endless_later"])
def test_a_stream_makes_only_what_is_taken_and_a_little_ahead(two, hook, action):
    here, _ = two
    here("items = stream(k, a, k); first = [next(items) for _ in range(10)]", k=hook, a=action)
    assert here("first") == list(range(10))
    made = still(lambda: here("state_get((k, 'made'))", k=hook))
    assert made < 1000
    assert here("[next(items) for _ in range(2000)][-1]") == 2009
    assert still(lambda: here("state_get((k, 'made'))", k=hook)) < 3000
    here("items.close()")
    eventually(lambda: here("state_get((k, 'closed'))", k=hook))


@pytest.mark.parametrize("how", ["leave", "vanish", "kill_worker"])
def test_a_stream_is_closed_when_its_reader_is_gone(serve, consoles, key, how):
    server = serve("console:application", **TWO, fresh=True)
    here, there = consoles(server, 2)
    there(HANDLERS + "\n    register_hook(k, Handler())", k=key)
    here("items = stream(k, 'endless', k); next(items)", k=key)
    assert not there("state_get((k, 'closed'))", k=key)
    getattr(here, how)()
    eventually(lambda: there("state_get((k, 'closed'))", k=key))


def test_a_stream_breaks_when_its_worker_dies(serve, consoles, key):
    server = serve("console:application", **TWO, fresh=True)
    here, there = consoles(server, 2)
    there(HANDLERS + "\n    register_hook(k, Handler())", k=key)
    here("items = stream(k, 'endless', k); next(items)", k=key)
    there.kill_worker()
    with pytest.raises(RemoteError) as failure:
        here("for _ in items: pass")
    assert failure.value.class_ == "worker_down"
