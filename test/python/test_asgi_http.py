"""An HTTP exchange's receive and send, event by event, without a process."""

import asyncio
import itertools

import pytest
from hornbeam_erlang import ClientDisconnected
from hornbeam_erlang._asgi.http import http_scope
from hornbeam_erlang._asgi.response import PART
from hornbeam_erlang._wire.packets import StreamScope
from memory import LIMITS, settle, with_http

START = {"type": "http.response.start", "status": 200}
BODY = {"type": "http.response.body"}


def start(*headers, status=200):
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data, more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


def request(data, more=False):
    return {"type": "http.request", "body": data, "more_body": more}


# The request


def test_body_that_came_with_the_request_is_one_event():
    async def scenario(http, sent):
        assert await http.receive() == request(b"all")
        assert sent.messages() == []

    with_http(scenario, body=b"all")


def test_request_without_body_is_one_empty_event():
    async def scenario(http, sent):
        assert await http.receive() == request(b"")

    with_http(scenario)


def test_rest_of_the_body_is_asked_for_when_nothing_of_it_is_there():
    async def scenario(http, sent):
        assert await http.receive() == request(b"first", more=True)
        assert sent.messages() == []
        receiving = asyncio.create_task(http.receive())
        await settle()
        assert sent.messages() == [("credit", 1, 1000, 0)]
        http.request_body(b"last", False)
        assert await receiving == request(b"last")
        assert sent.messages() == []

    with_http(scenario, body=b"first", more=True)


def test_first_event_waits_for_the_first_byte():
    async def scenario(http, sent):
        receiving = asyncio.create_task(http.receive())
        await settle()
        assert not receiving.done()
        assert sent.messages() == [("credit", 1, 1000, 0)]
        http.request_body(b"", False)
        assert await receiving == request(b"")

    with_http(scenario, more=True)


def test_credit_for_the_body_goes_back_at_half_a_window():
    async def scenario(http, sent):
        await http.receive()
        http.request_body(b"x" * 499, True)
        http.request_body(b"x", True)
        sent.messages()
        await http.receive()
        assert sent.messages() == []
        await http.receive()
        assert sent.messages() == [("credit", 1, 500, 0)]
        http.request_body(b"x" * 600, False)
        await http.receive()
        assert sent.messages() == []  # there is no more to ask for

    with_http(scenario, body=b"first", more=True)


def test_disconnect_comes_after_the_body_and_again():
    async def scenario(http, sent):
        await http.receive()
        http.request_body(b"part", True)
        http.disconnect(None, b"")
        assert await http.receive() == request(b"part", more=True)
        for _ in range(2):
            assert await http.receive() == {"type": "http.disconnect"}

    with_http(scenario, body=b"first", more=True)


def test_disconnect_comes_when_the_response_is_complete():
    async def scenario(http, sent):
        await http.receive()
        receiving = asyncio.create_task(http.receive())
        await settle()
        await http.send(START)
        await http.send(BODY)
        assert await receiving == {"type": "http.disconnect"}

    with_http(scenario)


# The response


def test_start_is_held_until_the_first_body():
    async def scenario(http, sent):
        await http.send(start((b"Set-Cookie", b"a"), (b"set-cookie", b"b")))
        assert sent.messages() == []
        await http.send(body(b"1", more=True))
        await http.send(body(b"2", more=True))
        await http.send(BODY)
        headers = [[b"set-cookie", b"a"], [b"set-cookie", b"b"]]
        assert sent.messages() == [
            ("response_start", 1, 200, headers, b"1", True),
            ("response_body", 1, b"2", True),
            ("response_body", 1, b"", False),
        ]
        assert http.end() is None

    with_http(scenario)


