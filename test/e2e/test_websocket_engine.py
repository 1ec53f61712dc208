"""What Hornbeam's own WebSocket engine does and Cowboy's does not: bounds and strictness."""

from __future__ import annotations

import os
import signal
import time
import zlib
from pathlib import Path

import pytest
from clients import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawWebSocket,
    close_payload,
    frame,
    journal,
    push_until_stuck,
    release,
)
from harness import eventually
from terms import Atom
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

MIB = 1024 * 1024
APP = "sockets:application"
SQUEEZED = "sec-websocket-extensions: permessage-deflate"


@pytest.fixture
def server(serve):
    return serve(APP, websocket_compress=True)


class Peak:
    """How much the node has grown since, at its largest (bytes)."""

    def __init__(self, server) -> None:
        self.process = Path(f"/proc/{server.node.process.pid}")
        # Linux: 5 makes the peak of resident memory what is resident now.
        (self.process / "clear_refs").write_text("5")
        self.before = self.largest()

    def largest(self) -> int:
        status = (self.process / "status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def grown(self) -> int:
        return self.largest() - self.before


def bomb(megabytes: int) -> bytes:
    """Compress zeros as one message does: a thousandth of their size."""
    squeeze = zlib.compressobj(wbits=-15)
    data = b"".join(squeeze.compress(bytes(MIB)) for _ in range(megabytes))
    return (data + squeeze.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


# Compression


@pytest.mark.parametrize("fragments", [1, 5])
def test_a_bomb_costs_no_more_than_the_limit(server, key, fragments):
    data = bomb(400)
    with RawWebSocket(server, f"/farewell?{key}", SQUEEZED) as ws:
        peak = Peak(server)
        for begin in range(fragments):
            part = data[begin * len(data) // fragments : (begin + 1) * len(data) // fragments]
            opcode, rsv = (CONTINUATION, 0) if begin else (BINARY, 4)
            ws.frame(opcode, part, rsv=rsv, fin=begin == fragments - 1)
        assert ws.read_close()[0] == 1009
        assert journal(server, key)[0]["code"] == 1009
        assert peak.grown() < 80 * MIB


def test_compressed_messages_that_the_app_does_not_take_are_not_inflated(server, key):
    message = frame(BINARY, bomb(15), rsv=4)
    with RawWebSocket(server, f"/stops_reading?{key}", SQUEEZED) as ws:
        journal(server, key)
        peak = Peak(server)
        push_until_stuck(ws.socket, message, 64 * MIB)
        assert peak.grown() < 60 * MIB


@pytest.mark.parametrize("server_forgets", [False, True])
@pytest.mark.parametrize("client_forgets", [False, True])
@pytest.mark.parametrize("bits", [None, 9, 15])
async def test_what_is_negotiated_is_kept(server, server_forgets, client_forgets, bits):
    offer = ClientPerMessageDeflateFactory(
        server_no_context_takeover=server_forgets,
        client_no_context_takeover=client_forgets,
        server_max_window_bits=bits,
        client_max_window_bits=bits or True,
    )
    async with connect(f"{server.ws}/echo", extensions=[offer]) as ws:
        answer = ws.response.headers["sec-websocket-extensions"]
        assert ("server_no_context_takeover" in answer) is server_forgets
        for size in (0, 1, 1000, 100_000, 1000):
            message = "squeeze " * size
            await ws.send(message)
            assert await ws.recv() == message


@pytest.mark.parametrize("offer", ["permessage-deflate; nonsense", "permessage-deflate; =", "x"])
def test_an_offer_that_cannot_be_taken_is_declined(server, offer):
    with RawWebSocket(server, "/echo", f"sec-websocket-extensions: {offer}") as ws:
        assert not ws.opening.all("sec-websocket-extensions")
        ws.frame(TEXT, b"x")
        assert ws.read_message() == b"x"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(PING, b"", rsv=4), id="ping"),
        pytest.param(
            frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b", rsv=4), id="continuation"
        ),
        pytest.param(frame(TEXT, b"no deflate", rsv=4), id="not deflate"),
    ],
)
def test_a_bad_compressed_frame_is_1002(server, key, data):
    with RawWebSocket(server, f"/farewell?{key}", SQUEEZED) as ws:
        ws.send(data)
        assert ws.read_close()[0] == 1002
        assert journal(server, key)[0]["code"] == 1002


# Wrong frames


