"""Ops: calls of an app into Erlang, from every place from which they may come."""

import asyncio
import inspect

import hornbeam_erlang
import msgpack
import pytest
from beam import CODES
from hornbeam_erlang import (
    ClientDisconnected,
    ConnectionEnded,
    HornbeamError,
    NotConnected,
    NotFound,
    OpNotImplemented,
    OpTimeout,
    OpTypeError,
    OpValueError,
    aio,
)
from hornbeam_erlang._ops.carrier import connected
from hornbeam_erlang._wire import ops
from op_cases import SHORT

NAMES = {
    "state_get": ("k",),
    "state_set": ("k", 1),
    "state_delete": ("k",),
    "state_incr": ("k",),
    "state_decr": ("k",),
    "state_get_multi": (["k"],),
    "state_set_multi": ({"k": 1},),
    "state_keys": (),
    "state_items": ("k",),
    "state_add": ("k", 1),
    "state_cas": ("k", 1, 2),
    "state_take": ("k",),
    "get": ("k",),
    "set": ("k", 1),
    "delete": ("k",),
    "incr": ("k",),
    "decr": ("k",),
    "connection_state": (),
    "publish": ("t", 1),
    "subscribe": ("t",),
    "unsubscribe": ("t",),
    "check_pubsub": (),
    "receive_pubsub": (),
    "pubsub_dropped": (),
    "rpc_call": ("n", "m", "f", []),
    "rpc_cast": ("n", "m", "f", []),
    "node": (),
    "nodes": (),
    "call": ("f", 1),
    "cast": ("f", 1),
    "register_hook": ("h", print),
    "unregister_hook": ("h",),
    "execute": ("h", "a"),
    "execute_async": ("h", "a"),
    "stream": ("h", "a"),
    "stream_async": ("h", "a"),
}

# An app that calls op 7 in the handler and answers with what came back.
CALLING = """
    import asyncio, threading
    from hornbeam_erlang._ops.carrier import connected

    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        try:
            value = {call}
        except Exception as error:
            value = type(error).__name__ + ": " + str(error)
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body", "body": repr(value).encode()}})

    async def in_another_loop():
        return await connected().call_async(7, ["a", 1])

    async def in_a_plain_thread():
        found = []
        thread = threading.Thread(target=lambda: found.append(connected().call(7, ["a", 1])))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.001)
        return found[0]
"""
CALLS = {
    "handler": ("connected().call(7, ['a', 1])", 5),
    "coroutine": ("await connected().call_async(7, ['a', 1])", 5),
    "task": ("await asyncio.create_task(connected().call_async(7, ['a', 1]))", 5),
    "to_thread": ("await asyncio.to_thread(connected().call, 7, ['a', 1])", 5),
    "thread": ("await in_a_plain_thread()", 0),
    "another loop": ("await asyncio.to_thread(asyncio.run, in_another_loop())", 5),
}


def test_every_function_of_the_package_is_tried_here():
    functions = {
        name
        for name in hornbeam_erlang.__all__
        if inspect.isroutine(getattr(hornbeam_erlang, name))
    }
    # These ask for nothing before they are used.
    functions -= {"leader", "only_one"}
    assert functions | SHORT == set(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "stream_async"])
def test_outside_of_a_worker_nothing_is_connected(name):
    with pytest.raises(NotConnected, match="not a Hornbeam worker"):
        result = getattr(hornbeam_erlang, name)(*NAMES[name])
        list(result)  # of a generator, nothing has run yet
    assert issubclass(NotConnected, HornbeamError)


@pytest.mark.parametrize("name", [*NAMES, "messages"])
def test_outside_of_a_worker_no_coroutine_is_connected(name):
    async def main():
        result = getattr(aio, name)(*NAMES.get(name, ()))
        result = result.items() if name == "connection_state" else result
        await (anext(result) if inspect.isasyncgen(result) else result)

    with pytest.raises(NotConnected, match="not a Hornbeam worker"):
        asyncio.run(main())


def test_outside_of_a_worker_no_handle_is_connected():
    with pytest.raises(NotConnected):
        hornbeam_erlang.Execution("an id").result()


