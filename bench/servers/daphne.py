"""daphne, Django Channels' own server: one process a worker, on a socket that they share."""

from typing import ClassVar

from servers import python
from servers.channels import ByRedis
from servers.process import BENCH, Server


class Daphne(Server):
    APP: ClassVar[str] = "echo:application"
    READY: ClassVar[str] = "Listening on TCP address"

    def command(self) -> list[str]:
        """Each process on descriptor 0, as Channels' documentation deploys it."""
        return [
            *(str(python.PYTHON), str(BENCH / "servers/shared.py"), str(self.workers)),
            *(str(python.VENV / "bin/daphne"), "--fd", "0", self.APP),
        ]

    @property
    def ready_count(self) -> int:
        return self.workers

    def versions(self) -> dict[str, str]:
        return python.versions("daphne", "twisted", "autobahn")


class DaphneChannels(ByRedis, Daphne):
    """daphne whose consumers share groups by channels_redis."""


class DaphneCore(DaphneChannels):
    """The same by its other layer."""

    LAYER: ClassVar[str] = "core"
