"""A WebSocket's receive and send, event by event, without a process."""

import asyncio

import pytest
from hornbeam_erlang import ClientDisconnected
from hornbeam_erlang._asgi.response import PART
from hornbeam_erlang._asgi.websocket import websocket_scope
from hornbeam_erlang._wire.packets import StreamScope
from memory import LIMITS, settle, text, with_open_websocket, with_websocket

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}
DENY = {"type": "websocket.http.response.start", "status": 403, "headers": [(b"x-a", b"1")]}
DENY_BODY = {"type": "websocket.http.response.body", "body": b"no"}


# Accept


def test_first_event_is_connect_also_after_the_accept():
    async def scenario(websocket, sent):
        accepting = asyncio.create_task(websocket.send(ACCEPT))
        await settle()
        assert sent.messages() == [("accept", 1, None, [])]
        assert not accepting.done()
        websocket.accepted()
        await accepting
        websocket.receive_text(b"a")
        assert await websocket.receive() == {"type": "websocket.connect"}
        assert await websocket.receive() == {"type": "websocket.receive", "text": "a"}

    with_websocket(scenario)


def test_accept_carries_subprotocol_and_headers():
    async def scenario(websocket, sent):
        event = ACCEPT | {"subprotocol": "json", "headers": [(b"X-Who", b"me"), (b"x-who", b"I")]}
        accepting = asyncio.create_task(websocket.send(event))
        await settle()
        headers = [[b"x-who", b"me"], [b"x-who", b"I"]]
        assert sent.messages() == [("accept", 1, "json", headers)]
        accepting.cancel()

    with_websocket(scenario, offered=["xml", "json"])


@pytest.mark.parametrize("offered", [[], ["xml"], ["JSON"], ["json2", "jso"]])
def test_a_subprotocol_that_was_not_offered_is_refused(offered):
    async def scenario(websocket, sent):
        with pytest.raises(ValueError, match="not offered the subprotocol 'json'"):
            await websocket.send(ACCEPT | {"subprotocol": "json"})
        assert sent.messages() == []

    with_websocket(scenario, offered=offered)


def test_what_an_app_adds_to_its_scope_was_not_offered():
    offered = ["xml"]

    async def scenario(websocket, sent):
        offered.append("json")
        with pytest.raises(ValueError, match="json"):
            await websocket.send(ACCEPT | {"subprotocol": "json"})

    with_websocket(scenario, offered=offered)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
        (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        (b"sec-websocket-version", b"13"),
        (b"te", b"trailers"),
        (b"trailer", b"x"),
        (b"proxy-connection", b"close"),
        (b"x-a", b"\x1b"),
        (b"x-big", b"x" * 2_000_000),
    ],
)
def test_a_header_that_no_accept_has_is_refused_with_its_name(name, value):
    async def scenario(websocket, sent):
        with pytest.raises(ValueError, match=f"(?i){name.decode()}") as refusal:
            await websocket.send(ACCEPT | {"headers": [(b"x-ok", b"1"), (name, value)]})
        assert len(str(refusal.value)) < 500
        deny = DENY | {"headers": [(b"x-ok", b"1"), (name, value)]}
        if name.lower().startswith(b"sec-websocket-"):
            await websocket.send(deny)  # a refusal may say what is spoken instead
        else:
            with pytest.raises(ValueError, match=name.decode()):
                await websocket.send(deny)
        assert sent.messages() == []

    with_websocket(scenario)


def test_an_accept_and_a_denial_have_as_many_headers_as_the_limit_says():
    many = [(b"x", b"%d" % number) for number in range(LIMITS.fields + 1)]

    async def scenario(websocket, sent):
        for event in (ACCEPT, DENY):
            with pytest.raises(ValueError, match="limit_response_fields"):
                await websocket.send(event | {"headers": many})
        accepting = asyncio.create_task(websocket.send(ACCEPT | {"headers": many[1:]}))
        await settle()
        assert sent.names() == ["accept"]
        accepting.cancel()

    with_websocket(scenario)