@pytest.mark.parametrize("handle", [hornbeam_erlang.Execution, aio.subscribed])
def test_outside_of_a_worker_no_handle_can_be_awaited(handle):
    async def main():
        given = handle("a name")
        await (given if isinstance(given, hornbeam_erlang.Execution) else given.__aenter__())

    with pytest.raises(NotConnected):
        asyncio.run(main())


def test_outside_of_a_worker_there_is_no_carrier():
    with pytest.raises(NotConnected):
        connected().call(1, [])


@pytest.mark.parametrize("place", CALLS)
def test_op_returns_what_erlang_answers(run, place):
    call, stream = CALLS[place]
    beam = run(CALLING.format(call=call))
    beam.open_http(5)
    _, asked_on, ref, op, args = beam.expect("op", stream)
    assert (op, args) == (7, ["a", 1])
    beam.send("reply", asked_on, ref, 0, {"n": [1, 2]})
    assert beam.expect("response_start", 5)[4] == b"{'n': [1, 2]}"


# A plain thread keeps its exceptions to itself.
@pytest.mark.parametrize("place", [place for place in CALLS if place != "thread"])
@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (1, "OpNotImplemented: no such op"),
        (2, "OpTypeError: no such op"),
        (3, "OpValueError: no such op"),
        (5, "PermissionDenied: no such op"),
        (6, "OpTimeout: no such op"),
        (7, "ConnectionEnded: no such op"),
        (9, "NotFound: no such op"),
        (10, "LimitExceeded: no such op"),
        (11, "NodeDown: no such op"),
        (99, "HornbeamError: no such op"),
    ],
)
def test_op_raises_what_the_status_names(run, place, status, raised):
    call, stream = CALLS[place]
    beam = run(CALLING.format(call=call))
    beam.open_http(5)
    ref = beam.expect("op", stream)[2]
    beam.send("reply", stream, ref, status, "no such op")
    assert beam.expect("response_start", 5)[4].decode()[1:-1] == raised


@pytest.mark.parametrize("status", [*ops.STATUSES, 99])
def test_what_erlang_answers_is_a_hornbeam_error_and_seldom_an_os_error(status):
    with pytest.raises(HornbeamError) as failure:
        ops.result(status, "no such op")
    is_os_error = isinstance(failure.value, OSError)
    assert is_os_error == isinstance(failure.value, ConnectionEnded | OpTimeout)


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (ConnectionEnded, ConnectionError),
        (ClientDisconnected, ConnectionEnded),
        (NotConnected, RuntimeError),
        (NotFound, LookupError),
        (OpNotImplemented, NotImplementedError),
        (OpTimeout, TimeoutError),
        (OpTypeError, TypeError),
        (OpValueError, ValueError),
    ],
)
def test_exception_is_also_what_python_calls_such_a_failure(kind, base):
    assert issubclass(kind, base)
    assert issubclass(kind, HornbeamError)


def test_op_may_be_called_while_the_app_is_imported(start):
    beam = start("""
        import threading
        from hornbeam_erlang._ops.carrier import connected
        print("main got", connected().call(7, []))
        thread = threading.Thread(target=lambda: print("thread got", connected().call(8, [])))
        thread.start()
        thread.join()
        async def app(scope, receive, send): ...
    """)
    for op in (7, 8):
        _, _, ref, number, _ = beam.expect("op")
        assert number == op
        beam.send("reply", 0, ref, 0, op * 10)
    beam.expect_log("main got 70")
    beam.expect_log("thread got 80")
    beam.expect("ready")


def test_messages_that_come_during_an_op_keep_their_order(run):
    beam = run("""
        from hornbeam_erlang._ops.carrier import connected
        async def app(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            await receive()
            while (event := await receive())["type"] == "websocket.receive":
                if event["text"] == "call":
                    event["text"] = connected().call(7, [])
                await send({"type": "websocket.send", "text": event["text"]})
    """)
    beam.accept(1)
    beam.send("receive_text", 1, b"a")
    beam.send("receive_text", 1, b"call")
    beam.send("receive_text", 1, b"b")
    assert beam.expect("send_text", 1)[2] == b"a"
    ref = beam.expect("op", 1)[2]
    beam.send("receive_text", 1, b"c")
    beam.send("credit", 0, 1, 0)
    beam.send("reply", 1, ref, 0, "answer")
    beam.send("receive_text", 1, b"d")
    sent = [beam.expect("send_text", 1)[2] for _ in range(4)]
    assert sent == [b"answer", b"b", b"c", b"d"]


