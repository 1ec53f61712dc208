"""The edge of an app's call: whatever the app raises, cancels or does to `logging`."""

import msgpack
import pytest
from beam import CODES, scope_array

SERVE = """
    import asyncio, logging, logging.config
    async def answer(send, body=b"served"):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})
"""


def app(*lines, before=""):
    """Return the source of an app that does so at /fails and serves any other path."""
    body = "\n            ".join(lines)
    return f"""{SERVE}
    {before}
    async def app(scope, receive, send):
        assert scope["type"] != "lifespan"
        if scope["path"] == "/fails":
            {body}
        await answer(send)
"""


def fails(beam, stream=1):
    """Ask for what fails; return what `ended` says of it."""
    beam.open_http(stream, b"/fails")
    return beam.expect("ended", stream)[2:]


def serves(beam, stream=2):
    beam.open_http(stream, b"/")
    assert beam.expect("response_start", stream)[4] == b"served"
    beam.expect("ended", stream)


def errors(beam):
    return [line for line in beam.logs if line[0] >= 40]


# What the app raises


@pytest.mark.parametrize(
    "method",
    [
        "__str__ = property(lambda self: 1 / 0)",
        "__notes__ = property(lambda self: 1 / 0)",
        "__cause__ = property(lambda self: 1 / 0)",
        "__str__ = lambda self: __import__('sys').exit(3)",
    ],
)
def test_exception_that_cannot_be_described_ends_its_stream_and_is_logged(run, method):
    beam = run(app("raise Odd()", before=f"class Odd(Exception): {method}"))
    class_, _, traceback = fails(beam)
    assert class_ == "small_app.Odd"
    assert "raise Odd()" in traceback
    assert "raise Odd()" in beam.expect_log("/fails failed")[2]
    serves(beam)


def test_disconnect_whose_cause_cannot_be_asked_for_ends_its_stream(run):
    beam = run(
        app(
            "while (await receive())['type'] != 'http.disconnect': pass",
            "raise Odd()",
            before="class Odd(Exception): __cause__ = property(lambda self: 1 / 0)",
        )
    )
    beam.open_http(1, b"/fails")
    beam.send("disconnect", 1, None, b"")
    assert beam.expect("ended", 1)[2] is not None
    serves(beam)


def test_error_of_the_app_while_it_leaves_a_client_that_has_gone_is_logged(run):
    beam = run("""
        async def app(scope, receive, send):
            assert scope["type"] == "websocket"
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect": pass
            try:
                await send({"type": "websocket.send", "text": "too late"})
            finally:
                del {}["nobody"]
    """)
    beam.accept(1)
    beam.send("disconnect", 1, 1006, b"")
    assert beam.expect("ended", 1)[2] == "KeyError"
    assert "nobody" in beam.expect_log("failed")[2]


LEAVES = """
    import asyncio
    from hornbeam_erlang import aio, connection_state, state_get, subscribe
    async def app(scope, receive, send):
        assert scope["type"] != "lifespan"
        if scope["type"] == "websocket":
            await send({{"type": "websocket.accept"}})
        {line}
"""
NOTICES = {
    "blocking": "subscribe('room')",
    "blocking, of its state": "connection_state()['a'] = 1",
    "coroutine": "await aio.subscribe('room')",
    "thread": "await asyncio.to_thread(subscribe, 'room')",
    "cause": """
        try: subscribe('room')
        except OSError as error: raise KeyError('a') from error""",
    "framework's own": """
        class WebSocketDisconnect(Exception): pass
        try: subscribe('room')
        except OSError: raise WebSocketDisconnect""",
    "caught": """
        try: subscribe('room')
        except OSError: pass""",
}


def open_either(beam, kind):
    if kind == "http":
        beam.open_http(1)
    else:
        beam.accept(1)


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("how", NOTICES)
def test_client_that_is_gone_for_an_op_before_its_disconnect_is_no_error(run, kind, how):
    beam = run(LEAVES.format(line=NOTICES[how]))
    open_either(beam, kind)
    ref = beam.expect("op", 1)[2]
    beam.send("reply", 1, ref, 7, "the connection is closed")
    assert beam.expect("ended", 1)[2:] == (None, "", "")
    beam.send("disconnect", 1, 1006, b"")
    beam.open_http(2)
    beam.expect("op", 2)
    assert not errors(beam)


