"""WSGI apps in a worker: what they are called with, how their answers travel, and their threads."""

import signal
import time
from collections import Counter

import pytest
from beam import DEADLINE, scope_array
from hornbeam_erlang._wire.values import pack

WINDOW = 262_144


@pytest.fixture
def serve(run):
    """Start a worker for the source of a WSGI app."""

    def serve(source, *, threads=2, **config):
        return run(source, interface="wsgi", threads=threads, lifespan="off", **config)

    return serve


def answer(beam, stream=1, **request):
    """Ask for something; return the head, and the body as its parts came, to the stream's end."""
    beam.open_http(stream, **request)
    return heard(beam, stream)


def heard(beam, stream=1):
    _, _, status, headers, part, more = beam.expect("response_start", stream)
    parts = [part]
    while more:
        _, _, part, more = beam.expect("response_body", stream)
        parts.append(part)
    beam.expect("ended", stream)
    return status, headers, parts


def failure(beam, stream=1):
    """Return how a stream ended: the class and the message of what the app has raised."""
    while (message := beam.next())[0] != "ended":
        assert message[1] == stream
    return message[2:4]


# Responses


def test_list_is_one_message(serve):
    beam = serve("""
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain"), ("X-A", "ü")])
            return [b"hel", b"", b"lo"]
    """)
    head = [[b"content-type", b"text/plain"], [b"x-a", b"\xfc"]]
    assert answer(beam) == (200, head, [b"hello"])


def test_answer_as_long_as_promised_is_one_message_whatever_yields_it(serve):
    beam = serve("""
        def app(environ, start_response):
            start_response("201 Created", [("Content-Length", "5")])
            yield b""
            yield b"hello"
    """)
    assert answer(beam) == (201, [[b"content-length", b"5"]], [b"hello"])


def test_part_is_sent_before_the_next_is_asked_for(serve):
    beam = serve("""
        import threading
        told = threading.Event()
        def app(environ, start_response):
            start_response("200 OK", [])
            if environ["PATH_INFO"] == "/tell":
                told.set()
                return [b""]
            return parts()
        def parts():
            yield b"first"
            told.wait()
            yield b"second"
    """)
    beam.open_http(1)
    assert beam.expect("response_start", 1)[4:] == (b"first", True)
    assert answer(beam, 2, path=b"/tell")[0] == 200
    assert beam.expect("response_body", 1)[2:] == (b"second", True)
    assert beam.expect("response_body", 1)[2:] == (b"", False)
    beam.expect("ended", 1)


def test_head_waits_for_the_first_byte_of_the_body(serve):
    beam = serve("""
        def app(environ, start_response):
            start_response("200 OK", [])
            yield b""
            raise KeyError("before anything was sent")
    """)
    beam.open_http(1)
    assert beam.expect("ended", 1)[2] == "KeyError"


def test_generator_goes_no_further_than_its_client_reads(serve):
    beam = serve("""
        given = 0
        def app(environ, start_response):
            start_response("200 OK", [])
            if environ["PATH_INFO"] == "/given":
                return [b"%d" % given]
            return parts()
        def parts():
            global given
            while True:
                given += 1
                yield bytes(16384)
    """)
    beam.open_http(1)
    taken = 0
    while taken < WINDOW:
        message = beam.next()
        taken += len(message[4] if message[0] == "response_start" else message[2])
    # What the thread may be ahead, and the part that it waits with.
    most = (WINDOW + 65_536) // 16384 + 2
    assert WINDOW // 16384 < int(answer(beam, 2, path=b"/given")[2][0]) <= most
    beam.send("credit", 1, 16384, 1)
    assert beam.expect("response_body", 1)[2] == bytes(16384)


def test_write_sends_what_comes_before_the_rest(serve):
    beam = serve("""
        def app(environ, start_response):
            write = start_response("200 OK", [])
            write(b"one")
            write(b"")
            return [b"two"]
    """)
    assert answer(beam)[2] == [b"one", b"two"]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "200"])
def test_answer_may_have_no_body(serve, status):
    beam = serve(f"""
        def app(environ, start_response):
            start_response({status!r}, [])
            return []
    """)
    assert answer(beam) == (int(status[:3]), [], [b""])


