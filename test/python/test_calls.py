"""Calls into Python: functions, hooks and streams of items, as Erlang asks for them."""

import ast
import itertools

import msgpack
import pytest
from beam import CODES, Beam
from hornbeam_erlang._wire.values import pack, unpack

FUNCTIONS = """
    import asyncio, functools, threading, time
    from hornbeam_erlang import aio, state_get
    from hornbeam_erlang._ops.carrier import connected

    def add(a, b=10):
        return a + b

    async def add_slowly(a, b):
        await asyncio.sleep(0)
        return a + b

    class Callable:
        async def __call__(self, value):
            return ["called", value]

    called = Callable()
    partial = functools.partial(add, 1)

    def fail():
        raise ValueError("kaputt: \\ud800")

    def unsendable():
        return {"found": {1, 2}}

    def exits():
        raise SystemExit(3)

    def where():
        return threading.current_thread() is threading.main_thread()

    def stream():
        return connected().caller()

    def block():
        print("blocks")
        state_get("go on")
        return "done"

    async def block_a_task():
        await aio.state_get("go on")
        return "done"

    async def wait():
        try:
            print("waits")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("cancelled")
            raise

    def running():
        import gc
        return sum(type(found).__name__ == "Running" for found in gc.get_objects())

    number = 5

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})
        elif scope["type"] == "websocket":
            await wait()
        else:
            raise NotImplementedError
"""


@pytest.fixture
def beam(run):
    return run(FUNCTIONS)


def call(beam: Beam, ref: int, function: str, *args, module="small_app", mode=0, **kwargs) -> None:
    beam.send("call", 0, ref, mode, module, function, pack(list(args)), pack(kwargs))


def result(beam: Beam, ref: int, status: int = 0):
    name, stream, got, code, value = beam.next()
    assert (name, stream, got, code) == ("result", 0, ref, status), value
    return unpack(value) if status == 0 else value


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "expected"),
    [
        ("add", [1, 2], {}, 3),
        ("add", [1], {"b": 5}, 6),
        ("add", [(1,), (2,)], {}, (1, 2)),
        ("add_slowly", [1, 2], {}, 3),
        ("called", [1], {}, ["called", 1]),
        ("partial", [], {}, 11),
        ("stream", [], {}, 0),
    ],
)
def test_function_is_called(beam, function, args, kwargs, expected):
    call(beam, 1, function, *args, **kwargs)
    assert result(beam, 1) == expected


def test_function_of_a_module_that_was_not_imported_is_called(beam):
    call(beam, 1, "join", "a", "b", module="posixpath")
    assert result(beam, 1) == "a/b"
    call(beam, 2, "sqrt", 4, module="cmath")
    status, value = beam.next()[3:]
    assert (status, value[0], value[1]) == (8, "TypeError", "result: complex has no form in Erlang")


def test_function_that_is_not_async_runs_beside_the_loop(beam):
    call(beam, 1, "where")
    assert result(beam, 1) is False
    call(beam, 2, "block")
    _, _, ref, _, _ = beam.expect("op")
    beam.open_http(5)  # the loop goes on
    beam.expect("response_start", 5)
    beam.expect("ended", 5)
    beam.send("reply", 0, ref, 0, None)
    assert result(beam, 2) == "done"


@pytest.mark.parametrize(
    ("function", "args", "class_", "message"),
    [
        ("fail", [], "ValueError", "kaputt: \\ud800"),
        ("exits", [], "SystemExit", "3"),
        ("unsendable", [], "TypeError", "result['found']: set has no form in Erlang"),
        ("add", [], "TypeError", "add() missing 1 required positional argument: 'a'"),
        ("add_slowly", [1], "TypeError", "add_slowly() missing 1 required"),
    ],
)
def test_function_that_fails_is_told_with_its_traceback(beam, function, args, class_, message):
    call(beam, 1, function, *args)
    found_class, found, traceback = result(beam, 1, 8)
    assert found_class == class_
    assert found.startswith(message)
    assert found_class in traceback
    call(beam, 2, "add", 1, 2)
    assert result(beam, 2) == 3


@pytest.mark.parametrize(
    ("module", "function", "text"),
    [
        ("no_such_module", "f", "there is no module 'no_such_module'"),
        ("os.nothing", "f", "there is no module 'os.nothing'"),
        ("", "f", "'' is no module"),
        (".relative", "f", "'.relative' is no module"),
        ("small_app", "nothing", "the module 'small_app' has no function 'nothing'"),
        ("small_app", "number", "the module 'small_app' has no function 'number'"),
    ],
)
def test_function_that_is_missing_is_told(beam, module, function, text):
    call(beam, 1, function, module=module)
    assert result(beam, 1, 9).startswith(text)