def test_sends_of_other_tasks_wait_until_the_accept_is_through_and_keep_their_order():
    async def scenario(websocket, sent):
        tasks = [asyncio.create_task(websocket.send(ACCEPT))]
        await settle()
        tasks += [asyncio.create_task(websocket.send(text(str(n)))) for n in range(5)]
        await settle()
        assert sent.names() == ["accept"]
        websocket.accepted()
        await asyncio.gather(*tasks)
        assert [message[2] for message in sent.messages()] == [b"0", b"1", b"2", b"3", b"4"]

    with_websocket(scenario)


def with_cancelled_accept(scenario):
    """Run a scenario after an accept whose caller was cancelled before the node answered."""

    async def cancelled(websocket, sent):
        accepting = asyncio.create_task(websocket.send(ACCEPT))
        await settle()
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        assert sent.names() == ["accept"]
        await scenario(websocket, sent)

    with_websocket(cancelled)


def test_cancelled_accept_is_an_accept_all_the_same():
    async def scenario(websocket, sent):
        sending = asyncio.create_task(websocket.send(text("one")))
        await settle()
        assert not sending.done()
        websocket.accepted()
        await sending
        websocket.receive_text(b"two")
        assert (await websocket.receive())["type"] == "websocket.connect"
        assert (await websocket.receive())["text"] == "two"
        await websocket.send({"type": "websocket.close"})
        assert sent.names() == ["send_text", "close"]
        assert websocket.end() is None

    with_cancelled_accept(scenario)


def test_what_may_follow_an_accept_is_the_same_after_a_cancelled_one():
    async def scenario(websocket, sent):
        for event in (ACCEPT, {"type": "websocket.http.response.start", "status": 401}):
            with pytest.raises(RuntimeError, match="while the WebSocket is accepting"):
                await websocket.send(event)
        await websocket.send({"type": "websocket.close", "code": 4001})
        websocket.accepted()
        with pytest.raises(OSError):
            await websocket.send(text("late"))
        assert sent.names() == ["close"]

    with_cancelled_accept(scenario)


@pytest.mark.parametrize("accepted", [True, False])
def test_client_that_goes_after_a_cancelled_accept_is_told_as_ever(accepted):
    async def scenario(websocket, sent):
        if accepted:
            websocket.accepted()
        websocket.disconnect(1006, b"")
        with pytest.raises(ClientDisconnected):
            await websocket.send(text("late"))
        assert (await websocket.receive())["type"] == "websocket.connect"
        assert (await websocket.receive())["code"] == 1006
        assert (sent.messages(), websocket.end()) == ([], None)

    with_cancelled_accept(scenario)


def test_accept_cancelled_in_the_moment_it_is_answered_is_an_accept():
    async def scenario(websocket, sent):
        accepting = asyncio.create_task(websocket.send(ACCEPT))
        await settle()
        websocket.accepted()
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        await websocket.send(text("one"))
        assert sent.names() == ["accept", "send_text"]

    with_websocket(scenario)


def test_handler_that_ends_after_a_cancelled_accept_has_left_nothing_undone():
    async def scenario(websocket, sent):
        assert websocket.end() is None
        websocket.accepted()
        with pytest.raises(OSError):
            await websocket.send(text("late"))
        assert sent.messages() == []

    with_cancelled_accept(scenario)


def test_client_that_goes_during_the_accept_makes_it_raise():
    async def scenario(websocket, sent):
        accepting = asyncio.create_task(websocket.send(ACCEPT))
        await settle()
        websocket.disconnect(1006, b"")
        with pytest.raises(OSError):
            await accepting

    with_websocket(scenario)


