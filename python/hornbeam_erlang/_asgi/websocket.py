"""A WebSocket as ASGI 3.0 (spec_version 2.5) shows it to an app.

Knows ASGI's WebSocket events; must not know file descriptors or other streams. `receive` and
`send` never wait for each other.

    CONNECTING ──accept──► ACCEPTING ──accepted──► OPEN
        │  └──response.start──► DENYING              │
      close                        │ last body     close
        └──────────────────────────┴─────────────────┴────► CLOSED

From each of them but CLOSED to DISCONNECTED: by `disconnect`, by `move` (another worker has the
client from then on), or by text that is not UTF-8.
"""

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from enum import Enum, auto
from functools import lru_cache
from sys import intern
from types import CodeType
from typing import Any

from hornbeam_erlang._asgi.headers import (
    check_accept_headers,
    check_bytes,
    check_subprotocol,
)
from hornbeam_erlang._asgi.response import Response
from hornbeam_erlang._asgi.scope import Event, common_scope
from hornbeam_erlang._asgi.stream import FREE, Shared, Stream
from hornbeam_erlang._ops.mailbox import Mailbox
from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.credit import Allowance
from hornbeam_erlang._wire.packets import StreamScope
from hornbeam_erlang.exceptions import ClientDisconnected

# A scope lives as long as its WebSocket: what nearly all have is in memory once.
_NAMES = {
    name: name
    for name in (
        *(b"host", b"connection", b"upgrade", b"origin", b"cookie", b"user-agent", b"accept"),
        *(b"accept-encoding", b"accept-language", b"cache-control", b"pragma"),
        *(b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions"),
        *(b"sec-websocket-protocol", b"x-forwarded-for", b"x-forwarded-proto"),
    )
}

# Of these, many clients have the same value, and then the whole header is in memory once. A value
# that is longer (bytes) is not kept for the next one.
_ALIKE = frozenset(
    {
        *(b"host", b"connection", b"upgrade", b"origin", b"user-agent", b"accept"),
        *(b"accept-encoding", b"accept-language", b"cache-control", b"pragma"),
        *(b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-protocol"),
        b"x-forwarded-proto",
    }
)
_SHORT = 256

# In the place of an event: the app has taken all before it and asks for more.
_FLUSH: Event = {}

# What an app hears that has to give its client away ("service restart" in IANA's registry).
MOVED = 1012

# What a close frame leaves for its reason (RFC 6455, 5.5).
MAX_REASON = 123

# The codes that an endpoint may send (RFC 6455, 7.4, and IANA's registry of close codes).
SENDABLE = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})

# The longest text or binary: a message of the wire less its code and number.
MAX_PAYLOAD = packets.MAX_MESSAGE - 32

# A reader's task ends, its watcher wakes, the senders' group is cancelled, and its tasks: a turn of
# the loop each, and some to spare.
TURNS_OF_READER = 10


class SocketState(Enum):
    CONNECTING = auto()
    ACCEPTING = auto()
    OPEN = auto()
    DENYING = auto()
    CLOSED = auto()
    DISCONNECTED = auto()


_OPEN = SocketState.OPEN  # `send` looks it up for each message


def websocket_scope(scope: StreamScope, root_path: str) -> dict[str, Any]:
    """Return the scope that the app is called with."""
    shown = common_scope("websocket", scope, root_path)
    shown["http_version"], shown["scheme"] = intern(scope.http_version), intern(scope.scheme)
    shown["server"] = _same(shown["server"])
    shown["headers"] = [
        _alike(name, value) if name in _ALIKE and len(value) < _SHORT else _named(name, value)
        for name, value in scope.headers
    ]
    shown["subprotocols"] = _subprotocols(scope.headers)
    shown["extensions"]["websocket.http.response"] = {}
    return shown


