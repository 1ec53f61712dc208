"""What the tests of the loads share: the loads are built, and the bench's modules are found."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(BENCH), str(BENCH / "test")]

from servers.certificate import Certificate, made  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    subprocess.run(["make", "--silent", "-C", str(BENCH)], check=True)


@pytest.fixture(scope="session")
def certificate() -> Iterator[Certificate]:
    with made() as certificate:
        yield certificate


@pytest.fixture(params=["tcp", "tls"])
def shown(request: pytest.FixtureRequest, certificate: Certificate) -> Certificate | None:
    """What a server shows that speaks TLS, and nothing of one that does not."""
    return certificate if request.param == "tls" else None
