"""HTTP/2: exchanges and WebSockets that share a connection, back-pressure, and floods.

That a WebSocket over HTTP/2 does what one over HTTP/1.1 does stands in test_websocket.
"""

from __future__ import annotations

import ast
import contextlib
import json

import httpx
import pytest
from clients import (
    CLOSE,
    PING,
    TEXT,
    RawWebSocket,
    close_payload,
    frame,
    journal,
    kept,
    release,
    still,
)
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from harness import eventually, kill_quietly
from http2 import Http2, Stream

MIB = 1024 * 1024

WAYS = ["plain", "tls"]

WINDOW = 65535

MOST = 9 * 65536
"""What may be on its way to an app that reads nothing of it: its credit (256 KiB and a frame), the
first part, which is free (128 KiB at most), what is read ahead, and Cowboy's margin (64 KiB)."""


@pytest.fixture
def serve(reached):
    return reached


@pytest.fixture
def server(serve):
    return serve("exchanges:application")


@pytest.fixture
def sockets(serve):
    return serve("sockets:application")


@pytest.fixture
def http2(server):
    with Http2(server) as connection:
        yield connection


def get(connection: Http2, path: str, *headers: tuple[str, str]) -> bytes:
    return connection.request("GET", path, *headers).body()


def served(connection: Http2) -> bool:
    try:
        return get(connection, "/hello") == b"hello"
    except (ConnectionError, OSError):
        return False


def pushed(stream: Stream, data: bytes, most: int, patience: float = 1.0) -> int:
    """Write until the server gives no more room; return how many bytes went."""
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent <= most:
            sent += stream.send_some(data, patience)
    assert sent <= most, f"{sent} bytes were taken, and nobody reads"
    return sent


class Frames:
    """A WebSocket on a stream; reads one frame at a time."""

    def __init__(self, connection: Http2, path: str, *headers: tuple[str, str]) -> None:
        self.stream = connection.websocket(path, *headers)
        self.status, self.headers = self.stream.head()
        self.buffer = b""

    def need(self, size: int) -> bytes:
        while len(self.buffer) < size:
            part = self.stream.read()
            assert part, "the stream has ended"
            self.buffer += part
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read(self) -> tuple[int, bytes]:
        first, size = self.need(2)
        if size >= 126:
            size = int.from_bytes(self.need(2 if size == 126 else 8), "big")
        return first & 15, self.need(size)

    def say(self, opcode: int, payload: bytes) -> None:
        self.stream.send(frame(opcode, payload))


# Exchanges


def test_the_scope_says_http_2_and_has_the_authority_as_host(http2, server, way):
    text = get(http2, "/scope_of?q=1", ("x-a", "1"), ("cookie", "a=1"), ("cookie", "b=2"))
    scope = ast.literal_eval(text.decode())
    assert scope["type"] == "http"
    assert scope["http_version"] == "2"
    assert scope["scheme"] == ("http" if way == "plain" else "https")
    assert scope["raw_path"] == b"/scope_of" and scope["query_string"] == b"q=1"
    headers = dict(scope["headers"])
    assert headers[b"host"] == http2.authority.encode()
    assert headers[b"x-a"] == b"1" and headers[b"cookie"] == b"a=1; b=2"
    assert scope["server"] == (server.host, server.port)


def test_a_client_that_lies_about_the_scheme_is_not_believed(http2, way):
    other = "https" if way == "plain" else "http"
    text = http2.request("GET", "/scope_of", scheme=other).body().decode()
    assert ast.literal_eval(text)["scheme"] == ("http" if way == "plain" else "https")


def test_bodies_come_whole_both_ways(http2):
    body = bytes(range(256)) * 4096
    stream = http2.request("POST", "/counts?whole", end=False)
    http2.request("GET", "/release?whole").body()
    stream.send(body, end=True)
    assert stream.body() == str(len(body)).encode()
    assert get(http2, "/big") == bytes(16 * MIB)


def test_set_cookies_stay_apart(http2):
    status, headers = http2.request("GET", "/cookies").head()
    assert status == 200
    cookies = [value for name, value in headers if name == "set-cookie"]
    assert cookies == ["a=1; Path=/", "b=2; Path=/"]


def test_exchanges_of_one_connection_do_not_wait_for_each_other(http2, server, key):
    slow = http2.request("GET", f"/parts?{key}")
    assert slow.head()[0] == 200
    assert get(http2, "/hello") == b"hello"
    release(server, key)
    assert slow.body() == b"one two three"


