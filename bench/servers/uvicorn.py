"""uvicorn with all that `uvicorn[standard]` picks by default: uvloop, httptools, websockets."""

from types import TracebackType
from typing import ClassVar, Self

from servers import python
from servers.process import Server
from servers.redis import Redis

_ENGINE = """
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol as engine
print("engine", engine.__name__)
"""


class Uvicorn(Server):
    APP: ClassVar[str] = "echo:application"
    READY: ClassVar[str] = "Application startup complete"
    LISTENING: ClassVar[str] = r"running on http://127\.0\.0\.1:(\d+)"

    def command(self) -> list[str]:
        return [
            *(str(python.PYTHON), "-m", "uvicorn", self.APP),
            *("--host", self.host, "--port", "0", "--workers", str(self.workers)),
            *("--ws-per-message-deflate", "false"),
        ]

    @property
    def ready_count(self) -> int:
        return self.workers

    def versions(self) -> dict[str, str]:
        versions = python.versions("uvicorn", "websockets", "httptools", "uvloop")
        return versions | python.said(_ENGINE)


class UvicornRedis(Uvicorn):
    """uvicorn whose workers hear of each other's messages from a redis-server."""

    APP: ClassVar[str] = "fanout_redis:application"

    def __enter__(self) -> Self:
        self._redis = Redis().__enter__()
        try:
            return super().__enter__()
        except BaseException:
            self._redis.__exit__(None, None, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        self._redis.__exit__(kind, error, traceback)

    def environment(self) -> dict[str, str]:
        return {"REDIS_URL": self._redis.url}

    @property
    def pids(self) -> list[int]:
        return [self.pid, self._redis.pid]

    def versions(self) -> dict[str, str]:
        return super().versions() | Redis().versions()
