"""Floors: a front end, Cowboy's, ours or next to none, with no app behind it: the least to pay."""

from typing import ClassVar

from servers import erlang, python
from servers.process import BENCH, Server


class Cowboy(Server):
    EMULATOR: ClassVar[list[str]] = []  # more flags of the emulator
    START: ClassVar[str] = "echo_floor:start(cowboy_websocket)."
    READY: ClassVar[str] = "listening on"

    def command(self) -> list[str]:
        return erlang.erl(self.START, self.perf, self.EMULATOR)

    def environment(self) -> dict[str, str]:
        return erlang.environment()

    def versions(self) -> dict[str, str]:
        return erlang.versions("cowboy", "cowlib", "ranch")


class CowboyFanout(Cowboy):
    """Cowboy whose connections are members of a pg group."""

    START: ClassVar[str] = "cowboy_fanout:start()."


class Engine(Cowboy):
    """Hornbeam's own WebSocket engine, which echoes by itself."""

    START: ClassVar[str] = "echo_floor:start(hornbeam_websocket)."

    def versions(self) -> dict[str, str]:
        return erlang.versions("hornbeam", "cowboy", "cowlib")


class Bridge(Cowboy):
    """The barest bridge: our engine, a port, and a Python that only reads and writes."""

    def command(self) -> list[str]:
        script = BENCH / "apps/bare_pipe.py"
        start = f'bare_bridge:start("{python.PYTHON}", "{script}").'
        return erlang.erl(start, self.perf, self.EMULATOR)

    def versions(self) -> dict[str, str]:
        return erlang.versions("hornbeam", "cowboy", "cowlib") | python.versions()


class BareFanout(Cowboy):
    """The engine and the outboxes of Hornbeam, and a Python that knows nothing."""

    def command(self) -> list[str]:
        script = BENCH / "apps/bare_pipe.py"
        return erlang.erl(f'bare_fanout:start("{python.PYTHON}", "{script}").', self.perf)

    def versions(self) -> dict[str, str]:
        return erlang.versions("hornbeam", "cowboy") | python.versions()


class PresenceNodes(Cowboy):
    """Three nodes of Hornbeam, and a crowd that is present on them."""

    START: ClassVar[str] = "presence_nodes:start()."

    def versions(self) -> dict[str, str]:
        return erlang.versions("hornbeam")


class CowboyHello(Cowboy):
    """Cowboy that answers what the apps of the HTTP requests answer."""

    START: ClassVar[str] = "cowboy_hello:start()."


class EngineHello(Cowboy):
    """The same from Hornbeam's own HTTP/1.1."""

    START: ClassVar[str] = "engine_hello:start()."

    def versions(self) -> dict[str, str]:
        return erlang.versions("hornbeam", "cowboy", "cowlib", "ranch")


class BareHello(Cowboy):
    """The same from a process that has no more than `erlang:decode_packet/3`."""

    START: ClassVar[str] = "bare_hello:start()."

    def versions(self) -> dict[str, str]:
        return erlang.versions()
