"""Nodes that call one Python process from Erlang, by Hornbeam, by ErlPort or bare (calls.erl)."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any, ClassVar

from harness import cpu
from harness.load import LoadError, per_message
from servers import erlang, python
from servers.hornbeam import start
from servers.process import BENCH, Server

# A built ErlPort, with ebin/ and priv/: no registry has the one for Python 3.
ERLPORT = Path(os.environ["ERLPORT"]).absolute() if os.environ.get("ERLPORT") else None


class Calls(Server):
    READY: ClassVar[str] = "listening on"

    def environment(self) -> dict[str, str]:
        return erlang.environment()

    def window(self, size: int, callers: int, warmup: float, seconds: float) -> dict[str, Any]:
        """Let callers call with so many bytes; returns figures and CPU in µs per call."""
        with socket.create_connection((self.host, self.port)) as connection:
            stream = connection.makefile("rw")
            if warmup:
                _ask(stream, size, callers, warmup)
            before, began = cpu.processes(), time.monotonic()
            figures = _ask(stream, size, callers, seconds)
            after, took = cpu.processes(), time.monotonic() - began
        used = cpu.used(before, after, self.pids, os.getpid())
        return per_message(figures, used, took)


class HornbeamCalls(Calls):
    FUNCTION: ClassVar[str] = "calls, echo"

    def command(self) -> list[str]:
        serve = f"calls:hornbeam({self.FUNCTION})."
        return erlang.erl(start("echo:application", self.workers) + serve, self.perf)

    def versions(self) -> dict[str, str]:
        return erlang.versions("hornbeam") | python.versions("uvloop", "msgpack")


class HornbeamAsyncCalls(HornbeamCalls):
    """The same, with a function that is a coroutine."""

    FUNCTION: ClassVar[str] = "calls, echo_async"


class BareCalls(Calls):
    """No rival: the least that a call by a pipe and msgpack can cost."""

    def command(self) -> list[str]:
        script = BENCH / "apps/bare_calls.py"
        return erlang.erl(f'calls:bare("{python.PYTHON}", "{script}").', self.perf)

    def versions(self) -> dict[str, str]:
        return erlang.versions() | python.versions("msgpack")


class ErlPortCalls(Calls):
    def command(self) -> list[str]:
        arguments = f'"{python.PYTHON}", "{BENCH}/apps"'
        return erlang.erl(f"calls:erlport({arguments}).", self.perf)

    def environment(self) -> dict[str, str]:
        libraries = super().environment()["ERL_LIBS"]
        return {"ERL_LIBS": f"{libraries}:{ERLPORT.parent if ERLPORT else ''}"}

    def versions(self) -> dict[str, str]:
        found = erlang.versions("erlport", libraries=self.environment()["ERL_LIBS"])
        return found | python.versions()


def _ask(stream: Any, size: int, callers: int, seconds: float) -> dict[str, Any]:
    stream.write(f"{size} {callers} {float(seconds)}\n")
    stream.flush()
    line = stream.readline()
    if not line:
        raise LoadError("the node hung up")
    figures: dict[str, Any] = json.loads(line)
    if "error" in figures:
        raise LoadError(figures["error"])
    return figures
