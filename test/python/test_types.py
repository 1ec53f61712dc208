"""The types of the public names, as a user's mypy and pyright see them, both strict."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hornbeam_erlang
import pytest
from mypy import api

SAMPLE = Path(__file__).parent / "sample"
PACKAGE = Path(hornbeam_erlang.__file__).parents[1]

Found = set[tuple[int, str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample as a project of its own."""
    folder = tmp_path_factory.mktemp("project")
    for path in SAMPLE.glob("*.py"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let mypy find the package where the tests found it."""
    monkeypatch.setenv("MYPYPATH", str(PACKAGE))


def mypy(path: Path) -> Found:
    """Return the lines with their errors' codes."""
    cache = path.parent / ".mypy_cache"
    report, errors, _ = api.run(
        ["--strict", "--python-version=3.11", f"--cache-dir={cache}", str(path)]
    )
    assert not errors
    found = re.findall(r"\.py:(\d+): error: .*\[([\w-]+)\]$", report, re.M)
    assert len(found) == report.count(": error: "), report
    return {(int(line), code) for line, code in found}


def pyright(path: Path) -> Found:
    """Return the lines with their errors' rules."""
    settings = {
        "include": [path.name],
        "extraPaths": [str(PACKAGE)],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
    }
    (path.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    run = subprocess.run(
        [sys.executable, "-m", "pyright", "--project", path.parent, "--outputjson"],
        capture_output=True,
        check=False,
        env=os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )
    report = json.loads(run.stdout)
    assert report["summary"]["filesAnalyzed"] == 1, run
    found = report["generalDiagnostics"]
    return {(one["range"]["start"]["line"] + 1, one.get("rule", one["message"])) for one in found}


CHECKERS = pytest.mark.parametrize("check", [mypy, pyright], ids=lambda check: check.__name__)


@CHECKERS
def test_users_module_passes(check: Callable[[Path], Found], project: Path) -> None:
    assert check(project / "shop.py") == set()


@CHECKERS
def test_each_fault_is_found_in_its_line(check: Callable[[Path], Found], project: Path) -> None:
    path = project / "faults.py"
    lines = enumerate(path.read_text().splitlines(), 1)
    marks = [(number, re.search(rf"{check.__name__}: ([\w-]+)", line)) for number, line in lines]
    expected = {(number, mark[1]) for number, mark in marks if mark}
    assert len(expected) > 20
    found = check(path)
    assert expected <= found
    assert {number for number, _ in found} == {number for number, _ in expected}


def test_users_module_uses_each_public_function() -> None:
    source = (SAMPLE / "shop.py").read_text()
    functions = {
        name
        for name in hornbeam_erlang.__all__
        if inspect.isfunction(getattr(hornbeam_erlang, name))
    }
    assert {name for name in functions if not re.search(rf"\b{name}\(", source)} == set()
