"""WebSockets, sentence by sentence, as clients see them against a real node."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import json
import socket
import struct

import httpx
import pytest
from clients import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawHTTP,
    RawWebSocket,
    close_payload,
    deflated,
    frame,
    handshake_headers,
    inflated,
    journal,
    no_traceback,
    push_until_stuck,
    quiet,
    release,
    still,
)
from harness import eventually, kill_quietly
from terms import Atom
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

MIB = 1024 * 1024
LIMIT = 1000

WAYS = ["plain", "cowboy", "tls", "http2"]
"""With our own engine by TCP and by TLS, and with Cowboy's by TCP and, where it is the only one,
over HTTP/2."""


@pytest.fixture
def serve(reached, way):
    """Serve for clients that come by each of the ways."""
    engine = Atom("cowboy" if way == "cowboy" else "hornbeam")
    return functools.partial(reached, http_engine=engine)


@pytest.fixture
def server(serve):
    return serve("sockets:application")


@pytest.fixture
def small(serve):
    """A server that takes messages of up to 1000 bytes, compressed or not."""
    return serve("sockets:application", websocket_max_frame_size=LIMIT, websocket_compress=True)


async def refusal(url, **options):
    """Return the response that refuses a handshake."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, **options)
    return refused.value.response


async def closed(ws):
    """Read until the server closes; return its code and reason."""
    with pytest.raises(ConnectionClosed) as end:
        while True:
            await ws.recv()
    return end.value.rcvd.code, end.value.rcvd.reason