def test_what_was_sent_before_an_op_is_written_before_it(run):
    beam = run("""
        from hornbeam_erlang._ops.carrier import connected
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                await send({"type": "websocket.send", "text": "before"})
                connected().call(7, [])
                await send({"type": "websocket.send", "text": "after"})
    """)
    beam.accept(1)
    assert beam.expect("send_text", 1)[2] == b"before"
    beam.send("reply", 1, beam.expect("op", 1)[2], 0, None)
    assert beam.expect("send_text", 1)[2] == b"after"


def test_op_passes_when_the_worker_has_no_credit(run):
    beam = run(
        """
        from hornbeam_erlang._ops.carrier import connected
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                for _ in range(100):
                    await send({"type": "websocket.send", "bytes": b"x" * 10_000})
                print(connected().call(7, []))
        """,
        automatic_credit=False,
        worker_window=70_000,
        stream_window=[1 << 30, 1 << 30],
    )
    beam.accept(1)
    before = 0
    while (message := beam.next())[0] == "send_bytes":
        before += 1
    assert message[0] == "op"
    assert before < 10
    beam.send("reply", 1, message[2], 0, "done")
    beam.send("credit", 0, 10 << 20, 0)
    for _ in range(100 - before):
        beam.expect("send_bytes", 1)
    beam.expect_log("done")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_waits_for_credit_is_written_when_that_comes_with_a_reply(run, loop):
    """No other message is needed for it: none may come for a second."""
    beam = run(
        """
        import asyncio
        from hornbeam_erlang._ops.carrier import connected
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                for _ in range(100):
                    await send({"type": "websocket.send", "bytes": b"x" * 10_000})
                for _ in range(5):  # turns of the loop, which write what they may
                    await asyncio.sleep(0)
                connected().call(7, [])
                await asyncio.Event().wait()
        """,
        automatic_credit=False,
        worker_window=70_000,
        stream_window=[1 << 30, 1 << 30],
        loop=loop,
    )
    beam.accept(1)
    before = 0
    while (message := beam.next())[0] == "send_bytes":
        before += 1
    credit, reply = [CODES["credit"], 0, 10 << 20, 0], [CODES["reply"], 1, message[2], 0, None]
    beam.send_bytes(msgpack.packb(credit) + msgpack.packb(reply))
    for _ in range(100 - before):
        beam.expect("send_bytes", 1)


def test_ops_of_many_threads_get_their_own_answers(run):
    beam = run("""
        import asyncio
        from hornbeam_erlang._ops.carrier import connected
        async def app(scope, receive, send):
            if scope["type"] == "http":
                calls = (asyncio.to_thread(connected().call, n, []) for n in range(20))
                assert await asyncio.gather(*calls) == list(range(20))
                await send({"type": "http.response.start", "status": 204})
                await send({"type": "http.response.body"})
    """)
    beam.open_http(1)
    ops = [beam.expect("op", 1) for _ in range(4)]  # no more threads than the pool has at least
    answered = 0
    while answered < 20:
        _, _, ref, number, _ = ops.pop()
        beam.send("reply", 1, ref, 0, number)
        answered += 1
        if answered + len(ops) < 20:
            ops.append(beam.expect("op", 1))
    beam.expect("response_start", 1)


def test_op_of_a_task_that_outlives_its_stream_names_no_stream(run):
    beam = run("""
        import asyncio
        from hornbeam_erlang._ops.carrier import connected
        tasks = []
        async def later():
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            print("got", await connected().call_async(7, []))
        async def app(scope, receive, send):
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 204})
                await send({"type": "http.response.body"})
                tasks.append(asyncio.create_task(later()))
    """)
    beam.open_http(1)
    beam.expect("response_start", 1)
    messages = [beam.next(), beam.next()]
    assert sorted(message[0] for message in messages) == ["ended", "op"]
    (op,) = [message for message in messages if message[0] == "op"]
    assert op[1] == 0
    beam.send("reply", 0, op[2], 0, "it")
    beam.expect_log("got it")


