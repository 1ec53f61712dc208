"""The channels of one process: queues by name, the groups that they are in, and who waits.

Knows how messages come to a process's address and to the topics of its groups, and what it tells
Erlang of its queues. Must not know which framework's channels they are. Safe from any thread.
"""

import logging
import math
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar, cast

from hornbeam_erlang._ops import channel_requests, identity
from hornbeam_erlang._ops.background import begin, soon
from hornbeam_erlang._ops.carrier import Carrier
from hornbeam_erlang._ops.channel_everybody import Everybody, Questions, done
from hornbeam_erlang._ops.channel_queue import Channel, Posted, Queued, SharedChannel
from hornbeam_erlang._ops.hearing import Hearing
from hornbeam_erlang._ops.identity import WORKER
from hornbeam_erlang._ops.mailbox import Listener, Published
from hornbeam_erlang._ops.perform import perform_async, tell, told
from hornbeam_erlang.exceptions import ConnectionEnded

# How often channels are looked for that nobody reads any more (seconds), and how many new ones are
# reason to look at once: those to which somebody sends and that nobody reads may be any number.
SWEEP = 60.0
MANY = 1000

# How long a channel stays in its groups after a message in it has expired, if nobody waits for one
# (seconds): a consumer may have much to do before it comes back, unless its connection is over.
ABANDONED = 3600.0

C = TypeVar("C", bound=Channel)

_log = logging.getLogger("hornbeam_erlang.channels")


class Names(NamedTuple):
    """The topics of channels and groups that have the same prefix."""

    prefix: str

    @property
    def all(self) -> str:
        return f"channels:{self.prefix}:"

    @property
    def everybody(self) -> str:
        """The topic that all processes hear."""
        return f"{self.all}everybody"

    def channel(self, name: str) -> str:
        return f"{self.all}channel:{name}"

    def group(self, name: str) -> str:
        return f"{self.all}group:{name}"

    def address(self, client: str) -> str:
        """The topic that one process hears, by the part of its channels that is its own."""
        return f"{self.all}to:{client}"

    def owner(self, channel: str) -> str:
        """The address of the process that reads a channel of its own."""
        return self.address(channel.partition("!")[0].rpartition(".")[2])


