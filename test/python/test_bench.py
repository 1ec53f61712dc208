"""The benchmark that feeds a worker from memory goes with the worker that there is."""

import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).parents[2] / "bench" / "worker"


@pytest.mark.parametrize("kind", ["get", "post", "echo"])
def test_a_worker_fed_from_memory_answers_all(kind):
    command = [sys.executable, WORKER, kind, "--together", "4", "--messages", "8", "--windows", "1"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert said.endswith(f"µs a message ({kind}, 4 together)\n")
