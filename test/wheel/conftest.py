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

DOWNLOADS = ROOT / "_build" / "downloads"
BESIDES = ("fastapi", "pip")


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make the wheels; return them by what their tags begin with: `any` and `manylinux`."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([PYTHON, ROOT / "tools" / "wheel.py", folder], check=True)
    made = {platform_of(path).partition("_")[0]: path for path in folder.glob("*.whl")}
    assert made.keys() == {"any", "manylinux"}
    return made


def platform_of(wheel: Path) -> str:
    return wheel.stem.rpartition("-")[2]


@pytest.fixture(scope="session")
def downloads(wheels: dict[str, Path]) -> Path:
    """Let pip gather what each Python needs besides our wheels; return the folders' folder.

    They stay in _build/: a run of the tests repeats the one before.
    """
    wanted = sorted([*needs(wheels["manylinux"]), *BESIDES])

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
    wheels: dict[str, Path],
    downloads: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bare:
    """Give a bare system of each Python, in which FastAPI and the server are installed."""
    python = request.param
    system = Bare(python, tmp_path_factory.mktemp("bare"))
    system.install([*(downloads / python.version).glob("*.whl"), *wheels.values()])
    return system


@pytest.fixture(scope="session")
def here(
    wheels: dict[str, Path], downloads: Path, tmp_path_factory: pytest.TempPathFactory
) -> Here:
    """Give this machine, with the wheel without an Erlang."""
    python = INTERPRETERS[0]
    system = Here(python, tmp_path_factory.mktemp("here"))
    system.install([*(downloads / python.version).glob("*.whl"), wheels["any"]])
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
