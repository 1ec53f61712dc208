"""A worker as a process, on real pipes: from hello to stopped, and every other way out."""

import os
import signal
import sys
from pathlib import Path

import hornbeam_erlang
import msgpack
import pytest
from beam import CONFIG, DEADLINE, Beam, Gone

IDLE = """
    import asyncio
    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await asyncio.Event().wait()
"""

BUSY = """
    import os
    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            os.write(2, b"busy from here\\n")
            while True: pass
"""


@pytest.fixture
def echo():
    with Beam() as beam:
        yield beam.run("echo:app")


# Start


def test_worker_opens_with_hello_and_is_ready_after_start():
    with Beam() as beam:
        hello = beam.expect("hello")
        assert hello[2] == 1
        assert hello[3] == {
            "os_pid": beam.process.pid,
            "python": ".".join(map(str, sys.version_info[:3])),
            "package": hornbeam_erlang.__version__,
        }
        beam.send("start", 0, CONFIG | {"loop": "asyncio"})
        about = beam.expect("ready")[2]
        assert (about["loop"], about["lifespan"]) == ("asyncio", False)


@pytest.mark.parametrize("loop", ["auto", "uvloop", "asyncio"])
def test_loop_is_the_one_that_was_asked_for(run, loop):
    beam = run(
        """
        import asyncio
        async def app(scope, receive, send):
            assert scope["type"] == "lifespan"
            module = type(asyncio.get_running_loop()).__module__.partition(".")[0]
            await receive()
            print("loop", module)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        """,
        loop=loop,
    )
    beam.expect_log("loop asyncio" if loop == "asyncio" else "loop uvloop")


@pytest.mark.parametrize(
    ("source", "class_", "message", "line"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError", "nowhere_at_all", "import nowhere_at_all"),
        ("x = 1 / 0", "ZeroDivisionError", "division by zero", "x = 1 / 0"),
        ("x = = 1", "SyntaxError", "invalid syntax", "x = = 1"),
        ("import sys; sys.exit(3)", "SystemExit", "3", "sys.exit(3)"),
        ("other = 1", "AttributeError", "has no attribute 'app'", None),
        ("app = 1", "TypeError", "not callable", None),
        ("async def app(scope): ...", "TypeError", "cannot be called", None),
    ],
)
def test_app_that_cannot_be_imported_fails_with_its_traceback(start, source, class_, message, line):
    beam = start(source)
    _, _, stage, failed_class, failed_message, traceback = beam.expect("failed")
    assert (stage, failed_class) == ("import", class_)
    assert message in failed_message
    assert "hornbeam_erlang" not in traceback
    assert "importlib" not in traceback
    if line:
        assert line in traceback
        assert "small_app.py" in traceback
    assert beam.expect_end() == 1


def test_failed_import_exits_although_a_thread_of_the_app_runs(start):
    beam = start("""
        import threading
        threading.Thread(target=threading.Event().wait).start()
        raise RuntimeError("half imported")
    """)
    assert beam.expect("failed")[3] == "RuntimeError"
    assert beam.expect_end() == 1


def test_lifespan_failure_is_told(start):
    beam = start("""
        async def app(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})
    """)
    failed = beam.expect("failed")
    assert failed[2:5] == ("lifespan", "lifespan.startup.failed", "no database")
    assert beam.expect_end() == 1


@pytest.mark.parametrize(
    "config",
    [{"interface": "wsgi"}, {"lifespan": "maybe"}, {"loop": "trio"}, {"unknown": 1}],
    ids=str,
)
def test_config_that_is_not_of_this_version_is_refused(start, config):
    beam = start("async def app(scope, receive, send): ...", **config)
    stage, class_, message = beam.expect("failed")[2:5]
    assert (stage, class_) == ("config", "ValueError")
    assert next(iter(config)) in message
    assert beam.expect_end() == 1