def reset(connection: socket.socket) -> None:
    """Break a connection so that the other side learns of it by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# The handshake


def test_the_101_waits_for_the_app(server, key):
    with RawHTTP(server) as client:
        client.request("GET", f"/held?{key}", *handshake_headers())
        assert journal(server, key) == ["websocket.connect"]
        assert quiet(client.socket)
        release(server, key)
        assert client.head().status == 101


def test_an_app_may_refuse_late_because_no_101_was_sent(server, key):
    with RawHTTP(server) as client:
        client.request("GET", f"/held_and_refused?{key}", *handshake_headers())
        journal(server, key)
        release(server, key)
        assert client.head().status == 403


@pytest.mark.parametrize(
    "data",
    [
        ("content-length: 5", b"hello"),
        ("content-length: 5", b""),
        ("transfer-encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
        ("transfer-encoding: chunked", b"0\r\n\r\n"),
        ("transfer-encoding: chunked", b"nonsense\r\n"),
    ],
)
def test_a_handshake_with_a_body_is_a_400_and_ends_the_connection(server, way, http1, key, data):
    """Or what one server takes for a body would be frames, or a request, to another."""
    field, body = data
    with RawHTTP(server) as client:
        client.request("GET", f"/held?{key}", *handshake_headers(), field, body=body)
        if way != "cowboy":  # which may answer a request behind its last one
            with contextlib.suppress(ConnectionError):
                client.request("GET", f"/journal/0?{key}")
        response = client.response()
        assert (response.status, response.all("connection")) == (400, ["close"])
        assert client.ended(), client.buffer
    assert journal(server, key, 0) == []


def test_a_handshake_may_say_that_it_has_no_body(server, http1):
    ws = RawWebSocket(server, "/echo", "content-length: 0")
    ws.frame(TEXT, b"hello")
    assert ws.read_message() == b"hello"


def test_what_was_not_agreed_on_is_refused_at_the_line_that_says_it(server):
    for offers in ([], ["sec-websocket-protocol: xml, JSON"]):
        ws = RawWebSocket(server, "/disagrees", *offers)
        assert ws.opening.all("sec-websocket-protocol") == []
        assert ws.read_message().decode() == (
            "the client has not offered the subprotocol 'json'; "
            "sec-websocket-extensions is what client and server agree on, not the app's"
        )


def test_accept_names_subprotocol_and_headers(server):
    ws = RawWebSocket(server, "/chosen", "sec-websocket-protocol: soap, json , graphql-ws")
    assert ws.opening.all("sec-websocket-protocol") == ["graphql-ws"]
    assert ws.opening.all("x-first") == ["one"]
    assert ws.opening.all("set-cookie") == ["a=1", "b=2"]


async def test_accept_before_receive_is_legal_and_receive_then_gives_connect(server):
    async with connect(f"{server.ws}/accept_first") as ws:
        assert await ws.recv() == "websocket.connect"
        await ws.send("x")
        assert await ws.recv() == "websocket.receive"


async def test_close_before_accept_refuses_with_403(server, key):
    response = await refusal(f"{server.ws}/refused?{key}")
    assert response.status_code == 403
    assert journal(server, key)[0]["type"] == "websocket.disconnect"


async def test_a_denial_response_has_the_status_headers_and_body_of_the_app(server):
    response = await refusal(f"{server.ws}/denied")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Basic"
    assert response.body == b"first log in"


def test_an_accept_that_is_cancelled_is_an_accept_all_the_same(server):
    for _ in range(20):
        with RawWebSocket(server, "/hasty") as ws:
            ws.frame(TEXT, b"early")
            assert [ws.read_message() for _ in range(3)] == [
                b"first",
                b"websocket.connect",
                b"early",
            ]


@pytest.mark.parametrize(
    ("handler", "code"),
    [("hasty_and_closes", 4001), ("hasty_and_returns", 1000), ("hasty_and_raises", 1011)],
)
def test_a_handler_that_ends_in_the_middle_of_its_accept_closes_the_socket(server, handler, code):
    for _ in range(20):
        with RawWebSocket(server, f"/{handler}") as ws:
            assert ws.read_close()[0] == code
    eventually(lambda: server.info()["streams"] == 0)
    with RawWebSocket(server, "/echo") as ws:
        ws.frame(TEXT, b"still here")
        assert ws.read_message() == b"still here"


@pytest.mark.parametrize("handler", ["fails_before_accept", "returns_before_accept"])
async def test_an_app_that_ends_before_accept_is_a_500_without_its_secrets(server, handler):
    response = await refusal(f"{server.ws}/{handler}")
    assert response.status_code == 500
    assert no_traceback(response.body)


async def test_an_exception_after_accept_closes_with_1011(server):
    async with connect(f"{server.ws}/fails_after_accept") as ws:
        code, reason = await closed(ws)
    assert code == 1011
    assert no_traceback(reason)


async def test_an_app_that_returns_after_accept_closes_with_1000(server):
    async with connect(f"{server.ws}/returns_after_accept") as ws:
        assert (await closed(ws))[0] == 1000


async def test_a_silent_app_is_a_504_at_the_timeout(serve, key):
    server = serve("sockets:application", timeout=300)
    response = await refusal(f"{server.ws}/silent?{key}")
    assert response.status_code == 504
    assert journal(server, key, 2)[1]["type"] == "websocket.disconnect"


def test_a_client_that_leaves_before_the_app_decides_is_a_disconnect(server, key):
    with RawHTTP(server) as client:
        client.request("GET", f"/silent?{key}", *handshake_headers())
        assert journal(server, key) == [{"type": "websocket.connect"}]
    event = journal(server, key, 2)[1]
    assert event["type"] == "websocket.disconnect"
    assert event["code"] == 1006


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param(handshake_headers()[:3], {400}, id="no key"),
        pytest.param(handshake_headers(version=12), {400, 426}, id="version 12"),
        pytest.param(
            [line for line in handshake_headers() if "version" not in line],
            {400, 426},
            id="no version",
        ),
    ],
)
def test_a_malformed_handshake_never_reaches_the_app(http1, server, key, headers, status):
    with RawHTTP(server) as client:
        client.request("GET", f"/held?{key}", *headers)
        assert client.head().status in status
    assert journal(server, key, 0) == []


# The scope


async def test_the_scope_has_every_key_with_its_exact_type(server, way):
    async with connect(
        f"{server.ws}/scope_of/caf%C3%A9?a=1&b=%20",
        additional_headers=[("X-B", "1"), ("X-A", "2")],
        subprotocols=["one", "two"],
        origin=server.http,
    ) as ws:
        scope = ast.literal_eval(await ws.recv())
        address = ws.local_address[:2]
    assert scope["type"] == "websocket"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["http_version"] == ("2" if way == "http2" else "1.1")
    assert scope["scheme"] == ("ws" if way in ("plain", "cowboy") else "wss")
    assert scope["path"] == "/scope_of/café"
    assert scope["raw_path"] == b"/scope_of/caf%C3%A9"
    assert scope["query_string"] == b"a=1&b=%20"
    assert scope["root_path"] == ""
    assert scope["subprotocols"] == ["one", "two"]
    assert scope["client"] == address or way == "http2"
    assert scope["server"] == (server.host, server.port)
    tls = set() if way in ("plain", "cowboy") else {"tls"}  # what it says: test_tls_extension.py
    assert scope["extensions"].keys() == {"websocket.http.response"} | tls
    assert scope["extensions"]["websocket.http.response"] == {}
    assert type(scope["client"]) is tuple and type(scope["server"]) is tuple
    for name, value in scope["headers"]:
        assert type(name) is bytes and type(value) is bytes and name == name.lower()
    assert (b"x-b", b"1") in map(tuple, scope["headers"])
    assert (b"origin", server.http.encode()) in map(tuple, scope["headers"])


# Messages


@pytest.mark.parametrize("message", ["", "text", "ünï ☃ 🐍", b"", b"\x00\xff bytes"])
async def test_text_and_bytes_come_back_as_they_went(server, message):
    async with connect(f"{server.ws}/echo") as ws:
        await ws.send(message)
        assert await ws.recv() == message


async def test_receive_has_only_the_key_that_is_present(server):
    async with connect(f"{server.ws}/keys") as ws:
        await ws.send("text")
        assert json.loads(await ws.recv()) == ["text", "type"]
        await ws.send(b"bytes")
        assert json.loads(await ws.recv()) == ["bytes", "type"]


async def test_a_task_pushes_without_any_client_message(server):
    async with connect(f"{server.ws}/pushes") as ws:
        assert [await ws.recv() for _ in range(3)] == ["0", "1", "2"]


async def test_tasks_that_send_at_once_keep_their_order(server):
    async with connect(f"{server.ws}/chorus") as ws:
        heard = [(await ws.recv()).split(":") for _ in range(2000)]
    assert all(text == "x" * 1000 for _, _, text in heard)
    for voice in range(10):
        assert [int(n) for name, n, _ in heard if name == str(voice)] == list(range(200))


@pytest.mark.parametrize("compress", [False, True])
async def test_empty_messages_arrive_between_others(serve, compress):
    server = serve("sockets:application", websocket_compress=compress)
    async with connect(f"{server.ws}/echo") as ws:
        for message in ("", "text", "", b"", b"bytes", b"", "text"):
            await ws.send(message)
            assert await ws.recv() == message


@pytest.mark.parametrize("compress", [False, True])
async def test_what_many_are_told_alike_reaches_each(serve, compress, key):
    server = serve("sockets:application", websocket_compress=compress)
    async with contextlib.AsyncExitStack() as stack:
        crowd = [
            await stack.enter_async_context(connect(f"{server.ws}/told_alike?{key}"))
            for _ in range(5)
        ]
        for turn in range(3):
            await crowd[turn].send(f"turn {turn}")
            for number, ws in enumerate(crowd):
                said = [await ws.recv() for _ in range(5)]
                text = f"turn {turn}"
                assert said == [text, "", text.encode(), "more: " * 20_000, str(number)]


async def test_a_thousand_messages_in_flight_keep_their_order(server):
    async with connect(f"{server.ws}/echo") as ws:
        sending = asyncio.create_task(send_all(ws, map(str, range(1000))))
        assert [await ws.recv() for _ in range(1000)] == [str(n) for n in range(1000)]
        await sending


async def send_all(ws, messages):
    for message in messages:
        await ws.send(message)


def test_frames_of_one_read_arrive_as_single_messages(server):
    with RawWebSocket(server, "/echo") as ws:
        ws.send(b"".join(frame(TEXT, str(n).encode()) for n in range(500)))
        assert [ws.read_message() for _ in range(500)] == [str(n).encode() for n in range(500)]


def test_a_frame_sent_byte_by_byte_arrives_whole(server):
    with RawWebSocket(server, "/echo") as ws:
        ws.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(TEXT, "dribble ☃".encode()):
            ws.send(bytes([byte]))
        assert ws.read_message().decode() == "dribble ☃"


@pytest.mark.parametrize(
    "message", ["é" * (4 * MIB), bytes(range(256)) * (8 * MIB // 256)], ids=["text", "bytes"]
)
async def test_a_message_of_many_megabytes_comes_back(server, message):
    async with connect(f"{server.ws}/echo", max_size=None, compression=None) as ws:
        await ws.send(message)
        assert await ws.recv() == message


def test_a_ping_is_answered_and_the_app_sees_nothing_of_it(server):
    with RawWebSocket(server, "/echo") as ws:
        ws.frame(PING, b"are you there?")
        assert ws.read() == (PONG, b"are you there?")
        ws.frame(PONG, b"unasked")
        ws.frame(TEXT, b"next")
        assert ws.read_message() == b"next"


async def test_compression_is_used_when_it_was_asked_for(http1, small):
    async with connect(f"{small.ws}/echo") as ws:
        assert "permessage-deflate" in ws.response.headers["sec-websocket-extensions"]
        for _ in range(3):
            await ws.send("squeeze " * 100)
            assert await ws.recv() == "squeeze " * 100


async def test_compression_is_off_by_default(server):
    async with connect(f"{server.ws}/echo") as ws:
        assert "sec-websocket-extensions" not in ws.response.headers


def test_a_client_that_speaks_and_closes_at_once_is_heard(server, key):
    for number in range(50):
        with RawWebSocket(server, f"/farewell?{key}-{number}") as ws:
            ws.send(frame(TEXT, b"in passing") + frame(CLOSE, close_payload(1000)))
    for number in range(50):
        disconnect = {"type": "websocket.disconnect", "code": 1000, "reason": ""}
        assert journal(server, f"{key}-{number}", 2) == ["in passing", disconnect]


# receive() and send() are independent


async def test_receive_goes_on_while_send_waits_for_a_client_that_does_not_read(server, key):
    ws = RawWebSocket(server, f"/hoses?{key}")
    with ws:
        stuck = still(lambda: memory(server))
        for _ in range(50):
            ws.frame(TEXT, b"still there?")
        eventually(lambda: journal(server, key) == [50])
        assert stuck < 200 * MIB


def memory(server) -> int:
    return server.node.eval("erlang:memory(total)") // MIB * MIB


# Back-pressure


async def test_send_waits_for_a_client_that_does_not_read_and_memory_stays_bounded(server, key):
    with RawWebSocket(server, f"/floods?{key}") as ws:
        journal(server, key)
        sent = still(lambda: journal(server, key)[0])
        assert sent * 65536 < 32 * MIB
        assert memory(server) < 200 * MIB
        for number in range(sent + 100):
            assert ws.read_message()[:4] == number.to_bytes(4, "big")


async def test_a_send_that_waits_raises_when_the_client_is_gone(server, key):
    with RawWebSocket(server, f"/floods?{key}") as ws:
        journal(server, key)
        still(lambda: journal(server, key)[0])
        reset(ws.socket)
    assert journal(server, key, 2)[1] == "gone"


async def test_an_app_that_does_not_receive_stops_the_client(server, key):
    with RawWebSocket(server, f"/stops_reading?{key}") as ws:
        journal(server, key)
        message = frame(BINARY, bytes(65536))
        before = memory(server)
        sent = push_until_stuck(ws.socket, message, 64 * MIB)
        assert memory(server) - before < 32 * MIB
        release(server, key)
        missing = -sent % len(message)
        ws.send(message[len(message) - missing :])
        ws.frame(TEXT, b"how much?")
        assert int(ws.read_message()) == (sent + missing) // len(message) * 65536


# Ends


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1001, "moving on"), (3000, "three"), (4999, "ünï"), (1000, "r" * 123)],
)
async def test_the_app_learns_the_clients_code_and_reason(server, key, code, reason):
    async with connect(f"{server.ws}/farewell?{key}") as ws:
        await ws.send("last words")
        await ws.close(code, reason)
    disconnect = {"type": "websocket.disconnect", "code": code, "reason": reason}
    assert journal(server, key, 2) == ["last words", disconnect]


def test_the_servers_side_of_a_clients_close_echoes_its_code(server):
    with RawWebSocket(server, "/echo") as ws:
        ws.frame(CLOSE, close_payload(3000, "bye"))
        assert ws.read_close()[0] == 3000
        assert ws.ended()


def test_a_close_without_a_code_is_1005(server, key):
    with RawWebSocket(server, f"/farewell?{key}") as ws:
        ws.frame(CLOSE, b"")
        assert journal(server, key) == [
            {"type": "websocket.disconnect", "code": 1005, "reason": ""}
        ]


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["closed", "reset"])
def test_a_broken_connection_is_1006(server, key, end):
    ws = RawWebSocket(server, f"/farewell?{key}")
    ws.frame(TEXT, b"last words")
    assert journal(server, key) == ["last words"]
    end(ws.socket)
    assert journal(server, key, 2)[1]["code"] == 1006


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ({}, (1000, "")),
        ({"code": 1001, "reason": "away"}, (1001, "away")),
        ({"code": 3000}, (3000, "")),
        ({"code": 4999, "reason": "r" * 123}, (4999, "r" * 123)),
        ({"code": 1008, "reason": None}, (1008, "")),
        ({"code": 1014, "reason": "ünï ☃"}, (1014, "ünï ☃")),
    ],
)
async def test_the_client_learns_the_apps_code_and_reason(server, key, asked, seen):
    async with connect(f"{server.ws}/closes?{key}") as ws:
        await ws.send(json.dumps(asked))
        assert await closed(ws) == seen
    disconnect = journal(server, key)[0]
    assert disconnect["type"] == "websocket.disconnect"
    assert disconnect["code"] == seen[0]


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536])
async def test_a_code_that_may_not_be_sent_raises_at_the_apps_line(server, key, code):
    event = {"type": "websocket.close", "code": code}
    assert "ValueError" in await raised_for(server, key, event)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(
            {"type": "websocket.close", "code": 1000, "reason": "r" * 124}, id="124 bytes of reason"
        ),
        pytest.param(
            {"type": "websocket.close", "code": 1000, "reason": "é" * 62}, id="62 times two bytes"
        ),
        {"type": "websocket.close", "code": "1000"},
        {"type": "websocket.close", "code": 1000, "reason": 7},
        {"type": "websocket.send"},
        {"type": "websocket.send", "text": 7},
        {"type": "websocket.send", "text": "both", "bytes": "both"},
        {"type": "websocket.accept"},
        {"type": "websocket.unheard_of"},
        {"type": "http.response.start", "status": 200},
        {"no": "type"},
    ],
    ids=json.dumps,
)
async def test_a_wrong_event_raises_at_the_apps_line(server, key, event):
    assert "OSError" not in await raised_for(server, key, event)


async def raised_for(server, key, event):
    """Return the exception's classes, having seen that the WebSocket goes on."""
    async with connect(f"{server.ws}/corrected?{key}") as ws:
        await ws.send(json.dumps(event))
        assert await ws.recv() == "refused"
        await ws.send(json.dumps({"type": "websocket.send", "text": "and on"}))
        assert await ws.recv() == "and on"
        return journal(server, key)[0]