@pytest.mark.parametrize(
    "line",
    [
        # Not what the node says of its own stream, nor a disconnect.
        "raise __import__('hornbeam_erlang').ConnectionEnded('so I say')",
        """
        try: subscribe('room')
        finally: {}['nobody']""",
    ],
)
def test_error_beside_what_an_op_says_of_the_client_is_logged(run, line):
    beam = run(LEAVES.replace("{line}", "%s").format() % line)
    beam.open_http(1)
    message = beam.next()
    if message[0] == "op":
        beam.send("reply", 1, message[2], 7, "the connection is closed")
        message = beam.next()
    assert message[:2] == ("ended", 1)
    assert message[2] is not None
    beam.expect_log("failed")


@pytest.mark.parametrize("raising", ["raise", "raise error from error"])
def test_disconnect_that_a_handler_passes_on_is_no_error(run, raising):
    beam = run(f"""
        async def app(scope, receive, send):
            assert scope["type"] == "websocket"
            await send({{"type": "websocket.accept"}})
            while (await receive())["type"] != "websocket.disconnect": pass
            try:
                await send({{"type": "websocket.send", "text": "too late"}})
            except OSError as error:
                {raising}
    """)
    beam.accept(1)
    beam.send("disconnect", 1, 1006, b"")
    assert beam.expect("ended", 1)[2] is None
    assert not errors(beam)


def test_what_starlette_makes_of_a_disconnect_is_no_error(run):
    beam = run("""
        import asyncio
        from starlette.applications import Starlette
        from starlette.routing import WebSocketRoute
        async def endpoint(websocket):
            await websocket.accept()
            while True:
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(3):
                        tasks.create_task(websocket.send_text("x" * 1000))
        app = Starlette(routes=[WebSocketRoute("/", endpoint)])
    """)
    beam.accept(1)
    beam.expect("send_text", 1)
    beam.send("disconnect", 1, 1006, b"")
    while (message := beam.next())[0] != "ended":
        continue
    assert message[2] is None
    assert not errors(beam)


# What the app cancels

CANCELS = (
    SERVE
    + """
    def cancel_all():
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            cancel_all()
            await asyncio.sleep(0)
            print("shut down")
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/cancels":
            await receive()
            await receive()
            cancel_all()
        elif scope["path"] == "/waits":
            await asyncio.Event().wait()
        await answer(send)
    async def called(is_long):
        if is_long:
            await asyncio.Event().wait()
"""
)


def cancels_with(beam, message):
    """Let a handler cancel all tasks before that of a message has taken its first step."""
    beam.open_http(1, b"/cancels", b"x", True)
    beam.expect("credit", 1)
    beam.send_bytes(msgpack.packb([CODES["request_body"], 1, b"", False]) + message)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_stream_that_is_cancelled_before_its_first_step_ends(run, loop):
    beam = run(CANCELS, loop=loop)
    opening = [CODES["open_http"], 2, scope_array("http", b"/waits"), b"", False]
    cancels_with(beam, msgpack.packb(opening))
    messages = [beam.next() for _ in range(3)]
    ended = {message[1]: message[2] for message in messages if message[0] == "ended"}
    assert ended == {1: None, 2: "asyncio.exceptions.CancelledError"}
    serves(beam, 3)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_call_that_is_cancelled_before_its_first_step_has_a_result(run, loop):
    beam = run(CANCELS, loop=loop)

    def call(ref, is_long):
        args, kwargs = msgpack.packb([is_long]), msgpack.packb({})
        return msgpack.packb([CODES["call"], 0, ref, 0, "small_app", "called", args, kwargs])

    beam.send_bytes(call(1, False))
    assert beam.expect("result")[2:4] == (1, 0)
    cancels_with(beam, call(2, True))
    messages = [beam.next() for _ in range(3)]
    (result,) = [message for message in messages if message[0] == "result"]
    assert (result[2], result[3], result[4][0]) == (2, 8, "asyncio.exceptions.CancelledError")