def test_client_that_goes_right_after_the_accept_does_not_make_it_raise():
    async def scenario(websocket, sent):
        accepting = asyncio.create_task(websocket.send(ACCEPT))
        await settle()
        websocket.accepted()
        websocket.receive_text(b"hello and goodbye")
        websocket.disconnect(1000, b"")
        await accepting
        kinds = [(await websocket.receive())["type"] for _ in range(3)]
        assert kinds == ["websocket.connect", "websocket.receive", "websocket.disconnect"]

    with_websocket(scenario)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (ACCEPT | {"headers": [(b"a", b"1\r\nset-cookie: b")]}, ValueError),
        (ACCEPT | {"headers": [(b"a\n", b"1")]}, ValueError),
        (ACCEPT | {"headers": [(b":status", b"1")]}, ValueError),
        (ACCEPT | {"headers": [(b"a", b"\x00")]}, ValueError),
        (ACCEPT | {"headers": [("a", b"1")]}, TypeError),
        (ACCEPT | {"headers": [(b"sec-websocket-protocol", b"json")]}, ValueError),
        (ACCEPT | {"subprotocol": "a b"}, ValueError),
        (ACCEPT | {"subprotocol": "a\r\nb"}, ValueError),
        (ACCEPT | {"subprotocol": b"json"}, TypeError),
    ],
)
def test_accept_that_could_split_the_response_raises(event, error):
    async def scenario(websocket, sent):
        with pytest.raises(error):
            await websocket.send(event)
        assert sent.messages() == []

    with_websocket(scenario)


# Messages


def test_received_event_has_only_the_key_that_is_present():
    async def scenario(websocket, sent):
        websocket.receive_text("grüße".encode())
        websocket.receive_bytes(b"\xff")
        assert await websocket.receive() == {"type": "websocket.receive", "text": "grüße"}
        assert await websocket.receive() == {"type": "websocket.receive", "bytes": b"\xff"}

    with_open_websocket(scenario)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"text": "é"}, ("send_text", 1, "é".encode())),
        ({"text": ""}, ("send_text", 1, b"")),
        ({"text": "a", "bytes": None}, ("send_text", 1, b"a")),
        ({"bytes": b"a"}, ("send_bytes", 1, b"a")),
        ({"bytes": b"", "text": None}, ("send_bytes", 1, b"")),
        ({"bytes": bytearray(b"ab")}, ("send_bytes", 1, b"ab")),
        ({"bytes": memoryview(b"ab")[1:]}, ("send_bytes", 1, b"b")),
        ({"text": type("Text", (str,), {})("a")}, ("send_text", 1, b"a")),
    ],
)
def test_send_takes_one_of_text_and_bytes(event, message):
    async def scenario(websocket, sent):
        await websocket.send({"type": "websocket.send"} | event)
        assert sent.messages() == [message]

    with_open_websocket(scenario)


@pytest.mark.parametrize(
    ("event", "error", "part"),
    [
        ({}, ValueError, "text and bytes"),
        ({"text": None, "bytes": None}, ValueError, "text and bytes"),
        ({"text": "a", "bytes": b"a"}, ValueError, "text and bytes"),
        ({"text": b"a"}, TypeError, "bytes"),
        ({"text": 1}, TypeError, "int"),
        ({"bytes": "a"}, TypeError, "str"),
        ({"bytes": [1]}, TypeError, "list"),
        ({"text": "\ud800"}, ValueError, "surrogates"),
    ],
)
def test_send_of_anything_else_raises_and_sends_nothing(event, error, part):
    async def scenario(websocket, sent):
        with pytest.raises(error, match=part):
            await websocket.send({"type": "websocket.send"} | event)
        assert sent.messages() == []
        await websocket.send(text("still open"))
        assert sent.names() == ["send_text"]

    with_open_websocket(scenario)


def test_text_that_is_not_utf8_closes_with_1007():
    async def scenario(websocket, sent):
        websocket.receive_text(b"good")
        websocket.receive_text(b"\xff\xfe")
        websocket.receive_text(b"too late")
        websocket.disconnect(1007, b"the BEAM's own")
        assert sent.messages() == [("close", 1, 1007, b"text is not UTF-8")]
        assert (await websocket.receive())["text"] == "good"
        for _ in range(2):
            event = await websocket.receive()
            assert (event["type"], event["code"]) == ("websocket.disconnect", 1007)
        with pytest.raises(OSError):
            await websocket.send(text("a"))

    with_open_websocket(scenario)