async def test_send_before_accept_raises_and_accept_is_still_possible(server):
    async with connect(f"{server.ws}/sends_before_accept") as ws:
        assert await ws.recv() == "in time"


@pytest.mark.parametrize("handler", ["sends_after_close", "sends_after_disconnect"])
async def test_send_after_the_end_raises_oserror(server, key, handler):
    async with connect(f"{server.ws}/{handler}?{key}") as ws:
        if handler == "sends_after_disconnect":
            await ws.close()
        assert journal(server, key) == ["OSError"]


# Limits


def test_a_message_of_exactly_the_limit_passes(small):
    with RawWebSocket(small, "/echo") as ws:
        ws.frame(BINARY, b"a" * LIMIT)
        assert ws.read_message() == b"a" * LIMIT


def test_one_byte_more_than_the_limit_is_1009(small, key):
    with RawWebSocket(small, f"/farewell?{key}") as ws:
        ws.frame(BINARY, b"a" * (LIMIT + 1))
        assert ws.read_close()[0] == 1009
        assert journal(small, key)[0]["code"] == 1009


def test_fragments_of_exactly_the_limit_pass(small):
    with RawWebSocket(small, "/echo") as ws:
        send_fragments(ws, b"a" * 400, b"b" * 400, b"c" * 200)
        assert ws.read_message() == b"a" * 400 + b"b" * 400 + b"c" * 200


