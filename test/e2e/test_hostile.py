"""A worker that breaks the wire's rules, seen from clients: its own, and those of the others."""

from __future__ import annotations

import httpx
import msgpack
import pytest
from clients import BINARY, TEXT, RawHTTP, RawWebSocket, handshake_headers
from harness import DEADLINE, alive, eventually
from http2 import Http2
from terms import Atom

ACCEPT, SEND_TEXT, CLOSE, START, BODY, CREDIT, OP, RESULT = 38, 39, 41, 36, 37, 9, 44, 46
FLUSHED, MULTICAST_TEXT, MULTICAST_BYTES = 50, 51, 52

SPLIT = b"a\r\nset-cookie: stolen=1\r\n\r\n<script>"


@pytest.fixture
def server(serve):
    return serve("failures:application", workers=2, fresh=True)


def open_on(server, target: str, wanted) -> tuple[RawWebSocket, list[int]]:
    """Open WebSockets until one is in a worker that is wanted."""
    others = []
    try:
        while len(others) < 50:
            ws = RawWebSocket(server, target)
            words = [int(word) for word in ws.read_message().split()]
            if wanted(words[0]):
                return ws, words
            others.append(ws)
    finally:
        for other in others:
            other.socket.close()
    raise AssertionError("no socket in such a worker")


def echoes(ws: RawWebSocket) -> bool:
    ws.frame(TEXT, b"still here")
    return ws.read_message() == b"still here"


def said(number: int, *messages: list) -> bytes:
    """Return messages of a stream as they stand on the wire."""
    frames = [msgpack.packb([code, number, *fields]) for code, *fields in messages]
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def cut_off(server, since: int, reason: str) -> None:
    """Wait for the line that says why a worker was cut off."""

    def logged() -> list[str]:
        lines = server.node.log[since:].splitlines()
        return [line for line in lines if "worker_broke_the_wire" in line and reason in line]

    assert len(eventually(logged)) == 1


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        pytest.param([[ACCEPT, None, []]], "out_of_order", id="accepts again"),
        pytest.param([[START, 200, [], b"", True]], "out_of_order", id="responds"),
        pytest.param([[CLOSE, 1000, b""], [SEND_TEXT, b"x"]], "out_of_order", id="after close"),
        pytest.param([[FLUSHED]], "out_of_order", id="flushed without having been asked"),
        pytest.param([[CLOSE, 99, b""]], "bad_close", id="an absurd close code"),
        pytest.param([[CLOSE, 1000, b"x" * 124]], "bad_close", id="a reason that does not fit"),
        pytest.param([[CREDIT, 1 << 40, 1]], "unearned_credit", id="credit for nothing"),
        pytest.param([[RESULT, 99, 0, b"x"]], "not_a_message", id="a result on a stream"),
        pytest.param([[OP, 1]], "field_count", id="an op without its fields"),
    ],
)
def test_a_socket_whose_worker_breaks_a_rule_is_closed_and_no_other(server, messages, reason):
    since = len(server.node.log)
    ws, (pid, number) = open_on(server, "/speaks", lambda pid: True)
    other, _ = open_on(server, "/who", lambda wanted: wanted != pid)
    ws.frame(BINARY, said(number, *messages))
    assert ws.read_close()[0] in (1000, 1011, 1012)
    eventually(lambda: not alive(pid))
    cut_off(server, since, reason)
    assert echoes(other)
    eventually(
        lambda: (
            pid not in server.worker_pids()
            and [worker["state"] for worker in server.workers()] == ["ready", "ready"]
        )
    )


