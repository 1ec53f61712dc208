"""The environment in which every Python of the benchmarks runs: uvicorn and Hornbeam's workers."""

import subprocess

from servers.process import BENCH

VENV = BENCH / "_build/venv"
PYTHON = VENV / "bin/python"

_VERSIONS = """
import platform, sys
from importlib.metadata import version
print("python", platform.python_version())
for name in sys.argv[1:]:
    print("redis-py" if name == "redis" else name, version(name))
"""


def versions(*distributions: str) -> dict[str, str]:
    """The versions of Python and of these distributions."""
    return said(_VERSIONS, *distributions)


def said(code: str, *arguments: str) -> dict[str, str]:
    """What the code prints, a name and its value on each line."""
    command = [str(PYTHON), "-c", code, *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(line.split(" ", 1) for line in output.splitlines())