def test_fragments_that_sum_to_more_than_the_limit_are_1009(small):
    with RawWebSocket(small, "/echo") as ws:
        send_fragments(ws, b"a" * 400, b"b" * 400, b"c" * 201)
        assert ws.read_close()[0] == 1009


def test_a_fragmented_message_is_cut_before_it_is_finished(small):
    with RawWebSocket(small, "/echo") as ws:
        ws.frame(BINARY, b"a" * 600, fin=False)
        ws.frame(CONTINUATION, b"a" * 600, fin=False)
        assert ws.read_close()[0] == 1009


def send_fragments(ws, first, *rest):
    ws.frame(BINARY, first, fin=False)
    for part in rest[:-1]:
        ws.frame(CONTINUATION, part, fin=False)
    ws.frame(CONTINUATION, rest[-1])


def test_an_inflated_message_of_exactly_the_limit_passes(http1, small):
    with squeezed(small) as ws:
        ws.frame(TEXT, deflated(b"a" * LIMIT), rsv=4)
        assert inflated(ws.read_message()) == b"a" * LIMIT


@pytest.mark.parametrize("size", [LIMIT + 1, MIB // 2])
def test_a_message_beyond_the_limit_after_inflation_is_1009(http1, small, size):
    message = deflated(b"a" * size)
    assert len(message) < LIMIT
    with squeezed(small) as ws:
        ws.frame(TEXT, message, rsv=4)
        assert ws.read_close()[0] == 1009


def squeezed(server) -> RawWebSocket:
    ws = RawWebSocket(server, "/echo", "sec-websocket-extensions: permessage-deflate")
    assert ws.opening.all("sec-websocket-extensions")
    return ws


# Rubbish from the client


@pytest.mark.parametrize("text", [b"\xff", b"ok then \xc3", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_text_that_is_not_utf8_is_1007(server, key, text):
    with RawWebSocket(server, f"/farewell?{key}") as ws:
        ws.frame(TEXT, text)
        assert ws.read_close()[0] == 1007
        assert journal(server, key)[0]["code"] == 1007


def test_a_character_split_between_fragments_is_good_text(server):
    snow = "☃".encode()
    with RawWebSocket(server, "/echo") as ws:
        ws.frame(TEXT, snow[:1], fin=False)
        ws.frame(CONTINUATION, snow[1:])
        assert ws.read_message() == snow


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(TEXT, b"x", mask=False), id="unmasked"),
        pytest.param(frame(TEXT, b"x", rsv=2), id="reserved bit"),
        pytest.param(frame(3, b"x"), id="reserved opcode"),
        pytest.param(frame(CONTINUATION, b"x"), id="continuation of nothing"),
        pytest.param(frame(PING, b"x" * 126), id="long control frame"),
        pytest.param(frame(PING, b"x", fin=False), id="fragmented control frame"),
        pytest.param(frame(CLOSE, b"\x03"), id="close of one byte"),
        pytest.param(frame(CLOSE, close_payload(1005)), id="close with a code that never travels"),
    ],
)
def test_a_frame_against_the_protocol_is_1002(server, key, data):
    with RawWebSocket(server, f"/farewell?{key}") as ws:
        ws.send(data)
        assert ws.read_close()[0] == 1002
        assert journal(server, key)[0]["type"] == "websocket.disconnect"


# Time


def test_a_silent_client_that_answers_pings_is_kept(serve):
    server = serve("sockets:application", websocket_timeout=400, websocket_ping_interval=100)
    with RawWebSocket(server, "/echo") as ws:
        for _ in range(20):
            opcode, payload = ws.read()
            assert opcode == PING
            ws.frame(PONG, payload)
        ws.frame(TEXT, b"still here")
        while (read := ws.read())[0] == PING:
            pass
        assert read == (TEXT, b"still here")


def test_a_client_that_answers_no_ping_is_cut(serve, key):
    server = serve("sockets:application", websocket_timeout=400, websocket_ping_interval=100)
    with RawWebSocket(server, f"/farewell?{key}") as ws:
        pings = 0
        while True:
            try:
                opcode, _payload = ws.read()
            except (EOFError, ConnectionError):
                break
            pings += opcode == PING
        assert pings
    assert journal(server, key)[0]["type"] == "websocket.disconnect"


def test_pushes_do_not_keep_a_client_that_answers_no_ping(serve, key):
    server = serve("sockets:application", websocket_timeout=400, websocket_ping_interval=100)
    with RawWebSocket(server, f"/ticks?{key}") as ws, pytest.raises((EOFError, ConnectionError)):
        while True:
            ws.read()
    assert journal(server, key) == ["gone"]


def test_a_client_that_reads_nothing_and_answers_no_ping_is_cut(serve, key):
    server = serve("sockets:application", websocket_timeout=400, websocket_ping_interval=100)
    with RawWebSocket(server, f"/floods?{key}"):
        assert journal(server, key, 2)[1] == "gone"


# The ends of a worker and of the server


async def test_a_socket_whose_worker_is_gone_gets_1012(serve):
    server = serve("sockets:application", fresh=True)
    async with connect(f"{server.ws}/who") as ws:
        kill_quietly(int(await ws.recv()))
        assert (await closed(ws))[0] == 1012


async def test_a_socket_gets_1001_when_the_server_stops(serve):
    server = serve("sockets:application", fresh=True)
    async with connect(f"{server.ws}/echo") as ws:
        await ws.send("x")
        await ws.recv()
        stopping = asyncio.create_task(asyncio.to_thread(server.stop))
        assert (await closed(ws))[0] == 1001
        await stopping


async def test_the_app_learns_of_the_stop_as_1001(serve):
    server = serve("sockets:application", fresh=True)
    async with connect(f"{server.ws}/prints_its_end") as ws:
        await ws.recv()
        stopping = asyncio.create_task(asyncio.to_thread(server.stop))
        await closed(ws)
        await stopping
    server.node.wait_log(r"the end: .*websocket\.disconnect.*1001")


async def test_a_path_without_websocket_handler_leaves_the_others_alone(server):
    assert (await refusal(f"{server.ws}/unknown")).status_code == 500
    assert httpx.get(f"{server.http}/journal/0?x").json() == []
    async with connect(f"{server.ws}/echo") as ws:
        await ws.send("x")
        assert await ws.recv() == "x"
