"""The messages of one live connection, as an operator sees them; each engine, and HTTP/2."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from clients import RawWebSocket
from harness import DEADLINE, Server, eventually
from operators import COMMAND, is_traced, listed, of, only
from sources import Source
from terms import Atom
from visitors import environment, socket_of

WAYS = ["plain", "cowboy", "http2"]


@pytest.fixture
def serve(reached, way):
    """Serve for clients that come by each of the ways."""
    engine = Atom("cowboy" if way == "cowboy" else "hornbeam")
    return functools.partial(reached, http_engine=engine)


@pytest.fixture
def server(serve) -> Server:
    return serve("sockets:application", workers=1)


class Trace:
    """A `hornbeam trace` that runs."""

    def __init__(self, server: Server, *words: object) -> None:
        number = only(server)
        self.process = subprocess.Popen(
            [
                *COMMAND,
                "trace",
                str(number),
                "--json",
                "--socket",
                socket_of(server),
                *map(str, words),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=environment(PYTHONUNBUFFERED="1"),
        )
        eventually(lambda: is_traced(server))

    def note(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def tracing(server: Server, *words: object) -> Iterator[Trace]:
    trace = Trace(server, *words)
    try:
        yield trace
    finally:
        trace.close()


def test_messages_of_a_socket_are_shown_as_they_come_and_go(server):
    with RawWebSocket(server, "/echo") as ws, tracing(server, "--bodies", 5) as trace:
        ws.frame(1, "größe, größer".encode())
        assert ws.read_message() == "größe, größer".encode()
        come, gone = trace.note(), trace.note()
        assert (come["direction"], come["type"], come["size"]) == ("in", "text", 17)
        assert (gone["direction"], gone["type"], gone["size"]) == ("out", "text", 17)
        assert come["body"] in ("grö", "größ") or "base64" in come["body"]
        assert abs(come["at"] / 1e6 - time.time()) < 60
        ws.frame(2, bytes(70_000))
        assert len(ws.read_message()) == 70_000
        assert [trace.note()["size"], trace.note()["size"]] == [70_000, 70_000]
        of(server, "kick", only(server), "--code", 4000)
        closing = trace.note()
        assert (closing["direction"], closing["type"]) == ("out", "close")
        assert trace.note()["ended"] == ["closed", 4000]
        assert trace.process.wait(DEADLINE) == 0


def test_a_trace_is_lines_for_a_person(server):
    with RawWebSocket(server, "/echo") as ws:
        number = only(server)
        process = subprocess.Popen(
            [*COMMAND, "trace", str(number), "-n", "2", "--bodies", "--socket", socket_of(server)],
            stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        eventually(lambda: is_traced(server))
        ws.frame(1, b"a\x1b[31mb")
        out, _ = process.communicate(timeout=DEADLINE)
        first, second, last = out.splitlines()
        assert "<- text" in first and r"a\x1b[31mb" in first
        assert "-> text" in second
        assert last == "as many messages as were wanted"


def test_an_event_stream_is_traced(serve, way, key):
    if way == "http2":
        pytest.skip("its client here speaks HTTP/1.1")
    server = serve("eventful:application", workers=1)
    with Source(server, f"/waits/said?{key}") as source:
        source.event()
        number = eventually(lambda: listed(server))[0]["id"]
        with tracing(server, "--bodies", 100, "--seconds", 60) as trace:
            of(server, "kick", number)
            ended = trace.note()
            while "ended" not in ended:
                ended = trace.note()
            assert ended["ended"] == ["closed", "kicked"]


def test_a_trace_ends_with_who_looks(server):
    with RawWebSocket(server, "/echo") as ws:
        with tracing(server) as trace:
            trace.process.send_signal(signal.SIGKILL)
            eventually(lambda: not is_traced(server))
        ws.frame(1, b"hello")
        assert ws.read_message() == b"hello"
        with tracing(server, "--seconds", 1) as trace:
            assert trace.note()["ended"] == "seconds"
        ws.frame(1, b"hello")
        assert ws.read_message() == b"hello"


def test_a_flood_is_cut_and_what_is_not_shown_is_counted(server):
    """Who looks stands still: the socket does not, and the node keeps no more than a window."""
    with RawWebSocket(server, "/echo") as ws, tracing(server, "-n", 100_000) as trace:
        trace.process.send_signal(signal.SIGSTOP)
        for _ in range(40):
            for _ in range(250):
                ws.frame(1, b"x" * 100)
            for _ in range(250):
                ws.read_message()
        trace.process.send_signal(signal.SIGCONT)
        of(server, "kick", only(server))
        shown = lost = 0
        while "ended" not in (note := trace.note()):
            shown += 1
            lost += note["dropped"]
        assert shown + note["dropped"] == 20_001
        assert lost <= note["dropped"]
        assert note["dropped"] > 0