def test_cancelled_receive_loses_no_message():
    async def scenario(websocket, sent):
        receiving = asyncio.create_task(websocket.receive())
        await settle()
        websocket.receive_text(b"a")
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        assert (await websocket.receive())["text"] == "a"

    with_open_websocket(scenario)


def test_receive_that_times_out_again_and_again_leaves_nothing_behind():
    async def scenario(websocket, sent):
        for _ in range(10):
            receiving = asyncio.create_task(websocket.receive())
            await settle()
            receiving.cancel()
            await settle()
        assert websocket._readers == []

    with_open_websocket(scenario)


def test_two_tasks_may_receive():
    async def scenario(websocket, sent):
        receiving = [asyncio.create_task(websocket.receive()) for _ in range(2)]
        await settle()
        websocket.receive_text(b"a")
        websocket.receive_text(b"b")
        events = await asyncio.gather(*receiving)
        assert sorted(event["text"] for event in events) == ["a", "b"]

    with_open_websocket(scenario)


# The end


@pytest.mark.parametrize(
    ("event", "code", "reason"),
    [
        ({}, 1000, b""),
        ({"code": 1001}, 1001, b""),
        ({"code": None, "reason": None}, 1000, b""),
        ({"code": 4999, "reason": "x" * 123}, 4999, b"x" * 123),
        ({"code": 3000, "reason": "grüße"}, 3000, "grüße".encode()),
        ({"code": 1014}, 1014, b""),
    ],
)
def test_close_carries_code_and_reason(event, code, reason):
    async def scenario(websocket, sent):
        await websocket.send(CLOSE | event)
        assert sent.messages() == [("close", 1, code, reason)]

    with_open_websocket(scenario)


@pytest.mark.parametrize(
    ("event", "error"),
    [({"code": code}, ValueError) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)]
    + [
        ({"code": "1000"}, TypeError),
        ({"code": True}, TypeError),
        ({"reason": b"bytes"}, TypeError),
        ({"reason": "x" * 124}, ValueError),
        ({"reason": "ü" * 62}, ValueError),
    ],
)
def test_close_that_no_frame_may_carry_raises_and_leaves_it_open(event, error):
    async def scenario(websocket, sent):
        with pytest.raises(error):
            await websocket.send(CLOSE | event)
        await websocket.send(text("still open"))
        assert sent.names() == ["send_text"]

    with_open_websocket(scenario)


def test_disconnect_has_the_clients_code_and_reason_and_comes_again():
    async def scenario(websocket, sent):
        receiving = asyncio.create_task(websocket.receive())
        await settle()
        websocket.disconnect(4000, "tschüß".encode())
        event = {"type": "websocket.disconnect", "code": 4000, "reason": "tschüß"}
        assert await receiving == event
        assert await websocket.receive() == event
        with pytest.raises(ClientDisconnected):
            await websocket.send(text("a"))
        with pytest.raises(OSError):
            await websocket.send(CLOSE)
        assert sent.messages() == []

    with_open_websocket(scenario)


def test_own_close_is_followed_by_a_disconnect_and_send_raises():
    async def scenario(websocket, sent):
        await websocket.send(CLOSE | {"code": 3001})
        with pytest.raises(OSError, match="closed"):
            await websocket.send(text("a"))
        with pytest.raises(OSError):
            await websocket.send(CLOSE)
        websocket.disconnect(3001, b"")
        assert (await websocket.receive())["code"] == 3001
        assert sent.names() == ["close"]

    with_open_websocket(scenario)


def test_close_before_the_accept_refuses_and_receive_says_so():
    async def scenario(websocket, sent):
        await websocket.receive()
        receiving = asyncio.create_task(websocket.receive())
        await settle()
        await websocket.send(CLOSE)
        assert sent.messages() == [("close", 1, 1000, b"")]
        assert (await receiving)["code"] == 1006
        assert websocket.end() is None

    with_websocket(scenario)


# Order