def test_module_that_fails_to_import_is_no_missing_module(run, tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_module_at_all")
    beam = run(FUNCTIONS)
    call(beam, 1, "f", module="broken")
    assert result(beam, 1, 8)[0] == "ModuleNotFoundError"


def test_cancel_ends_a_coroutine_and_nothing_more_is_said(beam):
    call(beam, 1, "wait")
    beam.expect_log("waits")
    beam.send("cancel", 0, 1)
    beam.expect_log("cancelled")
    beam.send("cancel", 0, 1)
    beam.send("more", 0, 99, 5)
    call(beam, 2, "add", 1, 2)
    assert result(beam, 2) == 3


def test_cancel_that_comes_with_its_call_leaves_nothing_behind(beam):
    call(beam, 1, "add_slowly", 1, 2)
    assert result(beam, 1) == 3  # from now on it is begun in the loop
    args = [2, 0, "small_app", "add_slowly", pack([1, 2]), pack({})]
    beam.send_bytes(
        msgpack.packb([CODES["call"], 0, *args]) + msgpack.packb([CODES["cancel"], 0, 2])
    )
    call(beam, 3, "add_slowly", 1, 2)
    assert result(beam, 3) == 3  # behind it in the loop
    call(beam, 4, "running")
    assert result(beam, 4) == 1  # itself


def test_result_of_a_cancelled_thread_is_dropped(beam):
    call(beam, 1, "block")
    _, _, ref, _, _ = beam.expect("op")
    beam.send("cancel", 0, 1)
    beam.send("reply", 0, ref, 0, None)
    call(beam, 2, "add", 1, 2)
    assert result(beam, 2) == 3


def test_calls_that_run_at_the_stop_are_waited_for(beam):
    call(beam, 1, "block")
    _, _, ref, _, _ = beam.expect("op")
    beam.send("stop", 0, 20_000)
    beam.send("reply", 0, ref, 0, None)
    assert result(beam, 1) == "done"
    beam.expect("stopped")


def test_calls_that_come_after_the_stop_are_waited_for_too(beam):
    """Whoever calls may not know of it yet."""
    call(beam, 1, "block")
    _, _, first, _, _ = beam.expect("op")
    beam.send("stop", 0, 20_000)
    for turn in (1, 2):
        beam.send("heartbeat", 0, turn)
        beam.expect("heartbeat")
    call(beam, 2, "block_a_task")
    _, _, second, _, _ = beam.expect("op")
    beam.send("reply", 0, first, 0, None)
    assert result(beam, 1) == "done"
    beam.send("reply", 0, second, 0, None)
    assert result(beam, 2) == "done"
    beam.expect("stopped")


# Hooks


HOOKS = """
    import asyncio
    from hornbeam_erlang import execute, register_hook, stream

    class Counter:
        def up(self, limit, start=0):
            try:
                for number in range(start, limit):
                    print("made", number)
                    yield number
            finally:
                print("closed")

        async def up_async(self, limit):
            try:
                for number in range(limit):
                    await asyncio.sleep(0)
                    print("made", number)
                    yield number
            finally:
                print("closed")

        def fail(self):
            yield 1
            raise ValueError("enough")

        def listed(self):
            return ["a", "b"]

        async def awaited(self):
            return iter("ab")

        async def slowly(self):
            return "slowly"

    register_hook("counter", Counter)

    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        try:
            value = {call}
        except Exception as error:
            value = f"{{type(error).__name__}}: {{error}}"
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body", "body": repr(value).encode()}})
"""


@pytest.fixture
def hooks(start):
    beam = start(HOOKS.format(call="None"))
    _, _, ref, op, args = beam.expect("op")
    assert (op, args) == (50, ["counter"])
    beam.send("reply", 0, ref, 0, None)
    beam.expect("ready")
    return beam


def items(beam: Beam, ref: int, count: int) -> list:
    found = []
    for _ in range(count):
        name, _, got, packed = beam.next()
        assert (name, got) == ("item", ref)
        found.append(unpack(packed))
    return found


def made(beam: Beam) -> list[str]:
    return [text for _, _, text in beam.logs if text.startswith("made")]


@pytest.mark.parametrize("action", ["up", "up_async"])
def test_stream_sends_what_it_is_asked_for_and_makes_no_more(hooks, action):
    call(hooks, 1, action, 5, module="counter", mode=2)
    hooks.send("more", 0, 1, 2)
    assert items(hooks, 1, 2) == [0, 1]
    call(hooks, 2, "slowly", module="counter", mode=1)  # when this is done, so is what it made
    assert result(hooks, 2) == "slowly"
    assert made(hooks) == ["made 0", "made 1"]
    hooks.send("more", 0, 1, 1)
    hooks.send("more", 0, 1, 10)
    assert items(hooks, 1, 3) == [2, 3, 4]
    assert result(hooks, 1, 2) is None
    hooks.expect_log("closed")


@pytest.mark.parametrize("action", ["up", "up_async"])
def test_stream_that_is_cancelled_closes_its_generator(hooks, action):
    call(hooks, 1, action, 1000, module="counter", mode=2)
    hooks.send("more", 0, 1, 3)
    assert items(hooks, 1, 3) == [0, 1, 2]
    hooks.send("cancel", 0, 1)
    hooks.expect_log("closed")
    call(hooks, 2, "slowly", module="counter", mode=1)
    assert result(hooks, 2) == "slowly"


def test_stream_that_fails_tells_its_items_first(hooks):
    call(hooks, 1, "fail", module="counter", mode=2)
    hooks.send("more", 0, 1, 10)
    assert items(hooks, 1, 1) == [1]
    assert result(hooks, 1, 8)[:2] == ["ValueError", "enough"]


@pytest.mark.parametrize(("action", "expected"), [("listed", ["a", "b"]), ("awaited", ["a", "b"])])
def test_stream_of_anything_that_can_be_iterated(hooks, action, expected):
    call(hooks, 1, action, module="counter", mode=2)
    hooks.send("more", 0, 1, 10)
    assert items(hooks, 1, 2) == expected
    assert result(hooks, 1, 2) is None


@pytest.mark.parametrize(
    ("hook", "action", "text"),
    [
        ("nothing", "up", "this worker has no hook 'nothing'"),
        ("counter", "down", "the hook 'counter' has no action 'down'"),
        ("counter", "__init__", "the hook 'counter' has no action '__init__'"),
    ],
)
@pytest.mark.parametrize("mode", [1, 2])
def test_hook_that_is_missing_is_told(hooks, hook, action, text, mode):
    call(hooks, 1, action, module=hook, mode=mode)
    assert result(hooks, 1, 9) == text


# A hook of this worker, called by a handler that blocks the loop


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("execute('counter', 'listed')", "['a', 'b']"),
        ("[*stream('counter', 'up', 3)]", "[0, 1, 2]"),
    ],
)
def test_plain_hook_of_this_worker_is_run_on_the_spot(run, source, expected):
    beam = run(HOOKS.format(call=source), ops=True)
    beam.open_http(1)
    assert beam.expect("response_start", 1)[4].decode() == expected


