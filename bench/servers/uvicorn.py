"""uvicorn with all that `uvicorn[standard]` picks by default: uvloop, httptools, websockets."""

from typing import ClassVar

from servers import python
from servers.channels import ByNats, ByRedis
from servers.process import Server
from servers.redis import WithRedis

_ENGINE = """
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol as engine
print("engine", engine.__name__)
"""


class Uvicorn(Server):
    APP: ClassVar[str] = "echo:application"
    OPTIONS: ClassVar[list[str]] = []  # more of them
    READY: ClassVar[str] = "Application startup complete"
    LISTENING: ClassVar[str] = r"running on https?://127\.0\.0\.1:(\d+)"

    def command(self) -> list[str]:
        return [
            *(str(python.PYTHON), "-m", "uvicorn", self.APP),
            *("--host", self.host, "--port", "0", "--workers", str(self.workers)),
            *("--ws-per-message-deflate", "false"),
            *self.OPTIONS,
            *self.tls_options("--ssl-certfile", "--ssl-keyfile"),
        ]

    @property
    def ready_count(self) -> int:
        return self.workers

    def versions(self) -> dict[str, str]:
        versions = python.versions("uvicorn", "websockets", "httptools", "uvloop")
        return versions | python.said(_ENGINE)


class QuietUvicorn(Uvicorn):
    """uvicorn without its log of requests, which the others do not write by default."""

    OPTIONS: ClassVar[list[str]] = ["--no-access-log"]


class UvicornRedis(WithRedis, Uvicorn):
    """uvicorn whose workers hear of each other's messages from a redis-server."""

    APP: ClassVar[str] = "fanout_redis:application"


class UvicornEvents(WithRedis, QuietUvicorn):
    """The same with event streams of sse-starlette."""

    APP: ClassVar[str] = "events_redis:application"

    def versions(self) -> dict[str, str]:
        return super().versions() | python.versions("sse-starlette", "starlette")


class UvicornChannels(ByRedis, Uvicorn):
    """uvicorn whose consumers share groups by channels_redis."""


class UvicornCore(UvicornChannels):
    """The same by its other layer."""

    LAYER: ClassVar[str] = "core"


class UvicornNats(ByNats, Uvicorn):
    """uvicorn whose consumers share groups by channels-nats."""
