"""An HTTP exchange as ASGI 3.0 (spec_version 2.3) shows it to an app.

Knows ASGI's HTTP events; must not know file descriptors or other streams. What has come of the
request's body with its head is there; the rest is asked for by credit, first when the app calls
`receive` and nothing is.
"""

import asyncio
import logging
import sys
from typing import Any

from hornbeam_erlang._asgi.response import COMPLETE, DROPPING, WAITING, Response
from hornbeam_erlang._asgi.scope import Event, common_scope
from hornbeam_erlang._asgi.stream import FREE, Shared, Stream
from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.credit import Allowance
from hornbeam_erlang._wire.packets import StreamScope
from hornbeam_erlang.exceptions import ClientDisconnected

_log = logging.getLogger("hornbeam.pubsub")

# How long after its client has gone (s) what a helper of the handler sends is dropped and no error.
PATIENCE = 30.0

# Of a request whose body came with it: nothing of it is given back.
_WHOLE = Allowance(sys.maxsize, sys.maxsize)


def http_scope(scope: StreamScope, root_path: str) -> dict[str, Any]:
    """Return the scope that the app is called with."""
    shown = common_scope("http", scope, root_path)
    shown["method"] = scope.method
    return shown


class Http(Stream):
    """One request and its response: the `receive` and `send` of its app."""

    __slots__ = ("_disconnected_at", "_more", "_response", "_window")

    def __init__(self, number: int, shared: Shared, method: str, body: bytes, more: bool) -> None:
        allowance = Allowance(shared.window[0], sys.maxsize) if more else _WHOLE
        super().__init__(number, shared, allowance)
        self._window = shared.window[0]
        self._more = more
        self._disconnected_at = 0.0
        self._response = Response(shared.limits, to_head=method == "HEAD")
        if body or not more:
            self._events.append((body, FREE))

    # From the BEAM

    def request_body(self, body: bytes, more: bool) -> None:
        self._more = more
        self._events.append((body, len(body)))
        self._wake_readers()

    def disconnect(self, code: int | None, reason: bytes) -> None:
        self._disconnected_at = self._loop.time()
        super().disconnect(code, reason)

    # For the app

    async def receive(self) -> Event:
        if not self._has_event():
            self._ask_for_body()
        while self._response.state is not COMPLETE:
            if self._has_event():
                return self._take_event()
            if self.disconnected:
                break
            await self._wait_for_event()
        return {"type": "http.disconnect"}

    def _ask_for_body(self) -> None:
        if self._window and self._more and not self.disconnected:
            self.write(packets.encode_credit(self.number, self._window, 0))
        self._window = 0

    def _take_event(self) -> Event:
        body, size = self._next_event()
        due = size != FREE and self.allowance.consume(size)
        if due and self._more and not self.disconnected:
            self.write(packets.encode_credit(self.number, self.allowance.give()[0], 0))
        return {"type": "http.request", "body": body, "more_body": self._more or self._has_event()}

    async def send(self, event: Event) -> None:
        response = self._response
        try:
            # Where the body is dropped the node would say that it is over.
            if self.disconnected and response.state is not DROPPING:
                self.check_alive()
            kind = event["type"]
            if kind == "http.response.body":
                if (waiting := response.body(event, self)) is not None:
                    await waiting
                if response.state is COMPLETE:
                    self._wake_readers()
            elif kind == "http.response.start":
                response.start(event)
                if response.is_event_stream:
                    response.begin_stream(self)
                if self.mailbox is not None:
                    self._look_at_forwarding()
            else:
                raise ValueError(f"an HTTP app cannot send {kind!r}")
        except ClientDisconnected:
            if not self._may_be_dropped():
                raise
            await asyncio.sleep(0)

    def _look_at_forwarding(self) -> None:
        """Tell of topics that the node is to forward and cannot: only now is that known."""
        topics = [topic for topic, way in self.mailbox.ways.items() if way.forward]  # type: ignore[union-attr]
        if topics and not self._response.is_forwardable:
            _log.warning(
                "forward=True for %s has no effect: the response is not of the type "
                "text/event-stream, or it has a content-encoding",
                ", ".join(map(repr, topics)),
            )

    def _may_be_dropped(self) -> bool:
        """Tell whether what is sent to nobody is dropped and no error.

        The handler itself gets the error. A task that sends for it may be one whose end others
        would never hear of: behind that of a2wsgi a thread waits for ever.
        """
        if self.task in (None, asyncio.current_task()):
            return False
        return self._loop.time() < self._disconnected_at + PATIENCE

    def end(self) -> str | None:
        undone = None
        state = self._response.state
        if not (self.disconnected or state is COMPLETE):
            if state is WAITING:
                undone = "the app returned without a response"
            else:
                undone = "the app returned before the end of its response"
        self.disconnected = True
        if self._readers:
            self._wake_readers()
        if self._senders:
            self._call_sender()
        return undone
