"""A channel layer for Django Channels: its channels and groups without Redis.

    CHANNEL_LAYERS = {
        "default": {"BACKEND": "hornbeam_erlang.channels.HornbeamChannelLayer"},
    }

Messages go through the node: a group is a topic that a worker subscribes to once, however many
members it has there. In a worker it is there; management commands and other processes of the same
user reach it by the node's local socket. Needs the package `channels`, 4 or newer.
"""

import os
import threading
import uuid
from collections.abc import Mapping
from re import Pattern
from typing import Any

from channels.exceptions import ChannelFull, MessageTooLarge
from channels.layers import BaseChannelLayer

from hornbeam_erlang._ops import channel_requests
from hornbeam_erlang._ops.carrier import Carrier, connected, installed
from hornbeam_erlang._ops.channels import Board, Names
from hornbeam_erlang._ops.perform import perform_async
from hornbeam_erlang._wire.values import pack

__all__ = ["ChannelFull", "HornbeamChannelLayer", "MessageTooLarge"]

# Held by the first who needs what a process has once; a fork may come in the middle of that.
_first = threading.Lock()


def _forget_lock() -> None:
    global _first  # noqa: PLW0603
    _first = threading.Lock()


os.register_at_fork(after_in_child=_forget_lock)

# An array of three, the first of which says what it is: what a process is sent for its channels.
_SENT = b"\x93" + pack("sent")


class HornbeamChannelLayer(BaseChannelLayer):  # type: ignore[misc] # it has no types
    """The channels and groups of all processes that use the same `prefix` on one node.

    `expiry` is how many seconds a message waits to be read, `capacity` how many of them may wait in
    a channel; `channel_capacity` maps patterns of names (globs, or compiled regular expressions) to
    other capacities. A channel is in a group until `group_expiry` seconds after it was last added.
    `max_message_size` is in bytes, as packed. What is lost because a channel of a group is full is
    logged, and counted in `dropped` and in `channel_losses` of `hornbeam:info/0`.
    """

    extensions = ["groups", "flush"]  # noqa: RUF012 - as the specification has it

    ChannelFull = ChannelFull
    MessageTooLarge = MessageTooLarge

    def __init__(
        self,
        prefix: str = "channels",
        expiry: float = 60,
        group_expiry: float = 86_400,
        capacity: int = 100,
        channel_capacity: Mapping[str | Pattern[str], int] | None = None,
        max_message_size: int = 4 << 20,
    ) -> None:
        super().__init__(expiry=expiry, capacity=capacity)
        self.prefix = prefix
        self.group_expiry = group_expiry
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self.max_message_size = max_message_size
        self._names = Names(prefix)
        self._process = 0
        self._client = ""
        self._board: Board | None = None

    @property
    def client_prefix(self) -> str:
        """What stands before the `!` of this process's own channels, behind the prefix of each."""
        if self._process != os.getpid():  # also after a fork
            with _first:
                self._become(os.getpid())
        return self._client

    def _become(self, process: int) -> None:
        """Be the layer of a process, which has nothing yet."""
        if self._process != process:
            self._client, self._board = uuid.uuid4().hex, None
            self._process = process  # at last: others look at it first

    @property
    def dropped(self) -> int:
        """How many messages full channels of this process have not taken."""
        return 0 if self._board is None else self._board.dropped

    def _is_current(self, board: Board) -> bool:
        return board.carrier is installed() and self._process == os.getpid()

    def _known_board(self) -> Board:
        client, carrier = self.client_prefix, connected()
        board = self._board
        if board is None or board.carrier is not carrier:
            with _first:
                board = self._made_board(client, carrier)
        return board

    def _made_board(self, client: str, carrier: Carrier) -> Board:
        """Return the board that whoever was first has made."""
        board = self._board
        if board is None or board.carrier is not carrier:
            board = Board(carrier, self._names, client, self.expiry, self.get_capacity)
            self._board = board
        return board

    async def _opened_board(self) -> Board:
        board = self._known_board()
        await board.open()
        return board

    # Channels

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message to a channel; raises `ChannelFull` where it has no room."""
        self.require_valid_channel_name(channel)
        packed = self._packed(message)
        name = self._names.channel(channel)
        if "!" in channel:
            order = _SENT + pack(channel) + packed
            request = channel_requests.send(name, self._names.owner(channel), order)
        else:
            capacity = self.get_capacity(channel)
            request = channel_requests.put(name, packed, self.expiry, capacity)
        if not await perform_async(request):
            raise ChannelFull(channel)

    def _packed(self, message: dict[str, Any]) -> bytes:
        assert isinstance(message, dict), "message is not a dict"
        packed = pack(message, "message")
        if len(packed) > self.max_message_size:
            raise MessageTooLarge(
                f"the message has {len(packed)} bytes, max_message_size is {self.max_message_size}"
            )
        return packed

    async def receive(self, channel: str) -> dict[str, Any]:
        """Wait for the next message of a channel: one of this process's own, or any without `!`."""
        board = self._board
        if board is not None and self._is_current(board) and board.known(channel) is not None:
            return await board.receive(channel)  # the hot path: nothing has to be looked at again
        self.require_valid_channel_name(channel)
        board = await self._opened_board()
        if "!" not in channel:
            return await board.receive_shared(self._names.channel(channel))
        assert self._is_own(channel), "Wrong client prefix"
        return await board.receive(channel)

    def _is_own(self, channel: str) -> bool:
        return channel.partition("!")[0].endswith(self.client_prefix)

    async def new_channel(self, prefix: str = "specific") -> str:
        """Return the name of a new channel, which this process alone can read."""
        await self._opened_board()
        return f"{prefix}.{self.client_prefix}!{uuid.uuid4().hex}"

    # Groups

    async def group_add(self, group: str, channel: str) -> None:
        """Let a channel have what is sent to a group from now on."""
        self._check(group, channel)
        topic = self._names.group(group)
        if "!" not in channel:
            name, capacity = self._names.channel(channel), self.get_capacity(channel)
            request = channel_requests.join(topic, name, self.group_expiry, self.expiry, capacity)
            await perform_async(request)
            return
        board = await self._opened_board()
        if self._is_own(channel):
            await board.join(topic, channel, self.group_expiry)
        else:
            owner = self._names.owner(channel)
            await board.ask(owner, "join", topic, channel, self.group_expiry)

    async def group_discard(self, group: str, channel: str) -> None:
        """Let it have that no more."""
        self._check(group, channel)
        topic = self._names.group(group)
        if "!" not in channel:
            await perform_async(channel_requests.leave(topic, self._names.channel(channel)))
            return
        board = await self._opened_board()
        if self._is_own(channel):
            await board.leave(topic, channel)
        else:
            await board.ask(self._names.owner(channel), "leave", topic, channel)

    def _check(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to all channels of a group; those that are full lose it.

        The node has handed it to all processes when this returns, and each process its messages in
        that order: as with other layers, a reader that has not begun yet finds all of them.
        """
        self.require_valid_group_name(group)
        topic, packed = self._names.group(group), self._packed(message)
        await perform_async(channel_requests.publish(topic, packed))

    # Flush

    async def flush(self) -> None:
        """Forget all messages and groups of this prefix, in all processes."""
        await (await self._opened_board()).clear()

    async def close(self) -> None:
        """Do nothing: what this process has ends with it."""

    # What scripts that were written for channels_redis call.
    close_pools = close
