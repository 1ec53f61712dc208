"""The protocol without I/O: bytes in, messages out, and what credit allows to be written.

Knows the wire and its credit. Must not know file descriptors, loops or threads: whoever owns
those feeds bytes in, iterates over the messages, and writes what `take` returns.
"""

from collections import deque
from collections.abc import Callable, Iterable
from sys import getrefcount
from typing import Any, TypeGuard, cast

from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.fair import FairQueue, Tell, Teller

# What may be written before `start` has told the real window: enough for `hello`.
OPENING_CREDIT = 65_536

# One write is at most about this long, so that joining packets does not double a backlog.
CHUNK = 262_144

# What messages for several clients may be together: no more streams than the BEAM reads, and a
# payload that leaves room for their numbers.
MULTICAST_STREAMS = 65_535
MULTICAST_PAYLOAD = packets.MAX_MESSAGE // 2

# What ops that nobody asks about may be together while they wait to be written (bytes); one may
# go beyond it.
TELL_BYTES = 1_048_576

# The end of a `response_start` whose body is whole, and the begin of a `response`.
NO_MORE = 0xC2
RESPONSE_HEAD = bytes((0x95, packets.RESPONSE))

# A longer answer costs more to copy than its end to say.
COPIED = 4096

# A message for several clients, packed when it is written: its code, its streams, the payload.
Multicast = tuple[int, list[int], bytes]


def _is_tell(packet: Any) -> TypeGuard[Tell]:
    return packet[0] in (packets.TELL, packets.OP)


def _references(tell: Tell) -> int:
    return getrefcount(tell[1])


# How many there are while nobody else holds what may ask.
_ALONE = _references((packets.TELL, object(), b""))  # type: ignore[arg-type]