def test_lifespan_that_cancels_all_tasks_is_shut_down_in_order(run):
    beam = run(CANCELS)
    beam.send("stop", 0, 20_000)
    beam.expect("stopped")
    assert beam.expect_end() == 0
    assert [line[2] for line in beam.logs] == ["shut down"]


def test_worker_whose_handler_cancels_all_tasks_goes_on_and_is_stopped_in_order(run):
    beam = run(CANCELS)
    cancels_with(beam, b"")
    beam.expect("response_start", 1)
    beam.expect("ended", 1)
    serves(beam)
    beam.send("stop", 0, 20_000)
    beam.expect("stopped")
    assert beam.expect_end() == 0


# What the app does to `logging`

SILENCED = {
    "loggers disabled": "logging.config.dictConfig({'version': 1})",
    "everything disabled": "logging.disable(logging.CRITICAL)",
    "handlers gone": "logging.getLogger('hornbeam').handlers.clear()",
    "handlers of its own": "logging.basicConfig(level=logging.DEBUG, force=True)",
    "no propagation": "logging.getLogger('hornbeam.app').propagate = False",
    "a filter that raises": "logging.getLogger('hornbeam.app').addFilter(lambda record: 1 / 0)",
    "a handler that raises": "logging.getLogger('hornbeam').handlers.insert(0, Broken())",
    "a level": "logging.getLogger('hornbeam').setLevel(logging.CRITICAL + 1)",
}


@pytest.mark.parametrize("silenced", SILENCED)
def test_failure_is_in_the_nodes_log_whatever_logging_does(run, silenced):
    beam = run(
        app(
            SILENCED[silenced],
            "raise KeyError('of the app')",
            before="""
    class Broken(logging.Handler):
        def handle(self, record):
            raise SystemExit("no handler")
    """,
        )
    )
    assert fails(beam)[0] == "KeyError"
    level, logger, text = beam.expect_log("of the app")
    assert (level, logger) == (40, "hornbeam.app")
    assert text.startswith("http /fails failed\nTraceback")
    serves(beam)
    assert [line for line in beam.logs if "of the app" in line[2]] == [(level, logger, text)]


def test_failure_is_also_for_the_handlers_that_the_app_has_put_there(run):
    beam = run(
        app(
            "logging.getLogger('hornbeam.app').addHandler(Kept())",
            "raise KeyError('of the app')",
            before="""
    class Kept(logging.Handler):
        def emit(self, record):
            print("kept", record.levelname, record.getMessage().splitlines()[-1])
    """,
        )
    )
    fails(beam)
    beam.expect_log("kept ERROR KeyError")
    assert beam.expect_log("http /fails failed")[:2] == (40, "hornbeam.app")


SHOWN = {
    "text": "logging.Formatter('%(levelname)s of the server: %(message)s')",
    "json": "Json()",
}


@pytest.mark.parametrize("form", SHOWN)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_failure_that_a_handler_of_the_app_shows_is_shown_once_and_as_it_says(run, form, stream):
    beam = run(
        app(
            f"handler = logging.StreamHandler(sys.{stream})",
            f"handler.setFormatter({SHOWN[form]})",
            "logging.getLogger('hornbeam').addHandler(handler)",
            "raise KeyError('of the app')",
            before="""
    import json, sys
    class Json(logging.Formatter):
        def format(self, record):
            return json.dumps({"level": record.levelname, "text": super().format(record)})
    """,
        )
    )
    fails(beam)
    _, logger, text = beam.expect_log("of the app")
    assert logger == stream
    assert text.startswith({"text": "ERROR of the server: ", "json": '{"level": "ERROR"'}[form])
    serves(beam)
    assert len([line for line in beam.logs if "of the app" in line[2]]) == 1


