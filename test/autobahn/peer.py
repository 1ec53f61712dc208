"""A WebSocket client that says what a case of the Autobahn suite tells it to, right or wrong.

It has the methods and attributes, under their names, that the cases use of Autobahn's own
client, and its manners at the end: it answers a close, waits a second for the server to drop the
connection, and notes who did what.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
import types
import zlib
from collections import Counter
from typing import Any

from suite import States, in_bytes

PATIENCE = 1.0
"""Seconds that the server has to answer a close and to drop the connection."""

TAIL = b"\x00\x00\xff\xff"


class Deflate:
    """The compression of one connection, as negotiated by its response header."""

    def __init__(self, header: str) -> None:
        given = dict((p.strip().partition("=")[::2]) for p in header.split(";")[1:])
        self.client_forgets = "client_no_context_takeover" in given
        self.server_forgets = "server_no_context_takeover" in given
        self.client_bits = int(given.get("client_max_window_bits") or 15)
        self.server_bits = int(given.get("server_max_window_bits") or 15)
        self.squeeze: Any = None
        self.stretch: Any = None

    def deflate(self, data: bytes) -> bytes:
        if self.squeeze is None or self.client_forgets:
            self.squeeze = zlib.compressobj(wbits=-self.client_bits)
        whole = self.squeeze.compress(data) + self.squeeze.flush(zlib.Z_SYNC_FLUSH)
        return bytes(whole.removesuffix(TAIL))

    def inflate(self, data: bytes) -> bytes:
        if self.stretch is None or self.server_forgets:
            self.stretch = zlib.decompressobj(wbits=-self.server_bits)
        return bytes(self.stretch.decompress(data + TAIL))


class Peer(asyncio.Protocol):
    """One connection for one case; `ended` is done when it is over."""

    CLOSE_STATUS_CODE_NORMAL = 1000
    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1007

    def __init__(self, case: type, path: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Any] = self.loop.create_future()
        self.factory = types.SimpleNamespace(isServer=False)
        self.path = path
        self.state = States.STATE_CONNECTING
        self.connectionWasOpen = self.wasClean = False
        self.closedByMe = self.failedByMe = self.droppedByMe = False
        self.remoteCloseCode: int | None = None
        self.localCloseReason: str | None = None
        self.autoFragmentSize = 0
        self.perMessageCompressionOffers: list[Any] = []
        self.perMessageCompressionAccept: Any = None
        self._perMessageCompress: Deflate | None = None
        self.trafficStats = None
        self.createWirelog = False
        self.txFrameStats: Counter[int] = Counter()
        self.buffer = bytearray()
        self.parts: list[bytes] = []
        self.kind, self.compressed = 0, False
        self.outgoing: asyncio.Queue[bytes] | None = None
        self.writer: asyncio.Task[None] | None = None
        self.runCase = case(self)

    # What comes

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = [
            f"GET {self.path} HTTP/1.1",
            "Host: autobahn",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        ]
        offers = [offer.header() for offer in self.perMessageCompressionOffers]
        lines += [f"Sec-WebSocket-Extensions: {', '.join(offers)}"] * bool(offers)
        transport.write("\r\n".join([*lines, "", ""]).encode())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.state == States.STATE_CONNECTING:
            self.opened()
        while self.state != States.STATE_CONNECTING and self.frame_received():
            pass

    def opened(self) -> None:
        head, end, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        if not end:
            return
        status, *fields = head.decode("latin-1").split("\r\n")
        if " 101 " not in status:
            self.transport.abort()
            return
        headers = {
            name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)
        }
        if "sec-websocket-extensions" in headers:
            self._perMessageCompress = Deflate(headers["sec-websocket-extensions"])
        self.buffer = bytearray(rest)
        self.state, self.connectionWasOpen = States.STATE_OPEN, True
        self.runCase.onOpen()

    def frame_received(self) -> bool:
        if len(self.buffer) < 2:
            return False
        first, size = self.buffer[0], self.buffer[1]
        begin = 2 + {126: 2, 127: 8}.get(size, 0)
        if len(self.buffer) < begin:
            return False
        if begin > 2:
            size = int.from_bytes(self.buffer[2:begin], "big")
        if len(self.buffer) < begin + size:
            return False
        payload = bytes(self.buffer[begin : begin + size])
        del self.buffer[: begin + size]
        self.take(first, payload)
        return True

    def take(self, first: int, payload: bytes) -> None:
        match first & 0x0F:
            case 8:
                self.close_received(payload)
            case 9:
                self.sendFrame(opcode=10, payload=payload)
            case 10:
                self.runCase.onPong(payload.decode("latin-1"))
            case opcode:
                if opcode:
                    self.kind, self.compressed = opcode, bool(first & 0x40)
                self.parts.append(payload)
                if first & 0x80:
                    self.message_received()

    def message_received(self) -> None:
        whole = b"".join(self.parts)
        self.parts = []
        if self.compressed and self._perMessageCompress:
            whole = self._perMessageCompress.inflate(whole)
        if self.state == States.STATE_OPEN:
            self.runCase.onMessage(whole.decode("latin-1"), self.kind == 2)

    def close_received(self, payload: bytes) -> None:
        self.remoteCloseCode = int.from_bytes(payload[:2], "big") if payload else None
        self.wasClean = True
        if self.state == States.STATE_OPEN:
            self.state = States.STATE_CLOSING
            self.sendFrame(opcode=8, payload=payload[:2])
        self.later(PATIENCE, self.not_dropped)

    def not_dropped(self) -> None:
        self.wasClean = False
        self.drop()

    def no_answer(self) -> None:
        if not self.wasClean:
            self.drop()

    def drop(self) -> None:
        self.droppedByMe = True
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.state = States.STATE_CLOSED
        if self.writer:
            self.writer.cancel()
        try:
            self.runCase.onClose(self.wasClean, self.remoteCloseCode, None)
            self.runCase.onConnectionLost(self.failedByMe)
        finally:
            if not self.ended.done():
                self.ended.set_result(self.runCase)

    # What the cases ask for

    def sendFrame(
        self,
        opcode: int,
        payload: str | bytes = b"",
        fin: bool = True,
        rsv: int = 0,
        mask: bytes | None = None,
        payload_len: int | None = None,
        chopsize: int | None = None,
        sync: bool = False,
    ) -> None:
        data = in_bytes(payload)
        if payload_len is not None:
            data = (data * (payload_len // len(data) + 1))[:payload_len] if data else b""
        self.txFrameStats[opcode] += 1
        self.write(frame(opcode, data, fin, rsv), chopsize or (1 << 30 if sync else 0))

    def write(self, data: bytes, chop: int) -> None:
        """Write at once, or in pieces of which each has its own write."""
        if self.outgoing is None and not chop:
            self.transport.write(data)
            return
        if self.outgoing is None:
            self.outgoing = asyncio.Queue()
            self.writer = self.loop.create_task(self.write_pieces(self.outgoing))
        size = chop or len(data) or 1
        for begin in range(0, len(data), size):
            self.outgoing.put_nowait(data[begin : begin + size])

    async def write_pieces(self, pieces: asyncio.Queue[bytes]) -> None:
        while not self.transport.is_closing():
            self.transport.write(await pieces.get())
            await asyncio.sleep(0)

    def sendMessage(
        self, payload: str | bytes, isBinary: bool = False, fragmentSize: int | None = None
    ) -> None:
        data, rsv = in_bytes(payload), 0
        if self._perMessageCompress:
            data, rsv = self._perMessageCompress.deflate(data), 4
        size = fragmentSize or self.autoFragmentSize or len(data) or 1
        pieces = [data[begin : begin + size] for begin in range(0, len(data), size)] or [b""]
        for number, piece in enumerate(pieces):
            opcode = 0 if number else 2 if isBinary else 1
            last = number == len(pieces) - 1
            self.sendFrame(opcode, piece, fin=last, rsv=0 if number else rsv)

    def beginMessage(self) -> None:
        pass

    def beginMessageFrame(self, length: int) -> None:
        """Begin a fragment of fewer than 126 bytes; a mask of zeros leaves its data as they are."""
        self.transport.write(bytes([1, 0x80 | length]) + bytes(4))

    def sendMessageFrameData(self, payload: str) -> None:
        self.transport.write(in_bytes(payload))

    def endMessage(self) -> None:
        self.sendFrame(opcode=0)

    def sendClose(self, code: int | None = None, reason: str | None = None) -> None:
        if self.state == States.STATE_OPEN:
            self.sendCloseFrame(code, reason)

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: str | None = None, isReply: bool = False
    ) -> None:
        payload = b"" if code is None else struct.pack(">H", code)
        self.sendFrame(opcode=8, payload=payload + in_bytes(reasonUtf8 or b""))
        self.state, self.closedByMe = States.STATE_CLOSING, not isReply
        self.later(PATIENCE, self.no_answer)

    def killAfter(self, delay: float) -> None:
        self.later(delay, self.fail)

    def fail(self) -> None:
        self.failedByMe = True
        self.sendClose(1001, "Going Away")

    def closeAfter(self, delay: float) -> None:
        self.later(delay, self.sendClose)

    def continueLater(self, delay: float, function: Any, tag: Any = None) -> None:
        self.later(delay, function)

    def later(self, delay: float, function: Any) -> None:
        def run() -> None:
            if self.state != States.STATE_CLOSED:
                function()

        self.loop.call_later(delay, run)

    def enableWirelog(self, enable: bool) -> None:
        pass


def frame(opcode: int, data: bytes, fin: bool, rsv: int) -> bytes:
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    if len(data) < 126:
        head += bytes([0x80 | len(data)])
    elif len(data) < 65536:
        head += struct.pack(">BH", 0xFE, len(data))
    else:
        head += struct.pack(">BQ", 0xFF, len(data))
    key = os.urandom(4)
    pad = (key * (len(data) // 4 + 1))[: len(data)]
    number = int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")
    return head + key + number.to_bytes(len(data), "big")