@pytest.mark.parametrize("handler", ["raises", "returns"])
def test_an_app_that_ends_before_its_response_is_a_500(http2, handler):
    assert http2.request("GET", f"/{handler}").head()[0] == 500
    assert served(http2)


def test_a_body_cut_short_is_a_reset_of_its_stream_alone(http2, server, key):
    broken = http2.request("GET", f"/breaks_chunked?{key}")
    assert broken.head()[0] == 200
    journal(server, key)
    release(server, key)
    with pytest.raises(ConnectionResetError):
        broken.body()
    assert broken.code == ErrorCodes.INTERNAL_ERROR
    assert served(http2)


def test_a_reset_by_the_client_is_a_disconnect(http2, server, key):
    stream = http2.request("GET", f"/waits?{key}")
    journal(server, key)
    stream.reset()
    assert journal(server, key, 2) == ["waiting", "http.disconnect"]
    assert served(http2)


# Back-pressure


def test_an_app_that_does_not_receive_stops_the_client(http2, server, key):
    stream = http2.request("POST", f"/counts?{key}", end=False)
    sent = pushed(stream, bytes(65536), MOST)
    journal(server, key)
    release(server, key)
    stream.send(bytes(2 * MIB), end=True)
    assert stream.body() == str(sent + 2 * MIB).encode()


def test_bodies_that_nobody_reads_do_not_stop_another(http2, server, key):
    for _ in range(20):
        stream = http2.request("POST", f"/counts?{key}", end=False)
        pushed(stream, bytes(65536), MOST, 0.1)
    body = bytes(2 * MIB)
    stream = http2.request("POST", "/echo", end=False)
    stream.send(body, end=True)
    assert stream.body() == body


def test_send_waits_for_a_client_that_does_not_read_and_memory_stays_bounded(http2, server, key):
    http2.h2.increment_flow_control_window(64 * MIB)
    stream = http2.request("GET", f"/floods?{key}")
    sent = still(lambda: journal(server, key, 1)[0])
    assert sent * 65536 < 2 * MIB
    assert get(http2, "/hello") == b"hello"
    size = 0
    while size < (sent + 100) * 65536:
        size += len(stream.read())
    assert journal(server, key)[0] > sent
    stream.reset()
    assert journal(server, key, 3)[1:] == ["OSError", "http.disconnect"]