@pytest.mark.parametrize(
    "source", ["execute('counter', 'slowly')", "[*stream('counter', 'up_async', 3)]"]
)
def test_async_hook_of_this_worker_cannot_be_waited_for(run, source):
    beam = run(HOOKS.format(call=source), ops=True)
    beam.open_http(1)
    body = beam.expect("response_start", 1)[4].decode()
    assert body.startswith('"RuntimeError: the hook')
    assert "use await hornbeam_erlang.aio.execute" in body


def test_closing_a_stream_early_closes_the_hooks_generator(run):
    source = (
        HOOKS.format(call="await first()")
        + """
    async def first():
        from hornbeam_erlang import aio
        items = aio.stream("counter", "up", 1000)
        found = await anext(items)
        await items.aclose()
        return found
    """
    )
    beam = run(source, ops=True)
    beam.open_http(1)
    assert beam.expect("response_start", 1)[4] == b"0"
    beam.expect_log("closed")
    assert made(beam) == ["made 0", "made 1"]  # as far ahead as the node asks


def test_hook_whose_registration_fails_is_not_served(start):
    beam = start("""
        from hornbeam_erlang import register_hook
        from hornbeam_erlang._ops.carrier import connected
        register_hook("kept", len)
        for name in ("kept", "new"):
            try:
                register_hook(name, print)
            except ConnectionError:
                print(name, connected().handlers.get(name))
        async def app(scope, receive, send): ...
    """)
    beam.send("reply", 0, beam.expect("op")[2], 0, None)
    for _ in range(2):
        beam.send("reply", 0, beam.expect("op")[2], 7, "no")
    beam.expect_log("kept <built-in function len>")
    beam.expect_log("new None")


# Threads: few while calls are short, more when they stand still


