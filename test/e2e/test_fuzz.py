"""Rubbish at the socket and from a worker: nobody else notices, and nothing of it stays.

A few seconds in every run; `make fuzz` runs longer. FUZZ_SEED repeats a run; the name of a test
that failed has its seed.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
import time
from collections.abc import Callable

import pytest
from clients import BINARY, TEXT, RawHTTP, RawWebSocket, bounded, frame, handshake_headers
from harness import Server, eventually, kill_quietly
from http2_raw import CONTINUATION, DATA, END_STREAM, HEADERS, Raw, bomb, cut, literal
from http2_raw import frame as frame2
from http2_raw import head as head2

SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(1 << 30))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "3"))

LEFT = 64 << 20
"""Bytes that a run may leave in the node."""

MOST = 256 << 20
"""Bytes that the node may take for it at any time, garbage included."""


@pytest.fixture(params=[SEED], ids=[f"FUZZ_SEED={SEED}"])
def chance(request) -> random.Random:
    return random.Random(request.param)


LOAD = """
[code:ensure_loaded(Module)
 || App <- [kernel, stdlib, crypto, cowlib, cowboy, ranch, hornbeam],
    {ok, Modules} <- [application:get_key(App, modules)], Module <- Modules],
ok
"""
"""Atoms also come with the modules that a run is the first to use."""


@pytest.fixture
def server(serve, node) -> Server:
    node.eval(LOAD)
    return serve("failures:application", workers=2, fresh=True, websocket_max_frame_size=65536)


def for_a_while(server: Server, once: Callable[[], None]) -> None:
    """Do it again and again; then an honest client must find all as it was."""
    left(server)  # the first measurement has atoms of its own
    once()
    before = left(server)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        once()
    eventually(lambda: server.info()["streams"] == 0)
    eventually(lambda: [w["state"] for w in server.workers()] == ["ready", "ready"], 60)
    ws = RawWebSocket(server, "/who")
    ws.read_message()
    ws.frame(TEXT, b"still here")
    assert ws.read_message() == b"still here"
    ws.socket.close()
    after = left(server)
    assert after["atoms"] - before["atoms"] < 200
    assert after["memory"] - before["memory"] < LEFT


def left(server: Server) -> dict[str, int]:
    return server.node.eval(
        "[erlang:garbage_collect(P) || P <- processes()],"
        " #{atoms => erlang:system_info(atom_count), memory => erlang:memory(total)}"
    )


def mutated(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(min(len(data), 200) or 1)
    match chance.randrange(5):
        case 0:
            return data[:at] + chance.randbytes(1) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + data[at + 1 :]
        case 3:
            return data[:at] + chance.randbytes(chance.randrange(1, 9)) + data[at:]
    return data[:at] + data[at : at + 4] * 3 + data[at:]


def send_and_close(client: RawHTTP | Raw, data: bytes) -> None:
    """Send, look at a part of the answer, and leave."""
    with contextlib.suppress(OSError):
        client.socket.settimeout(0.05)
        client.send(data)
        client.socket.recv(4096)
    client.socket.close()


REQUESTS = [
    b"GET /says_things HTTP/1.1\r\nhost: test\r\n\r\n",
    b"POST /raises HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello",
    b"POST /raises HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n\r\n",
    "\r\n".join(["GET /who HTTP/1.1", "host: t", *handshake_headers(), "", ""]).encode(),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) + b"\0\0\0\4\0\0\0\0\0",
]


def test_rubbish_of_a_client_over_http_leaves_the_others_alone(server, chance):
    def once() -> None:
        data = chance.choice(REQUESTS)
        for _ in range(chance.randrange(4)):
            data = mutated(chance, data)
        send_and_close(RawHTTP(server), data)

    for_a_while(server, once)


def heads(chance: random.Random, raw: Raw, stream: int) -> bytes:
    """Return a head over HTTP/2 that no client should send, and some that one may."""
    block = head2(raw.host, path=b"/says_things")
    match chance.randrange(9):
        case 0:
            block += chance.randbytes(chance.choice([1, 10, 1000]))
        case 1:  # a field again and again
            block = bomb(raw.host, chance.choice([1, 300, 60_000, 134_000, 254_000]))
        case 2:  # fields that cost a byte or two
            block += chance.choice([b"\x90", b"\x0f\x01\x00", b"\x20"]) * 20_000
        case 3:  # numbers without end
            block += bytes([chance.choice([0x3F, 0x7F, 0xFF])]) + b"\xff" * 60_000
        case 4:
            block += literal(chance.randbytes(3), chance.randbytes(3), kept=True)
        case 5:
            names = ("method", "path", "scheme", "authority", "protocol")
            block = head2(raw.host, **{chance.choice(names): mutated(chance, b"/says_things")})
        case 6:  # no end
            return frame2(HEADERS, 0, stream, block) + frame2(CONTINUATION, 0, stream) * 1000
        case 7:
            flags = chance.randrange(256)
            return frame2(chance.choice([HEADERS, CONTINUATION]), flags, stream, block)
    blocks = cut(block, chance.choice([16384, 100, 17000]))
    return raw.request(stream, *blocks, flags=chance.choice([0, END_STREAM]))


def test_rubbish_of_a_client_over_http2_leaves_the_others_alone(server, chance):
    def once() -> None:
        raw = Raw(server)
        data = b""
        for stream in range(1, chance.randrange(2, 10), 2):
            data += heads(chance, raw, stream)
            if chance.randrange(3) == 0:
                data += frame2(chance.randrange(11), chance.randrange(256), stream, bytes(8))
            if chance.randrange(3) == 0:
                data += frame2(DATA, END_STREAM, stream, chance.randbytes(5))
        if chance.randrange(3) == 0:
            data = mutated(chance, data)
        send_and_close(raw, data)

    with bounded(server, MOST):
        for_a_while(server, once)


def frames(chance: random.Random) -> bytes:
    """Return frames that no client should send, and some that one may."""
    payload = chance.randbytes(chance.choice([0, 1, 2, 125, 126, 200]))
    match chance.randrange(8):
        case 0:  # reserved bits and opcodes
            return frame(chance.randrange(16), payload, rsv=chance.randrange(8))
        case 1:  # control frames in parts, or too long
            return frame(chance.choice([8, 9, 10]), payload, fin=bool(chance.randrange(2)))
        case 2:  # lengths without payload
            size = chance.choice([1 << 63, (1 << 63) - 1, 1 << 32, 65537, 5])
            return bytes([0x81, 0xFF]) + struct.pack(">Q", size) + chance.randbytes(4)
        case 3:
            return frame(TEXT, payload, mask=False)
        case 4:  # text that is cut within a character
            return frame(TEXT, b"\xe2\x82", fin=False) + frame(0, chance.choice([b"\xac", b"x"]))
        case 5:
            code = chance.choice([0, 999, 1000, 1005, 1006, 1015, 2999, 5000, 65535])
            return frame(8, chance.choice([b"", b"x", struct.pack(">H", code) + payload[:100]]))
        case 6:
            return frame(0, payload) + frame(BINARY, payload, fin=False)
    return frame(chance.choice([TEXT, BINARY]), payload)


def test_rubbish_of_a_client_over_websocket_leaves_the_others_alone(server, chance):
    def once() -> None:
        data = b"".join(frames(chance) for _ in range(chance.randrange(1, 6)))
        if chance.randrange(3) == 0:
            data = mutated(chance, data)
        send_and_close(RawWebSocket(server, "/who"), data)

    for_a_while(server, once)


def test_rubbish_of_a_worker_leaves_the_others_alone(server, chance):
    """Each costs a worker, which is replaced after a pause: these are few. A length whose bytes do
    not come is no violation; so what has survived is killed, as whoever finds it hung would."""
    good = [b"\0\0\0\x06\x93\x27\x01\xc4\x01x", b"\0\0\0\x05\x94\x09\x00\x01\x00"]

    def once() -> None:
        ws, pid = None, 0
        with contextlib.suppress(AssertionError, OSError, EOFError):
            ws = RawWebSocket(server, "/speaks")
            pid = int(ws.read_message().split()[0])
            data = chance.choice([chance.randbytes(20), mutated(chance, chance.choice(good))])
            ws.frame(BINARY, data)
            ws.socket.settimeout(0.3)
            ws.read_close()
        if ws is not None:
            ws.socket.close()
        if pid:
            kill_quietly(pid)

    for_a_while(server, once)
