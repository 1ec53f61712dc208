"""The protocol without I/O: bytes in, messages out, and what credit allows to be written.

Knows the wire and its credit. Must not know file descriptors, loops or threads: whoever owns
those feeds bytes in, iterates over the messages, and writes what `take` returns.
"""

from collections import deque
from collections.abc import Iterable

from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.fair import FairQueue

# What may be written before `start` has told the real window: enough for `hello`.
OPENING_CREDIT = 65_536

# One write is at most about this long, so that joining packets does not double a backlog.
CHUNK = 262_144

# What messages for several clients may be together: no more streams than the BEAM reads, and a
# payload that leaves room for their numbers.
MULTICAST_STREAMS = 65_535
MULTICAST_PAYLOAD = packets.MAX_MESSAGE // 2

# A message for several clients, packed when it is written: its code, its streams, the payload.
Multicast = tuple[int, list[int], bytes]


class Endpoint:
    """The worker's end of the two pipes: what the BEAM knows as its port."""

    __slots__ = ("_fair", "_in_turns", "_ops", "_packets", "_payload", "_unpacker", "credit")

    def __init__(self) -> None:
        self._unpacker = packets.unpacker()
        # What waits in its order or, while the pipe is full, by streams.
        self._packets: deque[bytes | Multicast] = deque()
        # The payload of the last of them, while another client may be told the same.
        self._payload: bytes | None = None
        self._fair = FairQueue()
        self._in_turns = False
        self._ops: deque[tuple[int | None, bytes]] = deque()
        self.credit = OPENING_CREDIT

    def receive(self, data: bytes | memoryview) -> Iterable[packets.Packet]:
        """Take bytes from the BEAM; return an iterator over the messages that are now whole."""
        self._unpacker.feed(data)
        return self._unpacker  # type: ignore[no-any-return]

    def open_window(self, size: int) -> None:
        """Set the worker's window, of which what is already written has been paid."""
        self.credit += size - OPENING_CREDIT

    def send(self, message: bytes) -> None:
        """Queue a message for the BEAM."""
        if self._in_turns:
            self._fair.put(packets.stream_of(message), message)
        else:
            self._payload = None
            self._packets.append(message)

    def send_payload(self, code: int, stream: int, payload: bytes) -> None:
        """Queue a text or binary for a client; what others are told just before travels once."""
        if self._in_turns:
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
        last_code, streams, _ = last
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
            else:
                self._part(message)
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
        streams than its own when streams take turns."""
        self._ops.append((stream, message))

    @property
    def idle(self) -> bool:
        """Tell whether nothing waits to be written."""
        return not self._packets and not self._fair and not self._ops

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
                code, streams, payload = packet
                packet = packets.SENDING[code](streams, payload)
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
            for _, packet in self._ops:
                credit -= _add(packet, chunk)
            self._ops.clear()
        self.credit = credit
        return b"".join(chunk)

    def _take_fairly(self, chunk: list[bytes], credit: int) -> int:
        """Add ops that may pass, then what waits by streams; return the credit that is left."""
        fair, ops = self._fair, self._ops
        size = 0
        while ops and (stream := ops[0][0]) is not None:
            if fair.holds(stream):
                break
            credit -= _add(ops.popleft()[1], chunk)
        while fair and credit > 0 and size < CHUNK:
            paid = _add(fair.pop(), chunk)
            size += paid
            credit -= paid
        return credit


def _add(packet: bytes, chunk: list[bytes]) -> int:
    """Put a packet and its length into a write; return the bytes that are paid for both."""
    chunk.append(len(packet).to_bytes(4, "big"))
    chunk.append(packet)
    return len(packet) + 4
