"""Servers of WSGI apps, with as many threads each and their own defaults besides.

An app is an attribute of bench/apps/wsgi_hello.py.
"""

from typing import ClassVar

from servers import hornbeam, python
from servers.process import Server, free_port

THREADS = 10


class Hornbeam(hornbeam.Hornbeam):
    APP: ClassVar[str] = "wsgi_hello:application"
    OPTIONS: ClassVar[str] = f", worker_class => wsgi, threads => {THREADS}"


class Adapted(hornbeam.Hornbeam):
    """Hornbeam with a2wsgi around the app, as any ASGI server could serve it."""

    APP: ClassVar[str] = "wsgi_hello:application"

    def command(self) -> list[str]:
        adapted = type(self).APP.replace(":", ":adapted_")
        return type("Adapted", (hornbeam.Hornbeam,), {"APP": adapted})(self.workers).command()

    def versions(self) -> dict[str, str]:
        return super().versions() | python.versions("a2wsgi")


class Gunicorn(Server):
    """gunicorn with its class of threads."""

    APP: ClassVar[str] = "wsgi_hello:application"
    READY: ClassVar[str] = "Booting worker with pid"

    def command(self) -> list[str]:
        return [
            *(str(python.VENV / "bin/gunicorn"), self.APP, "--worker-class", "gthread"),
            "--no-control-socket",  # it would lie in the home folder
            *("--bind", f"{self.host}:{free_port()}", "--workers", str(self.workers)),
            *("--threads", str(THREADS)),
        ]

    @property
    def ready_count(self) -> int:
        return self.workers

    def versions(self) -> dict[str, str]:
        return python.versions("gunicorn")


class Granian(Server):
    APP: ClassVar[str] = "wsgi_hello:application"
    READY: ClassVar[str] = "Started worker-"

    def command(self) -> list[str]:
        return [
            *(str(python.VENV / "bin/granian"), "--interface", "wsgi", self.APP),
            *("--host", self.host, "--port", str(free_port())),
            *("--workers", str(self.workers), "--blocking-threads", str(THREADS)),
        ]

    @property
    def ready_count(self) -> int:
        return self.workers

    def versions(self) -> dict[str, str]:
        return python.versions("granian")
