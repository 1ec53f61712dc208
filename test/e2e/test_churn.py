"""Property: what belongs to connections agrees with the connections, whatever ends them.

Sockets come, close, break, and lose their worker to `kill -9`, in an order that a seed gives;
HORNBEAM_CHURN sets for how many seconds, HORNBEAM_SEED repeats a run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import struct
import time
from typing import Any

from clients import CLOSE, RawWebSocket
from harness import Server, eventually
from terms import text

SECONDS = float(os.environ.get("HORNBEAM_CHURN", "20"))
SEED = int(os.environ.get("HORNBEAM_SEED", random.randrange(2**32)))
AT_MOST = 200


class Crowd:
    """The sockets that ought to be counted, and ways to change them."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name
        self.random = random.Random(SEED)
        self.sockets: list[tuple[RawWebSocket, int]] = []
        self.killed: set[int] = set()
        self.done = dict.fromkeys(("join", "leave", "vanish", "kill"), 0)

    def step(self) -> None:
        (what,) = self.random.choices(list(self.done), [60, 25, 25, 0.05])
        getattr(self, what)()
        self.done[what] += 1

    def join(self) -> None:
        """Open a socket, unless there are many or its worker has just been killed."""
        if len(self.sockets) == AT_MOST:
            return self.leave()
        try:
            ws = RawWebSocket(self.server, f"/join/{self.name}")
            self.sockets.append((ws, int(ws.read_message())))
        except (AssertionError, EOFError, ConnectionError):
            assert self.killed, "refused while every worker lives"

    def take(self) -> RawWebSocket | None:
        if not self.sockets:
            return None
        return self.sockets.pop(self.random.randrange(len(self.sockets)))[0]

    def leave(self) -> None:
        """Close a socket and do not wait for the answer."""
        if ws := self.take():
            with contextlib.suppress(ConnectionError):
                ws.frame(CLOSE, struct.pack(">H", 1000))
            ws.socket.close()

    def vanish(self) -> None:
        """Break a connection."""
        if ws := self.take():
            ws.socket.close()

    def kill(self) -> None:
        """Kill a worker that has sockets."""
        living = {pid for _, pid in self.sockets} - self.killed
        if living:
            pid = self.random.choice(sorted(living))
            os.kill(pid, signal.SIGKILL)
            self.killed.add(pid)

    def expected(self) -> tuple[int, int]:
        """Forget the sockets of killed workers; count the others."""
        for ws, pid in self.sockets:
            if pid in self.killed:
                ws.socket.close()
        self.sockets = [(ws, pid) for ws, pid in self.sockets if pid not in self.killed]
        return len(self.sockets), len(self.sockets)

    def counted(self) -> tuple[Any, int]:
        name = text(self.name)
        return self.server.node.eval(
            f"{{hornbeam_state:get({{{name}, {text('count')}}}, 0),"
            f" length(hornbeam_state:keys({{{name}, {text('member')}}}))}}"
        )

    def check(self) -> None:
        expected = self.expected()
        try:
            eventually(lambda: self.counted() == expected)
        except TimeoutError:
            raise AssertionError(
                f"{self.counted()} are counted, there are {expected}; {self.done}, seed {SEED}"
            ) from None


def test_connection_scoped_state_equals_live_sockets_under_churn(serve, key):
    server = serve("census:application", workers=3, fresh=True)
    crowd = Crowd(server, key)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for _ in range(crowd.random.randrange(1, 100)):
            crowd.step()
        crowd.check()
    crowd.kill()
    crowd.check()
    while crowd.sockets:
        crowd.leave()
    crowd.check()
    assert crowd.killed