@pytest.mark.parametrize(
    ("headers", "forwardable"),
    [
        ([(b"Content-Type", b"text/event-stream")], True),
        ([(b"content-type", b"Text/Event-Stream ; charset=utf-8")], True),
        ([(b"x-a", b"1"), (b"content-type", b"text/event-stream;charset=utf-8")], True),
        ([(b"content-type", b"text/event-stream"), (b"content-encoding", b"Identity")], True),
        ([(b"content-type", b"text/event-stream"), (b"content-encoding", b"gzip")], False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_head_of_an_event_stream_goes_at_once(method, headers, forwardable):
    async def scenario(http, sent):
        await http.send(start(*headers))
        checked = [[name.lower(), value] for name, value in headers]
        assert sent.messages() == [("event_stream", 1, 200, checked, forwardable)]
        await http.send(body(b"data: 1\n\n", more=True))
        await http.send(BODY)
        said = b"" if method == "HEAD" else b"data: 1\n\n"
        assert sent.messages() == [
            ("response_body", 1, said, True),
            ("response_body", 1, b"", False),
        ]
        assert http.end() is None

    with_http(scenario, method=method)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, [(b"content-type", b"text/event-stream-like")]),
        (200, [(b"content-type", b"text/plain"), (b"x-a", b"text/event-stream")]),
        (200, [(b"content-type", b"text/event-stream"), (b"content-length", b"9")]),
        (204, [(b"content-type", b"text/event-stream")]),
        (200, []),
    ],
)
def test_head_of_what_is_no_stream_of_events_waits(status, headers):
    async def scenario(http, sent):
        await http.send(start(*headers, status=status))
        assert sent.messages() == []

    with_http(scenario)


def test_head_of_an_event_stream_is_said_once_and_paid_for():
    async def scenario(http, sent):
        await http.send(start((b"content-type", b"text/event-stream")))
        with pytest.raises(RuntimeError, match="a second time"):
            await http.send(start((b"content-type", b"text/event-stream")))
        sending = asyncio.create_task(http.send(body(b"data: 1\n\n", more=True)))
        await settle()
        assert sent.names() == ["event_stream"]
        assert not sending.done()
        http.credit(0, 1)
        await sending
        assert sent.names() == ["response_body"]

    with_http(scenario, window=(1000, 1))


def test_long_body_goes_in_parts_as_credit_allows():
    async def scenario(http, sent):
        await http.send(START)
        sending = asyncio.create_task(http.send(body(b"x" * (3 * PART + 1))))
        await settle()
        assert [len(message[4]) for message in sent.messages()] == [PART]
        for size, more in ((PART, True), (PART, True), (1, False)):
            assert not sending.done()
            http.credit(PART, 1)
            await settle()
            assert [(len(m[2]), m[3]) for m in sent.messages()] == [(size, more)]
        await sending

    with_http(scenario, window=(PART, 1))


def test_body_of_exactly_one_part_is_one_message():
    async def scenario(http, sent):
        await http.send(START)
        await http.send(body(b"x" * PART))
        assert sent.names() == ["response_start"]

    with_http(scenario)


def test_waiting_body_gives_up_when_the_client_goes():
    async def scenario(http, sent):
        await http.send(START)
        sending = asyncio.create_task(http.send(body(b"x" * 3 * PART)))
        await settle()
        http.disconnect(None, b"")
        with pytest.raises(ClientDisconnected):
            await sending
        with pytest.raises(OSError):
            await http.send(BODY)
        assert http.end() is None

    with_http(scenario)


def test_what_a_helper_sends_to_a_client_that_left_is_dropped_for_a_while(monkeypatch):
    async def scenario(http, sent):
        async def help_out():
            await http.send(body(b"x" * 3 * PART, more=True))
            await http.send(body(b"y"))

        http.task = asyncio.current_task()
        await http.send(START)
        helper = asyncio.create_task(help_out())
        await settle()
        sent.messages()
        http.disconnect(None, b"")
        await helper
        assert sent.messages() == []
        with pytest.raises(ClientDisconnected):
            await http.send(body(b"z"))
        monkeypatch.setattr("hornbeam_erlang._asgi.http.PATIENCE", 0.0)
        with pytest.raises(ClientDisconnected):
            await asyncio.create_task(help_out())

    with_http(scenario)


