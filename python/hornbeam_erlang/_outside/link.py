"""The connection to a node: whoever has something to send writes it, one thread reads.

Knows a socket and the wire's end; must not know what a message is for: those that come go to
handlers by their codes. What is sent is in the system's hands when `put` returns, unless the node
does not read: so it is not lost with a process that ends at once.
"""

import contextlib
import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any

from hornbeam_erlang._outside.greeting import Greeting
from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.packets import Packet
from hornbeam_erlang.exceptions import ProtocolError

READ_SIZE = 1 << 18

_log = logging.getLogger("hornbeam.wire")

Handlers = Mapping[int, Callable[[Packet], None]]


class Link:
    """One connection, from its greeting on; safe from any thread."""

    def __init__(self, greeting: Greeting) -> None:
        self._socket = greeting.socket
        # What is sent is put there, where `put` calls.
        self.endpoint = greeting.endpoint
        # Who holds it, and what finalizers have put meanwhile that run in the same thread.
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._late: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._unwritten: memoryview | None = None
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._buffer = bytearray(READ_SIZE)
        self._view = memoryview(self._buffer)
        self._alarms: set[LinkAlarm] = set()
        self._is_closing = False
        self.thread: int | None = None
        self._thread: threading.Thread | None = None

    def start(self, handlers: Handlers, on_end: Callable[[], None]) -> None:
        """Start to read; `on_end` is called once, at the end of the connection."""
        self._handlers = handlers
        self._thread = threading.Thread(
            target=self._run, args=(on_end,), name="hornbeam-visitor", daemon=True
        )
        self._thread.start()
        self.thread = self._thread.ident

    def put(self, send: Callable[..., None], *args: Any) -> None:
        """Have `send` called while nobody else uses the endpoint, and write what that has sent."""
        if self._holder == get_ident():  # a finalizer, in the middle of another message
            self._late.append((send, args))
            return
        with self._lock:
            self._holder = get_ident()
            try:
                send(*args)
                while self._late:
                    late, its = self._late.popleft()
                    late(*its)
                self._write()
            finally:
                self._holder = None
        if self._late:
            self.put(_nothing)

    @property
    def is_held_here(self) -> bool:
        """Tell whether the running code is called by what this thread sends."""
        return self._holder == get_ident()

    def call_later(self, seconds: float, act: Callable[[], None]) -> "LinkAlarm":
        """Have the reading thread do something at a time, unless it is cancelled."""
        alarm = LinkAlarm(time.monotonic() + seconds, act, self._alarms.discard)
        self._alarms.add(alarm)
        self._wake()
        return alarm

    def close(self, seconds: float) -> None:
        """End the connection, and wait for that; in any other thread than the reading one."""
        self._is_closing = True
        self._wake()
        if self._thread is not None and self.thread != get_ident():
            self._thread.join(seconds)

    def abandon(self) -> None:
        """Close what is open here; in a process that was forked, the connection is its parent's."""
        for end in (self._socket, self._wake_in, self._wake_out):
            end.close()

    def _write(self) -> None:
        """Write what credit allows and the socket takes; the reading thread does the rest."""
        while data := self._unwritten or self.endpoint.take():
            try:
                written = self._socket.send(data)
            except BlockingIOError:
                written = 0
            except OSError:
                return  # the reading thread hears of the end
            if written < len(data):
                self._unwritten = memoryview(data)[written:]
                self.endpoint.take_turns()
                if get_ident() != self.thread:
                    self._wake()
                return
            self._unwritten = None

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is about to look, or has ended
            self._wake_in.send(b"\0")

    # The reading thread

    def _run(self, on_end: Callable[[], None]) -> None:
        try:
            self._read_on()
        except OSError:
            pass
        except Exception:  # whatever it is, what follows cannot be trusted
            _log.exception("the connection to the node cannot go on")
        finally:
            on_end()
            with self._lock:
                self.abandon()

    def _read_on(self) -> None:
        """Take what comes until the connection ends or is closed."""
        poll = select.poll()
        poll.register(self._wake_out, select.POLLIN)
        poll.register(self._socket, select.POLLIN)
        woken = self._wake_out.fileno()
        while not self._is_closing:
            for fd, events in poll.poll(self._milliseconds()):
                if fd == woken:
                    self._wake_out.recv(4096)
                elif events & ~select.POLLOUT:
                    self._read()
            self._ring()
            if self._unwritten is not None:
                self.put(_nothing)
            wants = select.POLLIN | (select.POLLOUT if self._unwritten is not None else 0)
            poll.modify(self._socket, wants)

    def _read(self) -> None:
        try:
            size = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return
        if size == 0:
            raise ConnectionError("the server has ended")
        for message in self.endpoint.receive(self._view[:size]):
            packets.check(message)
            if message[0] == packets.CREDIT:
                self.put(self._add_credit, message[2])
            elif (handle := self._handlers.get(message[0])) is not None:
                handle(message)
            else:
                raise ProtocolError(f"message {message[0]} is none for a visitor")

    def _add_credit(self, size: int) -> None:
        self.endpoint.credit += size

    def _milliseconds(self) -> float | None:
        """Return how long to wait at most: until the first alarm."""
        if not self._alarms:
            return None
        first = min(alarm.when for alarm in list(self._alarms))
        return max(first - time.monotonic(), 0) * 1000

    def _ring(self) -> None:
        now = time.monotonic()
        for alarm in [alarm for alarm in list(self._alarms) if alarm.when <= now]:
            alarm.cancel()
            alarm.act()


def _nothing() -> None:
    return None


class LinkAlarm:
    """What is done at a time, unless it is cancelled."""

    __slots__ = ("_forget", "act", "when")

    def __init__(
        self, when: float, act: Callable[[], None], forget: Callable[["LinkAlarm"], None]
    ) -> None:
        self.when = when
        self.act = act
        self._forget = forget

    def cancel(self) -> None:
        self._forget(self)