def test_a_response_is_whole_for_a_slow_client_that_never_ends_its_request(http2):
    stream = http2.request("POST", "/early", end=False)
    stream.head()
    eventually(lambda: len(stream.data) >= WINDOW // 2)
    assert stream.body() == bytes(300_000)


# WebSockets (RFC 8441)


def test_websockets_are_offered_in_the_settings(http2):
    assert http2.settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1


def test_many_websockets_and_exchanges_share_a_connection(sockets, key):
    with Http2(sockets) as http2:
        open_sockets = [Frames(http2, "/echo") for _ in range(50)]
        for number, ws in enumerate(open_sockets):
            ws.say(TEXT, f"number {number}".encode())
        for number, ws in enumerate(open_sockets):
            assert ws.read() == (TEXT, f"number {number}".encode())
        assert get(http2, f"/journal/0?{key}") == b"[]"


def test_a_websocket_that_is_not_read_leaves_the_others_alone(sockets, key):
    with Http2(sockets) as http2:
        http2.h2.increment_flow_control_window(64 * MIB)
        flood, echo = Frames(http2, f"/floods?{key}"), Frames(http2, "/echo")
        sent = still(lambda: journal(sockets, key)[0])
        assert sent * 65536 < 2 * MIB
        echo.say(TEXT, b"and on")
        assert echo.read() == (TEXT, b"and on")
        for number in range(sent + 10):
            assert flood.read()[1][:4] == number.to_bytes(4, "big")


def test_a_websocket_that_is_reset_is_1006_and_its_neighbours_stay(sockets, key):
    with Http2(sockets) as http2:
        first, second = Frames(http2, f"/farewell?{key}"), Frames(http2, "/echo")
        first.say(TEXT, b"last words")
        assert journal(sockets, key) == ["last words"]
        first.stream.reset()
        assert journal(sockets, key, 2)[1]["code"] == 1006
        second.say(TEXT, b"still here")
        assert second.read() == (TEXT, b"still here")


def test_a_websocket_that_closes_leaves_its_neighbours_alone(sockets):
    with Http2(sockets) as http2:
        first, second = Frames(http2, "/echo"), Frames(http2, "/echo")
        first.say(CLOSE, close_payload(3000))
        assert first.read() == (CLOSE, close_payload(3000))
        assert first.stream.read() == b""
        second.say(TEXT, b"still here")
        assert second.read() == (TEXT, b"still here")


def test_last_messages_reach_a_client_that_reads_late(sockets):
    with Http2(sockets) as http2:
        ws = Frames(http2, "/parting")
        eventually(lambda: len(ws.stream.data) >= WINDOW // 2)
        messages = [ws.read() for _ in range(10)]
        assert [size for _, size in ((op, len(data)) for op, data in messages)] == [20000] * 10
        assert ws.read() == (CLOSE, close_payload(4000, "that was all"))


def test_all_websockets_of_a_connection_get_1012_when_their_worker_is_gone(serve):
    server = serve("sockets:application", fresh=True)
    with Http2(server) as http2:
        both = [Frames(http2, "/who") for _ in range(2)]
        pids = {int(ws.read()[1]) for ws in both}
        for pid in pids:
            kill_quietly(pid)
        for ws in both:
            opcode, payload = ws.read()
            assert (opcode, payload[:2]) == (CLOSE, (1012).to_bytes(2, "big"))


def test_a_websocket_goes_on_with_another_worker(serve):
    server = serve("resuming:application", fresh=True, workers=2, websocket_resume=True)
    with Http2(server) as http2:
        ws = Frames(http2, "/names")
        first = json.loads(ws.read()[1])
        kill_quietly(first["pid"])
        second = json.loads(ws.read()[1])
        assert second["resume"] == {"attempt": 1, "reason": "died"}
        ws.say(TEXT, b"and on")
        assert ws.read() == (TEXT, f"{second['pid']} and on".encode())


def test_a_websockets_state_outlives_its_worker_and_not_its_stream(serve):
    server = serve("resuming:application", fresh=True, workers=2, websocket_resume=True)
    with Http2(server) as http2:
        ws = Frames(http2, "/counting")
        pid, _ = json.loads(ws.read()[1])
        ws.say(TEXT, b"one more")
        assert ws.read() == (TEXT, b"1")
        kill_quietly(pid)
        assert json.loads(ws.read()[1])[1] == {"messages": 1}
        assert json.loads(Frames(http2, "/counting").read()[1])[1] == {}
        assert kept(server) > 0
        ws.say(CLOSE, close_payload(1000))
        assert ws.read()[0] == CLOSE
        eventually(lambda: kept(server) == 0)
        assert Frames(http2, "/unwanted/close").status == 403
        eventually(lambda: kept(server) == 0)


def test_the_stop_closes_websockets_and_says_goaway(serve):
    server = serve("sockets:application", fresh=True)
    with Http2(server) as http2:
        ws = Frames(http2, "/echo")
        ws.say(TEXT, b"x")
        ws.read()
        server.stop()
        opcode, payload = ws.read()
        assert (opcode, payload[:2]) == (CLOSE, (1001).to_bytes(2, "big"))
        http2.wait(lambda: http2.goaway is not None)


def test_compression_is_not_negotiated(serve):
    server = serve("sockets:application", websocket_compress=True)
    with Http2(server) as http2:
        ws = Frames(http2, "/echo", ("sec-websocket-extensions", "permessage-deflate"))
        assert ws.status == 200
        assert "sec-websocket-extensions" not in dict(ws.headers)


def test_a_handshake_of_another_version_never_reaches_the_app(sockets, key):
    with Http2(sockets) as http2:
        stream = http2.request(
            "CONNECT", f"/held?{key}", ("sec-websocket-version", "12"),
            end=False, protocol="websocket",
        )  # fmt: skip
        assert stream.head()[0] == 400
        assert journal(sockets, key, 0) == []


@pytest.mark.parametrize("length", ["0", "5"])
def test_a_handshake_that_says_the_length_of_what_is_to_come_is_a_400(sockets, key, length):
    with Http2(sockets) as http2:
        stream = http2.websocket(f"/held?{key}", ("content-length", length))
        assert stream.head()[0] == 400
        assert journal(sockets, key, 0) == []
        assert Frames(http2, "/echo").status == 200


def test_another_protocol_than_websocket_is_a_501(sockets):
    with Http2(sockets) as http2:
        stream = http2.request("CONNECT", "/echo", end=False, protocol="connect-udp")
        assert stream.head()[0] == 501


def test_a_client_that_reads_nothing_and_answers_no_ping_is_cut(serve, key):
    server = serve("sockets:application", websocket_timeout=400, websocket_ping_interval=100)
    with Http2(server) as http2:
        Frames(http2, f"/floods?{key}")
        assert journal(server, key, 2)[1] == "gone"


# Connections


def test_a_client_of_an_open_stream_is_pinged(http2, server, key):
    stream = http2.request("GET", f"/parts?{key}")
    stream.head()
    # The message that the timer of this stream sends.
    server.node.eval(
        f"[Pid ! {{{{Pid, {stream.number}}}, ping}} || Pid <- ranch:procs(hornbeam, connections)]"
    )
    http2.wait(lambda: http2.pings)
    release(server, key)
    assert stream.body() == b"one two three"


def test_a_stream_more_than_the_limit_is_refused(serve, key):
    server = serve("exchanges:application", http2_max_streams=3)
    with Http2(server) as http2:
        assert http2.settings[SettingCodes.MAX_CONCURRENT_STREAMS] == 3
        http2.allow(10)
        opened = [http2.request("GET", f"/parts?{key}") for _ in range(3)]
        for stream in opened:
            assert stream.head()[0] == 200
        one_more = http2.request("GET", "/hello")
        http2.wait(lambda: one_more.over)
        assert one_more.code == ErrorCodes.REFUSED_STREAM
        release(server, key)
        for stream in opened:
            assert stream.body() == b"one two three"
        assert served(http2)


def cancel(http2: Http2, times: int) -> None:
    with contextlib.suppress(OSError, ProtocolError):
        for _ in range(times):
            http2.request("GET", "/hello").reset()


def test_a_client_may_cancel_as_many_streams_as_the_limit_less_one(serve):
    server = serve("exchanges:application", fresh=True, http2_max_resets=20)
    with Http2(server) as http2:
        for _ in range(19):
            stream = http2.request("GET", "/slow")
            http2.request("HEAD", "/hello").head()
            stream.reset()
        assert served(http2)
    assert server.info()["counters"]["http2_floods"] == 0


def test_a_client_that_cancels_too_many_streams_is_cut_and_counted(serve):
    server = serve("exchanges:application", fresh=True, http2_max_resets=20)
    with Http2(server) as http2:
        cancel(http2, 1000)
        http2.wait(lambda: http2.closed)
        assert http2.goaway == ErrorCodes.ENHANCE_YOUR_CALM
    eventually(lambda: server.info()["counters"]["http2_floods"] > 0)
    assert httpx.get(f"{server.http}/hello").text == "hello"


def test_a_rapid_reset_leaves_the_server_to_the_others(serve):
    server = serve("exchanges:application", fresh=True)
    attackers = [Http2(server) for _ in range(5)]
    with Http2(server) as http2:
        for attacker in attackers:
            cancel(attacker, 3000)
            assert served(http2)
        for attacker in attackers:
            attacker.wait(lambda attacker=attacker: attacker.closed)
            attacker.close()
        assert server.node.eval("erlang:memory(total)") < 200 * MIB
        # What the app was asked for and need not answer is over.
        eventually(lambda: server.info()["streams"] == 0)


def ping(http2: Http2, times: int) -> None:
    with contextlib.suppress(OSError, ProtocolError), http2.changed:
        for _ in range(times):
            http2.h2.ping(b"12345678")
            http2.flush()


def test_frames_within_the_limit_are_taken_and_a_flood_is_cut_and_counted(serve):
    server = serve("exchanges:application", fresh=True, http2_max_frames=1000)
    with Http2(server) as http2:
        ping(http2, 900)
        assert served(http2)
        ping(http2, 1000)
        http2.wait(lambda: http2.closed)
        assert http2.goaway == ErrorCodes.ENHANCE_YOUR_CALM
    eventually(lambda: server.info()["counters"]["http2_floods"] == 1)


def test_http1_and_http2_are_served_on_one_port(server):
    with Http2(server) as http2:
        assert served(http2)
        assert httpx.get(f"{server.http}/hello").text == "hello"


def test_pings_of_a_websocket_go_on_over_http2(serve):
    server = serve("sockets:application", websocket_timeout=2000, websocket_ping_interval=100)
    with Http2(server) as http2, RawWebSocket(server, "/echo") as other:
        ws = Frames(http2, "/echo")
        assert ws.read()[0] == PING
        assert other.read()[0] == PING
