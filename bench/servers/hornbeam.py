"""Hornbeam as its users start it, with the number of workers said and nothing else tuned."""

import subprocess
from typing import ClassVar

from servers import erlang
from servers.process import BENCH, PROJECT, Server

VENV = PROJECT / ".venv"

_START = """
    {ok, _} = application:ensure_all_started(hornbeam),
    Options = #{worker_class => asgi, workers => WORKERS, bind => "127.0.0.1:0",
                chdir => "CHDIR", venv => "VENV"},
    case hornbeam:start("echo:application", Options) of
        ok -> ok;
        {error, Error} -> io:format("~ts~n", [hornbeam:format_error(Error)]), halt(1)
    end,
    {_, Port} = maps:get(address, hornbeam:info()),
    io:format("listening on 127.0.0.1:~b~n", [Port]).
"""

_VERSIONS = """
import platform
from importlib.metadata import distributions
print("python", platform.python_version())
for one in distributions():
    if one.name.lower() in ("msgpack", "uvloop"):
        print(one.name.lower(), one.version)
"""


class Hornbeam(Server):
    READY: ClassVar[str] = "listening on"
    LISTENING: ClassVar[str] = r"listening on 127\.0\.0\.1:(\d+)"

    def command(self) -> list[str]:
        start = _START.replace("WORKERS", str(self.workers))
        start = start.replace("CHDIR", f"{BENCH}/apps").replace('"VENV"', f'"{VENV}"')
        return erlang.erl(start, self.perf)

    def environment(self) -> dict[str, str]:
        return erlang.environment()

    def versions(self) -> dict[str, str]:
        command = [str(VENV / "bin/python"), "-c", _VERSIONS]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        python = dict(line.split(" ", 1) for line in output.splitlines())
        return erlang.versions("hornbeam", "cowboy", "cowlib", "ranch") | python