def test_exception_of_a_task_that_nobody_awaits_is_in_the_nodes_log_without_loggers(run):
    beam = run(
        app(
            "logging.config.dictConfig({'version': 1})",
            "asyncio.create_task(failing())",
            "await asyncio.sleep(0)",
            before="""
    async def failing():
        raise LookupError("nobody awaits me")
    """,
        )
    )
    beam.open_http(1, b"/fails")
    beam.expect("response_start", 1)
    level, logger, text = beam.expect_log("nobody awaits me")
    assert (level, logger) == (40, "asyncio")
    assert text.startswith("Task exception was never retrieved\nfuture: <Task finished")
    assert "\nTraceback" in text


@pytest.mark.parametrize("silenced", ["loggers disabled", "a filter that raises"])
def test_failed_lifespan_is_in_the_nodes_log_whatever_logging_does(run, silenced):
    silence = SILENCED[silenced].replace("hornbeam.app", "hornbeam.lifespan")
    beam = run(f"""
        import logging, logging.config
        async def app(scope, receive, send):
            await receive()
            await send({{"type": "lifespan.startup.complete"}})
            {silence}
            await receive()
            raise LookupError("not in order")
    """)
    beam.send("stop", 0, 20_000)
    beam.expect("stopped")
    assert beam.expect_end() == 0
    assert beam.expect_log("not in order")[:2] == (40, "hornbeam.lifespan")


def test_rubbish_from_the_beam_ends_the_worker_whatever_logging_does(run):
    beam = run(
        app(
            "logging.getLogger('hornbeam.wire').addFilter(lambda record: exit(3))",
            "await answer(send)",
            "return",
        )
    )
    beam.open_http(1, b"/fails")
    beam.expect("response_start", 1)
    beam.send_bytes(b"\xc1")
    assert beam.expect_end() == 70
    beam.expect_log("does not know")


# Task factories

FACTORY = """
    import asyncio
    from hornbeam_erlang import register_hook
    FACTORIES = {
        "old": lambda loop, coroutine: asyncio.Task(coroutine, loop=loop),
        "raises": lambda loop, coroutine, **options: 1 / 0,
    }
    async def called(factory):
        return "called"
    async def set_factory(factory):
        asyncio.get_running_loop().set_task_factory(FACTORIES[factory])
    async def app(scope, receive, send):
        assert scope["type"] != "lifespan"
        await set_factory(scope["path"][1:])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"served"})
"""


def call(beam, ref, function, *args):
    packed = msgpack.packb(args), msgpack.packb({})
    beam.send("call", 0, ref, 0, "small_app", function, *packed)
    return beam.expect("result")[3:]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_task_factory_that_knows_no_context_makes_the_tasks_of_streams_and_calls(run, loop):
    beam = run(FACTORY, loop=loop)
    for stream in (1, 2):
        beam.open_http(stream, b"/old")
        assert beam.expect("response_start", stream)[4] == b"served"
        assert beam.expect("ended", stream)[2] is None
    for ref in (1, 2):  # the first time in a thread, then in the loop
        assert call(beam, ref, "called", "x") == (0, msgpack.packb("called"))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_task_factory_that_raises_fails_streams_and_calls_and_not_the_worker(run, loop):
    beam = run(FACTORY, loop=loop)
    beam.open_http(1, b"/raises")
    beam.expect("response_start", 1)
    beam.expect("ended", 1)
    beam.open_http(2, b"/raises")
    assert beam.expect("ended", 2)[2] == "ZeroDivisionError"
    assert "the task factory of the loop" in beam.expect_log("http /raises failed")[2]
    status, (class_, message, _) = call(beam, 1, "called", "x")
    assert (status, class_, message) == (8, "ZeroDivisionError", "division by zero")


def test_task_factory_that_raises_for_the_lifespan_is_told(start):
    beam = start(
        FACTORY + "    loop = asyncio.get_event_loop_policy().get_event_loop()\n"
        "    made = []\n"
        "    def once(loop, coroutine, **options):\n"
        "        made.append(asyncio.Task(coroutine, loop=loop) if not made else 1 / 0)\n"
        "        return made[-1]\n"
        "    loop.set_task_factory(once)\n",
        loop="asyncio",
        lifespan="on",
    )
    assert beam.expect("failed")[2:4] == ("lifespan", "ZeroDivisionError")
    assert beam.expect_end() == 1