def test_uvloop_that_is_missing_is_told(start, tmp_path):
    (tmp_path / "uvloop.py").write_text("raise ImportError('no uvloop here')")
    os.environ["PYTHONPATH"] = str(tmp_path)
    try:
        beam = start("async def app(scope, receive, send): ...", loop="uvloop")
    finally:
        del os.environ["PYTHONPATH"]
    assert beam.expect("failed")[2:5] == ("config", "ImportError", "no uvloop here")


def test_free_threaded_python_is_refused(start, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys._is_gil_enabled = lambda: False")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    beam = start("async def app(scope, receive, send): ...")
    stage, class_, message = beam.expect("failed")[2:5]
    assert (stage, class_) == ("config", "RuntimeError")
    assert "PYTHON_GIL" in message
    assert beam.expect_end() == 1


def test_state_of_the_lifespan_is_copied_for_each_scope(run):
    beam = run("""
        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                await receive()
                scope["state"]["n"] = 1
                await send({"type": "lifespan.startup.complete"})
                await receive()
                return
            scope["state"]["n"] += 1
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"%d" % scope["state"]["n"]})
    """)
    for stream in (1, 2):
        beam.open_http(stream)
        assert beam.expect("response_start", stream)[4] == b"2"
        beam.expect("ended", stream)


def test_without_lifespan_there_is_no_state(run):
    beam = run("""
        async def app(scope, receive, send):
            assert scope["type"] == "http" and "state" not in scope
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})
    """)
    beam.open_http(1)
    beam.expect("response_start", 1)


def test_collections_leave_out_what_was_there_at_the_start(run):
    beam = run("""
        import gc
        async def app(scope, receive, send):
            assert scope["type"] == "http"
            told = f"{gc.get_freeze_count() > 10_000} {any(o is app for o in gc.get_objects())}"
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": told.encode()})
    """)
    beam.open_http(1)
    assert beam.expect("response_start", 1)[4] == b"True False"


def test_process_that_the_beam_did_not_start_says_so():
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "hornbeam_erlang._worker"], capture_output=True, check=False
    )
    assert done.returncode == 64
    assert b"started by the BEAM" in done.stderr


# Streams


def test_websocket_echoes_text_and_bytes(echo):
    assert echo.accept(1)[2:] == (None, [])
    echo.send("receive_text", 1, "grüße".encode())
    assert echo.expect("send_text", 1)[2] == "grüße".encode()
    echo.send("receive_bytes", 1, b"\x00\xff")
    assert echo.expect("send_bytes", 1)[2] == b"\x00\xff"
    echo.send("disconnect", 1, 1001, b"bye")
    assert echo.expect("ended", 1)[2:] == (None, "", "")


def test_http_body_streams_both_ways(echo):
    echo.open_http(7, body=b"first", more=True)
    assert echo.expect("response_start", 7)[2:] == (
        200,
        [[b"content-type", b"application/octet-stream"]],
        b"first",
        True,
    )
    # What came with the head is there; the app's second `receive` asks for the rest.
    assert echo.expect("credit", 7)[2:] == (262_144, 0)
    echo.send("request_body", 7, b"second", True)
    assert echo.expect("response_body", 7)[2:] == (b"second", True)
    echo.send("request_body", 7, b"", False)
    assert echo.expect("response_body", 7)[2:] == (b"", False)
    echo.expect("ended", 7)


def test_streams_do_not_disturb_each_other(echo):
    for stream in range(1, 101):
        echo.accept(stream)
    for stream in range(1, 101):
        echo.send("receive_text", stream, b"%d" % stream)
    replies = [echo.next() for _ in range(100)]
    assert sorted(reply[1] for reply in replies) == list(range(1, 101))
    assert all(reply[2] == b"%d" % reply[1] for reply in replies)


def test_order_of_one_stream_is_kept(echo):
    echo.accept(1)
    echo.send_bytes(b"".join(msgpack.packb([5, 1, b"%d" % n]) for n in range(200)))
    sent = []
    while len(sent) < 200:
        message = echo.next()
        if message[0] == "send_text":
            sent.append(int(message[2]))
    assert sent == list(range(200))


