"""The app that joins groups of Django Channels, on a layer that needs a server beside it."""

from typing import ClassVar

from servers import python
from servers.nats import WithNats
from servers.process import Server
from servers.redis import WithRedis


class Grouping(Server):
    """Mixed into a server: what it serves, and the name of the layer."""

    APP: ClassVar[str] = "fanout_channels:application"
    LAYER: ClassVar[str]
    PACKAGES: ClassVar[tuple[str, ...]] = ()

    def environment(self) -> dict[str, str]:
        return super().environment() | {"CHANNEL_LAYER": self.LAYER}

    def versions(self) -> dict[str, str]:
        return super().versions() | python.versions("channels", *self.PACKAGES, "django")


class ByRedis(Grouping, WithRedis):
    """By channels_redis: its layer on redis' pub/sub."""

    LAYER: ClassVar[str] = "pubsub"
    PACKAGES: ClassVar[tuple[str, ...]] = ("channels_redis",)


class ByNats(Grouping, WithNats):
    """By channels-nats."""

    LAYER: ClassVar[str] = "nats"
    PACKAGES: ClassVar[tuple[str, ...]] = ("channels-nats",)
