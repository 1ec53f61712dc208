"""What the tests of the wheels share: the two wheels, and bare systems to install them in."""

from __future__ import annotations

import email
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bare import Interpreter, interpreters
from serving import PYTHON, ROOT, Bare, Here, Running, System

INTERPRETERS = interpreters()

TOO_YOUNG = "too-recent versioned symbols"
"""Of what auditwheel says when it has no tag for what is needed of glibc."""

DOWNLOADS = ROOT / "_build" / "downloads"
BESIDES = ("fastapi", "pip")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Make the wheels; return their folder, and what was said meanwhile."""
    folder = tmp_path_factory.mktemp("dist")
    tool = subprocess.run(
        [PYTHON, ROOT / "tools" / "wheel.py", folder], check=False, capture_output=True, text=True
    )
    assert tool.returncode == 0 or TOO_YOUNG in tool.stderr, tool.stderr
    return folder, tool.stderr


@pytest.fixture(scope="session")
def pure(made: tuple[Path, str]) -> Path:
    """Give the wheel for all platforms."""
    (wheel,) = made[0].glob("*-any.whl")
    return wheel


@pytest.fixture(scope="session")
def carrying(made: tuple[Path, str]) -> Path:
    """Give the wheel with an Erlang."""
    if TOO_YOUNG in made[1]:
        pytest.skip("auditwheel knows no tag for a system as young as this one")
    (wheel,) = made[0].glob("*-manylinux_*.whl")
    return wheel


@pytest.fixture(scope="session")
def downloads(pure: Path) -> Path:
    """Let pip gather what each Python needs besides our wheels; return the folders' folder.

    They stay in _build/: a run of the tests repeats the one before.
    """
    wanted = sorted([*needs(pure), *BESIDES])

    def download(interpreter: Interpreter) -> None:
        folder = DOWNLOADS / interpreter.version
        mark = folder / "requirements.txt"
        if mark.exists() and mark.read_text() == "\n".join(wanted):
            return
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(
            [
                PYTHON, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                "--dest", folder, "--python-version", interpreter.version,
                "--only-binary", ":all:", *wanted,
            ],
            check=True, timeout=300,
        )  # fmt: skip
        mark.write_text("\n".join(wanted))

    with ThreadPoolExecutor() as pool:
        list(pool.map(download, INTERPRETERS))
    return DOWNLOADS


def needs(wheel: Path) -> list[str]:
    """Return what a wheel says that it needs, without what is optional."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        said = email.message_from_bytes(archive.read(path)).get_all("Requires-Dist", [])
    return [requirement for requirement in said if "extra ==" not in requirement]


@pytest.fixture(scope="session", params=INTERPRETERS, ids=lambda python: python.version)
def bare(
    request: pytest.FixtureRequest,
    pure: Path,
    carrying: Path,
    downloads: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bare:
    """Give a bare system of each Python, in which FastAPI and the server are installed."""
    python = request.param
    system = Bare(python, tmp_path_factory.mktemp("bare"))
    system.install([*(downloads / python.version).glob("*.whl"), pure, carrying])
    return system


@pytest.fixture(scope="session")
def here(pure: Path, downloads: Path, tmp_path_factory: pytest.TempPathFactory) -> Here:
    """Give this machine, with the wheel without an Erlang."""
    python = INTERPRETERS[0]
    system = Here(python, tmp_path_factory.mktemp("here"))
    system.install([*(downloads / python.version).glob("*.whl"), pure])
    return system


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Start servers; they are gone after the test."""
    started: list[Running] = []

    def start(system: System, **variables: str) -> Running:
        started.append(Running(system, variables))
        return started[-1]

    yield start
    for running in started:
        running.kill()
