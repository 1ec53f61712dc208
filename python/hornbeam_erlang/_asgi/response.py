"""One HTTP response as an app sends it: to a request, or to refuse a WebSocket.

Knows the order of start and body, the promise of content-length, and that a long body goes in
parts, between which goes nothing of another task; must not know which events carry them.

    WAITING ──start──► STARTED ──body──► SENDING ──last body──► COMPLETE
                         │└───────────last body───────────────────┤
                         └─body──► DROPPING ──last body───────────┘

The head of an event stream goes at once, by `begin_stream`: its first event may be far.

DROPPING is a response that has no body by its status (RFC 9110, 6.4.1): all is said with its head,
and what the app gives is dropped. BROKEN is a body whose sending was cancelled half-way: it can be
neither resumed nor ended.
"""

import asyncio
from collections.abc import Coroutine
from enum import Enum, auto
from typing import Any, NoReturn

from hornbeam_erlang._asgi.headers import (
    Limits,
    check_bytes,
    check_headers,
    check_status,
    content_length,
    is_encoded,
    is_event_stream,
)
from hornbeam_erlang._asgi.scope import Event
from hornbeam_erlang._asgi.stream import Stream
from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.packets import Headers

# One body message on the wire: long enough to be cheap, short enough to share the pipe.
PART = 65_536

BODILESS = frozenset({204, 205, 304})

# Of those, the ones whose content-length would be that of a body (RFC 9110, 8.6); a 304 has the
# length that a 200 would have.
LENGTHLESS = frozenset({204, 205})


# What a task of the app waits for, in the order of its coming.
Waiting = Coroutine[Any, Any, None]


class ResponseState(Enum):
    WAITING = auto()
    STARTED = auto()
    SENDING = auto()
    DROPPING = auto()
    COMPLETE = auto()
    BROKEN = auto()


# To look a state up by its class costs more than the rest of a comparison.
WAITING, STARTED, SENDING, DROPPING, COMPLETE, BROKEN = ResponseState


class Response:
    """The response of one stream."""

    __slots__ = (
        *("_has_length", "_head", "_left", "_limits", "_line", "_to_head"),
        *("is_event_stream", "is_forwardable", "state"),
    )

    def __init__(self, limits: Limits, *, to_head: bool = False) -> None:
        self.state = WAITING
        self.is_event_stream = self.is_forwardable = False
        self._limits = limits
        self._to_head = to_head
        self._head: tuple[int, Headers] = (0, [])
        self._has_length = False
        self._left: int | None = None
        # Who sends what cannot go at once, and who waits until it is whole.
        self._line: list[asyncio.Future[None]] = []

    @property
    def complete(self) -> bool:
        return self.state is COMPLETE

    def start(self, event: Event) -> None:
        """Keep status and headers until the first body: ASGI wants them held back."""
        if self.state is not WAITING:
            raise RuntimeError(f"{event['type']} a second time")
        status = check_status(event["status"])
        headers = check_headers(event.get("headers") or (), self._limits)
        length = content_length(headers)
        self._has_length = length is not None
        self._left = None if self._to_head or status in BODILESS else length
        self._head = (status, _without_length(headers) if status in LENGTHLESS else headers)
        self.is_event_stream = (
            length is None and status not in BODILESS and is_event_stream(headers)
        )
        self.state = STARTED

    def begin_stream(self, stream: Stream) -> None:
        """Send the head of an event stream."""
        status, headers = self._head
        stream.pay_now(0)
        self.is_forwardable = not is_encoded(headers)
        stream.write(
            packets.encode_event_stream(stream.number, status, headers, self.is_forwardable)
        )
        self.state = SENDING

    def body(self, event: Event, stream: Stream) -> Waiting | None:
        """Send the next piece of the body, and before the first the head.

        Return what is to be awaited at once for that, or None: mostly nothing is, and a coroutine
        more costs as much as the rest.
        """
        if self._line:
            return self._send_in_turn(event, stream)
        waiting = self._send_now(event, stream)
        return None if waiting is None else self._hold_line(waiting)

    async def _send_in_turn(self, event: Event, stream: Stream) -> None:
        turn = await self._turn(stream)
        try:
            if (waiting := self._send_now(event, stream)) is not None:
                await waiting
        finally:
            self._leave_line(turn)

    async def _hold_line(self, waiting: Waiting) -> None:
        turn = self._join_line()
        try:
            await waiting
        finally:
            self._leave_line(turn)

    def _send_now(self, event: Event, stream: Stream) -> Waiting | None:
        """Send a piece, or return what sends it as soon as that is possible."""
        state = self.state
        if state is not STARTED and state is not SENDING and state is not DROPPING:
            self._refuse(event)
        body = event.get("body", b"")
        if type(body) is not bytes:
            body = check_bytes("body", body)
        more = bool(event.get("more_body", False))
        if self._head[0] in BODILESS:
            return self._drop(more, stream)
        if self._to_head and state is SENDING:
            body = b""  # the node reads the length off the first part
        size = len(body)
        if size > PART and state is STARTED and not (more or self._has_length):
            # It travels in parts, of which the node cannot know that they are all.
            self._head[1].append((b"content-length", b"%d" % size))
        if self._left is not None:
            self._count(size, more, self._left)
        if size > PART or not stream.pay_now(size):
            return self._send_parts(body, more, stream)
        stream.write(self._message(stream.number, body, more))
        return None

    async def _turn(self, stream: Stream) -> asyncio.Future[None]:
        """Wait until what others are sending is whole."""
        turn = self._join_line()
        try:
            await turn
            if self.state is not DROPPING:
                stream.check_alive()
        except BaseException:
            self._leave_line(turn)
            raise
        return turn

    def _join_line(self) -> asyncio.Future[None]:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        return turn

    def _leave_line(self, turn: asyncio.Future[None]) -> None:
        was_first = self._line[0] is turn
        self._line.remove(turn)
        if was_first and self._line and not self._line[0].done():
            self._line[0].set_result(None)

    def _refuse(self, event: Event) -> NoReturn:
        if self.state is WAITING:
            raise RuntimeError(f"{event['type']} before the start of the response")
        if self.complete:
            raise RuntimeError(f"{event['type']} after the end of the response")
        raise RuntimeError(f"{event['type']} after one that was cancelled half-way")

    async def _drop(self, more: bool, stream: Stream) -> None:
        if self.state is DROPPING:
            await asyncio.sleep(0)
        else:
            await self._send_parts(b"", False, stream)
        self.state = DROPPING if more else COMPLETE

    def _count(self, size: int, more: bool, left: int) -> None:
        if size > left:
            raise RuntimeError(f"the body is {size - left} bytes longer than promised")
        if size < left and not more:
            raise RuntimeError(f"the body is {left - size} bytes shorter than promised")
        self._left = left - size

    async def _send_parts(self, body: bytes, more: bool, stream: Stream) -> None:
        size = len(body)
        for start in range(0, size or 1, PART):
            part = body[start : start + PART]
            try:
                await stream.pay(len(part))
            except BaseException:
                self.state = BROKEN
                raise
            stream.write(self._message(stream.number, part, more or start + PART < size))

    def _message(self, number: int, part: bytes, more: bool) -> bytes:
        """Return the next part as a message, and go on to the state that it leads to."""
        starting = self.state is STARTED
        self.state = SENDING if more else COMPLETE
        if starting:
            return packets.encode_response_start(number, *self._head, part, more)
        return packets.encode_response_body(number, part, more)


def _without_length(headers: Headers) -> Headers:
    return [(name, value) for name, value in headers if name != b"content-length"]