def test_rubbish_during_an_op_ends_the_worker(run):
    beam = run(CALLING.format(call=CALLS["handler"][0]))
    beam.open_http(5)
    beam.expect("op", 5)
    beam.send_bytes(b"\xc1")
    assert beam.expect_end() == 70


def test_failure_elsewhere_is_a_remote_error_with_all_that_is_known(run):
    beam = run("""
        from hornbeam_erlang import RemoteError
        from hornbeam_erlang._ops.carrier import connected
        async def app(scope, receive, send):
            if scope["type"] == "http":
                try:
                    connected().call(7, [])
                except RemoteError as error:
                    print(error.class_, error.reason, error.stacktrace, sep="|")
                    raise
    """)
    beam.open_http(1)
    beam.send("reply", 1, beam.expect("op", 1)[2], 8, ["error", "badarith", "in foo/1"])
    beam.expect_log("error|badarith|in foo/1")
    class_, message, _ = beam.expect("ended", 1)[2:]
    assert class_ == "hornbeam_erlang.exceptions.RemoteError"
    assert message == "error: badarith"


# Deadlines


@pytest.mark.parametrize("place", [place for place in CALLS if place != "thread"])
def test_op_that_is_not_answered_raises_at_its_deadline(run, place):
    call, stream = CALLS[place]
    beam = run(CALLING.format(call=call), op_timeout=50)
    beam.open_http(5)
    ref = beam.expect("op", stream)[2]
    body = beam.expect("response_start", 5)[4].decode()
    assert "OpTimeout: Erlang has not answered" in body
    beam.expect("ended", 5)
    # What comes later is for nobody: the next op does not take it for its own answer.
    beam.send("reply", stream, ref, 0, "late")
    beam.open_http(7)
    assert beam.expect("op", 7 if stream else 0)[2] != ref
    assert b"OpTimeout" in beam.expect("response_start", 7)[4]


def test_op_of_a_call_that_may_wait_waits_for_erlangs_own_answer(run):
    """The deadline of the call is Erlang's to keep; ours is only for its silence."""
    beam = run(
        """
        import hornbeam_erlang
        async def app(scope, receive, send):
            if scope["type"] == "http":
                hornbeam_erlang.call("slow", timeout=0.1)
        """,
        op_timeout=10,
    )
    beam.open_http(1)
    _, _, ref, op, args = beam.expect("op", 1)
    assert (op, args) == (40, ["slow", b"\x90", 100])
    beam.send("reply", 1, ref, 6, "no answer came in time")
    kind = "hornbeam_erlang.exceptions.OpTimeout"
    assert beam.expect("ended", 1)[2:4] == (kind, "no answer came in time")


def test_op_too_long_for_the_wire_is_refused_before_it_is_sent(run):
    beam = run("""
        from hornbeam_erlang import state_set_multi
        async def app(scope, receive, send):
            if scope["type"] == "http":
                part = bytes(70_000_000)
                state_set_multi({"a": part, "b": part})
    """)
    beam.open_http(1)
    class_, message, _ = beam.expect("ended", 1)[2:]
    assert class_ == "ValueError"
    assert message.startswith("state.set_multi with 1400000")


# What was taken for nobody

TAKES = {
    "cancelled": (
        "task = asyncio.create_task(aio.state_take('k'))",
        "await asyncio.sleep(0)",
        "task.cancel()",
        "await asyncio.gather(task, return_exceptions=True)",
    ),
    "late": ("try: await aio.state_take('k')", "except TimeoutError: pass"),
    "late in a handler": ("try: state_take('k')", "except TimeoutError: pass"),
    "late in a thread": (
        "try: await asyncio.to_thread(state_take, 'k')",
        "except TimeoutError: pass",
    ),
    "late in another loop": (
        "try: await asyncio.to_thread(lambda: asyncio.run(aio.state_take('k')))",
        "except TimeoutError: pass",
    ),
}