def test_body_of_an_answer_to_head_is_not_sent(serve):
    beam = serve("""
        def app(environ, start_response):
            start_response("200 OK", [("Content-Length", "10")])
            return []
    """)
    assert answer(beam, method="HEAD") == (200, [[b"content-length", b"10"]], [b""])


def test_error_takes_the_place_of_a_head_that_was_not_sent(serve):
    beam = serve("""
        import sys
        def app(environ, start_response):
            start_response("200 OK", [("X-A", "a")])
            try:
                raise KeyError("in the middle")
            except KeyError:
                start_response("500 Oops", [("X-B", "b")], sys.exc_info())
            return [b"sorry"]
    """)
    assert answer(beam) == (500, [[b"x-b", b"b"]], [b"sorry"])


def test_error_after_the_head_was_sent_is_raised_again_and_breaks_the_body(serve):
    beam = serve("""
        import sys
        def app(environ, start_response):
            start_response("200 OK", [])(b"begun")
            try:
                raise KeyError("in the middle")
            except KeyError:
                start_response("500 Oops", [], sys.exc_info())
    """)
    beam.open_http(1)
    assert beam.expect("response_start", 1)[4:] == (b"begun", True)
    assert beam.expect("ended", 1)[2] == "KeyError"


@pytest.mark.parametrize(
    ("statements", "class_", "part"),
    [
        ("return []", "RuntimeError", "has not called start_response"),
        ("start('200 OK', []); start('200 OK', [])", "RuntimeError", "second time"),
        ("start('200 OK', []); return ['text']", "TypeError", "bytes"),
        ("start('200 OK', []); return iter(['text'])", "TypeError", "bytes"),
        ("start('200 OK', [])('text')", "TypeError", "bytes"),
        ("start('200 OK', []); return None", "TypeError", "iter"),
        ("start(200, [])", "TypeError", "'200 OK'"),
        ("start('OK', [])", "ValueError", "'200 OK'"),
        ("start('99 Low', []); return []", "ValueError", "99"),
        ("start('200 OK', [('a', 1)])", "TypeError", "str and int"),
        ("start('200 OK', [('a', 'b\\nc')]); return []", "ValueError", "control characters"),
        ("start('200 OK', [('a', '\u20ac')])", "UnicodeEncodeError", "latin-1"),
        ("raise StopIteration", "RuntimeError", "StopIteration"),
        ("raise SystemExit(1)", "SystemExit", "1"),
    ],
)
def test_what_wsgi_does_not_allow_fails_its_request_alone(serve, statements, class_, part):
    body = "; ".join(statement.replace("\n", "\\n") for statement in [statements])
    beam = serve(f"""
        def app(environ, start):
            if environ["PATH_INFO"] == "/good":
                start("200 OK", [])
                return [b"good"]
            {body}
    """)
    beam.open_http(1)
    found, message = failure(beam)
    assert found == class_ and part in message
    assert answer(beam, 2, path=b"/good")[2] == [b"good"]


@pytest.mark.parametrize("form", ["list", "iter"])
def test_body_that_is_shorter_than_promised_fails(serve, form):
    beam = serve(f"""
        def app(environ, start_response):
            start_response("200 OK", [("Content-Length", "6")])
            return {form}([b"hel", b"lo"])
    """)
    beam.open_http(1)
    class_, message = failure(beam)
    assert (class_, "1 bytes shorter than promised" in message) == ("RuntimeError", True)


@pytest.mark.parametrize("form", ["list", "iter"])
@pytest.mark.parametrize("length", [0, 3, 4])
def test_what_is_given_past_the_promised_length_is_dropped(serve, form, length):
    beam = serve(f"""
        def app(environ, start_response):
            start_response("200 OK", [("Content-Length", "{length}")])
            return {form}([b"hel", b"lo"])
    """)
    status, _, parts = answer(beam, path=b"/%C3%BC%0A")
    assert (status, b"".join(parts)) == (200, b"hello"[:length])
    assert beam.expect_log("past its Content-Length")[2].startswith("http /ü\\n: ")


def test_nothing_is_asked_for_past_the_promised_length_but_the_end(serve):
    beam = serve("""
        def app(environ, start_response):
            start_response("200 OK", [("Content-Length", "5")])
            try:
                yield b"hello"
                print("goes on")
                if environ["PATH_INFO"] == "/more":
                    while True: yield b"more"
                print("ends")
            except GeneratorExit:
                print("closed")
    """)
    assert answer(beam)[2] == [b"hello"]
    beam.expect_log("ends")
    assert answer(beam, 3, path=b"/more")[2] == [b"hello"]
    beam.expect_log("closed")