def test_a_worker_that_overspends_its_credit_is_cut_off(server):
    since = len(server.node.log)
    ws, (pid, number) = open_on(server, "/speaks", lambda pid: True)
    other, _ = open_on(server, "/who", lambda wanted: wanted != pid)
    ws.frame(BINARY, said(number, *[[SEND_TEXT, b"x"]] * 20_000))
    eventually(lambda: not alive(pid))
    cut_off(server, since, "overspent")
    assert echoes(other)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param(lambda own: [[own, 1 << 40], b"x"], "no_such_stream", id="to nobody"),
        pytest.param(lambda own: [[own, 0], b"x"], "bad_field", id="to the worker"),
        pytest.param(lambda own: [[own, -1], b"x"], "bad_field", id="to a negative number"),
        pytest.param(lambda own: [[own] * 65_536, b"x"], "bad_field", id="to too many"),
        pytest.param(lambda own: [[own] * 1000, b"x"], "overspent", id="without credit"),
        pytest.param(lambda own: [own, b"x"], "bad_field", id="to no array"),
        pytest.param(lambda own: [[own], "x"], "bad_field", id="of no bytes"),
        pytest.param(lambda own: [[own]], "field_count", id="of nothing"),
    ],
)
@pytest.mark.parametrize("code", [MULTICAST_TEXT, MULTICAST_BYTES], ids=["text", "bytes"])
def test_a_worker_whose_multicast_breaks_a_rule_is_cut_off(server, code, fields, reason):
    since = len(server.node.log)
    ws, (pid, number) = open_on(server, "/speaks", lambda pid: True)
    other, _ = open_on(server, "/who", lambda wanted: wanted != pid)
    ws.frame(BINARY, said(0, [code, *fields(number)]))
    eventually(lambda: not alive(pid))
    cut_off(server, since, reason)
    assert echoes(other)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param([START, 0, 99, [], b"", False], "bad_status", id="status 99"),
        pytest.param([START, 0, 101, [], b"", False], "bad_status", id="a switch of protocols"),
        pytest.param([START, 0, 200, [[b"x", SPLIT]], b"", False], "bad_header", id="a value"),
        pytest.param([START, 0, 200, [[SPLIT, b"x"]], b"", False], "bad_header", id="a name"),
        pytest.param(
            [START, 0, 200, [[b"Transfer-Encoding", b"chunked"]], b"", True],
            "bad_header",
            id="case",
        ),
        pytest.param(
            [START, 0, 200, [[b"content-length", b"x"]], b"", True],
            "bad_content_length",
            id="length",
        ),
        pytest.param([ACCEPT, 0, None, []], "out_of_order", id="accept"),
        pytest.param([SEND_TEXT, 0, b"x"], "out_of_order", id="text"),
    ],
)
def test_no_response_of_a_worker_can_be_split_or_absurd(server, message, reason):
    since = len(server.node.log)
    answer = httpx.get(f"{server.http}/answers?{msgpack.packb(message).hex()}", timeout=DEADLINE)
    assert answer.status_code in (500, 502)
    assert "set-cookie" not in answer.headers
    assert b"script" not in answer.content
    cut_off(server, since, reason)
    eventually(lambda: httpx.get(f"{server.http}/says_things").status_code == 200)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param([[b"te", b"trailers"]], "bad_header", id="te"),
        pytest.param([[b"trailer", b"x"]], "bad_header", id="trailer"),
        pytest.param([[b"proxy-connection", b"x"]], "bad_header", id="proxy-connection"),
        pytest.param([[b"x", b"\x1b"]], "bad_header", id="a control character"),
        pytest.param([[b"x", b"x" * 2_000_000]], "head_too_large", id="2 MB"),
        pytest.param([[b"x" * 2_000_000, b""]], "head_too_large", id="2 MB of name"),
        pytest.param([[b"x", b""]] * 20_000, "head_too_large", id="20 000"),
        pytest.param([[b"x", b""]] * 70_000, "bad_field", id="70 000"),
    ],
)
def test_no_head_of_a_worker_is_beyond_the_limits(server, headers, reason):
    since = len(server.node.log)
    message = msgpack.packb([START, 0, 200, headers, b"", False])
    answer = httpx.post(f"{server.http}/answers", content=message, timeout=DEADLINE)
    assert answer.status_code == 500
    cut_off(server, since, reason)
    eventually(lambda: httpx.get(f"{server.http}/says_things").status_code == 200)


WAYS = {"ours": Atom("hornbeam"), "cowboy": Atom("cowboy"), "http2": Atom("hornbeam")}


def handshake(server, by: str, message: bytes, offers: list[str]) -> int:
    """Ask for a WebSocket, to which the worker says the message; return the status."""
    target = f"/answers?{message.hex()}"
    if by == "http2":
        with Http2(server) as http2:
            fields = [("sec-websocket-protocol", offer) for offer in offers]
            return http2.websocket(target, *fields).head()[0]
    with RawHTTP(server) as client:
        fields = [f"sec-websocket-protocol: {offer}" for offer in offers]
        client.request("GET", target, *handshake_headers(), *fields)
        return client.head().status


@pytest.mark.parametrize("by", WAYS)
def test_no_handshake_of_a_worker_says_what_was_not_agreed_on(serve, by):
    server = serve("failures:application", workers=2, http_engine=WAYS[by])
    for accept, offers, reason in (
        ((None, [[b"sec-websocket-extensions", b"permessage-deflate"]]), [], "bad_header"),
        ((None, [[b"sec-websocket-protocol", b"chat"]]), ["chat"], "bad_header"),
        ((None, [[b"proxy-connection", b"close"]]), [], "bad_header"),
        (("chat", []), [], "bad_subprotocol"),
        (("chat", []), ["CHAT, chat2", "cha"], "bad_subprotocol"),
        ((None, [[b"x", b""]] * 300), [], "head_too_large"),
    ):
        since = len(server.node.log)
        message = msgpack.packb([ACCEPT, 0, *accept])
        assert handshake(server, by, message, offers) == 500
        cut_off(server, since, reason)
        eventually(lambda: all(worker["state"] == "ready" for worker in server.workers()))
    good = msgpack.packb([ACCEPT, 0, "chat", [[b"content-length", b"5"]]])
    status = handshake(server, by, good, ["x", "y , chat"])
    assert status == (200 if by == "http2" else 101)


def test_a_body_that_is_longer_than_promised_is_no_second_response(server):
    message = msgpack.packb([START, 0, 200, [[b"content-length", b"2"]], b"ok" + SPLIT, True])
    with RawHTTP(server) as client:
        client.request("GET", f"/answers?{message.hex()}")
        seen = b""
        while part := client.socket.recv(65536):
            seen += part
    assert b"stolen" not in seen
    assert b"script" not in seen
