"""A test's way into a worker: Python that is evaluated in a connection of a real server.

Knows test/apps/console.py, which is at the other end.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import textwrap
from collections import deque
from typing import Any

import httpx
from clients import BINARY, CLOSE, PING, TEXT, RawWebSocket
from harness import DEADLINE, Server, eventually

ANSWER = b"\0answer:"


class Console(RawWebSocket):
    """One WebSocket, in whose handler calls of it are evaluated.

    What the socket brings besides the answers waits in `pushed`.
    """

    def __init__(self, server: Server, path: str = "/console") -> None:
        super().__init__(server, path)
        self.server = server
        self.pushed: deque[str | bytes] = deque()
        self.pid = self("os.getpid()")

    def __call__(self, source: str, **names: Any) -> Any:
        """Evaluate statements with some names; return the value of the last, or raise."""
        self.ask(source, **names)
        return self.answer()

    def ask(self, source: str, **names: Any) -> None:
        """Send what is to be evaluated and do not wait for the answer."""
        self.frame(BINARY, request(source, names))

    def answer(self) -> Any:
        while not is_answer(payload := self.next_message()):
            self.pushed.append(payload)
        return outcome(payload.removeprefix(ANSWER))

    def next_pushed(self) -> str | bytes:
        """Wait for the next message that is no answer."""
        return self.pushed.popleft() if self.pushed else self.next_message()

    def all_pushed(self) -> list[str | bytes]:
        """Return what has been pushed before an answer that is asked for now."""
        self("None")
        pushed = list(self.pushed)
        self.pushed.clear()
        return pushed

    def next_message(self) -> Any:
        """Wait for a message; text is a str, binary is bytes."""
        while True:
            opcode, payload = self.read()
            if opcode in (TEXT, BINARY):
                return payload.decode() if opcode == TEXT else payload
            assert opcode == PING, f"a message was due, not {opcode} {payload!r}"

    def leave(self) -> None:
        """Close as a client should."""
        self.frame(CLOSE, struct.pack(">H", 1000))
        self.read_close()
        self.socket.close()

    def vanish(self) -> None:
        """Break the connection: no close frame, and the system says that it was reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def kill_worker(self) -> None:
        """Kill the worker as `kill -9` does and wait until another has taken its place."""
        count = len(self.server.workers())
        os.kill(self.pid, signal.SIGKILL)
        eventually(lambda: self.pid not in ready(self.server, count))


def ready(server: Server, count: int) -> list[int]:
    """Wait until so many workers are ready; name their processes."""

    def all_ready() -> list[int]:
        pids = [worker["os_pid"] for worker in server.workers() if worker["state"] == "ready"]
        return pids if len(pids) == count else []

    return eventually(all_ready)


def posted(server: Server, source: str, path: str = "/console", **names: Any) -> Any:
    """Evaluate in an HTTP exchange."""
    body = request(source, names)
    answer = httpx.post(f"{server.http}{path}", content=body, timeout=DEADLINE)
    return outcome(answer.raise_for_status().content)


def request(source: str, names: dict[str, Any]) -> bytes:
    return pickle.dumps((textwrap.dedent(source).strip(), names))


def is_answer(payload: str | bytes) -> bool:
    return isinstance(payload, bytes) and payload.startswith(ANSWER)


def outcome(answer: bytes) -> Any:
    """Return the value, or raise the exception, that an app has answered with."""
    succeeded, value = pickle.loads(answer)
    if succeeded:
        return value
    kind, args, attributes = value
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    raise error