class Endpoint:
    """The worker's end of the two pipes: what the BEAM knows as its port."""

    __slots__ = (
        *("_fair", "_held", "_in_turns", "_ops", "_packets", "_payload", "_unpacker"),
        *("credit", "tell_bytes", "tells"),
    )

    def __init__(self) -> None:
        self._unpacker = packets.unpacker()
        # What waits in its order or, while the pipe is full, by streams.
        self._packets: deque[bytes | Multicast | Tell] = deque()
        # The payload of the last of them, while another client may be told the same.
        self._payload: bytes | None = None
        self._fair = FairQueue()
        self._in_turns = False
        self._ops: deque[tuple[int | None, bytes]] = deque()
        # What streams have said behind an op that is to be done before it.
        self._held: dict[int, deque[tuple[Callable[..., None], tuple[Any, ...]]]] = {}
        self.credit = OPENING_CREDIT
        # How many more ops may be sent of which nobody asks, and the bytes of those that wait.
        self.tells = 0
        self.tell_bytes = 0

    def receive(self, data: bytes | memoryview) -> Iterable[packets.Packet]:
        """Take bytes from the BEAM; return an iterator over the messages that are now whole."""
        self._unpacker.feed(data)
        return self._unpacker  # type: ignore[no-any-return]

    def open_window(self, size: int) -> None:
        """Set the worker's window, of which what is already written has been paid."""
        self.credit += size - OPENING_CREDIT

    def send(self, message: bytes) -> None:
        """Queue a message for the BEAM."""
        if self._held and (stream := packets.stream_of(message)) in self._held and stream:
            self._held[stream].append((self.send, (message,)))
        elif self._in_turns:
            self._fair.put(packets.stream_of(message), message)
        else:
            self._payload = None
            self._packets.append(message)

    def send_ended(self, stream: int) -> None:
        """Say that a stream's handler has returned: with its response, if that is whole and is
        what waits as the last."""
        waiting = self._packets
        if waiting and not self._held and not self._in_turns:
            last = waiting[-1]
            if (
                type(last) is bytes
                and last[1] == packets.RESPONSE_START
                and last[-1] == NO_MORE
                and len(last) < COPIED
                and packets.stream_of(last) == stream
            ):
                waiting[-1] = RESPONSE_HEAD + last[2:-1]
                return
        self.send(packets.encode_ended(stream, None, "", ""))

    def send_payload(self, code: int, stream: int, payload: bytes) -> None:
        """Queue a text or binary for a client; what others are told just before travels once."""
        if stream in self._held:
            self._held[stream].append((self.send_payload, (code, stream, payload)))
        elif self._in_turns:
            self._fair.put(stream, packets.SENDING[code](stream, payload))
        elif payload != self._payload or not self._joins(code, stream, payload):
            self._payload = payload
            self._packets.append(packets.SENDING[code](stream, payload))

    def _joins(self, code: int, stream: int, payload: bytes) -> bool:
        """Let the last message, whose payload is the same, be for one more client, if it may."""
        last = self._packets[-1]
        if isinstance(last, bytes):
            first = packets.stream_of(last)
            if last[1] != code or first == stream or len(payload) > MULTICAST_PAYLOAD:
                return False
            self._packets[-1] = (packets.MULTICAST[code], [first, stream], payload)
            return True
        last_code, streams, _ = cast(Multicast, last)
        if (
            last_code != packets.MULTICAST[code]
            or streams[-1] == stream
            or len(streams) == MULTICAST_STREAMS
        ):
            return False
        streams.append(stream)
        return True

    def take_turns(self) -> None:
        """Let streams take turns until nothing waits: the pipe is full."""
        for message in self._packets:
            if isinstance(message, bytes):
                self._fair.put(packets.stream_of(message), message)
            elif _is_tell(message):
                self._fair.put(packets.stream_of(message[2]), message)
            else:
                self._part(cast(Multicast, message))
        self._packets.clear()
        self._payload = None
        self._in_turns = True

    def _part(self, message: Multicast) -> None:
        """Let each stream that a message is for have it in its own turn."""
        code, streams, payload = message
        single = packets.SEND_TEXT if code == packets.MULTICAST_TEXT else packets.SEND_BYTES
        for stream in streams:
            self._fair.put(stream, packets.SENDING[single](stream, payload))

    def send_op(self, message: bytes, stream: int | None = None) -> None:
        """Queue an op, which passes the others when these wait for credit, and those of other
        streams than its own when streams take turns; but none that its stream has told before."""
        if stream in self._held and message[1] == packets.OP:
            self._held[stream].append((self.send_op, (message, stream)))
        else:
            self._ops.append((stream, message))

    @property
    def may_tell(self) -> bool:
        """Tell whether one more op may be sent of which nobody asks."""
        return self.tells > 0 and self.tell_bytes < TELL_BYTES

    def send_tell(
        self, teller: Teller, message: bytes, stream: int, is_asked: bool = False
    ) -> None:
        """Queue an op, in its stream's order. If somebody holds the teller when the op is written,
        its answer may be asked for: then, or if it is known that it will be, the teller asks."""
        self.tells -= 1
        self.tell_bytes += len(message)
        tell = (packets.OP if is_asked else packets.TELL, teller, message)
        if self._held or self._in_turns:
            self._queue_tell(tell, stream)
        else:  # the hot path
            self._payload = None
            self._packets.append(tell)

    def _queue_tell(self, tell: Tell, stream: int) -> None:
        if stream in self._held:
            self._held[stream].append((self._queue_tell, (tell, stream)))
        elif self._in_turns:
            self._fair.put(stream, tell)
        else:
            self._payload = None
            self._packets.append(tell)

    def send_first(self, message: bytes, stream: int) -> None:
        """Queue an op before whose end nothing else of its stream is written; `release` tells."""
        if stream in self._held:
            self._held[stream].append((self.send_first, (message, stream)))
        else:
            self._ops.append((stream, message))
            self._held[stream] = deque()

    def release(self, stream: int) -> None:
        """Let what has been held of a stream be written, up to the next op of that kind."""
        for send, args in self._held.pop(stream, ()):
            send(*args)

    @property
    def idle(self) -> bool:
        """Tell whether nothing waits to be written."""
        return not (self._packets or self._fair or self._ops or self._held)

    @property
    def writable(self) -> bool:
        """Tell whether something waits that may be written now."""
        return bool(self._ops) or (self.credit > 0 and bool(self._packets or self._fair))

    def take(self) -> bytes:
        """Return the bytes to write next, which are paid for now; empty if none may be."""
        if self.idle:
            self._in_turns = False
            return b""
        waiting, credit = self._packets, self.credit
        chunk: list[bytes] = []
        size = 0
        while waiting and credit > 0 and size < CHUNK:
            # `_add` is written out: this runs once for each message.
            packet = waiting.popleft()
            if isinstance(packet, tuple):
                # Of `_made` what comes most often.
                if packet[0] == packets.TELL and getrefcount(packet[1]) <= _ALONE:
                    packet = packet[2]
                    self.tell_bytes -= len(packet)
                else:
                    packet = self._made(packet)
            length = len(packet)
            chunk.append(length.to_bytes(4, "big"))
            chunk.append(packet)
            size += length
            credit -= length + 4
        if not waiting:
            self._payload = None
        if self._in_turns:
            credit = self._take_fairly(chunk, credit)
            self._in_turns = bool(self._fair)
        if self._ops and (credit <= 0 or not (waiting or self._fair)):
            for stream, packet in self._ops:
                for tell in self._told_before(stream):
                    credit -= _add(tell, chunk)
                credit -= _add(packet, chunk)
            self._ops.clear()
        self.credit = credit
        return b"".join(chunk)

    def _made(self, packet: Any) -> bytes:
        """Return the bytes of what is packed, or known, only when it is written."""
        if not _is_tell(packet):
            code, streams, payload = packet
            return packets.SENDING[code](streams, payload)
        self.tell_bytes -= len(packet[2])
        if packet[0] == packets.TELL and _references(packet) <= _ALONE:
            return packet[2]
        self.tells += 1
        return packet[1].ask(packet[2])

    def _told_before(self, stream: int | None) -> list[bytes]:
        """Take the ops that a stream has told, and that wait for credit: few, as they are paid."""
        if not self.tell_bytes or stream is None:
            return []
        waiting, self._packets = self._packets, deque()
        self._payload = None
        told = self._fair.withdraw(stream)
        for packet in waiting:
            if _is_tell(packet) and packets.stream_of(packet[2]) == stream:
                told.append(packet)
            else:
                self._packets.append(packet)
        return [self._made(tell) for tell in told]

    def _take_fairly(self, chunk: list[bytes], credit: int) -> int:
        """Add ops that may pass, then what waits by streams; return the credit that is left."""
        fair, ops = self._fair, self._ops
        size = 0
        while ops and (stream := ops[0][0]) is not None:
            if fair.holds(stream):
                break
            credit -= _add(ops.popleft()[1], chunk)
        while fair and credit > 0 and size < CHUNK:
            packet = fair.pop()
            paid = _add(packet if isinstance(packet, bytes) else self._made(packet), chunk)
            size += paid
            credit -= paid
        return credit


def _add(packet: bytes, chunk: list[bytes]) -> int:
    """Put a packet and its length into a write; return the bytes that are paid for both."""
    chunk.append(len(packet).to_bytes(4, "big"))
    chunk.append(packet)
    return len(packet) + 4
