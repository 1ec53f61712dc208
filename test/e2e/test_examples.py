"""The files of examples/ that others read: systemd's, Docker's, and what they tell the command."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from commands import WORDS
from harness import ROOT

EXAMPLES = ROOT / "examples"
UNIT = (EXAMPLES / "systemd" / "hello.service").read_text()
DOCKERFILE = re.sub(r"\\\n\s*", "", (EXAMPLES / "docker" / "Dockerfile").read_text())


def setting(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return value


def printed(folder: Path, *words: str, **variables: str) -> str:
    """Return the configuration that the command understands."""
    answer = subprocess.run(
        [*WORDS, *words, "--print-config"], cwd=folder, env={"PATH": "/usr/bin:/bin"} | variables,
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    program = shutil.which("systemd-analyze") or pytest.skip("no systemd-analyze here")
    hornbeam = shlex.split(setting("ExecStart"))[0]
    (tmp_path / "hornbeam").symlink_to("/bin/true")
    file = tmp_path / "hello.service"
    file.write_text(UNIT.replace(hornbeam, str(tmp_path / "hornbeam")))
    answer = subprocess.run(
        [program, "verify", file], check=False, capture_output=True, text=True, timeout=60
    )
    assert [line for line in answer.stderr.splitlines() if file.name in line] == []


def test_the_unit_says_what_the_command_understands(tmp_path):
    hornbeam, *flags = shlex.split(setting("ExecStart"))
    assert Path(hornbeam).parent.parent == Path(setting("WorkingDirectory")) / ".venv"
    told = printed(tmp_path, *flags)
    assert "workers = 4" in told
    assert "0.0.0.0:8000" in told


def test_the_unit_gives_the_time_that_a_start_may_take(tmp_path):
    minutes = int(re.findall(r'startup[-_]timeout = "(\d+)m"', printed(tmp_path, "main:app"))[0])
    assert setting("Type") == "notify"
    assert int(setting("TimeoutStartSec").removesuffix("min")) > minutes


def test_the_unit_gives_the_time_that_a_stop_may_take(tmp_path):
    seconds = int(re.findall(r'shutdown[-_]timeout = "(\d+)s"', printed(tmp_path, "main:app"))[0])
    assert int(setting("TimeoutStopSec")) >= 2 * seconds + 5


def test_the_image_says_what_the_command_understands(tmp_path):
    words = re.findall(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE)[-1].split()
    variables = dict(word.split("=", 1) for word in words if word.startswith("HORNBEAM_"))
    told = printed(tmp_path, "main:app", **variables)
    assert "workers = 2" in told
    assert "0.0.0.0:8000" in told
    assert re.search("websocket[-_]resume = true", told)


def test_the_image_copies_files_that_there_are():
    for words in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = words.split()
        assert [source for source in sources if not (EXAMPLES / "docker" / source).exists()] == []


def test_compose_gives_the_time_that_a_stop_may_take(tmp_path):
    service = yaml.safe_load((EXAMPLES / "docker" / "compose.yaml").read_text())["services"][
        "hello"
    ]
    seconds = int(re.findall(r'shutdown[-_]timeout = "(\d+)s"', printed(tmp_path, "main:app"))[0])
    assert int(service["stop_grace_period"].removesuffix("s")) >= 2 * seconds + 5
    assert service["ports"] == ["8000:8000"]
    assert "EXPOSE 8000" in DOCKERFILE
