"""A redis-server of our own: loopback, a free port, a temporary folder, nothing kept on disk.

And what a server is that needs one.
"""

import subprocess
import tempfile
from types import TracebackType
from typing import ClassVar, Self

from servers import python
from servers.beside import Beside
from servers.process import BENCH, Server, free_port

REDIS = BENCH / "_build/redis-server"


class Redis(Server):
    READY: ClassVar[str] = "Ready to accept connections"
    LISTENING: ClassVar[str] = r"port=(\d+)"

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-redis-")
        try:
            return super().__enter__()
        except BaseException:
            self._folder.cleanup()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        self._folder.cleanup()

    def command(self) -> list[str]:
        return [
            *(str(REDIS), "--bind", self.host, "--port", str(free_port())),
            *("--dir", self._folder.name, "--save", "", "--appendonly", "no"),
        ]

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def versions(self) -> dict[str, str]:
        command = [str(REDIS), "--version"]
        words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        server = next(word[2:] for word in words if word.startswith("v="))
        return {"redis": server} | python.versions("redis", "hiredis")


class WithRedis(Beside):
    """Mixed into a server whose workers hear of each other's messages from a redis-server."""

    BESIDE: ClassVar[type[Server]] = Redis

    def environment(self) -> dict[str, str]:
        url = f"redis://{self.beside.host}:{self.beside.port}"
        return super().environment() | {"REDIS_URL": url}
