"""One HTTP response as an app sends it: to a request, or to refuse a WebSocket.

Knows the order of start and body, the promise of content-length, and that a long body goes in
parts; must not know which events carry them.

    WAITING ──start──► STARTED ──body──► SENDING ──last body──► COMPLETE
                          └───────────last body───────────────────┘

BROKEN is a body whose sending was cancelled half-way: it can be neither resumed nor ended.
"""

from enum import Enum, auto

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

BODILESS = frozenset({204, 205, 304})


class State(Enum):
    WAITING = auto()
    STARTED = auto()
    SENDING = auto()
    COMPLETE = auto()
    BROKEN = auto()


class Response:
    """The response of one stream."""

    __slots__ = ("_head", "_left", "_to_head", "state")

    def __init__(self, *, to_head: bool = False) -> None:
        self.state = State.WAITING
        self._to_head = to_head
        self._head: tuple[int, Headers] = (0, [])
        self._left: int | None = None

    @property
    def complete(self) -> bool:
        return self.state is State.COMPLETE

    def start(self, event: Event) -> None:
        """Keep status and headers until the first body: ASGI wants them held back."""
        if self.state is not State.WAITING:
            raise RuntimeError(f"{event['type']} a second time")
        status = check_status(event["status"])
        headers = check_headers(event.get("headers") or ())
        self._left = self._promised(status, headers)
        self._head = (status, headers)
        self.state = State.STARTED

    def _promised(self, status: int, headers: Headers) -> int | None:
        """Return how long the body has to be, if that is known."""
        length = content_length(headers)
        if self._to_head:
            return None
        return 0 if status in BODILESS else length

    async def body(self, event: Event, stream: Stream) -> None:
        """Send the next piece of the body, and before the first the head."""
        if self.state is State.WAITING:
            raise RuntimeError(f"{event['type']} before the start of the response")
        if self.complete:
            raise RuntimeError(f"{event['type']} after the end of the response")
        if self.state is State.BROKEN:
            raise RuntimeError(f"{event['type']} after one that was cancelled half-way")
        body = check_bytes("body", event.get("body", b""))
        more = bool(event.get("more_body", False))
        size = len(body)
        self._count(size, more)
        if size <= PART and stream.pay_now(size):
            stream.write(self._message(stream.number, body, more))
        else:
            await self._send(body, more, stream)

    def _count(self, size: int, more: bool) -> None:
        if self._left is None:
            return
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
                self.state = State.BROKEN
                raise
            stream.write(self._message(stream.number, part, more or start + PART < size))

    def _message(self, number: int, part: bytes, more: bool) -> bytes:
        """Return the next part as a message, and go on to the state that it leads to."""
        starting = self.state is State.STARTED
        self.state = State.SENDING if more else State.COMPLETE
        if starting:
            return wire.encode_response_start(number, *self._head, part, more)
        return wire.encode_response_body(number, part, more)