@pytest.mark.parametrize("event", [text("a"), DENY_BODY])
def test_event_before_its_time_raises(event):
    async def scenario(websocket, sent):
        with pytest.raises(RuntimeError, match=event["type"]):
            await websocket.send(event)

    with_websocket(scenario)


@pytest.mark.parametrize("event", [ACCEPT, DENY, DENY_BODY])
def test_event_after_its_time_raises(event):
    async def scenario(websocket, sent):
        with pytest.raises(RuntimeError, match=event["type"]):
            await websocket.send(event)

    with_open_websocket(scenario)


@pytest.mark.parametrize("kind", ["websocket.accpet", "http.response.start", None])
def test_unknown_event_raises_and_names_it(kind):
    async def scenario(websocket, sent):
        with pytest.raises(ValueError, match=str(kind)):
            await websocket.send({"type": kind})

    with_websocket(scenario)


def test_denial_response_goes_out_with_its_first_body():
    async def scenario(websocket, sent):
        await websocket.send(DENY)
        assert sent.messages() == []
        await websocket.send(DENY_BODY | {"more_body": True})
        assert sent.messages() == [("response_start", 1, 403, [[b"x-a", b"1"]], b"no", True)]
        with pytest.raises(RuntimeError):
            await websocket.send(ACCEPT)
        await websocket.send(DENY_BODY)
        assert sent.messages() == [("response_body", 1, b"no", False)]
        with pytest.raises(OSError):
            await websocket.send(DENY_BODY)
        assert websocket.end() is None

    with_websocket(scenario)


def test_return_without_a_decision_is_undone():
    async def scenario(websocket, sent):
        assert "accept" in websocket.end()

    with_websocket(scenario)


def test_return_in_the_middle_of_a_denial_is_undone():
    async def scenario(websocket, sent):
        await websocket.send(DENY)
        assert "response" in websocket.end()

    with_websocket(scenario)


def test_task_that_outlives_the_app_cannot_send():
    async def scenario(websocket, sent):
        assert websocket.end() is None
        with pytest.raises(OSError):
            await websocket.send(text("a"))
        assert (await websocket.receive())["type"] == "websocket.disconnect"

    with_open_websocket(scenario)


# Credit


def test_send_waits_when_the_bytes_are_spent_and_goes_on_with_credit():
    async def scenario(websocket, sent):
        await websocket.send(text("x" * 99))
        await websocket.send(text("x" * 99))  # overdraws, as it may
        waiting = asyncio.create_task(websocket.send(text("y")))
        await settle()
        assert sent.names() == ["send_text", "send_text"]
        websocket.credit(98, 0)  # still nothing to spend
        await settle()
        assert not waiting.done()
        websocket.credit(1, 0)
        await waiting
        assert sent.names() == ["send_text"]

    with_open_websocket(scenario, window=(100, 10))


def test_send_waits_when_the_messages_are_spent():
    async def scenario(websocket, sent):
        await websocket.send(text(""))
        await websocket.send(text(""))
        waiting = asyncio.create_task(websocket.send(text("")))
        await settle()
        assert not waiting.done()
        websocket.credit(0, 1)
        await waiting

    with_open_websocket(scenario, window=(100, 2))


def test_waiting_senders_keep_their_order_and_nobody_overtakes():
    async def scenario(websocket, sent):
        await websocket.send(text("0"))
        tasks = [asyncio.create_task(websocket.send(text(str(n)))) for n in (1, 2, 3)]
        await settle()
        websocket.credit(0, 1)
        tasks.append(asyncio.create_task(websocket.send(text("4"))))
        for _ in range(4):
            await settle()
            websocket.credit(0, 1)
        await asyncio.gather(*tasks)
        assert b"".join(message[2] for message in sent.messages()) == b"01234"

    with_open_websocket(scenario, window=(100, 1))


def test_cancelled_sender_passes_its_turn_on():
    async def scenario(websocket, sent):
        await websocket.send(text("0"))
        tasks = [asyncio.create_task(websocket.send(text(str(n)))) for n in (1, 2)]
        await settle()
        websocket.credit(0, 1)  # wakes the first, which is cancelled before it runs
        tasks[0].cancel()
        await tasks[1]
        assert [message[2] for message in sent.messages()] == [b"0", b"2"]

    with_open_websocket(scenario, window=(100, 1))