@pytest.mark.parametrize("how", TAKES)
@pytest.mark.parametrize("left", [None, 700])
def test_what_was_taken_by_who_waits_no_more_is_put_back(run, how, left):
    lines = "\n            ".join(TAKES[how])
    beam = run(
        f"""
        import asyncio
        from hornbeam_erlang import aio, state_take
        async def app(scope, receive, send):
            assert scope["type"] == "http"
            {lines}
            await send({{"type": "http.response.start", "status": 204}})
            await send({{"type": "http.response.body"}})
        """,
        op_timeout=200,
    )
    beam.open_http(1)
    op = beam.next()
    assert (op[0], op[3:]) == ("op", (11, ["k"]))
    while beam.next()[0] != "ended":
        continue
    beam.send("reply", op[1], op[2], 0, [b"\x07", left])
    assert beam.expect("op")[3:] == (9, ["k", b"\x07", left])


def test_nothing_is_put_back_that_was_not_there(run):
    beam = run(
        """
        from hornbeam_erlang import aio, state_get
        async def app(scope, receive, send):
            assert scope["type"] == "http"
            try:
                await aio.state_take("k")
            except TimeoutError:
                pass
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body", "body": b""})
        """,
        op_timeout=100,
    )
    beam.open_http(1)
    ref = beam.expect("op", 1)[2]
    while beam.next()[0] != "ended":
        continue
    beam.send("reply", 1, ref, 0, None)
    beam.open_http(2)
    assert beam.expect("op", 2)[3:] == (11, ["k"])


def test_what_was_taken_by_who_is_cancelled_with_the_answer_is_put_back(run):
    """What lets the handler cancel, and the reply, come with one read: the task has it then."""
    beam = run("""
        import asyncio
        from hornbeam_erlang import aio
        async def app(scope, receive, send):
            assert scope["type"] == "http"
            await receive()
            task = asyncio.create_task(aio.state_take("k"))
            await receive()
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": repr(result).encode()})
    """)
    beam.open_http(1, b"/", b"x", True)
    beam.expect("credit", 1)
    ref = beam.expect("op", 1)[2]
    body = [CODES["request_body"], 1, b"", False]
    reply = [CODES["reply"], 1, ref, 0, [b"\x07", None]]
    beam.send_bytes(msgpack.packb(body) + msgpack.packb(reply))
    messages = [beam.next() for _ in range(3)]
    (op,) = [message for message in messages if message[0] == "op"]
    assert op[3:] == (9, ["k", b"\x07", None])


SETTLED = """
    import asyncio, time
    from hornbeam_erlang import aio, state_get, state_take
    from hornbeam_erlang._ops.carrier import connected
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        if scope["path"] == "/left":
            carrier = connected()
            left = [carrier._taking, carrier._waiting, carrier._blocking]
            await send({{"type": "http.response.start", "status": 200}})
            await send({{"type": "http.response.body", "body": repr(left).encode()}})
            return
        {lines}
        await send({{"type": "http.response.start", "status": 204}})
        await send({{"type": "http.response.body"}})
"""


def left(beam, stream=9):
    """Return what the worker keeps of ops, all of which have been answered."""
    beam.open_http(stream, b"/left")
    body = beam.expect("response_start", stream)[4]
    beam.expect("ended", stream)
    return body