def test_messages_for_streams_that_have_ended_are_dropped(echo):
    for message in (
        ("receive_text", 99, b"a"),
        ("receive_bytes", 99, b"a"),
        ("credit", 99, 1, 1),
        ("disconnect", 99, 1000, b""),
        ("request_body", 99, b"", False),
        ("accepted", 99),
        ("reply", 99, 1, 0, None),
    ):
        echo.send(*message)
    echo.accept(1)


def test_each_stream_has_its_own_context(run):
    beam = run("""
        import contextvars
        var = contextvars.ContextVar("var", default="clean")
        async def app(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": var.get().encode()})
            var.set("dirty")
    """)
    for stream in (1, 2):
        beam.open_http(stream)
        assert beam.expect("response_start", stream)[4] == b"clean"
        beam.expect("ended", stream)


def test_exception_ends_the_stream_and_is_logged(run):
    beam = run("""
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
            raise KeyError("the app's own")
    """)
    beam.accept(1, b"/a/b")
    class_, message, traceback = beam.expect("ended", 1)[2:]
    assert (class_, message) == ("KeyError", '"the app\'s own"')
    assert traceback.startswith("Traceback")
    assert "small_app.py" in traceback
    assert "hornbeam_erlang" not in traceback
    level, logger, text = beam.expect_log("/a/b")
    assert (level, logger) == (40, "hornbeam.app")
    assert "the app's own" in text


@pytest.mark.parametrize("statement", ["sys.exit(1)", "raise KeyboardInterrupt"])
def test_handler_that_wants_to_exit_ends_only_itself(run, statement):
    beam = run(f"""
        import sys
        async def app(scope, receive, send):
            if scope["type"] == "http":
                {statement}
            if scope["type"] == "websocket":
                await send({{"type": "websocket.accept"}})
    """)
    beam.open_http(1)
    assert beam.expect("ended", 1)[2] in ("SystemExit", "KeyboardInterrupt")
    beam.accept(2)


@pytest.mark.parametrize("scheme", ["http", "websocket"])
def test_return_without_an_answer_is_an_error(run, scheme):
    beam = run("async def app(scope, receive, send): assert scope['type'] != 'lifespan'")
    getattr(beam, f"open_{scheme}")(1)
    class_, message, _ = beam.expect("ended", 1)[2:]
    assert class_ == "RuntimeError"
    assert "the app returned" in message
    beam.expect_log(message)


@pytest.mark.parametrize("wrap", ["raise", "raise RuntimeError('mine') from error"])
def test_send_to_a_client_that_is_gone_is_no_failure_of_the_app(run, wrap):
    beam = run(f"""
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({{"type": "websocket.accept"}})
                while (await receive())["type"] != "websocket.disconnect": pass
                try:
                    await send({{"type": "websocket.send", "text": "too late"}})
                except OSError as error:
                    {wrap}
    """)
    beam.accept(1)
    beam.send("disconnect", 1, 1006, b"")
    assert beam.expect("ended", 1)[2] is None
    beam.send("stop", 0, 1000)
    beam.expect("stopped")
    beam.expect_end()
    assert not [line for line in beam.logs if line[0] >= 40]


def test_send_after_the_apps_own_close_is_a_failure_of_the_app(run):
    beam = run("""
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                await send({"type": "websocket.close"})
                await send({"type": "websocket.send", "text": "too late"})
    """)
    beam.accept(1)
    beam.expect("close", 1)
    assert beam.expect("ended", 1)[2] == "OSError"
    beam.expect_log("has closed this WebSocket")


# Credit


def test_app_that_sends_without_end_stops_when_its_credit_is_spent(run):
    beam = run(
        """
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                while True:
                    await send({"type": "websocket.send", "bytes": b"x" * 100})
            elif scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body"})
        """,
        stream_window=[1000, 100],
    )
    beam.accept(1)
    for _ in range(10):
        beam.expect("send_bytes", 1)
    beam.open_http(2)  # the worker goes on with others, and has sent nothing more on 1
    beam.expect("response_start", 2)
    beam.expect("ended", 2)
    beam.send("credit", 1, 150, 10)
    for _ in range(2):
        beam.expect("send_bytes", 1)
    beam.send("disconnect", 1, 1006, b"")
    assert beam.expect("ended", 1)[2] is None