CROWD = """
    import threading, time

    barrier = threading.Barrier(8)

    def meet():
        barrier.wait(20)
        return "met"

    def quick():
        return threading.current_thread().name, threading.active_count()

    async def later():
        return plain()

    def make_later():
        return later()

    async def flip():
        return "async"

    def plain():
        return threading.current_thread() is threading.main_thread()

    def become_plain():
        global flip
        flip = plain

    async def app(scope, receive, send):
        raise NotImplementedError
"""


PATIENT = """
    from hornbeam_erlang._worker import crew

    crew.PATIENCE = 3600
"""


def test_calls_that_wait_for_each_other_all_run(run):
    beam = run(CROWD)
    for ref in range(1, 9):
        call(beam, ref, "meet")
    found = {tuple(beam.next()[2:4]) for _ in range(8)}
    assert found == {(ref, 0) for ref in range(1, 9)}


def test_short_calls_share_a_thread(run):
    # No call may seem to wait because this machine is busy.
    beam = run(CROWD + PATIENT)
    threads = set()
    for ref in range(1, 101):
        call(beam, ref, "quick")
        threads.add(result(beam, ref)[1])
    assert len(threads) == 1


def test_awaitable_that_a_plain_function_returns_is_awaited_in_the_loop(run):
    beam = run(CROWD)
    call(beam, 1, "make_later")
    assert result(beam, 1) is True


def test_function_that_was_async_may_become_another(run):
    beam = run(CROWD)
    for ref in (1, 2):
        call(beam, ref, "flip")
        assert result(beam, ref) == "async"
    call(beam, 3, "become_plain")
    assert result(beam, 3) is None
    call(beam, 4, "flip")
    assert result(beam, 4) is False


# Context variables

CONTEXTS = """
    import asyncio
    from contextvars import ContextVar
    from hornbeam_erlang import aio, execute, register_hook, state_get, stream
    from hornbeam_erlang._ops.carrier import connected

    seen = ContextVar("seen", default="nothing")
    seen.set("at the import")

    def caller():
        return connected().caller()

    class Hook:
        def plain(self, value):
            found = seen.get(), caller()
            seen.set(value)
            return found

        async def later(self, value):
            found = self.plain(value)
            await asyncio.sleep(0)
            return found

        def turning(self, value):
            found = self.plain(value)
            async def turned():
                return found, seen.get()
            return turned()

        def count(self, value):
            for _ in range(3):
                yield seen.get(), caller()
                seen.set(value)

        async def count_later(self, value):
            for _ in range(3):
                yield seen.get(), caller()
                seen.set(value)

    hook = Hook()
    register_hook("hook", hook)
    plain, later, turning = hook.plain, hook.later, hook.turning
    count, count_later = hook.count, hook.count_later

    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        seen.set("in a handler")
        found = [
            execute("hook", "plain", 1),
            await aio.execute("hook", "plain", 2),
            await aio.execute("hook", "later", 3),
            list(stream("hook", "count", 4)),
            [item async for item in aio.stream("hook", "count_later", 5)],
            seen.get(),
        ]
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": repr(found).encode()})
"""

FRESH = ("at the import", 0)


@pytest.mark.parametrize("functions", [*itertools.permutations(["plain", "later", "turning"])])
def test_call_neither_takes_over_nor_leaves_behind_context_variables(run, functions):
    beam = run(CONTEXTS, ops=True)
    for ref, function in enumerate(functions * 2):
        call(beam, ref, function, f"of call {ref}")
        found = result(beam, ref)
        assert found == ((FRESH, f"of call {ref}") if function == "turning" else FRESH)


@pytest.mark.parametrize("function", ["count", "count_later"])
def test_stream_keeps_its_context_variables_from_item_to_item(run, function):
    beam = run(CONTEXTS, ops=True)
    for ref in (1, 2):
        call(beam, ref, function, f"of {ref}", module="hook", mode=2)
        beam.send("more", 0, ref, 4)
        items = [unpack(beam.expect("item")[3]) for _ in range(3)]
        assert items == [FRESH, (f"of {ref}", 0), (f"of {ref}", 0)]
        assert beam.next()[3] == 2


def test_hook_that_a_handler_calls_runs_for_the_worker_with_variables_of_its_own(run):
    beam = run(CONTEXTS, ops=True)
    for number in (1, 2):
        beam.open_http(number)
        body = beam.expect("response_start", number)[4]
        beam.expect("ended", number)
        *called, streamed, later, own = ast.literal_eval(body.decode())
        assert called == [FRESH] * 3
        assert streamed == [FRESH, (4, 0), (4, 0)]
        assert later == [FRESH, (5, 0), (5, 0)]
        assert own == "in a handler"
