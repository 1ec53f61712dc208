"""The BEAM's side of the wire for the tests: starts a real worker on real pipes.

Speaks msgpack by itself, without the package's own packets.py: what both got wrong in the same
way would otherwise not be seen.
"""

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
from hornbeam_erlang._wire.values import unpack
from node import Node

APPS = Path(__file__).parent / "apps"

CODES = {
    "start": 1,
    "open_http": 2,
    "open_websocket": 3,
    "request_body": 4,
    "receive_text": 5,
    "receive_bytes": 6,
    "disconnect": 7,
    "accepted": 8,
    "credit": 9,
    "reply": 10,
    "stop": 11,
    "event": 12,
    "call": 13,
    "more": 14,
    "cancel": 15,
    "heartbeat": 16,
    "move": 17,
    "reopen_websocket": 18,
    "flush": 19,
    "tell_failed": 20,
    "refused": 21,
    "hello": 33,
    "ready": 34,
    "failed": 35,
    "response_start": 36,
    "response_body": 37,
    "accept": 38,
    "send_text": 39,
    "send_bytes": 40,
    "close": 41,
    "ended": 42,
    "log": 43,
    "op": 44,
    "stopped": 45,
    "result": 46,
    "item": 47,
    "moved": 49,
    "flushed": 50,
    "multicast_text": 51,
    "multicast_bytes": 52,
    "tell": 53,
    "event_stream": 54,
    "response": 55,
}
NAMES = {code: name for name, code in CODES.items()}

# Their encoders take no stream.
ABOUT_THE_WORKER = (
    *("hello", "ready", "failed", "log", "stopped", "result", "item", "heartbeat"),
    *("multicast_text", "multicast_bytes"),
)

CONFIG = {
    "app": "echo:app",
    "interface": "asgi",
    "threads": None,
    "pythonpath": [str(APPS)],
    "root_path": "",
    "lifespan": "auto",
    "loop": "auto",
    "worker": "test-1",
    "stream_window": [262_144, 256],
    "worker_window": 8 << 20,
    "tell_window": 2048,
    "max_message": 16 << 20,
    "op_timeout": 20_000,
    "hang_timeout": None,
    "pubsub_queue_messages": 1000,
    "pubsub_queue_bytes": 1 << 20,
    "limit_response_head": 65_536,
    "limit_response_fields": 256,
    "resume": False,
}

# Long enough for a loaded machine; a test that waits for it has failed.
DEADLINE = 20.0

Message = tuple[Any, ...]


class Gone(Exception):
    """The worker closed its end."""


