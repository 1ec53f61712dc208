"""The image of examples/docker, step by step, in a bare system: there is no Docker where tests run.

What the Dockerfile says of the environment, the user, the command and its health is what is run
here, as the first process of a namespace, in a system that nobody may write to.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import DEADLINE, ROOT, Bare, Running, command_of

EXAMPLE = ROOT / "examples" / "docker"
LINES = re.sub(r"\\\n\s*", "", (EXAMPLE / "Dockerfile").read_text()).splitlines()


def said(instruction: str) -> str:
    """Return what the image's last such instruction says."""
    found = [line for line in LINES if line.startswith(f"{instruction} ")]
    return found[-1].removeprefix(instruction).strip()


def listed(words: str) -> list[str]:
    return json.loads(words[words.index("[") :])


class Container(Running):
    """What `docker run` would start."""

    def __init__(self, system: Bare) -> None:
        self.system = system
        user, _, group = said("USER").partition(":")
        assert user == group
        self.command = system.root.command
        words = self.command(
            *listed(said("CMD")),
            user=int(user),
            folder=system.app,
            HORNBEAM_PORT="0",
            **variables(system),
        )
        self.run(["unshare", "--pid", "--fork", "--kill-child", *words])

    def is_healthy(self, port: int) -> bool:
        words = [word.replace("8000", str(port)) for word in listed(said("HEALTHCHECK"))]
        check = self.command(*words, user=10001, **variables(self.system))
        return (
            subprocess.run(check, check=False, capture_output=True, timeout=DEADLINE).returncode
            == 0
        )

    def first(self) -> Path:
        """Return the folder in /proc of its first process."""
        (first,) = (path for path in self.processes() if numbers(path)[1:] == ["1"])
        return first


def variables(system: Bare) -> dict[str, str]:
    """Return the image's environment, with the folder that is the virtual environment here."""
    words = dict(word.split("=", 1) for word in said("ENV").split())
    path = words["PATH"].replace("/srv/venv", str(system.venv)).replace("$PATH", "/usr/bin:/bin")
    return words | {"PATH": path}


def numbers(process: Path) -> list[str]:
    """Return the numbers of a process, from the outermost namespace to its own."""
    status = (process / "status").read_text()
    return re.findall(r"\d+", re.findall(r"^NSpid:(.*)$", status, re.MULTILINE)[0])


@pytest.fixture
def container(bare: Bare) -> Iterator[Container]:
    app = bare.outside / bare.app.name / "main.py"
    before = app.read_text()
    app.write_text((EXAMPLE / "main.py").read_text())
    running = Container(bare)
    yield running
    running.kill()
    app.write_text(before)


def test_it_serves_as_the_first_process_and_tells_that_it_is_well(container):
    port = int(container.says(r"listening on http://0\.0\.0\.0:(\d+)")[1])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=DEADLINE) as answer:
        assert json.load(answer) == {"hello": "world"}
    assert container.is_healthy(port)
    first = container.first()
    assert b"main:app" in (first / "cmdline").read_bytes()
    assert {command_of(path) for path in container.processes()} >= {"beam.smp"}
    uids = re.findall(r"^Uid:\t(\d+)", (first / "status").read_text(), re.MULTILINE)
    assert uids == ["10001"]


def test_it_ends_in_order_when_its_container_stops(container):
    port = int(container.says(r"listening on http://0\.0\.0\.0:(\d+)")[1])
    (pid, _) = numbers(container.first())
    subprocess.run(["kill", f"-{signal.SIGTERM}", pid], check=True)
    assert container.status() == 0
    assert not container.is_healthy(port)


def test_its_packages_are_those_that_the_bare_system_has():
    wanted = (EXAMPLE / "requirements.txt").read_text().split()
    assert wanted == ["hornbeam-erlang", "fastapi"]
