"""Several servers that are one to their clients, each at a port of its own.

Their CPU is added up; the first one's port is where a load publishes.
"""

import time
from abc import abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import ClassVar, Self

from servers.channels import ByRedis
from servers.hornbeam import HornbeamNode
from servers.process import START_SECONDS, Server, ServerError, free_port
from servers.redis import WithRedis
from servers.uvicorn import Uvicorn, UvicornChannels, UvicornRedis

COUNT = 3


class Several(Server):
    """So many of them; a subclass says what they are."""

    members: list[Server]

    @abstractmethod
    def made(self) -> list[Server]:
        """The servers, none of which runs yet."""

    def __enter__(self) -> Self:
        with ExitStack() as entered:
            self.members = [entered.enter_context(member) for member in self.made()]
            self.settle()
            self._entered = entered.pop_all()
        self.port = self.members[0].port
        return self

    def settle(self) -> None:
        """Wait until they are one."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered.__exit__(kind, error, traceback)

    @property
    def ports(self) -> str:
        return ",".join(str(member.port) for member in self.members)

    @property
    def pids(self) -> list[int]:
        return [pid for member in self.members for pid in member.pids]

    def check_alive(self) -> None:
        for member in self.members:
            member.check_alive()

    def output(self) -> str:
        return "".join(member.output() for member in self.members)

    def command(self) -> list[str]:
        raise NotImplementedError("each has its own")

    def versions(self) -> dict[str, str]:
        return self.made()[0].versions()


class HornbeamCluster(Several):
    """Nodes of Hornbeam, of which each knows the others' addresses."""

    def made(self) -> list[Server]:
        ports = [free_port() for _ in range(COUNT)]
        return [HornbeamNode(self.workers, port, ports) for port in ports]

    def settle(self) -> None:
        end = time.monotonic() + START_SECONDS
        while not all("joined all" in member.output() for member in self.members):
            self.check_alive()
            if time.monotonic() > end:
                raise ServerError(f"the nodes have not found each other:\n{self.output()[-4000:]}")
            time.sleep(0.02)


class _OneOfSeveral(Uvicorn):
    """One that was told where the redis-server is which all have in common."""

    def __init__(self, several: Server) -> None:
        super().__init__(several.workers)
        self._told = several.environment() if hasattr(several, "beside") else {}

    def environment(self) -> dict[str, str]:
        return super().environment() | self._told


class _OneByRedis(_OneOfSeveral):
    APP: ClassVar[str] = UvicornRedis.APP


class _OneByChannels(_OneOfSeveral):
    APP: ClassVar[str] = UvicornChannels.APP


class UvicornsRedis(WithRedis, Several):
    """uvicorns that hear of each other's messages from one redis-server."""

    def made(self) -> list[Server]:
        return [_OneByRedis(self) for _ in range(COUNT)]


class UvicornsChannels(ByRedis, Several):
    """uvicorns whose consumers share groups by channels_redis."""

    def made(self) -> list[Server]:
        return [_OneByChannels(self) for _ in range(COUNT)]
