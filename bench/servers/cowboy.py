"""Cowboy alone: the same front end with no Python behind it, so the least one can pay."""

from typing import ClassVar

from servers import erlang
from servers.process import Server


class Cowboy(Server):
    READY: ClassVar[str] = "listening on"

    def command(self) -> list[str]:
        return erlang.erl("cowboy_echo:start().", self.perf)

    def environment(self) -> dict[str, str]:
        return erlang.environment()

    def versions(self) -> dict[str, str]:
        return erlang.versions("cowboy", "cowlib", "ranch")