def test_what_a_task_sends_that_outlives_its_handler_is_an_error():
    async def scenario(http, sent):
        http.task = asyncio.create_task(http.send(START))
        await http.task
        http.end()
        http.task = None
        with pytest.raises(ClientDisconnected):
            await asyncio.create_task(http.send(BODY))

    with_http(scenario)


def test_body_cancelled_half_way_cannot_be_ended_cleanly():
    async def scenario(http, sent):
        await http.send(START)
        sending = asyncio.create_task(http.send(body(b"x" * 3 * PART, more=True)))
        await settle()
        sending.cancel()
        await settle()
        http.credit(10 * PART, 10)
        with pytest.raises(RuntimeError, match="cancelled"):
            await http.send(BODY)
        assert "before the end" in http.end()

    with_http(scenario)


@pytest.mark.parametrize(
    ("length", "bodies"),
    [(b"3", [b"abcd"]), (b"3", [b"ab"]), (b"3", [b"ab", b"cd"]), (b"0", [b"a"]), (b"1", [b""])],
)
def test_body_that_breaks_the_promised_length_raises(length, bodies):
    async def scenario(http, sent):
        await http.send(start((b"content-length", length)))
        with pytest.raises(RuntimeError, match="than promised"):
            for data in bodies:
                await http.send(body(data, more=data is not bodies[-1]))
        assert http.end() is not None

    with_http(scenario)


def test_body_of_the_promised_length_is_sent():
    async def scenario(http, sent):
        await http.send(start((b"content-length", b"4")))
        await http.send(body(b"ab", more=True))
        await http.send(body(b"cd"))
        assert http.end() is None

    with_http(scenario)


def test_answer_to_head_may_promise_a_length_and_send_none_of_it():
    async def scenario(http, sent):
        await http.send(start((b"content-length", b"4")))
        await http.send(BODY)
        assert http.end() is None

    with_http(scenario, method="HEAD")


@pytest.mark.parametrize("status", [204, 205, 304])
@pytest.mark.parametrize("parts", [[b"null"], [b"a", b"bc"], [b"a", b"", b"x" * 3 * PART, b""]])
def test_body_of_a_status_that_has_none_is_dropped(status, parts):
    async def scenario(http, sent):
        await http.send(start((b"x-a", b"1"), status=status))
        for part in parts[:-1]:
            await http.send(body(part, more=True))
        assert sent.messages() == (
            [("response_start", 1, status, [[b"x-a", b"1"]], b"", False)] if parts[1:] else []
        )
        if parts[1:]:
            http.disconnect(None, b"")  # the node has all of it
            assert (await http.receive())["type"] == "http.request"
        await http.send(body(parts[-1]))
        assert len(sent.messages()) == (0 if parts[1:] else 1)
        assert (await http.receive())["type"] in ("http.request", "http.disconnect")
        assert http.end() is None

    with_http(scenario)


def test_a_body_that_comes_whole_says_its_length_if_it_travels_in_parts():
    async def scenario(http, sent):
        await http.send(start((b"a", b"1")))
        await http.send(body(bytes(PART + 1)))
        first, *_ = sent.messages()
        assert first[3] == [[b"a", b"1"], [b"content-length", b"%d" % (PART + 1)]]

    with_http(scenario, window=(4 * PART, 64))


@pytest.mark.parametrize("status", [204, 205])
def test_status_without_body_has_no_length(status):
    async def scenario(http, sent):
        await http.send(start((b"content-length", b"4"), (b"x-a", b"1"), status=status))
        await http.send(body(b"null"))
        assert sent.messages() == [("response_start", 1, status, [[b"x-a", b"1"]], b"", False)]

    with_http(scenario)


def test_body_of_an_answer_to_head_is_dropped_after_the_part_that_shows_its_length():
    async def scenario(http, sent):
        await http.send(start((b"content-length", b"1000000")))
        await http.send(body(b"abc", more=True))
        for _ in range(50):
            await http.send(body(b"x" * 100, more=True))
        await http.send(BODY)
        first, *others = sent.messages()
        assert first == ("response_start", 1, 200, [[b"content-length", b"1000000"]], b"abc", True)
        assert {message[2] for message in others} == {b""}
        assert http.end() is None

    with_http(scenario, method="HEAD", window=(1000, 100))


