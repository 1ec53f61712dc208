"""A node that a test moves: at the other ends of a worker's pipes, in the worker's own process.

It opens streams, gives credit and answers ops when it is told to, always by the rules of
docs/wire.md, and holds the worker to them: each message is judged as it comes. What is wrong goes
into `failures`, for a message may come while the worker's code blocks.
"""

import contextlib
import errno
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack
from beam import CODES, NAMES, Pipes, scope_array
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import pack, unpack
from node import Node

ENDED = (7, "the connection is over")

# What only the connection itself can ask for.
BOUND = frozenset(
    {
        *(ops.PUBSUB_SUBSCRIBE, ops.PUBSUB_UNSUBSCRIBE, ops.PUBSUB_DROPPED),
        *(ops.CONNECTION_GET, ops.CONNECTION_SET, ops.CONNECTION_DELETE),
        ops.CONNECTION_ITEMS,
    }
)

# What Python may send on a stream, and in which state that leaves it. A response goes on while
# there is more of it, see `_state_after`.
ORDER = {
    "asked": {"response_start": "responding", "event_stream": "responding"},
    "responding": {"response_body": "responding"},
    "connecting": {"accept": "accepting", "close": "closed", "response_start": "responding"},
    "accepting": {"close": "closed"},
    "open": {"send_text": "open", "send_bytes": "open", "close": "closed"},
    "closed": {},
}

PAID = {"response_start": 4, "response_body": 2, "send_text": 2, "send_bytes": 2, "event_stream": 0}


class Conversation:
    """One stream as the node sees it."""

    def __init__(self, number: int, kind: str, window: tuple[int, int]) -> None:
        self.number = number
        self.kind = kind
        self.state = "connecting" if kind == "websocket" else "asked"
        # What Python may still send, and what we may.
        self.bytes, self.messages = window
        self.client = list(window if kind == "websocket" else (0, 0))
        # How much more credit Python may give us: a window to begin with, then what it has had.
        self.due = [0, 0] if kind == "websocket" else [window[0], 0]
        # The payloads that have come, and those that were sent.
        self.said: list[bytes] = []
        self.told: list[bytes] = []
        self.status = 0
        self.more = False
        self.flush = "due"
        self.is_gone = self.is_moving = self.is_to_move = self.has_moved = self.has_ended = False

    @property
    def is_alive(self) -> bool:
        return not (self.is_gone or self.has_ended)

    # From the worker

    def take(self, name: str, fields: list[Any]) -> None:
        assert not self.has_ended, "a message on a stream that has ended"
        assert not self.has_moved or name == "ended", "a message after moved"
        match name:
            case "response":
                assert self.kind == "http", "a response in one for a WebSocket"
                self._say("response_start", [*fields, False])
                self.has_ended = True
            case "ended":
                self.has_ended = True
            case "credit":
                self._credit(*fields)
            case "moved":
                assert self.is_moving
                self.has_moved = True
            case "flushed":
                assert self.state == "open", f"flushed in {self.state}"
                assert self.flush == "asked"
                self.flush = "done"
            case _:
                self._say(name, fields)

    def _say(self, name: str, fields: list[Any]) -> None:
        assert name in ORDER[self.state], f"{name} in {self.state}"
        if name in PAID:
            payload = b"" if name == "event_stream" else fields[PAID[name] - 2]
            assert self.bytes > 0, f"{name} without credit: {self.bytes} bytes"
            assert self.messages > 0, f"{name} without credit: {self.messages} messages"
            self.bytes -= len(payload)
            self.messages -= 1
            self.said.append(payload)
        self.state = ORDER[self.state][name]
        if name in ("response_start", "event_stream"):
            self.status = fields[0]
        if name.startswith("response") and not fields[-1]:
            self.state = "closed"

    def _credit(self, size: int, messages: int) -> None:
        self.due[0] -= size
        self.due[1] -= messages
        assert min(self.due) >= 0, f"credit that was not earned: {self.due}"
        self.client[0] += size
        self.client[1] += messages

    # From us

    def may_tell(self) -> bool:
        """Tell whether the client may say one more thing."""
        if not self.is_alive:
            return False
        if self.kind == "websocket":
            return self.state == "open" and min(self.client) > 0
        return self.more and self.client[0] > 0

    def tell(self, payload: bytes) -> None:
        self.told.append(payload)
        for n, cost in enumerate((len(payload), 1 if self.kind == "websocket" else 0)):
            self.client[n] -= cost
            self.due[n] += cost


