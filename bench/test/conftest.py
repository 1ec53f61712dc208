"""What the tests of the loads share: the loads are built, and the bench's modules are found."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(BENCH), str(BENCH / "test")]


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    subprocess.run(["make", "--silent", "-C", str(BENCH)], check=True)
