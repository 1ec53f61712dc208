"""One HTTP response as an app sends it: to a request, or to refuse a WebSocket.

Knows the order of start and body, the promise of content-length, and that a long body goes in
parts; must not know which events carry them.

    WAITING ──start──► STARTED ──body──► SENDING ──last body──► COMPLETE
                          └───────────last body───────────────────┘

BROKEN is a body whose sending was cancelled half-way: it can be neither resumed nor ended.
"""

from enum import Enum, auto
from typing import NoReturn

from hornbeam_erlang._worker import wire
from hornbeam_erlang._worker.asgi import Event
from hornbeam_erlang._worker.headers import (
    check_bytes,
    check_headers,
    check_status,
    content_length,
)
from hornbeam_erlang._worker.stream import Stream
from hornbeam_erlang._worker.wire import Headers

# One body message on the wire: long enough to be cheap, short enough to share the pipe.
PART = 65_536

# The body that an app gives with these is dropped (RFC 9110, 6.4.1 and 15.3.6).
BODILESS = frozenset({204, 205, 304})


class State(Enum):
    WAITING = auto()
    STARTED = auto()
    SENDING = auto()
    COMPLETE = auto()
    BROKEN = auto()


# To look a state up by its class costs more than the rest of a comparison.
_WAITING, _STARTED, _SENDING, _COMPLETE, _BROKEN = State


class Response:
    """The response of one stream."""

    __slots__ = ("_drops", "_has_length", "_head", "_left", "_to_head", "state")

    def __init__(self, *, to_head: bool = False) -> None:
        self.state = _WAITING
        self._to_head = to_head
        self._head: tuple[int, Headers] = (0, [])
        self._has_length = False
        self._left: int | None = None
        self._drops = to_head

    @property
    def complete(self) -> bool:
        return self.state is _COMPLETE

    def start(self, event: Event) -> None:
        """Keep status and headers until the first body: ASGI wants them held back."""
        if self.state is not _WAITING:
            raise RuntimeError(f"{event['type']} a second time")
        status = check_status(event["status"])
        headers = check_headers(event.get("headers") or ())
        length = content_length(headers)
        self._has_length = length is not None
        self._drops = self._to_head or status in BODILESS
        self._left = None if self._drops else length
        self._head = (status, headers)
        self.state = _STARTED

    async def body(self, event: Event, stream: Stream) -> None:
        """Send the next piece of the body, and before the first the head."""
        state = self.state
        if state is not _STARTED and state is not _SENDING:
            self._refuse(event)
        body = check_bytes("body", event.get("body", b""))
        more = bool(event.get("more_body", False))
        size = len(body)
        if self._left is not None:
            self._count(size, more)
        elif state is _STARTED and not more and not self._has_length:
            self._tell_length(size)
        if self._drops:
            body, size = b"", 0
        if size <= PART and stream.pay_now(size):
            stream.write(self._message(stream.number, body, more))
        else:
            await self._send(body, more, stream)

    def _refuse(self, event: Event) -> NoReturn:
        if self.state is _WAITING:
            raise RuntimeError(f"{event['type']} before the start of the response")
        if self.complete:
            raise RuntimeError(f"{event['type']} after the end of the response")
        raise RuntimeError(f"{event['type']} after one that was cancelled half-way")

    def _tell_length(self, size: int) -> None:
        """Say how long a body is that is all there, where it is not seen as one on the wire."""
        status, headers = self._head
        if status not in BODILESS and (self._to_head or size > PART):
            headers.append((b"content-length", str(size).encode()))

    def _count(self, size: int, more: bool) -> None:
        assert self._left is not None
        if size > self._left:
            raise RuntimeError(f"the body is {size - self._left} bytes longer than promised")
        if size < self._left and not more:
            raise RuntimeError(f"the body is {self._left - size} bytes shorter than promised")
        self._left -= size

    async def _send(self, body: bytes, more: bool, stream: Stream) -> None:
        size = len(body)
        for start in range(0, size or 1, PART):
            part = body[start : start + PART]
            try:
                await stream.pay(len(part))
            except BaseException:
                self.state = _BROKEN
                raise
            stream.write(self._message(stream.number, part, more or start + PART < size))

    def _message(self, number: int, part: bytes, more: bool) -> bytes:
        """Return the next part as a message, and go on to the state that it leads to."""
        starting = self.state is _STARTED
        self.state = _SENDING if more else _COMPLETE
        if starting:
            return wire.encode_response_start(number, *self._head, part, more)
        return wire.encode_response_body(number, part, more)
