"""A backend for the channels of Litestar: what is published reaches the sockets of all workers.

    plugin = ChannelsPlugin(backend=HornbeamChannelsBackend(), arbitrary_channels_allowed=True)

Needs the package `litestar`, 2 or newer.
"""

import logging
from collections.abc import AsyncGenerator, Iterable

from litestar.channels import ChannelsBackend

from hornbeam_erlang._ops.feed import Feed
from hornbeam_erlang.pubsub import publish

__all__ = ["HornbeamChannelsBackend"]

_log = logging.getLogger("hornbeam_erlang.litestar")


class HornbeamChannelsBackend(ChannelsBackend):
    """Channels by topics, whose names begin with `prefix`; it keeps no history."""

    def __init__(self, prefix: str = "litestar") -> None:
        self._prefix = f"{prefix}:"
        self._feed: Feed | None = None

    async def on_startup(self) -> None:
        """Let messages come to this process."""
        self._feed = Feed(_log.error)
        self._feed.open()

    async def on_shutdown(self) -> None:
        """Let no more come."""
        await self._opened().close()
        self._feed = None

    def _opened(self) -> Feed:
        if self._feed is None:
            raise RuntimeError("the backend has not been started: `on_startup` comes first")
        return self._feed

    async def publish(self, data: bytes, channels: Iterable[str]) -> None:
        """Publish data to channels, and wait until the node has handed it out."""
        for sent in [publish(self._prefix + channel, data) for channel in channels]:
            await sent

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Hear channels from now on."""
        for channel in channels:
            await self._opened().subscribe(self._prefix + channel)

    async def unsubscribe(self, channels: Iterable[str]) -> None:
        """Hear them no more."""
        for channel in channels:
            await self._opened().unsubscribe(self._prefix + channel)

    async def stream_events(self) -> AsyncGenerator[tuple[str, bytes], None]:
        """Yield each channel's data as it comes."""
        async for topic, data in self._opened().messages():
            yield topic.removeprefix(self._prefix), data

    async def get_history(self, channel: str, limit: int | None = None) -> list[bytes]:
        """Raise `NotImplementedError`, as do other backends that only pass messages on."""
        raise NotImplementedError("Hornbeam keeps no history of a channel")
