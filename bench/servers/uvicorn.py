"""uvicorn with all that `uvicorn[standard]` picks by default: uvloop, httptools, websockets."""

import subprocess
from typing import ClassVar

from servers.process import BENCH, Server

PYTHON = BENCH / "_build/venv/bin/python"

_VERSIONS = """
import platform
from importlib.metadata import version
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol as engine
print("python", platform.python_version())
for name in ("uvicorn", "websockets", "httptools", "uvloop"):
    print(name, version(name))
print("engine", engine.__name__)
"""


class Uvicorn(Server):
    APP: ClassVar[str] = "echo:application"
    READY: ClassVar[str] = "Application startup complete"
    LISTENING: ClassVar[str] = r"running on http://127\.0\.0\.1:(\d+)"

    def command(self) -> list[str]:
        return [
            *(str(PYTHON), "-m", "uvicorn", self.APP),
            *("--host", self.host, "--port", "0", "--workers", str(self.workers)),
            *("--ws-per-message-deflate", "false"),
        ]

    @property
    def ready_count(self) -> int:
        return self.workers

    def versions(self) -> dict[str, str]:
        command = [str(PYTHON), "-c", _VERSIONS]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return dict(line.split(" ", 1) for line in output.splitlines())