def test_headers_keep_order_repetition_and_bytes():
    async def scenario(http, sent):
        headers = [
            [b"x-b", b"1"], (b"x-a", b"\xe9 \t,"), (b"x-b", b"1"), (b"connection", b"close"),
            (b"www-authenticate", b"Basic"), (b"www-authenticate", b"Bearer"), (b"x-empty", b""),
        ]  # fmt: skip
        await http.send(start(*headers))
        await http.send(BODY)
        assert sent.messages()[0][3] == [list(header) for header in headers]

    with_http(scenario)


def test_blanks_around_a_value_are_no_part_of_it():
    async def scenario(http, sent):
        await http.send(start((b"x-a", b" \t1 2\t"), (b"x-b", b" "), (b"x-c", b" " * 300 + b"3")))
        await http.send(BODY)
        assert sent.messages()[0][3] == [[b"x-a", b"1 2"], [b"x-b", b""], [b"x-c", b"3"]]

    with_http(scenario)


def test_what_other_servers_say_of_their_connections_is_left_to_the_node():
    """An app that passes on the answer of another server has these, and there they are dropped."""
    headers = [
        *([b"connection", b"keep-alive"], [b"keep-alive", b"timeout=5"]),
        *([b"transfer-encoding", b"chunked"], [b"upgrade", b"h2,h2c"]),
    ]

    async def scenario(http, sent):
        await http.send(start(*headers))
        await http.send(BODY)
        assert sent.messages()[0][3] == headers

    with_http(scenario)


NAMED = [
    *((b"a", bytes([code]), "a") for code in (*range(9), *range(10, 32), 127)),
    (b"X-Long", b"x" * 300 + b"\x7f", "X-Long"),
    (b"TE", b"trailers", "TE"),
    (b"trailer", b"x-a", "trailer"),
    (b"Proxy-Connection", b"keep-alive", "Proxy-Connection"),
]


@pytest.mark.parametrize(("name", "value", "shown"), NAMED)
def test_a_header_that_no_response_has_is_refused_with_its_name(name, value, shown):
    async def scenario(http, sent):
        for _ in range(2):  # what was refused once is not known
            with pytest.raises(ValueError, match=rf"header {shown}\b") as refusal:
                await http.send(start((b"x-ok", b"1"), (name, value)))
            assert len(str(refusal.value)) < 500
        assert sent.messages() == []

    with_http(scenario)


def test_a_head_has_as_many_headers_as_the_limit_says():
    """`LIMITS` of the tests."""

    async def scenario(http, sent):
        many = [(b"x", b"%d" % number) for number in range(LIMITS.fields + 1)]
        with pytest.raises(
            ValueError, match=r"more headers than limit_response_fields, which is 20"
        ):
            await http.send(start(*many))
        await http.send(start(*many[1:]))
        await http.send(BODY)
        assert len(sent.messages()[0][3]) == LIMITS.fields

    with_http(scenario)