def test_write_past_the_promised_length_raises(serve):
    beam = serve("""
        def app(environ, start_response):
            write = start_response("200 OK", [("Content-Length", "4")])
            write(b"hello")
    """)
    beam.open_http(1)
    class_, message = failure(beam)
    assert (class_, "1 bytes longer than promised" in message) == ("RuntimeError", True)


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Same")]
)
def test_body_that_nobody_gets_need_not_end(serve, method, status):
    beam = serve(f"""
        def app(environ, start_response):
            start_response("{status}", [])
            try:
                while True: yield b"more"
            finally:
                print("closed")
    """)
    head, _, parts = answer(beam, method=method)
    assert (head, b"".join(parts)[4:]) == (int(status[:3]), b"")
    beam.expect_log("closed")


def test_failure_is_logged_with_the_lines_of_the_app_alone(serve):
    beam = serve("""
        def app(environ, start_response):
            raise KeyError("the app's own")
    """)
    beam.open_http(1, b"/a/b")
    class_, _, traceback = beam.expect("ended", 1)[2:]
    assert class_ == "KeyError" and "small_app.py" in traceback
    assert "hornbeam_erlang" not in traceback
    assert beam.expect_log("/a/b")[:2] == (40, "hornbeam.app")


def test_file_travels_in_large_blocks_and_is_closed(serve):
    beam = serve("""
        import io
        class File(io.BytesIO):
            def close(self):
                print("closed")
                super().close()
        def app(environ, start_response):
            start_response("200 OK", [])
            return environ["wsgi.file_wrapper"](File(bytes(150_000)), 8192)
    """)
    assert [*map(len, answer(beam)[2])] == [65_536, 65_536, 18_928, 0]
    beam.expect_log("closed")


@pytest.mark.parametrize("length", [None, 0, 3, 70_000, 150_000])
def test_file_ends_with_its_content_length(serve, length):
    """It may have grown since that was looked up, or a part of it be meant (PEP 3333)."""
    beam = serve(f"""
        import io
        length = {length}
        def app(environ, start_response):
            headers = [] if length is None else [("Content-Length", str(length))]
            start_response("200 OK", headers)
            file = io.BytesIO(b"-" + bytes(150_000))
            file.read(1)
            return environ["wsgi.file_wrapper"](file)
    """)
    assert b"".join(answer(beam)[2]) == bytes(150_000 if length is None else length)
    assert not beam.logs


@pytest.mark.parametrize("wrapped", ["pipe", "Slow(pipe)"])
def test_what_grows_in_a_file_is_not_waited_for(serve, wrapped):
    beam = serve(f"""
        import os
        read, write = os.pipe()
        pipe = open(read, "rb")
        class Slow:
            def __init__(self, file): self.file = file
            def read(self, size): return self.file.read(size)
        def app(environ, start_response):
            start_response("200 OK", [])
            if environ["PATH_INFO"] == "/say":
                os.write(write, b"abcd")
                return [b""]
            if environ["PATH_INFO"] == "/end":
                os.close(write)
                return [b""]
            return environ["wsgi.file_wrapper"]({wrapped}, 4)
    """)
    beam.open_http(1)
    beam.open_http(3, b"/say")
    messages = [beam.next() for _ in range(3)]
    assert [message[4:] for message in messages if message[:2] == ("response_start", 1)] == [
        (b"abcd", True)
    ]
    beam.open_http(5, b"/end")
    ends = sorted(beam.next()[1] for _ in range(4))
    assert ends == [1, 1, 5, 5]


def test_what_is_written_to_wsgi_errors_is_in_the_log(serve):
    beam = serve("""
        def app(environ, start_response):
            print("größe", file=environ["wsgi.errors"])
            start_response("200 OK", [])
            return []
    """)
    answer(beam)
    assert beam.expect_log("größe") == (40, "wsgi.errors", "größe")


# Closing what the app has returned

