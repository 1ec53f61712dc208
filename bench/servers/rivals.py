"""Other ASGI servers with their own defaults, uvloop where they leave the choice."""

from typing import ClassVar

from servers import python
from servers.process import Server, free_port


class Granian(Server):
    APP: ClassVar[str] = "echo:application"
    READY: ClassVar[str] = "Started worker-"

    def command(self) -> list[str]:
        return [
            *(str(python.VENV / "bin/granian"), "--interface", "asgi", self.APP),
            *("--host", self.host, "--port", str(free_port())),
            *("--workers", str(self.workers), "--loop", "uvloop"),
            *self.tls_options("--ssl-certificate", "--ssl-keyfile"),
        ]

    @property
    def ready_count(self) -> int:
        return self.workers

    def versions(self) -> dict[str, str]:
        return python.versions("granian", "uvloop")


class Hypercorn(Server):
    APP: ClassVar[str] = "echo:application"
    READY: ClassVar[str] = "Running on"

    def command(self) -> list[str]:
        return [
            *(str(python.VENV / "bin/hypercorn"), self.APP, "--bind", f"{self.host}:{free_port()}"),
            *("--workers", str(self.workers), "--worker-class", "uvloop"),
            *self.tls_options("--certfile", "--keyfile"),
        ]

    def versions(self) -> dict[str, str]:
        return python.versions("hypercorn", "wsproto", "h11", "uvloop")


class Gunicorn(Server):
    """gunicorn with the ASGI worker of its own."""

    APP: ClassVar[str] = "echo:application"
    READY: ClassVar[str] = "ASGI server listening on"

    def command(self) -> list[str]:
        return [
            *(str(python.VENV / "bin/gunicorn"), self.APP, "--worker-class", "asgi"),
            "--no-control-socket",  # it would lie in the home folder
            *("--bind", f"{self.host}:{free_port()}", "--workers", str(self.workers)),
            *self.tls_options("--certfile", "--keyfile"),
        ]

    @property
    def ready_count(self) -> int:
        return self.workers

    def versions(self) -> dict[str, str]:
        return python.versions("gunicorn", "uvloop")
