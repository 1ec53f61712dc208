"""The tests that other projects publish with their sources, run as they are on parts of ours."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from harness import PYTHON

SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""


def fetch(folder: Path, package: str, version: str, tests: Mapping[str, str]) -> None:
    """Put files of a package's sources into a folder, under the names that they map to."""
    subprocess.run(
        [
            *(PYTHON, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-binary", package, f"{package}=={version}"),
        ],
        cwd=folder,
        check=True,
        timeout=120,
    )
    (archive,) = folder.glob("*.tar.gz")
    root = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as tar:
        for path, name in tests.items():
            source = tar.extractfile(f"{root}/{path}")
            assert source is not None
            (folder / name).write_bytes(source.read())
    (folder / "pytest.ini").write_text(SETTINGS)


def run(folder: Path, env: Mapping[str, str]) -> tuple[dict[str, list[str]], str]:
    """Run what is there; which tests have "passed", which "else", and what was said."""
    report = folder / "report.xml"
    done = subprocess.run(
        [
            *(PYTHON, "-m", "pytest", "-q", "--tb=short", "--runxfail", f"--junitxml={report}"),
            *("-p", "no:dash", "-p", "no:cacheprovider"),
        ],
        cwd=folder,
        env={k: v for k, v in env.items() if not k.startswith("PYTEST_")}
        | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return _outcomes(report), done.stdout


def _outcomes(report: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"passed": [], "else": []}
    for case in ElementTree.parse(report).iter("testcase"):
        is_bad = any(child.tag in ("failure", "error", "skipped") for child in case)
        found["else" if is_bad else "passed"].append(case.attrib["name"])
    return found