CLOSING = """
    class Answer:
        def __init__(self, parts): self.parts = parts
        def __iter__(self): return iter(self.parts)
        def close(self): print("closed")
    def endless():
        while True: yield bytes(16384)
    def broken():
        yield b"part"
        raise KeyError("mid-way")
    def app(environ, start_response):
        length = [("Content-Length", "5")] if "x" in environ["QUERY_STRING"] else []
        start_response("200 OK", length)
        return Answer({"/list": [b"hello"], "/broken": broken(), "/endless": endless(),
                       "/text": ["text"]}[environ["PATH_INFO"]])
"""


@pytest.mark.parametrize("query", [b"", b"x"])
@pytest.mark.parametrize("path", [b"/list", b"/broken", b"/text"])
def test_answer_is_closed_however_it_ends(serve, path, query):
    beam = serve(CLOSING)
    beam.open_http(1, path, query=query)
    failure(beam)
    beam.expect_log("closed")


def test_answer_is_closed_when_the_client_has_gone(serve):
    beam = serve(CLOSING)
    beam.open_http(1, b"/endless")
    beam.expect("response_start", 1)
    beam.send("disconnect", 1, None, b"")
    assert failure(beam) == (None, "")
    beam.expect_log("closed")
    assert not [line for line in beam.logs if line[0] >= 40]


def test_what_fails_on_the_way_out_is_logged_also_when_the_client_has_gone(serve):
    beam = serve("""
        def app(environ, start_response):
            start_response("200 OK", [])
            try:
                while True: yield bytes(16384)
            finally:
                raise KeyError("on the way out")
    """)
    beam.open_http(1)
    beam.expect("response_start", 1)
    beam.send("disconnect", 1, None, b"")
    assert failure(beam) == ("KeyError", "'on the way out'")
    beam.expect_log("on the way out")


def test_failure_of_close_is_logged_behind_a_whole_answer(serve):
    beam = serve("""
        class Answer(list):
            def close(self): raise KeyError("in close")
        def app(environ, start_response):
            start_response("200 OK", [])
            return Answer([b"whole"])
    """)
    beam.open_http(1)
    parts = []
    while (message := beam.next())[0] != "ended":
        parts.append(message[2 if message[0] == "response_body" else 4])
    assert b"".join(parts) == b"whole" and message[2] == "KeyError"
    beam.expect_log("in close")


# Requests

READING = """
    def app(environ, start_response):
        body = environ["wsgi.input"]
        start_response("200 OK", [])
        match environ["PATH_INFO"]:
            case "/all": return [body.read()]
            case "/none": return [b"not read"]
            case "/lines": return [b"|".join(body), body.read()]
            case "/pieces": return [body.readline(3), b"|", body.readline(), b"|", body.read(4)]
            case "/echo": return iter(lambda: body.read(65536), b"")
"""


def test_request_without_a_body_has_an_empty_one(serve):
    beam = serve(READING)
    assert answer(beam, path=b"/all")[2] == [b""]


@pytest.mark.parametrize("length", [b"12", None])
@pytest.mark.parametrize(
    ("path", "expected"),
    [(b"/all", b"one\ntwo\nlast"), (b"/lines", b"one\n|two\n|last"), (b"/pieces", b"one|\n|two\n")],
)
def test_body_is_a_file(serve, path, expected, length):
    headers = [(b"content-length", length)] if length else [(b"transfer-encoding", b"chunked")]
    beam = serve(READING)
    beam.open_http(1, path, method="POST", headers=headers, body=b"one\ntw", more=True)
    beam.expect("credit", 1)
    beam.send("request_body", 1, b"o\n", True)
    beam.send("request_body", 1, b"last", False)
    assert b"".join(heard(beam)[2]) == expected


def test_large_body_is_asked_for_as_the_app_reads_it(serve):
    beam = serve(READING)
    headers = [(b"content-length", b"%d" % (4 << 20))]
    beam.open_http(1, b"/echo", method="POST", headers=headers, more=True)
    room, echoed, begun = 0, 0, False
    for number in range(64):
        while room < 65_536:
            room, more, begun = taken(beam, room, begun)
            echoed += more
        beam.send("request_body", 1, bytes(65_536), number < 63)
        room -= 65_536
    while echoed < 4 << 20:
        room, more, begun = taken(beam, room, begun)
        echoed += more


def taken(beam, room, begun):
    """Take a message; return what may be sent now, what was echoed, whether the head has come."""
    name, _, *fields = beam.next()
    if name == "credit":
        return room + fields[0], 0, begun
    part = fields[0] if begun else fields[2]
    beam.send("credit", 1, len(part), 1)
    return room, len(part), True


