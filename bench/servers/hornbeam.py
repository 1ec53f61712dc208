"""Hornbeam as its users start it, with the number of workers said and nothing else tuned."""

import re
from collections.abc import Sequence
from types import TracebackType
from typing import ClassVar, Self

from harness.probe import Probe
from servers import erlang, python
from servers.channels import Grouping
from servers.process import BENCH, Server
from servers.redis import Redis

_START = """
    {ok, _} = application:ensure_all_started(hornbeam),
    Options = #{worker_class => asgi, workers => WORKERS, bind => "127.0.0.1:0",
                chdir => "CHDIR", venv => "VENV"MORE},
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
    OPTIONS: ClassVar[str] = ""  # more of them, each with a comma in front
    # Flags of the emulator beside those of all: it begins with one scheduler (config/vm.args).
    EMULATOR: ClassVar[list[str]] = ["+SP", "100:1"]
    READY: ClassVar[str] = "listening on"
    LISTENING: ClassVar[str] = r"listening on 127\.0\.0\.1:(\d+)"

    def command(self) -> list[str]:
        options = self.OPTIONS + self._tls()
        started = start(self.APP, self.workers, options)
        return erlang.erl(started + _SAY_PORT, self.perf, self.EMULATOR)

    def _tls(self) -> str:
        if not (tls := self.certificate):
            return ""
        return f', certfile => "{tls.chain}", keyfile => "{tls.key}"'

    def environment(self) -> dict[str, str]:
        return erlang.environment()

    def versions(self) -> dict[str, str]:
        beam = erlang.versions("hornbeam", "cowboy", "cowlib", "ranch")
        return beam | python.versions("uvloop", "msgpack")


class MeteredHornbeam(Hornbeam):
    """Hornbeam that counts for its metrics."""

    OPTIONS: ClassVar[str] = ', metrics => "127.0.0.1:0"'


class OperatedHornbeam(Hornbeam):
    """Hornbeam with an app of WebSockets and requests, and nothing that tells of it."""

    APP: ClassVar[str] = "operated:application"


class ScrapedHornbeam(OperatedHornbeam):
    """The same with its metrics, and where they are told."""

    READY: ClassVar[str] = "(?s)listening on.*operations on"
    OPTIONS: ClassVar[str] = MeteredHornbeam.OPTIONS

    def command(self) -> list[str]:
        told = "{_, Operations} = maps:get(operations, hornbeam:info()), " + _SAY_PORT
        more = """, io:format("operations on http://127.0.0.1:~b~n", [Operations])."""
        started = start(self.APP, self.workers, self.OPTIONS)
        return erlang.erl(
            started + told.rstrip().removesuffix(".") + more, self.perf, self.EMULATOR
        )

    @property
    def operations(self) -> str:
        """The address of what those who operate it ask."""
        found = re.search(r"operations on (\S+)", self.output())
        assert found is not None
        return found.group(1)


class TracedHornbeam(OperatedHornbeam):
    """The same with nothing that tells of it but the command, which traces one of its sockets."""


class ShownHornbeam(ScrapedHornbeam):
    """The same with its access log and its live page."""

    TOKEN: ClassVar[str] = "the-token-of-the-benchmark"
    OPTIONS: ClassVar[str] = (
        ScrapedHornbeam.OPTIONS
        + f', access_log => true, dashboard => true, dashboard_token => "{TOKEN}"'
    )


class ProbedHornbeam(Hornbeam):
    """Hornbeam whose node tells what it holds."""

    READY: ClassVar[str] = r"(?s)listening on.*probe on port \d+"
    probe: Probe

    def command(self) -> list[str]:
        said = _SAY_PORT.rstrip().removesuffix(".")
        started = start(self.APP, self.workers, self.OPTIONS) + said
        return erlang.erl(started + ", probe:start().", self.perf, self.EMULATOR)

    def __enter__(self) -> Self:
        super().__enter__()
        found = re.search(r"probe on port (\d+)", self.output())
        assert found is not None
        self.probe = Probe(self.host, int(found.group(1)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.probe.close()
        super().__exit__(kind, error, traceback)


class HornbeamFanout(Hornbeam):
    """Hornbeam with an app that subscribes and publishes."""

    APP: ClassVar[str] = "fanout:application"


class HornbeamNode(HornbeamFanout):
    """The same on one node of a cluster, each at a port of its own."""

    EMULATOR: ClassVar[list[str]] = [
        *HornbeamFanout.EMULATOR,
        *("-proto_dist", "hornbeam_cluster", "-epmd_module", "hornbeam_cluster_epmd"),
        *("-connect_all", "false", "-nocookie"),
    ]

    def __init__(self, workers: int, port: int, ports: Sequence[int]) -> None:
        super().__init__(workers)
        self._cluster = _CLUSTER.replace("PORT", str(port))
        self._cluster = self._cluster.replace("JOIN", ", ".join(f'"127.0.0.1:{p}"' for p in ports))
        self._others = len(ports) - 1

    def command(self) -> list[str]:
        started = start(self.APP, self.workers, self._cluster)
        joined = _JOINED.replace("OTHERS", str(self._others))
        said = _SAY_PORT.rstrip().removesuffix(".")
        return erlang.erl(f"{started} {said}, {joined}", self.perf, self.EMULATOR)


_CLUSTER = """, cluster => #{name => "bench", port => PORT, address => "127.0.0.1", join => [JOIN],
                             cookie => "of-the-benchmark-and-of-nobody-else"}"""

_JOINED = """
    Wait = fun Wait() ->
        case length(nodes()) of
            OTHERS -> io:format("joined all~n");
            _ -> timer:sleep(20), Wait()
        end
    end,
    Wait().
"""


class HornbeamEvents(Hornbeam):
    """The same with event streams of sse-starlette."""

    APP: ClassVar[str] = "events:application"

    def versions(self) -> dict[str, str]:
        return super().versions() | python.versions("sse-starlette", "starlette")


class HornbeamChannels(Grouping, Hornbeam):
    """Hornbeam whose consumers share groups by its own channel layer."""

    LAYER: ClassVar[str] = "hornbeam"


class HornbeamChat(Hornbeam):
    """Hornbeam with the loop of the guide's chat."""

    APP: ClassVar[str] = "chat:application"


class HornbeamChatAsking(Hornbeam):
    """The same, waiting for each publish."""

    APP: ClassVar[str] = "chat:asking"


class HornbeamRows(Hornbeam):
    """Hornbeam with an app that times operations on a large table of state."""

    APP: ClassVar[str] = "rows:application"


class HornbeamOps(Hornbeam):
    """Hornbeam with an app that times operations on its own state, and what others answer it."""

    APP: ClassVar[str] = "ops:application"

    def __init__(self, redis: Redis, workers: int = 1) -> None:
        super().__init__(workers)
        self._redis = redis

    def command(self) -> list[str]:
        begun = "ok = node_echo:start(), " + start(self.APP, self.workers, self.OPTIONS)
        return erlang.erl(begun + _SAY_PORT, self.perf, self.EMULATOR)

    def environment(self) -> dict[str, str]:
        asked = {"REDIS_URL": self._redis.url, "PIPE_ECHO": str(BENCH / "_build/pipe_echo")}
        return super().environment() | asked


def start(app: str, workers: int, more: str = "") -> str:
    """Erlang expressions that serve an app from bench/apps on a free port, with a comma behind."""
    values = {"APP": app, "WORKERS": str(workers), "CHDIR": f"{BENCH}/apps"}
    values |= {"VENV": str(python.VENV), "MORE": more}
    expressions = _START
    for name, value in values.items():
        expressions = expressions.replace(name, value)
    return expressions