@dataclass
class Call:
    """A call that the worker has been given."""

    mode: int
    asked: int = 0
    is_cancelled: bool = False
    results: list[tuple[int, Any]] = field(default_factory=list)


@dataclass
class Reply:
    """An answer to an op that waits for its time."""

    stream: int
    ref: int
    op: int
    first: Any
    message: bytes
    status: int


class _Node(Node):
    """Answers ops at once, but keeps the answers, and the events, until they are wanted."""

    def _reply(self, stream: int, ref: int, status: int, value: Any) -> None:
        self.beam.hold(stream, ref, status, value)

    def _done_telling(self) -> None:
        self.beam.owed_tells += 1

    def _event(self, topic: str, packed: bytes) -> None:
        self.events += 1
        self.beam.events.append((topic, packed))


class Puppet(Pipes):
    """The node of one worker."""

    def __init__(
        self,
        to_worker: int,
        from_worker: int,
        window: tuple[int, int],
        worker_window: int,
        tell_window: int,
    ) -> None:
        super().__init__(to_worker, from_worker)
        self.failures: list[str] = []
        self.streams: dict[int, Conversation] = {}
        self.calls: dict[int, Call] = {}
        self.replies: list[Reply] = []
        self.events: deque[tuple[str, bytes]] = deque()
        self.node = _Node(self)
        # Who may make an op, by its number and its first argument, and which of them are over:
        # told by the app.
        self.owners: dict[tuple[int, Any], set[int]] = {}
        self.is_over: Callable[[int], bool] = lambda number: False
        self.replied: Callable[[Reply], None] = lambda reply: None
        # The first arguments of the ops that have come, and how many messages have.
        self.arrived: set[Any] = set()
        self.heard = 0
        self.logs: list[str] = []
        # What the worker may still write, and what it has written that we have not given back.
        self.credit = worker_window
        self.owed = 0
        # The same of ops that it has told.
        self.tells = tell_window
        self.owed_tells = 0
        self._window = window
        self._event_credit = 0
        self._ops: dict[int, tuple[int, Any]] = {}
        self._beat: int | None = None
        self._beats = 0
        self._unsent = b""
        self._stop, self._stopped = os.pipe()

    def close(self) -> None:
        super().close()
        os.close(self._stop)
        os.close(self._stopped)

    # To the worker

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def send_bytes(self, data: bytes) -> None:
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        """Write what the pipe takes."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[os.write(self.to_worker, self._unsent) :]

    def send(self, name: str, stream: int, *fields: Any) -> None:
        match name:
            case "call":
                self.calls[fields[0]] = Call(fields[1])
            case "more":
                self.calls[fields[0]].asked += fields[1]
            case "cancel":
                self.calls[fields[0]].is_cancelled = True
        super().send(name, stream, *fields)

    def open_http(self, number: int, body: bytes, more: bool, method: str) -> Conversation:
        stream = self._open(number, "http")
        stream.more = more
        if body:
            stream.told.append(body)
        scope = scope_array("http", b"/%d" % number, method=method)
        self.send("open_http", number, scope, body, more)
        return stream

    def open_websocket(self, number: int, topics: list[str] | None = None) -> Conversation:
        """Open a WebSocket or, with topics, one that another worker has had."""
        scope = scope_array("ws", b"/%d" % number)
        stream = self._open(number, "websocket")
        if topics is None:
            self.send("open_websocket", number, scope)
        else:
            for topic in topics:
                args = [topic, False, None]
                assert self.node.memory.answer(number, ops.PUBSUB_SUBSCRIBE, args)[0] == 0
            self.send("reopen_websocket", number, scope, 1, "died", topics)
        return stream

    def _open(self, number: int, kind: str) -> Conversation:
        stream = self.streams[number] = Conversation(number, kind, self._window)
        return stream

    def accepted(self, stream: Conversation) -> None:
        stream.state = "open"
        self.send("accepted", stream.number)

    def tell(self, stream: Conversation, payload: bytes, *, more: bool, is_text: bool) -> None:
        """Let the client say something: a message, or the next part of its body."""
        stream.tell(payload)
        if stream.kind == "websocket":
            self.send("receive_text" if is_text else "receive_bytes", stream.number, payload)
        else:
            stream.more = more
            self.send("request_body", stream.number, payload, more)

    def give(self, stream: Conversation, size: int, messages: int) -> None:
        stream.bytes += size
        stream.messages += messages
        self.send("credit", stream.number, size, messages)

    def disconnect(self, stream: Conversation) -> None:
        code = 1006 if stream.kind == "websocket" else None
        stream.is_gone = True
        self.send("disconnect", stream.number, code, b"")

    def move(self, stream: Conversation) -> None:
        stream.is_gone = stream.is_moving = True
        self.send("move", stream.number)

    def ask_to_flush(self, stream: Conversation) -> None:
        stream.flush = "asked"
        self.send("flush", stream.number)

    def give_to_worker(self, size: int | None = None) -> None:
        """Give back some or all of what the worker has written."""
        self.send_bytes(self._owed_credit(size))

    def _owed_credit(self, size: int | None) -> bytes:
        size = self.owed if size is None else min(size, self.owed)
        self.owed -= size
        self.credit += size
        tells, self.owed_tells = self.owed_tells, 0
        self.tells += tells
        return msgpack.packb([CODES["credit"], 0, size, tells])

    def reply(self, reply: Reply, *, with_credit: bool = False) -> None:
        """Let an answer go; `with_credit` in one write with all that we owe the worker."""
        self.replies.remove(reply)
        self.replied(reply)
        self.send_bytes((self._owed_credit(None) if with_credit else b"") + reply.message)

    def event(self) -> tuple[str, Any]:
        """Let the oldest event go; return its topic and value."""
        topic, packed = self.events.popleft()
        self.tell_all(topic, packed)
        return topic, unpack(packed)

    def tell_all(self, topic: str, packed: bytes) -> None:
        """Send an event."""
        self._event_credit += len(packed)
        self.send("event", 0, topic, packed)

    def beat(self) -> None:
        if self._beat is None:
            self._beats += 1
            self._beat = self._beats
            self.send("heartbeat", 0, self._beat)

    # From the worker

    def take(self) -> int:
        """Read what is there, and judge it; return how many bytes that were."""
        size = 0
        while True:
            try:
                data = os.read(self.from_worker, 1 << 16)
            except BlockingIOError:
                return size
            except OSError as error:
                if error.errno == errno.EBADF:
                    return size
                raise
            if not data:
                return size
            size += len(data)
            for packet in self.packets(data):
                self._judge(packet)

    def _judge(self, packet: bytes) -> None:
        code, stream, *fields = unpack(packet)
        name = NAMES[code]
        self.heard += 1
        try:
            if name not in ("op", "tell", "heartbeat"):
                assert self.credit > 0, f"without the worker's credit: {self.credit}"
            self.credit -= len(packet) + 4
            self.owed += len(packet) + 4
            self._dispatch(name, stream, fields)
        except Exception as error:
            said = str([name, stream, *fields])
            self.failures.append(f"{type(error).__name__}: {error}, at {said[:300]}")

    def _dispatch(self, name: str, stream: int, fields: list[Any]) -> None:
        match name:
            case "multicast_text" | "multicast_bytes":
                assert stream == 0
                for number in fields[0]:
                    self.streams[number].take(name.replace("multicast", "send"), fields[1:])
            case "op":
                self._op(stream, *fields)
            case "tell":
                self._tell(stream, *fields)
            case "result":
                self._result(*fields)
            case "item":
                self._item(*fields)
            case "heartbeat":
                assert fields[0] == self._beat, "a heartbeat that answers none"
                self._beat = None
            case "log":
                self.logs.append(fields[2])
            case "credit" if stream == 0:
                self._event_credit -= fields[0]
                assert self._event_credit >= 0, "credit for events that have not come"
            case _:
                self.streams[stream].take(name, fields)
                if name in ("ended", "response"):
                    self.node.memory.disconnect(stream)

    def _op(self, stream: int, ref: int, op: int, args: list[Any]) -> None:
        assert ref not in self._ops, "an op's number a second time"
        first = args[0] if args else None
        self._ops[ref] = (op, first)
        self.arrived.add(first)
        conversation = self.streams.get(stream)
        assert stream == 0 or conversation is not None, "an op of no stream"
        self._judge_owner(stream, op, first)
        if conversation is not None and conversation.has_ended and op in BOUND:
            self.hold(stream, ref, *ENDED)
        else:
            self.node.op(stream, ref, op, args)

    def _tell(self, stream: int, ref: int, op: int, args: list[Any]) -> None:
        self.tells -= 1
        assert self.tells >= 0, "an op told without credit"
        first = args[0] if args else None
        self.arrived.add(first)
        assert stream == 0 or stream in self.streams, "an op of no stream"
        assert op not in BOUND, "told for a connection"
        self._judge_owner(stream, op, first)
        self.node.tell(stream, ref, op, args)

    def _judge_owner(self, stream: int, op: int, first: Any) -> None:
        """See that an op comes from who makes it; it is answered all the same: somebody waits."""
        owners = self.owners.get((op, first))
        if owners is None:  # one that undoes what was cancelled
            return
        may_be_of_nobody = op not in BOUND and any(map(self.is_over, owners))
        if stream not in owners and not (stream == 0 and may_be_of_nobody):
            name = next(row.name for row in ops.OPS if row.code == op)
            self.failures.append(f"{name}({first!r}) of {stream}, not of {sorted(owners)}")

    def hold(self, stream: int, ref: int, status: int, value: Any) -> None:
        """Keep an answer until its time comes."""
        op, first = self._ops[ref]
        message = pack([CODES["reply"], stream, ref, status, value])
        self.replies.append(Reply(stream, ref, op, first, message, status))

    def _result(self, ref: int, status: int, value: Any) -> None:
        call = self.calls[ref]
        assert not call.results, "a second result"
        assert status in ((0, 2, 8, 9) if call.mode == 2 else (0, 8, 9)), f"status {status}"
        call.results.append((status, value))
        self.node.result(ref, status, value)

    def _item(self, ref: int, packed: bytes) -> None:
        call = self.calls[ref]
        assert not call.results, "an item after the result"
        call.asked -= 1
        assert call.asked >= 0, "an item that was not asked for"
        self.node.item(ref, packed)

    # While the worker's code blocks

    @contextlib.contextmanager
    def answering(self, first: Any, *ops: int, with_credit: bool) -> Iterator[None]:
        """Answer the ops that come from now on and are such ones: they block the worker."""
        newest = max(self._ops, default=0)

        def is_asked(reply: Reply) -> bool:
            return reply.ref > newest and reply.first == first and reply.op in ops

        arguments = (is_asked, with_credit)
        thread = threading.Thread(target=self._answer, args=arguments, daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.write(self._stopped, b".")
            thread.join()

    def _answer(self, is_asked: Callable[[Reply], bool], with_credit: bool) -> None:
        while True:
            ready, _, _ = select.select([self.from_worker, self._stop], [], [])
            if self._stop in ready:
                os.read(self._stop, 1)
                return
            self.take()
            for reply in list(filter(is_asked, self.replies)):
                self.reply(reply, with_credit=with_credit)

    # What is left

    def unfinished_calls(self) -> list[Call]:
        return [call for call in self.calls.values() if not (call.results or call.is_cancelled)]