def test_body_that_the_client_holds_back_is_asked_for_by_the_app(serve):
    beam = serve(READING)
    headers = [(b"content-length", b"4"), (b"expect", b"100-continue")]
    request = {"method": "POST", "headers": headers, "more": True}
    assert answer(beam, 1, path=b"/none", **request)[2] == [b"not read"]
    beam.open_http(2, b"/all", **request)
    beam.expect("credit", 2)
    beam.send("request_body", 2, b"body", False)
    assert heard(beam, 2)[2] == [b"body"]


def test_client_that_leaves_in_the_middle_of_a_body_is_an_oserror_and_no_end_of_it(serve):
    beam = serve("""
        def app(environ, start_response):
            try:
                environ["wsgi.input"].read()
            except OSError as error:
                print("raised", type(error).__name__)
                raise
            print("read")
    """)
    beam.open_http(1, method="POST", headers=[(b"content-length", b"100000")], body=b"x", more=True)
    beam.expect("credit", 1)
    beam.send("disconnect", 1, None, b"")
    assert failure(beam) == (None, "")
    beam.expect_log("raised ClientDisconnected")
    assert not [line for line in beam.logs if line[2] == "read" or line[0] >= 40]


def test_app_is_not_called_for_a_body_of_which_nothing_came(serve):
    beam = serve("""
        def app(environ, start_response):
            print("called")
            start_response("200 OK", [])
            return []
    """)
    beam.open_http(1, method="POST", headers=[(b"content-length", b"10")], more=True)
    beam.expect("credit", 1)
    beam.send("disconnect", 1, None, b"")
    assert failure(beam) == (None, "")
    assert not [line for line in beam.logs if line[2] == "called"]


def test_no_more_of_a_body_is_asked_for_than_the_app_reads(serve):
    """It may refuse what it has not read, and a client then need not send it."""
    beam = serve(READING)
    headers = [(b"content-length", b"1000000")]
    request = {"method": "POST", "headers": headers, "body": bytes(65_535), "more": True}
    assert answer(beam, path=b"/none", **request)[2] == [b"not read"]


@pytest.mark.parametrize("form", ["[b'whole']", "iter([b'wh', b'ole'])"])
def test_validator_of_the_standard_library_finds_nothing(serve, form):
    beam = serve(f"""
        from wsgiref.validate import validator
        @validator
        def app(environ, start_response):
            assert environ["wsgi.input"].read(100) == b"a body"
            environ["wsgi.errors"].writelines([])
            start_response("200 OK", [("Content-Type", "text/plain")])
            return {form}
    """)
    headers = [(b"content-length", b"6"), (b"content-type", b"text/plain"), (b"host", b"a")]
    request = {"method": "POST", "headers": headers, "body": b"a body"}
    assert b"".join(answer(beam, path=b"/a%2Fb", **request)[2]) == b"whole"
    assert not [line for line in beam.logs if line[0] >= 30]


# Threads

HOLDING = """
    import threading
    gate = threading.Event()
    local = threading.local()
    running, most, threads = 0, 0, set()
    lock = threading.Lock()
    def is_open(): return gate.is_set()
    def open_gate(): gate.set()
    def app(environ, start_response):
        global running, most
        start_response("200 OK", [])
        match environ["PATH_INFO"]:
            case "/open": gate.set()
            case "/hold":
                with lock:
                    running += 1
                    most = max(most, running)
                    threads.add(threading.get_ident())
                print("held")
                gate.wait()
                with lock: running -= 1
            case "/endless":
                return iter(lambda: bytes(16384), b"")
        return [b"%d of %d" % (most, len(threads))]
"""


def wait_for_lines(beam, text, count):
    """Read until the worker has logged a line so often."""
    end = time.monotonic() + DEADLINE
    while len([line for line in beam.logs if line[2] == text]) < count:
        assert time.monotonic() < end
        beam.read()


def test_as_many_requests_run_at_once_as_there_are_threads(serve):
    beam = serve(HOLDING, threads=3)
    for stream in range(1, 9):
        beam.open_http(stream, b"/hold" if stream < 8 else b"/open")
    wait_for_lines(beam, "held", 3)
    beam.send("heartbeat", 0, 1)
    assert beam.expect("heartbeat")[2] == 1
    assert len([line for line in beam.logs if line[2] == "held"]) == 3