def test_worker_writes_no_more_than_its_window_until_the_beam_gives_credit(run):
    window = 100_000
    beam = run(
        """
        import asyncio
        from hornbeam_erlang._ops.carrier import connected
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                while True:
                    await send({"type": "websocket.send", "bytes": b"x" * 1000})
                    await asyncio.sleep(0)
            elif scope["type"] == "http":
                connected().call(7, [])
                await asyncio.Event().wait()
        """,
        automatic_credit=False,
        worker_window=window,
        stream_window=[1 << 30, 1 << 30],
    )
    beam.accept(1)
    while beam.written < window:
        beam.expect("send_bytes", 1)
    beam.open_http(2)  # an op passes: what came before it is all that was allowed
    while (message := beam.next())[0] == "send_bytes":
        continue
    assert message[:2] == ("op", 2)
    assert window <= beam.written < window + 1100
    before = beam.written
    beam.send("reply", 2, message[2], 0, None)
    beam.send("credit", 0, 10_000, 0)
    while beam.written < before + 9_000:
        beam.expect("send_bytes", 1)
    beam.open_http(3)
    while (message := beam.next())[0] == "send_bytes":
        continue
    assert message[:2] == ("op", 3)
    assert beam.written < before + 11_100


def test_full_pipe_loses_and_mixes_nothing(run):
    beam = run(
        """
        import asyncio
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                for n in range(60):
                    await send({"type": "websocket.send", "bytes": b"%d:" % n + b"x" * 100_000})
        """,
        worker_window=1 << 30,
        stream_window=[1 << 30, 1 << 30],
    )
    beam.accept(1)
    for n in range(60):
        assert beam.expect("send_bytes", 1)[2] == b"%d:" % n + b"x" * 100_000


