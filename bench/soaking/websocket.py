"""A small WebSocket client on asyncio's streams: texts, pings, and two ways to end.

Its frames are masked with zeroes, which costs nothing. Knows nothing of what texts mean.
"""

import asyncio
import socket
import struct

_KEY, _ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
PATIENCE = 20.0


class Ended(Exception):
    """The server ended the conversation, or refused it."""


class WebSocket:
    """One connection; see `connect`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, host: str, port: int, path: str) -> "WebSocket":
        """Connect and upgrade."""
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {_KEY}\r\n\r\n".encode()
        )
        try:
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
        except BaseException:
            reset(writer)
            raise
        if not head.startswith(b"HTTP/1.1 101") or _ACCEPT not in head:
            reset(writer)
            raise Ended(head.split(b"\r\n")[0].decode())
        return cls(reader, writer)

    async def send(self, text: str) -> None:
        """Send a text."""
        self._frame(_TEXT, text.encode())
        await self._writer.drain()

    async def receive(self) -> str:
        """Return the next text; raises Ended when the server closes."""
        async with asyncio.timeout(PATIENCE):
            while True:
                opcode, payload = await self._read()
                if opcode == _TEXT:
                    return payload.decode()
                if opcode == _PING:
                    self._frame(_PONG, payload)
                elif opcode == _CLOSE:
                    raise Ended(f"closed with {int.from_bytes(payload[:2])}")

    async def close(self) -> None:
        """Close with 1000 and wait until the server has hung up."""
        self._frame(_CLOSE, struct.pack(">H", 1000))
        async with asyncio.timeout(PATIENCE):
            while await self._reader.read(65536):
                pass
        self._writer.close()

    def reset(self) -> None:
        """End the connection as a client that crashes: by a reset."""
        reset(self._writer)

    async def _read(self) -> tuple[int, bytes]:
        head = await self._reader.readexactly(2)
        size = head[1] & 0x7F
        if size > 125:
            size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8))
        return head[0] & 0x0F, await self._reader.readexactly(size)

    def _frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        short = size < 126
        head = struct.pack(">BB", 0x80 | opcode, 0x80 | (size if short else 126))
        head += b"" if short else struct.pack(">H", size)
        self._writer.write(head + bytes(4) + payload)


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection."""
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