def test_threads_of_clients_that_have_gone_are_free_again(serve):
    beam = serve(HOLDING, threads=2)
    for stream in range(1, 201):
        beam.open_http(stream, b"/endless")
        beam.expect("response_start", stream)
        beam.send("disconnect", stream, None, b"")
        assert failure(beam, stream) == (None, "")
    beam.open_http(301, b"/hold")
    wait_for_lines(beam, "held", 1)
    assert answer(beam, 302, path=b"/open")[0] == 200
    assert heard(beam, 301)[2] == [b"1 of 1"]
    assert not [line for line in beam.logs if line[0] >= 40]


def test_thread_keeps_what_is_its_own_also_when_it_was_not_needed_for_a_while(serve):
    beam = serve("""
        import hornbeam_erlang._worker.crew as crew
        import sys, threading
        crew.LINGER = 0.01
        local = threading.local()
        both = threading.Barrier(2)
        def app(environ, start_response):
            start_response("200 OK", [])
            if environ["PATH_INFO"] == "/both": both.wait()
            if environ["PATH_INFO"] == "/resting":
                return [b"%d" % crew_resting()]
            fresh = not hasattr(local, "kept")
            local.kept = True
            return [b"fresh" if fresh else b"kept"]
        def crew_resting():
            frame = sys._getframe()
            while not isinstance(own := frame.f_locals.get("self"), crew.Crew):
                frame = frame.f_back
            return own._resting
    """)
    for expected in ([b"fresh"], [b"kept"]):
        beam.open_http(1, b"/both")
        beam.open_http(2, b"/both")
        bodies = {}
        ended = 0
        while ended < 2:
            message = beam.next()
            if message[0] == "ended":
                ended += 1
            else:
                bodies[message[1]] = message[4]
        assert [*bodies.values()] == expected * 2
        end = time.monotonic() + DEADLINE
        while answer(beam, 3, path=b"/resting")[2] != [b"1"]:
            assert time.monotonic() < end


def test_thread_that_the_system_refuses_is_asked_for_again(serve):
    """Meanwhile work waits."""
    beam = serve("""
        import signal, threading
        size = threading.stack_size(1 << 46)
        signal.signal(signal.SIGUSR1, lambda *_: threading.stack_size(size))
        def app(environ, start_response):
            start_response("200 OK", [])
            return [b"done"]
    """)
    beam.open_http(1)
    level, _, text = beam.expect_log("thread")
    assert (level, text.startswith("work waits for a thread of hornbeam-wsgi")) == (40, True)
    beam.process.send_signal(signal.SIGUSR1)
    assert heard(beam)[2] == [b"done"]
    assert len(beam.logs) == 1


@pytest.mark.parametrize(
    "path", [b"/list", b"/parts", b"/fails", b"/breaks", b"/read", b"/short", b"/long"]
)
def test_request_that_is_over_leaves_nothing_to_a_collection(serve, path):
    beam = serve("""
        import gc, weakref
        gc.disable()
        seen = []
        def app(environ, start_response):
            if environ["PATH_INFO"] == "/alive":
                start_response("200 OK", [])
                return [b"%d" % sum(each() is not None for each in seen)]
            seen.append(weakref.ref(start_response.__self__))
            environ["wsgi.input"].read()
            if environ["PATH_INFO"] == "/fails":
                raise KeyError("the app's own")
            length = {"/short": [("Content-Length", "9")], "/long": [("Content-Length", "4")]}
            start_response("200 OK", length.get(environ["PATH_INFO"], []))
            if environ["PATH_INFO"] == "/list":
                return [b"whole"]
            return parts(environ)
        def parts(environ):
            yield b"one"
            if environ["PATH_INFO"] == "/breaks":
                raise KeyError("the app's own")
            yield b"two"
    """)
    more = path == b"/read"
    headers = [(b"content-length", b"100000")] if more else []
    beam.open_http(1, path, method="POST", headers=headers, more=more)
    if more:
        beam.expect("credit", 1)
        beam.send("request_body", 1, bytes(100_000), False)
    failure(beam)
    # What a thread has done last is let go with the next.
    assert answer(beam, 2, path=b"/alive")[2] == [b"0"]