@pytest.mark.parametrize("taken", [[b"\x07", 700], None])
@pytest.mark.parametrize(
    "end",
    [
        ("task.cancel()", "state_get('other')"),
        # The alarm rings in the turn in which the reply comes with that of another op.
        ("await asyncio.sleep(0)", "time.sleep(0.3)", "loop.call_soon(state_get, 'other')"),
    ],
    ids=["cancelled", "late"],
)
def test_what_was_taken_for_who_is_over_and_does_not_know_it_yet_is_put_back(run, end, taken):
    lines = [
        "loop = asyncio.get_running_loop()",
        "task = asyncio.create_task(aio.state_take('k'))",
        "await asyncio.sleep(0)",
        *end,
        "await asyncio.gather(task, return_exceptions=True)",
    ]
    beam = run(SETTLED.format(lines="\n        ".join(lines)), op_timeout=200)
    beam.open_http(1)
    take = beam.expect("op", 1)
    assert take[3:] == (11, ["k"])
    other = beam.expect("op", 1)
    assert other[3] == 1
    replies = [(take[2], taken), (other[2], None)]
    beam.send_bytes(
        b"".join(msgpack.packb([CODES["reply"], 1, ref, 0, value]) for ref, value in replies)
    )
    messages = [beam.next()]
    while messages[-1][0] != "ended":
        messages.append(beam.next())
    back = [message[3:] for message in messages if message[0] == "op"]
    assert back == ([(9, ["k", *taken])] if taken else [])
    assert left(beam) == b"[{}, {}, {}]"


def test_what_comes_to_a_thread_in_the_moment_when_its_time_is_over_is_put_back(run):
    """The loop's thread has found the waiter, and sets it while the other gives up."""
    lines = [
        "import contextvars, threading",
        "from concurrent.futures import Future",
        "found, over, done = (threading.Event() for _ in range(3))",
        "set_result, result = Future.set_result, Future.result",
        "def find(self, reply): found.set(); over.wait(); set_result(self, reply)",
        "def expire(self, timeout=None):",
        "    if over.is_set(): return result(self, timeout)",
        "    found.wait(); over.set(); raise TimeoutError",
        "def take():",
        "    Future.result = expire",
        "    try: state_take('k')",
        "    except TimeoutError: done.set()",
        "Future.set_result = find",
        "thread = threading.Thread(target=contextvars.copy_context().run, args=(take,))",
        "thread.start()",
        "while not done.is_set(): await asyncio.sleep(0)",
        "Future.set_result, Future.result = set_result, result",
    ]
    beam = run(SETTLED.format(lines="\n        ".join(lines)))
    beam.open_http(1)
    ref = beam.expect("op", 1)[2]
    beam.send("reply", 1, ref, 0, [b"\x07", None])
    messages = [beam.next() for _ in range(3)]
    (op,) = [message for message in messages if message[0] == "op"]
    assert op[3:] == (9, ["k", b"\x07", None])
    assert left(beam) == b"[{}, {}, {}]"


@pytest.mark.parametrize("how", TAKES)
def test_nothing_is_kept_of_a_take_that_was_given_up_once_it_is_answered(run, how):
    beam = run(SETTLED.format(lines="\n        ".join(TAKES[how])), op_timeout=200)
    beam.open_http(1)
    ref = beam.expect("op", 1)[2]
    while beam.next()[0] != "ended":
        continue
    beam.send("reply", 1, ref, 0, None)
    assert left(beam) == b"[{}, {}, {}]"


# Ops that stop the loop

STOPPING = """
    import hornbeam_erlang
    async def app(scope, receive, send):
        if scope["type"] == "http":
            {call}
            await send({{"type": "http.response.start", "status": 204}})
            await send({{"type": "http.response.body"}})
    def called():
        return "served"
"""
LONG_CALLS = {
    "aio.rpc_call(...)": "hornbeam_erlang.rpc_call('n', 'm', 'f', [], timeout=60)",
    "aio.call(...)": "hornbeam_erlang.call('slow', timeout=60)",
    "aio.execute(...)": "hornbeam_erlang.execute('hook', 'act', timeout=60)",
    "the execution itself": "hornbeam_erlang.Execution('id').result(timeout=60)",
}


@pytest.mark.parametrize("name", LONG_CALLS)
def test_op_that_stops_the_loop_for_long_is_logged_with_its_coroutine(run, name):
    beam = run(STOPPING.format(call=LONG_CALLS[name]))
    beam.open_http(1)
    ref = beam.expect("op", 1)[2]
    level, logger, text = beam.expect_log("stops the event loop")
    assert (level, logger) == (30, "hornbeam.wire")
    assert "small_app.py:5: " in text
    assert text.endswith(f"{name} instead")
    beam.send("reply", 1, ref, 0, b"\xc0")
    beam.expect("response_start", 1)