@pytest.mark.parametrize("size", [1, LIMITS.head // 2])
def test_headers_without_end_are_taken_only_up_to_the_limits(size):
    async def scenario(http, sent):
        endless = itertools.count(1)
        headers = ((b"x", b"v" * size) for _ in endless)
        with pytest.raises(ValueError, match="limit_response"):
            await http.send({"type": "http.response.start", "status": 200, "headers": headers})
        assert next(endless) <= min(LIMITS.fields, LIMITS.head // size) + 2

    with_http(scenario)


@pytest.mark.parametrize("names", [[b"x-big"], [b"x-a", b"x-big", b"x-b"]])
def test_a_head_has_as_many_bytes_as_the_limit_says(names):
    """Each header counts with its name, its value and 4 bytes."""
    others = [(name, b"") for name in names if name != b"x-big"]
    room = LIMITS.head - sum(len(name) + 4 for name in names)

    async def scenario(http, sent):
        with pytest.raises(ValueError, match=r"limit_response_head.*x-big"):
            await http.send(start(*others, (b"X-Big", b"x" * (room + 1))))
        await http.send(start(*others, (b"X-Big", b"x" * room)))
        await http.send(BODY)
        assert sum(len(name) + len(value) + 4 for name, value in sent.messages()[0][3]) == 1000

    with_http(scenario)


def test_header_may_be_any_bytes_like_object():
    class Name(bytes):
        pass

    async def scenario(http, sent):
        await http.send(start((Name(b"X-A"), bytearray(b"1")), (b"x-b", memoryview(b"2"))))
        await http.send(BODY)
        assert sent.messages()[0][3] == [[b"x-a", b"1"], [b"x-b", b"2"]]

    with_http(scenario)


def test_304_may_promise_the_length_that_a_200_would_have():
    async def scenario(http, sent):
        await http.send(start((b"content-length", b"4"), status=304))
        await http.send(BODY)
        assert http.end() is None

    with_http(scenario)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (start((b"a", b"1\r\nb: 2")), ValueError),
        (start((b"a", b"1\nb: 2")), ValueError),
        (start((b"a", b"\x00")), ValueError),
        (start((b"a b", b"1")), ValueError),
        (start((b"", b"1")), ValueError),
        (start((b":path", b"1")), ValueError),
        (start(("a", b"1")), TypeError),
        (start((b"a", "1")), TypeError),
        (start((b"a", 1)), TypeError),
        (start((b"content-length", b"-1")), ValueError),
        (start((b"content-length", b"1"), (b"content-length", b"2")), ValueError),
        (start(status=101), ValueError),
        (start(status=600), ValueError),
        (start(status="200"), TypeError),
        (start(status=True), TypeError),
    ],
)
def test_start_that_is_no_response_raises_and_another_may_follow(event, error):
    async def scenario(http, sent):
        with pytest.raises(error):
            await http.send(event)
        await http.send(start(status=500))
        await http.send(BODY)
        assert sent.messages()[0][2] == 500

    with_http(scenario)


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([BODY], RuntimeError),
        ([START, START], RuntimeError),
        ([START, BODY, BODY], RuntimeError),
        ([START, BODY, START], RuntimeError),
        ([{"type": "http.response.trailers"}], ValueError),
        ([{"type": "websocket.accept"}], ValueError),
        ([START, body("text")], TypeError),
        ([START, body(None)], TypeError),
    ],
)
def test_event_out_of_order_or_unknown_raises(events, error):
    async def scenario(http, sent):
        for event in events[:-1]:
            await http.send(event)
        with pytest.raises(error):
            await http.send(events[-1])

    with_http(scenario)


@pytest.mark.parametrize(
    ("events", "part"),
    [([], "without a response"), ([START], "before the end"), ([START, body(b"", True)], "end")],
)
def test_return_before_the_end_is_undone(events, part):
    async def scenario(http, sent):
        for event in events:
            await http.send(event)
        assert part in http.end()

    with_http(scenario)


def test_scope_has_every_key_with_its_exact_type():
    headers = [[b"cookie", b"a"], [b"cookie", b"b"]]
    scope = StreamScope(
        "2", "https", "PATCH", b"/a%20b", b"", headers, ["10.0.0.1", 1], ["h", 443], None
    )
    assert http_scope(scope, "") == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "2",
        "scheme": "https",
        "method": "PATCH",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"cookie", b"a"), (b"cookie", b"b")],
        "client": ("10.0.0.1", 1),
        "server": ("h", 443),
        "extensions": {},
    }