@pytest.mark.parametrize("size", [1 << 20, (16 << 20) + 1])
def test_long_message_passes_in_both_directions(echo, size):
    echo.accept(1)
    payload = os.urandom(1024) * (size // 1024) + b"x" * (size % 1024)
    echo.send("receive_bytes", 1, payload)
    while (message := echo.next())[0] == "credit":
        continue
    assert message[2] == payload


# What the app prints


def test_everything_the_app_says_arrives_in_the_log(run):
    beam = run("""
        import asyncio, logging, sys, threading, warnings

        print("printed at import")

        async def app(scope, receive, send):
            if scope["type"] != "http":
                raise NotImplementedError
            print("to stdout")
            print("to stderr", file=sys.stderr)
            logging.getLogger("my.app").warning("a warning %d", 1)
            logging.getLogger("my.app").info("never seen")
            logging.getLogger("uvicorn.error").info("as to another server")
            warnings.warn("a warning")
            thread = threading.Thread(target=lambda: 1 / 0, name="worker-thread")
            thread.start()
            await asyncio.to_thread(thread.join)
            await asyncio.to_thread(print, "from a thread")
            task = asyncio.create_task(failing())
            await asyncio.sleep(0)
            del task
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})

        async def failing():
            raise LookupError("nobody awaits me")
    """)
    beam.open_http(1)
    beam.expect("response_start", 1)
    beam.expect("ended", 1)
    assert beam.expect_log("printed at import")[:2] == (25, "stdout")
    assert beam.expect_log("to stdout")[:2] == (25, "stdout")
    assert beam.expect_log("to stderr")[:2] == (30, "stderr")
    assert beam.expect_log("a warning 1")[:2] == (30, "my.app")
    assert beam.expect_log("as to another server")[:2] == (20, "uvicorn.error")
    assert beam.expect_log("UserWarning: a warning")[:2] == (30, "stderr")
    assert beam.expect_log("from a thread")[:2] == (25, "stdout")
    level, _, text = beam.expect_log("ZeroDivisionError")
    assert level == 40
    assert "worker-thread" in text
    assert beam.expect_log("nobody awaits me")[:2] == (40, "asyncio")
    assert not [line for line in beam.logs if "never seen" in line[2]]


def test_native_writes_to_the_standard_descriptors_do_not_touch_the_wire(run):
    beam = run("""
        import os, sys
        async def app(scope, receive, send):
            if scope["type"] == "http":
                os.write(1, b"native out\\n")
                os.write(2, b"native err\\n")
                os.system("echo from a shell")
                assert os.read(0, 10) == b""
                assert sys.stdin.read() == ""
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body"})
    """)
    beam.open_http(1)
    beam.expect("response_start", 1)
    beam.expect("ended", 1)
    beam.send("stop", 0, 1000)
    beam.expect("stopped")
    out, err = beam.process.communicate(timeout=DEADLINE)
    assert out == b"native out\nfrom a shell\n"
    assert b"native err\n" in err


def test_flood_of_lines_is_bounded_and_counted(run):
    beam = run(
        """
        async def app(scope, receive, send):
            if scope["type"] == "http":
                for n in range(20_000):
                    print("x" * 1000)
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body"})
        """,
        worker_window=65_536,
    )
    beam.open_http(1)
    beam.expect("response_start", 1)
    lost = int(beam.expect_log("log lines dropped")[2].split()[0])
    assert sum(text == "x" * 1000 for _, _, text in beam.logs) + lost == 20_000
    assert 10_000 < lost < 15_000


def test_last_words_before_a_failed_import_arrive(start):
    beam = start("""
        print("almost there", end="")
        raise RuntimeError("but no")
    """)
    beam.expect("failed")
    beam.expect_log("almost there")


# What an app may do to the streams that it prints to.
STREAMS = [
    "sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8')",
    "sys.stderr = io.TextIOWrapper(sys.stderr.detach(), encoding='utf-8')",
    "sys.stdout.close()",
    "sys.stdout = sys.stderr = None",
]


@pytest.mark.parametrize("statement", STREAMS)
def test_failed_import_is_told_whatever_became_of_the_streams(start, statement):
    beam = start(f"""
        import io, sys
        print("almost there", end="", file=sys.stderr)
        {statement}
        raise RuntimeError("the real reason")
    """)
    assert beam.expect("failed")[4] == "the real reason"
    assert beam.expect_end() == 1
    beam.expect_log("almost there")


@pytest.mark.parametrize("thread", ["", "threading.Thread(target=threading.Event().wait).start()"])
@pytest.mark.parametrize("statement", STREAMS)
def test_worker_stops_whatever_became_of_the_streams(run, statement, thread):
    beam = run(f"""
        import io, sys, threading
        {statement}
        {thread}
        async def app(scope, receive, send): ...
    """)
    beam.send("stop", 0, 1000)
    beam.expect("stopped")
    assert beam.expect_end() == 0


# The end


def test_stop_shuts_down_the_lifespan_and_exits_with_status_0(run):
    beam = run("""
        import atexit
        atexit.register(print, "at exit")
        async def app(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("shutting down")
            await send({"type": "lifespan.shutdown.complete"})
    """)
    beam.send("stop", 0, 5000)
    beam.expect("stopped")
    assert beam.expect_end() == 0
    assert [line[2] for line in beam.logs] == ["shutting down", "at exit"]


def test_stop_waits_for_handlers_that_end_in_time(run):
    beam = run("""
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                while (await receive())["type"] != "websocket.disconnect": pass
    """)
    beam.accept(1)
    beam.send("stop", 0, 20_000)
    beam.send("disconnect", 1, 1001, b"")
    assert beam.expect("ended", 1)[2] is None
    beam.expect("stopped")
    assert beam.expect_end() == 0


def test_stop_cancels_handlers_that_do_not_end(run):
    beam = run("""
        import asyncio
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                try:
                    await asyncio.Event().wait()
                finally:
                    print("cleaned up")
    """)
    beam.accept(1)
    beam.send("stop", 0, 400)
    assert beam.expect("ended", 1)[2] == "asyncio.exceptions.CancelledError"
    beam.expect("stopped")
    assert beam.expect_end() == 0
    beam.expect_log("cleaned up")
    beam.expect_log("1 handlers still ran")


def test_stop_does_not_wait_for_a_lifespan_that_hangs(run):
    beam = run("""
        import asyncio
        async def app(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await asyncio.Event().wait()
    """)
    beam.send("stop", 0, 400)
    beam.expect("stopped")
    assert beam.expect_end() == 0
    beam.expect_log("did not shut down")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_stop_ends_generators_and_threads_of_the_loop_and_closes_it(run, loop):
    beam = run(
        """
        import asyncio, atexit, threading
        loops = []
        ended = threading.Event()

        async def items():
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                print("generator ended")
                ended.set()

        def work():
            ended.wait()
            print("thread ended")

        async def app(scope, receive, send):
            await receive()
            loop = asyncio.get_running_loop()
            atexit.register(lambda: print("closed", loop.is_closed()))
            loops.append(items())
            await anext(loops[0])
            loop.run_in_executor(None, work)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        """,
        loop=loop,
    )
    beam.send("stop", 0, 20_000)
    beam.expect("stopped")
    assert beam.expect_end() == 0
    assert [line[2] for line in beam.logs] == ["generator ended", "thread ended", "closed True"]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    "work", ["loop.run_in_executor(None, forever)", "threading.Thread(target=forever).start()"]
)
def test_thread_that_hangs_does_not_keep_the_worker_beyond_its_time(run, loop, work):
    beam = run(
        f"""
        import asyncio, threading
        def forever():
            threading.Event().wait()
        async def app(scope, receive, send):
            await receive()
            loop = asyncio.get_running_loop()
            {work}
            await send({{"type": "lifespan.startup.complete"}})
            await receive()
            print("shut down")
            await send({{"type": "lifespan.shutdown.complete"}})
        """,
        loop=loop,
    )
    beam.send("stop", 0, 400)
    beam.expect("stopped")
    assert beam.expect_end() == 0
    beam.expect_log("shut down")