@pytest.mark.parametrize("end", ["client", "app"])
def test_waiting_senders_give_up_when_the_socket_ends(end):
    async def scenario(websocket, sent):
        await websocket.send(text("0"))
        tasks = [asyncio.create_task(websocket.send(text("1"))) for _ in range(3)]
        await settle()
        if end == "client":
            websocket.disconnect(1006, b"")
        else:
            await websocket.send(CLOSE)
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, OSError)

    with_open_websocket(scenario, window=(100, 1))


def test_receive_does_not_wait_for_a_sender_without_credit():
    async def scenario(websocket, sent):
        await websocket.send(text("0"))
        waiting = asyncio.create_task(websocket.send(text("1")))
        await settle()
        websocket.receive_text(b"a")
        assert (await websocket.receive())["text"] == "a"
        waiting.cancel()

    with_open_websocket(scenario, window=(100, 1))


def test_credit_goes_back_when_half_of_the_messages_are_taken():
    async def scenario(websocket, sent):
        for _ in range(10):
            websocket.receive_text(b"ab")
        for _ in range(4):
            await websocket.receive()
        assert sent.messages() == []
        await websocket.receive()
        assert sent.messages() == [("credit", 1, 10, 5)]
        for _ in range(5):
            await websocket.receive()
        assert sent.messages() == [("credit", 1, 10, 5)]

    with_open_websocket(scenario, window=(1000, 10))


def test_credit_goes_back_when_half_of_the_bytes_are_taken():
    async def scenario(websocket, sent):
        websocket.receive_bytes(b"x" * 499)
        websocket.receive_text("ü".encode())
        await websocket.receive()
        assert sent.messages() == []
        await websocket.receive()
        assert sent.messages() == [("credit", 1, 501, 2)]

    with_open_websocket(scenario, window=(1000, 10))


# Flush


def test_flushed_is_said_when_the_app_has_taken_all_and_asks_for_more():
    async def scenario(websocket, sent):
        websocket.receive_text(b"a")
        websocket.receive_text(b"b")
        websocket.flush()
        assert [(await websocket.receive())["text"] for _ in range(2)] == ["a", "b"]
        await websocket.send(text("the answer"))
        assert sent.names() == ["send_text"]
        waiting = asyncio.create_task(websocket.receive())
        await settle()
        assert sent.messages() == [("flushed", 1)]
        websocket.receive_text(b"c")
        assert (await waiting)["text"] == "c"

    with_open_websocket(scenario)


def test_an_app_that_waits_for_a_message_has_flushed_already():
    async def scenario(websocket, sent):
        waiting = asyncio.create_task(websocket.receive())
        await settle()
        websocket.flush()
        await settle()
        assert sent.messages() == [("flushed", 1)]
        websocket.disconnect(1002, b"")
        assert (await waiting)["type"] == "websocket.disconnect"

    with_open_websocket(scenario)


@pytest.mark.parametrize("credit", [100, 0])
def test_who_reads_of_the_end_may_cancel_a_sender_before_that_one_fails(credit):
    """As Quart does: a task that reads and one that handles; the first to end cancels the other."""

    async def scenario(websocket, sent):
        async def handler():
            async with asyncio.TaskGroup() as tasks:
                for _ in range(3):
                    tasks.create_task(pushes())

        async def pushes():
            while True:
                await websocket.send(text("x"))
                await asyncio.sleep(0)

        async def listens():
            while (await websocket.receive())["type"] != "websocket.disconnect":
                pass

        both = [asyncio.create_task(handler()), asyncio.create_task(listens())]
        await settle()
        websocket.disconnect(1006, b"")
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        assert both[1].done()
        assert not both[0].done()
        both[0].cancel()
        assert [type(it) for it in await asyncio.gather(*both, return_exceptions=True)] == [
            asyncio.CancelledError,
            type(None),
        ]

    with_open_websocket(scenario, window=(1000, credit))