WRONG = {
    "reserved bit": (frame(TEXT, b"x", rsv=2), 1002),
    "opcode": (frame(3, b"x"), 1002),
    "too long": (frame(TEXT, bytes(200 * 1024)), 1009),
    "close that is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("resume", [False, True])
def test_what_came_before_a_wrong_frame_is_answered_before_the_close(serve, key, kind, resume):
    server = serve(APP, websocket_max_frame_size=100 * 1024, websocket_resume=resume)
    wrong, code = WRONG[kind]
    with RawWebSocket(server, f"/answers_when_released?{key}") as ws:
        ws.send(b"".join(frame(TEXT, str(n).encode()) for n in range(50)) + wrong)
        assert journal(server, key) == ["0"]
        release(server, key)
        assert [ws.read_message() for _ in range(50)] == [f"to {n}".encode() for n in range(50)]
        assert ws.read_close() == (code, "")
    notes = journal(server, key, 51)
    assert notes[-1] == {"type": "websocket.disconnect", "code": code, "reason": ""}


def test_nothing_behind_a_wrong_frame_is_heard(server, key):
    with RawWebSocket(server, f"/answers_when_released?{key}") as ws:
        ws.send(frame(TEXT, b"a") + frame(3, b"x") + frame(TEXT, b"b") + frame(PING, b""))
        release(server, key)
        assert ws.read() == (TEXT, b"to a")
        assert ws.read_close() == (1002, "")
    said, end = journal(server, key, 2)
    assert (said, end["code"]) == ("a", 1002)


def test_an_app_that_does_not_answer_is_not_waited_for_long(server, key):
    with RawWebSocket(server, f"/answers_when_released?{key}") as ws:
        ws.send(frame(TEXT, b"a") + frame(3, b"x"))
        assert ws.read_close() == (1002, "")
    release(server, key)


def test_an_app_whose_process_ends_before_its_answer_is_not_waited_for(serve, key):
    server = serve(APP, websocket_resume=True, fresh=True)
    with RawWebSocket(server, f"/answers_when_released?{key}") as ws:
        ws.send(frame(TEXT, b"a") + frame(3, b"x"))
        assert journal(server, key) == ["a"]
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        assert ws.read_close() == (1002, "")


@pytest.mark.parametrize("fragments", [True, False], ids=["fragments", "pieces"])
def test_text_that_comes_slowly_is_refused_before_it_is_whole(server, key, fragments):
    with RawWebSocket(server, f"/farewell?{key}") as ws:
        if fragments:
            ws.frame(TEXT, "grün".encode(), fin=False)
            again = frame(CONTINUATION, b"\xf4\x90", fin=False)
        else:
            message = frame(TEXT, "grün".encode() + b"\xf4\x90 and more")
            ws.send(message[:-10])
            again = message[-10:-9]
        time.sleep(0.2)
        ws.send(again)
        assert ws.read_close() == (1007, "")


# Closing


@pytest.mark.parametrize("code", [1012, 1013, 1014])
def test_codes_that_were_registered_after_the_rfc_are_taken(server, key, code):
    with RawWebSocket(server, f"/farewell?{key}") as ws:
        ws.frame(CLOSE, close_payload(code))
        assert ws.read_close()[0] == code
        assert journal(server, key)[0]["code"] == code


def test_a_reason_that_is_not_utf8_is_1007(server):
    with RawWebSocket(server, "/echo") as ws:
        ws.frame(CLOSE, b"\x03\xe8\xff")
        assert ws.read_close()[0] == 1007


def test_what_comes_after_a_close_is_not_heard(server, key):
    with RawWebSocket(server, f"/farewell?{key}") as ws:
        ws.send(frame(CLOSE, close_payload(1000)) + frame(TEXT, b"too late") + b"rubbish")
        assert ws.read_close()[0] == 1000
        assert [event["type"] for event in journal(server, key)] == ["websocket.disconnect"]


# Many frames


def test_replies_to_one_read_come_in_order(server):
    with RawWebSocket(server, "/echo") as ws:
        ws.send(b"".join(frame(PING, str(n).encode()) for n in range(300)))
        assert [ws.read() for _ in range(300)] == [(PONG, str(n).encode()) for n in range(300)]


RATE = 100


@pytest.fixture
def measured(serve):
    return serve(APP, websocket_max_frame_rate=RATE)


def test_a_seconds_frames_may_come_at_once(measured):
    with RawWebSocket(measured, "/echo") as ws:
        ws.send(b"".join(frame(TEXT, str(n).encode()) for n in range(RATE)))
        assert [ws.read_message() for _ in range(RATE)] == [str(n).encode() for n in range(RATE)]


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(frame(TEXT, b"x") * 2 * RATE, id="messages"),
        pytest.param(frame(PING, b"") * 2 * RATE, id="pings"),
        pytest.param(
            frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 2 * RATE,
            id="fragments",
        ),
    ],
)
def test_more_frames_than_the_rate_are_1008_and_counted(measured, key, flood):
    before = measured.info()["counters"]["too_fast"]
    with RawWebSocket(measured, f"/farewell?{key}") as ws:
        ws.send(flood)
        assert ws.read_close() == (1008, "too many frames")
    eventually(lambda: measured.info()["counters"]["too_fast"] == before + 1)


def test_a_client_that_pings_and_does_not_read_is_heard_and_costs_little(server, key):
    pings = frame(PING, bytes(125)) * 1000
    with RawWebSocket(server, f"/farewell?{key}") as ws:
        peak = Peak(server)
        for _ in range(200):
            ws.send(pings)
        ws.frame(PING, b"the last")
        ws.frame(TEXT, b"still heard")
        assert journal(server, key) == ["still heard"]
        assert peak.grown() < 40 * MIB
        read = 0
        while ws.read() != (PONG, b"the last"):
            read += 1
        assert 0 < read < 200_000


def test_the_engine_of_cowboy_counts_no_frames(shared):
    error = shared.refused(APP, http_engine=Atom("cowboy"), websocket_max_frame_rate=10)
    assert error.reason == ("bad_option", "http_engine", "cowboy")
    assert "websocket_max_frame_rate" in error.sentence