@pytest.mark.parametrize(
    ("root_path", "came", "path", "raw_path"),
    [
        ("", b"/x", "/x", b"/x"),
        ("/api", b"/x", "/api/x", b"/api/x"),
        ("/api", b"/", "/api/", b"/api/"),
        ("/api", b"/api/x", "/api/api/x", b"/api/api/x"),
        ("/a/b", b"/%C3%A9//", "/a/b/é//", b"/a/b/%C3%A9//"),
        ("/ünï c", b"/x", "/ünï c/x", b"/%C3%BCn%C3%AF%20c/x"),
    ],
)
def test_root_path_stands_in_front_of_the_path_that_came(root_path, came, path, raw_path):
    scope = http_scope(
        StreamScope("1.1", "http", "GET", came, b"", [], None, None, None), root_path
    )
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == (root_path, path, raw_path)


# Several tasks


async def sending(http, *events):
    """Start to send events, each in a task of its own."""
    tasks = [asyncio.create_task(http.send(event)) for event in events]
    await settle()
    return tasks


def parts(sent):
    """Return the bodies of what was sent."""
    return b"".join(message[-2] for message in sent.messages())


def test_long_body_is_whole_before_anything_of_another_task():
    async def scenario(http, sent):
        await http.send(START)
        tasks = await sending(
            http, body(b"a" * 5 * PART, True), body(b"b", True), body(b"c" * 2 * PART, True)
        )
        while not all(task.done() for task in tasks):
            http.credit(PART, 1)
            await settle()
        assert parts(sent) == b"a" * 5 * PART + b"b" + b"c" * 2 * PART

    with_http(scenario)


def test_last_piece_of_another_task_waits_and_then_ends_the_response():
    async def scenario(http, sent):
        await http.send(START)
        tasks = await sending(http, body(b"a" * 3 * PART, True), body(b"b"), body(b"c"))
        http.credit(10 * PART, 10)
        first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
        assert (first, second) == (None, None)
        assert "after the end of the response" in str(third)
        assert parts(sent) == b"a" * 3 * PART + b"b"

    with_http(scenario)


def test_who_waits_for_a_body_that_was_cancelled_half_way_is_told():
    async def scenario(http, sent):
        await http.send(START)
        first, second = await sending(http, body(b"a" * 3 * PART, True), body(b"b"))
        first.cancel()
        with pytest.raises(RuntimeError, match="cancelled half-way"):
            await second

    with_http(scenario)


def test_who_is_cancelled_while_another_task_sends_leaves_the_rest_in_line():
    async def scenario(http, sent):
        await http.send(START)
        tasks = await sending(http, body(b"a" * 3 * PART, True), body(b"b", True), body(b"c"))
        tasks[1].cancel()
        http.credit(10 * PART, 10)
        assert await asyncio.gather(tasks[0], tasks[2]) == [None, None]
        assert parts(sent) == b"a" * 3 * PART + b"c"

    with_http(scenario)


def test_who_is_cancelled_at_its_turn_hands_it_on():
    async def scenario(http, sent):
        await http.send(START)
        first, second, third = await sending(
            http, body(b"a" * 2 * PART, True), body(b"b", True), body(b"c")
        )
        written = http.write

        def write(message):
            written(message)
            asyncio.get_running_loop().call_soon(second.cancel)

        http.write = write
        http.credit(10 * PART, 10)
        results = await asyncio.gather(first, second, third, return_exceptions=True)
        assert [type(result) for result in results[:2]] == [type(None), asyncio.CancelledError]
        assert results[2] is None
        assert parts(sent) == b"a" * 2 * PART + b"c"

    with_http(scenario)


def test_who_waits_in_line_hears_that_the_client_has_gone():
    async def scenario(http, sent):
        await http.send(START)
        tasks = await sending(http, body(b"a" * 3 * PART, True), body(b"b", True), body(b"c"))
        http.disconnect(None, b"")
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [ClientDisconnected] * 3

    with_http(scenario)


@pytest.mark.parametrize("status", [204, 304])
def test_bodies_of_several_tasks_are_dropped_where_there_is_none(status):
    async def scenario(http, sent):
        await http.send(start(status=status))
        tasks = await sending(http, body(b"a", True), body(b"b" * 2 * PART, True), body(b"c"))
        assert await asyncio.gather(*tasks) == [None] * 3
        assert sent.names() == ["response_start"]
        assert http.end() is None

    with_http(scenario)