# Heartbeats


def test_worker_of_whose_threads_one_is_free_answers(serve):
    beam = serve(HOLDING, threads=2)
    beam.open_http(1, b"/hold")
    wait_for_lines(beam, "held", 1)
    for number in (1, 2, 3):
        beam.send("heartbeat", 0, number)
        assert beam.expect("heartbeat")[2] == number


def test_worker_all_of_whose_threads_stand_still_answers_when_one_goes_on(serve):
    beam = serve(HOLDING, threads=2)
    for stream in (1, 2):
        beam.open_http(stream, b"/hold")
    wait_for_lines(beam, "held", 2)
    beam.send("heartbeat", 0, 1)  # nothing is known yet of how long they have
    assert beam.expect("heartbeat")[2] == 1
    beam.send("heartbeat", 0, 2)
    for ref in range(1, 11):  # the loop turns, and turns
        call(beam, ref, "is_open")
        assert beam.expect("result")[2:] == (ref, 0, pack(False))
    beam.send("open_http", 3, scope_array("http", b"/"), b"", False)
    call(beam, 11, "open_gate")
    names = Counter(beam.next()[0] for _ in range(8))
    assert names == {"result": 1, "response_start": 3, "ended": 3, "heartbeat": 1}


def test_worker_answers_at_once_when_its_threads_have_gone_on_since_it_was_asked(serve):
    beam = serve(
        """
        import threading
        turns = threading.Semaphore(0)
        def turn(): turns.release()
        def app(environ, start_response):
            start_response("200 OK", [])
            for _ in range(3):
                yield b"part"
                turns.acquire()
    """,
        threads=1,
    )
    beam.open_http(1)
    beam.expect("response_start", 1)
    for number in (1, 2, 3):
        beam.send("heartbeat", 0, number)
        assert beam.expect("heartbeat")[2] == number
        call(beam, number, "turn")
        assert {beam.next()[0] for _ in range(2)} == {"result", "response_body"}


def call(beam, ref, function):
    beam.send("call", 0, ref, 0, "small_app", function, pack([]), pack({}))


def test_threads_that_wait_for_their_clients_do_not_stand_still(serve):
    beam = serve(READING, threads=2)
    headers = [(b"content-length", b"100000")]
    for stream in (1, 2):
        beam.open_http(stream, b"/all", method="POST", headers=headers, more=True)
        beam.expect("credit", stream)
    for number in (1, 2, 3):
        beam.send("heartbeat", 0, number)
        assert beam.expect("heartbeat")[2] == number


# Erlang, and the end


def test_erlang_is_called_from_a_thread_for_its_request(run):
    beam = run(
        """
        from hornbeam_erlang import connection_state, publish, state_get, state_set
        def app(environ, start_response):
            state_set("key", [1, "two"])
            publish("topic", {"a": 1})
            connection_state()["path"] = environ["PATH_INFO"]
            start_response("200 OK", [])
            yield repr((state_get("key"), dict(connection_state()))).encode()
        """,
        interface="wsgi",
        threads=2,
        lifespan="off",
        ops=True,
    )
    for stream, path in ((1, b"/one"), (2, b"/two")):
        expected = f"([1, 'two'], {{'path': {path.decode()!r}}})"
        assert b"".join(answer(beam, stream, path=path)[2]).decode() == expected


def test_stop_waits_for_the_threads_that_run(serve):
    beam = serve("""
        import time
        def app(environ, start_response):
            start_response("200 OK", [])
            yield b"begun"
            time.sleep(0.3)
            yield b"done"
    """)
    beam.open_http(1)
    beam.expect("response_start", 1)
    beam.send("stop", 0, 10_000)
    assert beam.expect("response_body", 1)[2:] == (b"done", True)
    assert beam.expect("response_body", 1)[2:] == (b"", False)
    beam.expect("ended", 1)
    beam.expect("stopped")
    assert beam.expect_end() == 0


def test_stop_does_not_wait_for_ever_for_a_thread(serve):
    beam = serve(HOLDING)
    beam.open_http(1, b"/hold")
    wait_for_lines(beam, "held", 1)
    beam.send("stop", 0, 500)
    assert beam.expect("ended", 1)[2] == "asyncio.exceptions.CancelledError"
    assert beam.expect_end() == 0