class Board:
    """All channels of this process that have one prefix; hears its address and its groups."""

    def __init__(
        self,
        carrier: Carrier,
        names: Names,
        client: str,
        seconds: float,
        capacity: Callable[[str], int],
    ) -> None:
        self.carrier = carrier
        self._now = carrier.now
        self.address = names.address(client)
        self._names = names
        self._seconds = seconds
        self._capacity = capacity
        self._channels: dict[str, Channel] = {}
        # Those that others read too, by their topics, as far as somebody here has waited for one.
        self._shared: dict[str, SharedChannel] = {}
        # The members of groups here, by their topics, with the times until which they are.
        self._groups: dict[str, dict[Channel, float]] = {}
        self._questions = Questions(self.address)
        self._everybody = Everybody.here(carrier.topics, names.everybody)
        # Nothing is told under it: who brings messages may wait for it.
        self._guard = threading.RLock()
        self._swept, self._many = self._now(), MANY
        # What full channels have not taken since it was last told: by groups, of how many.
        self._losses: dict[str, tuple[int, int]] = {}
        self.dropped = 0
        listener = Listener(self._take, self._end)
        self._hearing = Hearing(self.carrier.topics, listener, self._guard)

    async def open(self) -> None:
        """Let messages come to this process."""
        if self.address not in self._hearing:
            await self._everybody.join(self)
            await self._hearing.start(self.address)

    # What comes

    def _take(self, message: Published, at_home: bool) -> None:
        """Give a message to the channels that it is for, or do what it says."""
        if (members := self._groups.get(message.topic)) is not None:
            self._distribute(members, message, at_home)
            return
        match message.value:
            case ["sent", str(name), value]:
                self._take_sent(name, value, message.packed, at_home)
            case ["queued", str(topic), int(turn), int(milliseconds), value]:
                until = self._now() + milliseconds / 1000
                queued = Queued(topic, message.packed, until, turn)
                self._take_queued(queued, value, at_home)
            case ["join", str(group), str(name), seconds, str(reply), int(token)]:
                begin(self._answered(self.join(group, name, seconds), reply, token))
            case ["leave", str(group), str(name), str(reply), int(token)]:
                begin(self._answered(self.leave(group, name), reply, token))
            case ["done", int(token)]:
                self._questions.answered(token)

    def _distribute(self, members: dict[Channel, float], message: Published, at_home: bool) -> None:
        now, full, known = self._now(), 0, list(members.items())
        posted = Posted(message.topic, message.packed, now + self._seconds)
        for channel, until in known:
            if until <= now:
                self._expel(message.topic, channel)
            elif not channel.offer(posted, at_home):
                full += 1
        if full:
            self._note_losses(message.topic, full, len(known))

    def _take_sent(self, name: str, value: Any, packed: bytes, at_home: bool) -> None:
        posted = Posted(name, packed, self._now() + self._seconds).with_value(value)
        channel = self._channel(name)
        if channel.offer(posted, at_home):
            return
        if (instead := self._channel(name)) is channel or not instead.offer(posted, at_home):
            self._note_losses(name, 1, 1)

    def _take_queued(self, queued: Queued, value: Any, at_home: bool) -> None:
        """Take a message of a channel that others read too, if somebody here still waits."""
        with self._guard:
            channel = self._shared_channel(queued.topic)
            channel.wanted = max(channel.wanted - 1, 0)
            is_awaited = len(channel) < channel.waiting
            if is_awaited:
                channel.offer(queued.with_value(value), at_home)
        if not is_awaited:
            self._put_back(queued, value)

    def _put_back(self, queued: Queued, value: Any) -> None:
        left = queued.deadline - self._now()
        tell(channel_requests.put_back(queued.topic, queued.turn, value, left))

    async def _answered(self, work: Coroutine[Any, Any, None], reply: str, token: int) -> None:
        await work
        await told(done(reply, token))

    def _end(self) -> None:
        """Tell those who wait that no message will come: the way to the node is gone."""
        for channel in [*self._channels.values(), *self._shared.values()]:
            channel.close()

    # What is lost

    def _tell(self, channel: Channel) -> None:
        """Let Erlang know what it does not know of a channel."""
        if expired := channel.take_expired():
            tell(channel_requests.lost(expired, True))
        self._tell_fullness(channel)

    def _tell_fullness(self, channel: Channel) -> None:
        """Let Erlang know whether a channel is full, one thread at a time; the last looks again."""
        while not channel.is_known and channel.telling.acquire(blocking=False):
            try:
                channel.full_until = channel.no_room_until()
                seconds = channel.full_until - self._now()
                is_full = channel.full_until > 0
                tell(channel_requests.full(self._names.channel(channel.name), is_full, seconds))
            finally:
                channel.telling.release()

    def _note_losses(self, place: str, full: int, members: int) -> None:
        """Count messages that are lost; the log is told of them between two messages."""
        with self._guard:
            is_first = not self._losses
            self._losses[place] = full, members
            self.dropped += full
        tell(channel_requests.lost(full, False))
        if is_first:
            soon(self._log_losses)

    def _log_losses(self) -> None:
        with self._guard:
            losses, self._losses = self._losses, {}
        for place, (full, members) in losses.items():
            group = place.removeprefix(self._names.group(""))
            where = f"channel {place}" if group == place else f"group {group}"
            _log.info("%d of %d channels over capacity in %s", full, members, where)

    # Reading

    def _channel(self, name: str) -> Channel:
        """Return a channel of this process, which may be a new one."""
        if (channel := self._channels.get(name)) is not None:
            return channel
        with self._guard:
            self._sweep()
            home = self.carrier.topics.home
            new = Channel(name, self._capacity(name), home, self._now, self._tell)
            return self._channels.setdefault(name, new)

    def _shared_channel(self, topic: str) -> SharedChannel:
        """Return a channel that others read too; under the guard."""
        if (channel := self._shared.get(topic)) is None:
            self._sweep()
            home = self.carrier.topics.home
            channel = self._shared[topic] = SharedChannel(topic, home, self._now)
        return channel

    def known(self, name: str) -> Channel | None:
        """Return a channel of this process that there is already."""
        return self._channels.get(name)

    async def receive(self, name: str) -> dict[str, Any]:
        """Wait for the next message of a channel of this process."""
        channel = self._channel(name)
        channel.unread_since = math.inf
        # The hot path: `receive_async` is written out.
        while True:
            try:
                found = channel.next_or_future()
            except ConnectionEnded:
                channel = self._instead(channel)
                continue
            if isinstance(found, Published):
                message: Published | None = found
            else:
                try:
                    message = await found
                except BaseException:
                    channel.leave(found)
                    self._rescue(channel)
                    raise
            if channel.expired or (channel.full_until and channel.has_room):
                self._tell(channel)
            if message is not None:
                return message.for_one()  # type: ignore[attr-defined, no-any-return]

    def _rescue(self, channel: Channel) -> None:
        """Let what was returned to a forgotten channel wait in the one that stands for it."""
        if channel.closed and (instead := self._channel(channel.name)) is not channel:
            for message in iter(channel.take, None):
                instead.offer(cast(Posted, message), False)

    def _instead(self, closed: Channel) -> Channel:
        """Return the channel that stands for one which was forgotten just now."""
        if (channel := self._channel(closed.name)) is closed:
            raise ConnectionEnded("the connection to the node is over, and with it this channel")
        return channel

    async def receive_shared(self, topic: str) -> dict[str, Any]:
        """Wait for the next message of a channel that others read too."""
        with self._guard:
            channel = self._shared_channel(topic)
            channel.waiting += 1
            channel.wanted += 1
        try:
            await told(channel_requests.want(topic, self.address, True))
            message = await channel.receive_async()
        finally:
            self._wait_no_more(channel)
        return cast(dict[str, Any], message.value)

    def _wait_no_more(self, channel: SharedChannel) -> None:
        """Let others have what nobody waits for here."""
        back: list[Published] = []
        with self._guard:
            channel.waiting -= 1
            if channel.closed:
                return  # the way to the node is gone, and to all others
            is_less = channel.wanted > channel.waiting
            channel.wanted -= is_less
            while len(channel) > channel.waiting and (message := channel.take()) is not None:
                back.append(message)
        if is_less:
            tell(channel_requests.want(channel.name, self.address, False))
        for message in back:
            self._put_back(cast(Queued, message), message.value)

    # Groups

    async def join(self, group: str, name: str, seconds: float) -> None:
        """Let a channel of this process have what is published to a group, for so long."""
        with self._guard:
            channel = self._channel(name)
            self._groups.setdefault(group, {})[channel] = self._now() + seconds
            channel.groups.add(group)
            channel.owner = identity.current.get() or WORKER
        try:
            if group not in self._hearing:
                await self._hearing.start(group)
        except BaseException:
            self._remove(group, channel)
            raise
        finally:
            await self._leave_empty(group)

    async def leave(self, group: str, name: str) -> None:
        """Let it have that no more."""
        if (channel := self._channels.get(name)) is not None:
            self._remove(group, channel)
        await self._leave_empty(group)

    def _remove(self, group: str, channel: Channel) -> None:
        with self._guard:
            channel.groups.discard(group)
            if (members := self._groups.get(group)) is not None:
                members.pop(channel, None)

    async def _leave_empty(self, group: str) -> None:
        """Hear a group no more that has no members here."""
        if not self._groups.get(group):
            await self._hearing.stop(group, lambda: self._has_members(group))

    def _has_members(self, group: str) -> bool:
        """Tell whether a group has members here; under the guard."""
        if self._groups.get(group):
            return True
        self._groups.pop(group, None)
        return False

    async def ask(self, topic: str, *order: Any) -> None:
        """Have all processes that hear a topic do something, and wait until they have."""
        await self._questions.ask(topic, *order)

    async def clear(self) -> None:
        """Forget the messages and groups of this prefix, here and in all other processes."""
        await perform_async(channel_requests.clear(self._names.all))
        await self._questions.ask(self._names.everybody, "clear")

    async def clear_here(self) -> None:
        """Forget all messages and groups of this board."""
        with self._guard:
            groups = list(self._groups)
            for members in self._groups.values():
                members.clear()
            for channel in self._channels.values():
                channel.groups.clear()
        for channel in list(self._channels.values()):
            channel.clear()
            self._tell(channel)
        for group in groups:
            await self._leave_empty(group)

    # Channels that nobody reads

    def _sweep(self) -> None:
        """Forget channels that nobody reads, now and then; under the guard."""
        if self._now() - self._swept < SWEEP and len(self._channels) < self._many:
            return
        self._swept, expired = self._now(), 0
        for channel in list(self._channels.values()):
            channel.drop_expired()
            expired += channel.take_expired()
            self._sweep_groups(channel)
            if not channel.groups:
                _forget(self._channels, channel)
        for shared in list(self._shared.values()):
            _forget(self._shared, shared)
        self._many = 2 * len(self._channels) + MANY
        if expired:
            begin(self._tell_expired(expired))

    async def _tell_expired(self, messages: int) -> None:
        await told(channel_requests.lost(messages, True))

    def _sweep_groups(self, channel: Channel) -> None:
        """Take a channel out of groups where its time is over, and of all if none reads it."""
        is_abandoned = self._is_abandoned(channel)
        for group in list(channel.groups):
            until = self._groups.get(group, {}).get(channel, 0)
            if is_abandoned or until <= self._swept:
                self._expel(group, channel)

    def _is_abandoned(self, channel: Channel) -> bool:
        is_open = self.carrier.topics.is_open(channel.owner)
        since = channel.unread_since + (ABANDONED if is_open else 0)
        return since <= self._swept and not channel.has_waiters

    def _expel(self, group: str, channel: Channel) -> None:
        self._remove(group, channel)
        if not self._groups.get(group):
            begin(self._leave_empty(group))


def _forget(channels: dict[str, C], channel: C) -> None:
    """Forget a channel, if nothing is there; first it is not found any more."""
    del channels[channel.name]
    if not channel.retire():
        channels[channel.name] = channel
