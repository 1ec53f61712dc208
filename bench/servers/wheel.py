"""Hornbeam as pip installs it: a wheel with an Erlang of its own, and the command."""

import subprocess
from typing import ClassVar

from servers.process import BENCH, Server

VENV = BENCH / "_build/wheel"
INSTALLED = "_build/wheel/installed"  # what the Makefile calls it
DIST = BENCH / "_build/dist"

_VERSIONS = """
import platform
from importlib.metadata import files, version
print("python", platform.python_version())
for name in ("hornbeam-erlang", "uvloop", "msgpack"):
    print(name, version(name))
(otp,) = (file for file in files("hornbeam-erlang") if file.name == "OTP_VERSION")
print("otp", otp.read_text().strip())
"""


class Wheel(Server):
    APP: ClassVar[str] = "echo:application"
    READY: ClassVar[str] = "listening on"
    LISTENING: ClassVar[str] = r"listening on http://127\.0\.0\.1:(\d+)"

    def command(self) -> list[str]:
        hornbeam = str(VENV / "bin/hornbeam")
        return [hornbeam, self.APP, "--port", "0", "--workers", str(self.workers)]

    def versions(self) -> dict[str, str]:
        command = [str(VENV / "bin/python"), "-c", _VERSIONS]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return dict(line.split(" ", 1) for line in output.splitlines())
