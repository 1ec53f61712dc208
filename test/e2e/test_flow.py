"""Nothing drowns: many clients and apps that do not read, beside honest ones, in one worker.

Each one alone stands in test_websocket.py and test_http.py.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from clients import BINARY, RawHTTP, RawWebSocket, frame, journal
from harness import eventually
from websockets.asyncio.client import connect

MIB = 1 << 20
GIB = 1 << 30

EACH = 50
HONEST = 100

LONGEST_MAILBOX = """
lists:max([case erlang:process_info(P, message_queue_len) of
    {message_queue_len, N} -> N; undefined -> 0 end || P <- erlang:processes()])
"""


def beam(server) -> int:
    return server.node.eval("erlang:memory(total)")


def rss(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def app_floods_a_websocket(server, key) -> RawWebSocket:
    return RawWebSocket(server, f"/floods?{key}")


def app_floods_a_response(server, key) -> RawHTTP:
    raw = RawHTTP(server)
    raw.request("GET", f"/http_floods?{key}")
    return raw


def client_floods_a_websocket(server, key) -> RawWebSocket:
    return RawWebSocket(server, f"/stops_reading?{key}")


def client_floods_a_request(server, key) -> RawHTTP:
    raw = RawHTTP(server)
    raw.request("POST", f"/counts?{key}", f"content-length: {GIB}")
    return raw


FLOODS = [
    app_floods_a_websocket,
    app_floods_a_response,
    client_floods_a_websocket,
    client_floods_a_request,
]
PUSHED = {
    client_floods_a_websocket: frame(BINARY, bytes(65536)),
    client_floods_a_request: bytes(65536),
}


def push_until_all_are_stuck(floods: list[tuple[RawHTTP, bytes]]) -> list[int]:
    """Write on all sockets until none has taken anything for a while; return what each took.

    Bounded: 64 MiB for one of them would be far too much already.
    """
    sent = {raw.socket: 0 for raw, _ in floods}
    chooser = selectors.DefaultSelector()
    for raw, data in floods:
        raw.socket.setblocking(False)
        chooser.register(raw.socket, selectors.EVENT_WRITE, data)
    while ready := chooser.select(1.0):
        for key, _ in ready:
            data, done = key.data, sent[key.fileobj]
            try:
                sent[key.fileobj] = done + key.fileobj.send(data[done % len(data) :])
            except BlockingIOError:
                continue
            assert sent[key.fileobj] < 64 * MIB
    return list(sent.values())


@pytest.fixture
def drowning(serve, key) -> Iterator[Callable]:
    """A server in one worker of which everybody in a list of floods tries to drown."""
    with ExitStack() as open_sockets:

        def start(kinds):
            server = serve("drowning:application", fresh=True)
            floods = [
                (open_sockets.enter_context(kind(server, f"{key}-{kind.__name__}-{n}")), kind)
                for n in range(EACH)
                for kind in kinds
            ]
            pushed = [(raw, PUSHED[kind]) for raw, kind in floods if kind in PUSHED]
            push_until_all_are_stuck(pushed)
            return server

        yield start


async def echoes(server, count: int, rounds: int) -> float:
    """Let honest clients echo, all at the same time; return the slowest echo in seconds."""
    async with asyncio.timeout(30):
        sockets = await asyncio.gather(*[connect(f"{server.ws}/echo") for _ in range(count)])
        slowest = 0.0
        for number in range(rounds):
            begun = time.monotonic()
            await asyncio.gather(*[ws.send(f"{number}") for ws in sockets])
            assert {await ws.recv() for ws in sockets} == {f"{number}"}
            slowest = max(slowest, time.monotonic() - begun)
        await asyncio.gather(*[ws.close() for ws in sockets])
        return slowest


@pytest.mark.parametrize("kind", FLOODS, ids=lambda kind: kind.__name__)
async def test_fifty_of_a_kind_cost_a_bounded_memory(drowning, kind):
    server = drowning([kind])
    (pid,) = server.worker_pids()
    # 1 GiB each is on its way or would be: a socket's buffers and a window are held of it.
    assert beam(server) < 250 * MIB
    assert rss(pid) < 150 * MIB
    assert await echoes(server, 10, 3) < 10


async def test_two_hundred_that_do_not_read_leave_room_for_the_honest(drowning):
    server = drowning(FLOODS)
    (pid,) = server.worker_pids()
    await echoes(server, HONEST, 20)
    assert beam(server) < 500 * MIB
    assert rss(pid) < 250 * MIB
    # Nothing piles up in front of a process.
    assert eventually(lambda: server.node.eval(LONGEST_MAILBOX) < 1000)
    assert journal(server, "nobody", 0) == []