def test_generator_that_does_not_end_does_not_keep_the_worker_beyond_its_time(run):
    beam = run("""
        import asyncio
        kept = []
        async def items():
            try:
                yield 1
            finally:
                await asyncio.Event().wait()
        async def app(scope, receive, send):
            await receive()
            kept.append(items())
            await anext(kept[0])
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
    """)
    beam.send("stop", 0, 400)
    beam.expect("stopped")
    assert beam.expect_end() == 0


@pytest.mark.parametrize("app", [IDLE, BUSY], ids=["idle", "busy"])
def test_no_worker_outlives_the_beam(run, app):
    beam = run(app)
    beam.accept(1)
    if app is BUSY:
        assert beam.process.stderr.readline() == b"busy from here\n"
    beam.close()
    assert beam.process.wait(DEADLINE) == 1


@pytest.mark.parametrize("fd", [3, 4])
def test_worker_whose_app_closes_a_pipe_ends(run, fd):
    beam = run(f"""
        import asyncio, os
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({{"type": "websocket.accept"}})
                await receive()
                os.close({fd})
                while True:
                    await send({{"type": "websocket.send", "text": "into the void"}})
    """)
    beam.accept(1)
    beam.send("receive_text", 1, b"now")
    if fd == 3:  # nothing more is read: only the end of the other pipe can be seen
        beam.close()
    assert beam.process.wait(DEADLINE) == 1


def test_worker_that_imports_does_not_outlive_the_beam(start):
    beam = start("import time; print('importing'); time.sleep(3600)")
    beam.expect_log("importing")
    beam.close()
    assert beam.process.wait(DEADLINE) == 1


def test_program_that_the_app_started_does_not_hold_the_pipes(run):
    beam = run("""
        import os, subprocess, sys
        async def app(scope, receive, send):
            if scope["type"] == "http":
                child = subprocess.Popen(["sleep", "3600"], close_fds=False)
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": b"%d" % child.pid})
    """)
    beam.open_http(1)
    child = int(beam.expect("response_start", 1)[4])
    try:
        beam.process.kill()
        beam.expect_end()
        os.kill(child, 0)  # it still runs, and the pipe was closed all the same
    finally:
        os.kill(child, signal.SIGKILL)