def test_op_that_stops_a_loop_for_which_others_wait_is_given_up(run):
    """As two workers do whose coroutines call each other's hooks."""
    beam = run(STOPPING.format(call=LONG_CALLS["aio.execute(...)"]))
    beam.open_http(1)
    beam.expect("op", 1)
    beam.send("call", 0, 7, 0, "small_app", "called", b"\x90", b"\x80")
    ended, result = sorted((beam.next() for _ in range(2)), key=lambda message: message[1] == 0)
    assert ended[:3] == ("ended", 1, "hornbeam_erlang.exceptions.OpTimeout")
    assert "await hornbeam_erlang.aio.execute(...)" in ended[3]
    assert result == ("result", 0, 7, 0, b"\xa6served")


def test_short_op_is_not_given_up_for_others(run):
    beam = run(STOPPING.format(call="hornbeam_erlang.state_get('k')"))
    beam.open_http(1)
    ref = beam.expect("op", 1)[2]
    beam.send("call", 0, 7, 0, "small_app", "called", b"\x90", b"\x80")
    beam.expect_log("stops the event loop")
    beam.send("reply", 1, ref, 0, None)
    assert {beam.next()[0] for _ in range(3)} == {"response_start", "ended", "result"}


def test_no_op_stops_the_loop_until_the_worker_is_taken_for_hung(run):
    beam = run(STOPPING.format(call=LONG_CALLS["aio.execute(...)"]), hang_timeout=400)
    beam.open_http(1)
    beam.expect("op", 1)
    class_, message, _ = beam.expect("ended", 1)[2:]
    assert class_ == "hornbeam_erlang.exceptions.OpTimeout"
    assert message.startswith("not for longer than 0.3 s: hooks.execute stops the event loop")


def test_op_of_a_thread_waits_for_as_long_as_it_is_told(run):
    call = f"await __import__('asyncio').to_thread(lambda: {LONG_CALLS['aio.call(...)']})"
    beam = run(STOPPING.format(call=call), hang_timeout=100)
    beam.open_http(1)
    ref = beam.expect("op", 1)[2]
    for number in range(1, 100):  # the loop turns
        beam.send("heartbeat", 0, number)
        beam.expect("heartbeat")
    beam.send("reply", 1, ref, 0, b"\xc0")
    beam.expect("response_start", 1)


# The end


def test_thread_that_waits_for_an_op_at_the_end_is_not_connected_any_more(run):
    beam = run("""
        import threading
        from hornbeam_erlang import NotConnected, state_get

        def ask():
            try:
                state_get("k")
            except NotConnected as error:
                print("ended:", error)

        async def app(scope, receive, send):
            if scope["type"] == "http":
                threading.Thread(target=ask).start()
                await send({"type": "http.response.start", "status": 204})
                await send({"type": "http.response.body"})
    """)
    beam.open_http(1)
    names = {beam.next()[0] for _ in range(3)}
    assert names == {"op", "response_start", "ended"}
    beam.send("stop", 0, 5000)
    beam.expect_log("ended: the worker has stopped")
    assert beam.expect_end() == 0


def test_contexts_of_handlers_do_not_leak_into_each_other(run):
    """A stream that opens while an op blocks the loop starts from a clean context."""
    beam = run("""
        import contextvars
        from hornbeam_erlang._ops.carrier import connected
        mine = contextvars.ContextVar("mine", default="nobody's")
        async def app(scope, receive, send):
            if scope["type"] != "http":
                raise NotImplementedError
            found = mine.get()
            if scope["path"] == "/first":
                mine.set("the first one's")
                connected().call(7, [])
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": found.encode()})
    """)
    beam.open_http(1, b"/first")
    ref = beam.expect("op", 1)[2]
    beam.open_http(2, b"/second")
    beam.send("reply", 1, ref, 0, None)
    bodies = {}
    while len(bodies) < 2:
        name, number, *fields = beam.next()
        if name == "response_start":
            bodies[number] = fields[2]
    assert bodies == {1: b"nobody's", 2: b"nobody's"}