def _named(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return _NAMES.get(name, name), value


_alike = lru_cache(maxsize=512)(_named)


@lru_cache(maxsize=64)
def _same(server: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """Return one tuple for all that are connected to an address."""
    return server


def _subprotocols(headers: list[list[bytes]]) -> list[str]:
    offers = (
        value.decode("latin-1") for name, value in headers if name == b"sec-websocket-protocol"
    )
    # The blanks of HTTP and no others: the node, too, looks whether one was offered.
    parts = (part.strip(" \t") for offer in offers for part in offer.split(","))
    return [part for part in parts if part]


class WebSocket(Stream):
    """One WebSocket: the `receive` and `send` of its app."""

    __slots__ = (
        "_accepted",
        "_disconnect",
        "_limits",
        "_offered",
        "_response",
        "_state",
        "_write_payload",
    )

    def __init__(self, number: int, shared: Shared, offered: Sequence[str] = ()) -> None:
        size, messages = shared.window
        super().__init__(number, shared, Allowance(size, 1 if shared.resume else messages))
        self._write_payload = shared.write_payload
        self._limits = shared.limits
        # The subprotocols; a copy, since what the app does to its scope changes no offer.
        self._offered = tuple(offered)
        self._state = SocketState.CONNECTING
        self._events.append(({"type": "websocket.connect"}, FREE))
        # Whether the accept became an open WebSocket, while somebody waits for that.
        self._accepted: asyncio.Future[bool] | None = None
        self._response: Response | None = None
        self._disconnect: Event | None = None

    # From the BEAM

    def receive_text(self, data: bytes) -> None:
        if self._disconnect is not None:
            return
        try:
            text = str(data, "utf-8")
        except UnicodeDecodeError:
            self._refuse_text()
            return
        self._events.append(({"type": "websocket.receive", "text": text}, len(data)))
        if self._readers:
            self._wake_readers()

    def receive_bytes(self, data: bytes) -> None:
        if self._disconnect is not None:
            return
        self._events.append(({"type": "websocket.receive", "bytes": data}, len(data)))
        if self._readers:
            self._wake_readers()

    def accepted(self) -> None:
        if self._state is SocketState.ACCEPTING:
            self._change(SocketState.OPEN)

    def disconnect(self, code: int | None, reason: bytes) -> None:
        self._note_disconnect(1005 if code is None else code, reason.decode(errors="replace"))
        if self._state is not SocketState.CLOSED:
            self._change(SocketState.DISCONNECTED)
        super().disconnect(code, reason)

    def move(self) -> None:
        """Leave the client, and what the app has not taken from it, to another worker."""
        self._events.clear()
        self._turned.clear()
        self.disconnect(MOVED, b"")
        self.write(packets.encode_moved(self.number))

    def flush(self) -> None:
        """Say so once the app has taken what has come until now and asks for more."""
        if self._disconnect is None:
            self._events.append((_FLUSH, FREE))
            self._wake_readers()

    def _refuse_text(self) -> None:
        """Close with 1007: the client's text is not UTF-8 (RFC 6455, 8.1)."""
        if self._state is SocketState.OPEN:
            self.write(packets.encode_close(self.number, 1007, b"text is not UTF-8"))
            self.disconnect(1007, b"text is not UTF-8")

    def _note_disconnect(self, code: int, reason: str) -> None:
        if self._disconnect is None:
            self._disconnect = {"type": "websocket.disconnect", "code": code, "reason": reason}

    def _change(self, state: SocketState) -> None:
        """Enter a state, and let those go on who waited for it."""
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_result(state is SocketState.OPEN)
        self._state = state
        self._call_sender()

    # For the app

    def receive(self) -> Coroutine[Any, Any, Event]:
        # Who calls is seen only here: what awaits may be a task, or `asyncio.wait_for`.
        return self._receive(sys._getframe(1).f_code)

    async def _receive(self, caller: CodeType) -> Event:
        event: Event
        while True:
            while not (self._events or self._turned):
                if self._disconnect is not None:
                    return dict(self._disconnect)
                if self.mailbox is None or not self._is_polled(self.mailbox, caller):
                    await self._wait_for_event()
                    continue
                # Whoever waits for the message itself goes first.
                await asyncio.sleep(0)
                if not self._has_event() and self._disconnect is None and self.mailbox.ring():
                    return {"type": "hornbeam.pubsub"}
            if len(self._events) == 1 and not self._turned:  # mostly, and there is nothing to turn
                event, size = self._events.pop()
            else:
                event, size = self._next_event()
            if event is not _FLUSH:
                break
            self._write_flushed()
        if size != FREE and self.allowance.consume(size) and self._state is _OPEN:
            self._give_credit()
        return event

    def _write_flushed(self) -> None:
        if self._state is SocketState.OPEN:
            self.write(packets.encode_flushed(self.number))

    def open_mailbox(self, mailbox: Mailbox) -> None:
        # One who waits already may be one who polls: the first message lets it look.
        mailbox.listen(self._wake_readers)
        super().open_mailbox(mailbox)

    def _is_polled(self, mailbox: Mailbox, caller: CodeType) -> bool:
        """Tell whether who waits is to hear of a message, and let the next wake it if it may."""
        polls = _names_check_pubsub(caller)
        mailbox.listen(self._wake_readers if polls else None)
        mailbox.is_polled = polls
        return polls and mailbox.may_ring

    async def send(self, event: Event) -> None:
        if event["type"] != "websocket.send":
            await self._send_other(event)
            return
        text = event.get("text")
        data = event.get("bytes")
        # The hot path, written out: what `_payload` and `pay` do, without their calls.
        if data is None and type(text) is str:
            code, data = packets.SEND_TEXT, text.encode()
        else:
            code, data = _payload(text, data)
        if len(data) > MAX_PAYLOAD:
            raise ValueError(f"a message is at most {MAX_PAYLOAD} bytes long, not {len(data)}")
        account = self.account
        if (
            self._state is _OPEN
            and account.bytes > 0
            and account.messages > 0
            and not self._senders
        ):
            account.bytes -= len(data)
            account.messages -= 1
        else:
            await self._pay_in_order(event, len(data))
        self._write_payload(code, self.number, data)

    async def _pay_in_order(self, event: Event, size: int) -> None:
        try:
            self._check_order(event, SocketState.OPEN, SocketState.ACCEPTING)
            await self.pay(size)
        except ClientDisconnected:
            # Who reads the same end may be about to cancel this task (Quart does, and logs what
            # is raised before that as its app's failure).
            for _ in range(TURNS_OF_READER):
                await asyncio.sleep(0)
            raise

    async def _send_other(self, event: Event) -> None:
        match event["type"]:
            case "websocket.accept":
                await self._accept(event)
            case "websocket.close":
                self._close(event)
            case "websocket.http.response.start":
                self._check_order(event, SocketState.CONNECTING)
                self._response = Response(self._limits)
                self._response.start(event)
                self._change(SocketState.DENYING)
            case "websocket.http.response.body":
                await self._deny(event)
            case other:
                raise ValueError(f"a WebSocket app cannot send {other!r}")

    async def _accept(self, event: Event) -> None:
        self._check_order(event, SocketState.CONNECTING)
        subprotocol = check_subprotocol(event.get("subprotocol"), self._offered)
        headers = check_accept_headers(event.get("headers") or (), self._limits)
        self._state = SocketState.ACCEPTING
        self._accepted = self._loop.create_future()
        self.write(packets.encode_accept(self.number, subprotocol, headers))
        # Once accepted, what came since is told by `receive`, also that the client has gone.
        try:
            if not await self._accepted:
                self.check_alive()
        finally:
            self._accepted = None

    def _close(self, event: Event) -> None:
        self._check_order(event, SocketState.CONNECTING, SocketState.ACCEPTING, SocketState.OPEN)
        code, reason = _check_close(event.get("code"), event.get("reason"))
        self.write(packets.encode_close(self.number, code, reason))
        if self._state is SocketState.CONNECTING:
            self._refused()
        self._change(SocketState.CLOSED)

    async def _deny(self, event: Event) -> None:
        self._check_order(event, SocketState.DENYING)
        assert self._response is not None
        if (waiting := self._response.body(event, self)) is not None:
            await waiting
        if self._response.complete:
            self._refused()
            self._change(SocketState.CLOSED)

    def _refused(self) -> None:
        """Let `receive` say that there is no WebSocket: the BEAM closes none."""
        self._note_disconnect(1006, "")
        self._wake_readers()

    def _check_order(self, event: Event, *states: SocketState) -> None:
        if self._state in states:
            return
        self.check_alive()
        raise RuntimeError(f"{event['type']} while the WebSocket is {self._state.name.lower()}")

    def check_alive(self) -> None:
        if self._state is SocketState.DISCONNECTED:
            raise ClientDisconnected("the client has disconnected")
        if self._state is SocketState.CLOSED:
            raise OSError("the app has closed this WebSocket")

    def _may_send(self) -> bool:
        match self._state:
            case SocketState.OPEN | SocketState.DENYING:
                return self.account.open
            case SocketState.ACCEPTING:
                return False
        return True

    def end(self) -> str | None:
        undone = None
        match self._state:
            case SocketState.CONNECTING:
                undone = "the app returned without accepting or refusing the WebSocket"
            case SocketState.DENYING:
                undone = "the app returned before the end of its response"
        self._note_disconnect(1000, "")
        self._wake_readers()
        if self._state is not SocketState.DISCONNECTED:
            self._change(SocketState.CLOSED)
        return undone


def _names_check_pubsub(code: CodeType) -> bool:
    """Tell whether a function reads published messages between its events.

    No framework does, so none is given an event that it would refuse.
    """
    return "check_pubsub" in code.co_names or "check_pubsub" in code.co_freevars


def _payload(text: Any, data: Any) -> tuple[int, bytes]:
    """Return code and payload of what is not a plain str."""
    if (text is None) is (data is None):
        raise ValueError("websocket.send has one of text and bytes; the other is None or absent")
    if data is not None:
        return packets.SEND_BYTES, check_bytes("bytes", data)
    if not isinstance(text, str):
        raise TypeError(f"text is a str, not {type(text).__name__}")
    return packets.SEND_TEXT, text.encode()


def _check_close(code: Any, reason: Any) -> tuple[int, bytes]:
    """Return code and reason as a close frame may carry them."""
    code = 1000 if code is None else code
    if not isinstance(code, int) or isinstance(code, bool):
        raise TypeError(f"a close code is an int, not {type(code).__name__}")
    if code not in SENDABLE and not 3000 <= code <= 4999:
        raise ValueError(f"not a close code that may be sent: {code}")
    if not isinstance(reason, str | None):
        raise TypeError(f"a close reason is a str, not {type(reason).__name__}")
    encoded = (reason or "").encode()
    if len(encoded) > MAX_REASON:
        raise ValueError(f"a close reason is at most {MAX_REASON} bytes long, not {len(encoded)}")
    return int(code), encoded