def test_forked_child_has_no_wire_and_its_prints_go_to_the_node(run):
    beam = run("""
        import os, sys, hornbeam_erlang
        async def app(scope, receive, send):
            if scope["type"] == "http":
                stream = sys.stdout
                if not (child := os.fork()):
                    print("child prints")
                    print("child prints to the old stream", file=stream)
                    for fd in (3, 4):
                        try:
                            os.fstat(fd)
                        except OSError:
                            print("closed", fd)
                    try:
                        hornbeam_erlang.state_get("a")
                    except hornbeam_erlang.NotConnected:
                        print("not connected")
                    sys.stdout.flush()
                    os.kill(os.getpid(), 15)
                    os._exit(0)
                status = os.waitpid(child, 0)[1]
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": b"%d" % status})
    """)
    beam.open_http(1)
    assert beam.expect("response_start", 1)[4] == b"15"
    beam.expect("ended", 1)
    beam.send("stop", 0, 1000)
    beam.expect("stopped")
    out, err = beam.process.communicate(timeout=DEADLINE)
    assert out.splitlines() == [b"child prints", b"closed 3", b"closed 4", b"not connected"]
    assert b"child prints to the old stream" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_left_to_the_beam_and_not_inherited(run, number):
    beam = run("""
        import subprocess, sys
        async def app(scope, receive, send):
            if scope["type"] == "http":
                code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
                status = subprocess.run([sys.executable, "-c", code]).returncode
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": b"%d" % status})
    """)
    beam.process.send_signal(number)
    beam.open_http(1)
    assert beam.expect("response_start", 1)[4] == b"-15"


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb([99, 0]),
        msgpack.packb([1, 0, {}]),
        msgpack.packb([33, 0, 1, {}]),
        msgpack.packb([11, 0]),
        msgpack.packb([2, 1, ["too", "short"], b"", False]),
        msgpack.packb(7),
        msgpack.packb([9, 0]),
        b"\xc1",
        b"HTTP/1.1 200 OK\r\n",
    ],
    ids=repr,
)
def test_rubbish_from_the_beam_is_logged_and_ends_the_worker(echo, data):
    echo.send_bytes(data)
    assert echo.expect_end() == 70
    assert [line for line in echo.logs if line[0] == 50 and "does not know" in line[2]]


def test_callback_of_the_app_that_ends_the_loop_ends_the_worker(run):
    beam = run("""
        import asyncio, sys
        async def app(scope, receive, send):
            if scope["type"] == "http":
                asyncio.get_running_loop().call_soon(sys.exit, 5)
                await receive()
                await asyncio.Event().wait()
    """)
    beam.open_http(1)
    assert beam.expect_end() == 1
    beam.expect_log("ended the event loop")


def test_worker_leaves_no_gap_between_the_messages_of_one_turn(run):
    """A worker that is killed after a write leaves only whole messages behind."""
    beam = run("""
        import os
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                for n in range(100):
                    await send({"type": "websocket.send", "text": str(n)})
                await receive(); await receive()
                os._exit(9)
    """)
    beam.accept(1)
    for n in range(100):
        assert beam.expect("send_text", 1)[2] == b"%d" % n
    beam.send("receive_text", 1, b"now")
    with pytest.raises(Gone):
        beam.next()
    assert beam.process.wait(DEADLINE) == 9


def test_pythonpath_comes_before_the_folder_of_the_start(tmp_path):
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        source = f"print('from {name}')\nasync def app(scope, receive, send): ..."
        (folder / "twice.py").write_text(source)
    with Beam(cwd=tmp_path / "second") as beam:
        beam.run("twice:app", pythonpath=[str(tmp_path / "first")], lifespan="off")
        beam.expect_log("from first")
    with Beam(cwd=tmp_path / "second") as beam:
        beam.run("twice:app", pythonpath=[], lifespan="off")
        beam.expect_log("from second")


def test_package_is_typed():
    assert (Path(hornbeam_erlang.__file__).parent / "py.typed").exists()