def _high(fd: int) -> int:
    """Move a descriptor out of the way of 3 and 4."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64)
    os.close(fd)
    return moved


class Pipes:
    """The BEAM's ends of a worker's two pipes."""

    def __init__(self, to_worker: int, from_worker: int) -> None:
        self.to_worker = to_worker
        self.from_worker = from_worker
        self._unread = b""

    def close(self) -> None:
        for fd in (self.to_worker, self.from_worker):
            if fd >= 0:
                os.close(fd)
        self.to_worker = self.from_worker = -1

    def send(self, name: str, stream: int, *fields: Any) -> None:
        self.send_bytes(msgpack.packb([CODES[name], stream, *fields]))

    def send_bytes(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.to_worker, data) :]

    def packets(self, data: bytes) -> Iterator[bytes]:
        """Take bytes of the worker; yield the messages that are now whole."""
        self._unread += data
        while len(self._unread) >= 4:
            (length,) = struct.unpack_from(">I", self._unread)
            if len(self._unread) < 4 + length:
                break
            packet = self._unread[4 : 4 + length]
            self._unread = self._unread[4 + length :]
            yield packet


class Beam(Pipes):
    """One worker process and both of its pipes."""

    def __init__(self, *, automatic_credit: bool = True, ops: bool = False, **options: Any) -> None:
        self.logs: list[tuple[int, str, str]] = []
        self.written = 0
        # What answers ops; without it they come to the test.
        self.node = Node(self) if ops else None
        self.acknowledged = 0
        self._credit = automatic_credit
        self._messages: deque[Message] = deque()
        worker_in, to_worker = (_high(fd) for fd in os.pipe())
        from_worker, worker_out = (_high(fd) for fd in os.pipe())
        super().__init__(to_worker, from_worker)

        def use_pipes() -> None:
            os.dup2(worker_in, 3)
            os.dup2(worker_out, 4)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "hornbeam_erlang._worker"],
            preexec_fn=use_pipes,  # noqa: PLW1509 - descriptors 3 and 4, before anything runs
            close_fds=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        os.close(worker_in)
        os.close(worker_out)

    def __enter__(self) -> "Beam":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.close()

    # Out

    def start(self, app: str, **config: Any) -> "Beam":
        """Take `hello` and send `start`."""
        hello = self.expect("hello")
        assert hello[2] == 1
        self.send("start", 0, CONFIG | {"app": app} | config)
        return self

    def run(self, app: str, **config: Any) -> "Beam":
        """Start an app and wait until it is ready."""
        self.start(app, **config).expect("ready")
        return self

    def open_websocket(self, stream: int, path: bytes = b"/", **scope: Any) -> None:
        self.send("open_websocket", stream, scope_array("ws", path, **scope))

    def open_http(
        self, stream: int, path: bytes = b"/", body: bytes = b"", more: bool = False, **scope: Any
    ) -> None:
        self.send("open_http", stream, scope_array("http", path, **scope), body, more)

    def accept(self, stream: int, path: bytes = b"/", **scope: Any) -> Message:
        """Open a WebSocket and let the app accept it."""
        self.open_websocket(stream, path, **scope)
        accept = self.expect("accept", stream)
        self.send("accepted", stream)
        return accept

    # In

    def next(self, deadline: float = DEADLINE) -> Message:
        """Return the next message that is no log, as (name, stream, field, …)."""
        end = time.monotonic() + deadline
        while not self._messages:
            self._read(end)
        return self._messages.popleft()

    def expect(self, name: str, stream: int = 0) -> Message:
        message = self.next()
        assert message[:2] == (name, stream), f"{message} instead of {name} on {stream}"
        return message

    def expect_log(self, part: str) -> tuple[int, str, str]:
        """Wait until a log line contains `part`; other messages stay where they are."""
        end = time.monotonic() + DEADLINE
        while True:
            for line in self.logs:
                if part in line[2]:
                    return line
            self._read(end)

    def expect_end(self) -> int:
        """Read until the worker has closed its pipe; return its exit status."""
        end = time.monotonic() + DEADLINE
        try:
            while True:
                self._read(end)
        except Gone:
            return self.process.wait(DEADLINE)

    def read(self) -> None:
        """Read once; what is a message stays for `next`."""
        self._read(time.monotonic() + DEADLINE)

    def _read(self, end: float) -> None:
        left = end - time.monotonic()
        if left <= 0 or not select.select([self.from_worker], [], [], left)[0]:
            raise TimeoutError(f"nothing came from the worker; its log: {self.logs}")
        data = os.read(self.from_worker, 1 << 20)
        if not data:
            raise Gone
        self.written += len(data)
        if self._credit:
            with contextlib.suppress(BrokenPipeError):  # it has already gone
                self.send("credit", 0, len(data), 0)
        for packet in self.packets(data):
            self._take(packet)

    def _take(self, data: bytes) -> None:
        code, stream, *fields = msgpack.unpackb(data)
        if NAMES[code] == "log":
            level, logger, text = fields
            self.logs.append((level, logger, text))
        elif NAMES[code] in ("multicast_text", "multicast_bytes"):
            streams, payload = fields
            name = NAMES[code].replace("multicast", "send")
            self._messages += [(name, stream, payload) for stream in streams]
        elif NAMES[code] == "response":
            # Whether both came in one is of no concern but to who looks for it.
            self._take(msgpack.packb((CODES["response_start"], stream, *fields, False)))
            self._take(msgpack.packb((CODES["ended"], stream, None, "", "")))
        elif self.node is None or not self._answer(data):
            if NAMES[code] == "tell" and self._credit:
                with contextlib.suppress(BrokenPipeError):
                    self.send("credit", 0, 0, 1)
            self._messages.append((NAMES[code], stream, *fields))

    def _answer(self, data: bytes) -> bool:
        """Let the node answer what it is asked; tell whether it was."""
        code, stream, *fields = unpack(data)
        match NAMES[code]:
            case "op":
                self.node.op(stream, *fields)
            case "tell":
                self.node.tell(stream, *fields)
            case "result":
                return self.node.result(*fields)
            case "item":
                return self.node.item(*fields)
            case "credit" if stream == 0:
                self.acknowledged += fields[0]
            case "ended":
                self.node.memory.disconnect(stream)
                return False
            case _:
                return False
        return True


def scope_array(
    scheme: str,
    path: bytes,
    *,
    method: str = "GET",
    query: bytes = b"",
    headers: list[tuple[bytes, bytes]] | None = None,
    version: str = "1.1",
    client: Any = ("127.0.0.1", 50000),
    server: Any = ("127.0.0.1", 8000),
    connect: dict[Any, Any] | None = None,
) -> list[Any]:
    return [version, scheme, method, path, query, headers or [], client, server, connect]