@pytest.mark.parametrize("end", ["close", "disconnect", "move", "refuse"])
def test_nothing_is_flushed_after_the_end(end):
    async def scenario(websocket, sent):
        websocket.receive_text(b"a")
        websocket.flush()
        match end:
            case "close":
                await websocket.send(CLOSE)
            case "disconnect":
                websocket.disconnect(1006, b"")
            case "move":
                websocket.move()
            case "refuse":
                websocket.receive_text(b"\xff")
        waiting = asyncio.create_task(websocket.receive())
        await settle()
        if not waiting.done() or (await waiting)["type"] != "websocket.disconnect":
            waiting = asyncio.create_task(websocket.receive())
        websocket.flush()
        await settle()
        assert "flushed" not in sent.names()
        waiting.cancel()

    with_open_websocket(scenario)


# StreamScope


def test_scope_has_every_key_with_its_exact_type():
    headers = [
        [b"host", b"h"],
        [b"sec-websocket-protocol", b"graphql-ws, json"],
        [b"sec-websocket-protocol", b"v2 ,"],
    ]
    client, server = ["::1", 5], ["127.0.0.1", 80]
    scope = StreamScope(
        "1.1", "ws", "GET", b"/caf%C3%A9/%2F", b"q=%20", headers, client, server, None
    )
    assert websocket_scope(scope, "/root") == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/root/café//",
        "raw_path": b"/root/caf%C3%A9/%2F",
        "query_string": b"q=%20",
        "root_path": "/root",
        "headers": [(name, value) for name, value in headers],
        "client": ("::1", 5),
        "server": ("127.0.0.1", 80),
        "subprotocols": ["graphql-ws", "json", "v2"],
        "extensions": {"websocket.http.response": {}},
    }


def test_what_many_clients_say_alike_is_in_memory_once():
    def headers():
        given = [
            [b"host", b"example.org"],
            [b"sec-websocket-version", b"13"],
            [b"sec-websocket-key", b"a" * 24],
            [b"cookie", b"session=" + b"b" * 8],
            [b"user-agent", b"c" * 300],
        ]
        scope = StreamScope("1.1", "ws", "GET", b"/", b"", given, None, ["h", 80], None)
        made = websocket_scope(scope, "")
        assert made["headers"] == [tuple(header) for header in given]
        return [*made["headers"], made["server"]]

    alike = [one is other for one, other in zip(headers(), headers(), strict=True)]
    assert alike == [True, True, False, False, False, True]


def test_scope_of_a_unix_socket_has_its_path_and_no_client():
    scope = StreamScope("1.1", "ws", "GET", b"/", b"", [], None, ["/run/a.sock", None], None)
    made = websocket_scope(scope, "")
    assert (made["client"], made["server"]) == (None, ("/run/a.sock", None))


def test_what_the_node_said_of_the_client_is_an_extension():
    scope = StreamScope("1.1", "ws", "GET", b"/", b"", [], None, None, {"user": 7})
    assert websocket_scope(scope, "")["extensions"] == {
        "websocket.http.response": {},
        "hornbeam.connect": {"user": 7},
    }


def test_path_that_is_not_utf8_is_still_a_str():
    scope = StreamScope("1.1", "ws", "GET", b"/%ff\xff", b"", [], None, None, None)
    assert websocket_scope(scope, "")["path"] == "/\ufffd\ufffd"


def test_denial_of_several_tasks_is_said_piece_by_piece():
    async def scenario(websocket, sent):
        await websocket.send(DENY)
        pieces = [(b"a" * 3 * PART, True), (b"b", False), (b"c", False)]
        tasks = [
            asyncio.create_task(websocket.send(DENY_BODY | {"body": data, "more_body": more}))
            for data, more in pieces
        ]
        await settle()
        websocket.credit(10 * PART, 10)
        first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
        assert (first, second, type(third)) == (None, None, OSError)
        told = b"".join(message[-2] for message in sent.messages())
        assert told == b"a" * 3 * PART + b"b"

    with_websocket(scenario)
