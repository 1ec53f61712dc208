"""Hornbeam as its users start it, with the number of workers said and nothing else tuned."""

from typing import ClassVar

from servers import erlang, python
from servers.process import BENCH, Server
from servers.redis import Redis

_START = """
    {ok, _} = application:ensure_all_started(hornbeam),
    Options = #{worker_class => asgi, workers => WORKERS, bind => "127.0.0.1:0",
                chdir => "CHDIR", venv => "VENV"},
    case hornbeam:start("APP", Options) of
        ok -> ok;
        {error, Error} -> io:format("~ts~n", [hornbeam:format_error(Error)]), halt(1)
    end,
"""

_SAY_PORT = """
    {_, Port} = maps:get(address, hornbeam:info()),
    io:format("listening on 127.0.0.1:~b~n", [Port]).
"""


class Hornbeam(Server):
    APP: ClassVar[str] = "echo:application"
    READY: ClassVar[str] = "listening on"
    LISTENING: ClassVar[str] = r"listening on 127\.0\.0\.1:(\d+)"

    def command(self) -> list[str]:
        return erlang.erl(start(self.APP, self.workers) + _SAY_PORT, self.perf)

    def environment(self) -> dict[str, str]:
        return erlang.environment()

    def versions(self) -> dict[str, str]:
        beam = erlang.versions("hornbeam", "cowboy", "cowlib", "ranch")
        return beam | python.versions("uvloop", "msgpack")


class HornbeamFanout(Hornbeam):
    """Hornbeam with an app that subscribes and publishes."""

    APP: ClassVar[str] = "fanout:application"


class HornbeamOps(Hornbeam):
    """Hornbeam with an app that times operations on its own state and on a redis-server's."""

    APP: ClassVar[str] = "ops:application"

    def __init__(self, redis: Redis, workers: int = 1) -> None:
        super().__init__(workers)
        self._redis = redis

    def environment(self) -> dict[str, str]:
        return super().environment() | {"REDIS_URL": self._redis.url}


def start(app: str, workers: int) -> str:
    """Erlang expressions that serve an app from bench/apps on a free port, with a comma behind."""
    values = {"APP": app, "WORKERS": str(workers), "CHDIR": f"{BENCH}/apps"}
    values |= {"VENV": str(python.VENV)}
    expressions = _START
    for name, value in values.items():
        expressions = expressions.replace(name, value)
    return expressions
