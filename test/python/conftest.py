"""What the tests of the Python side share: workers that run a small app from its source."""

import os
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from beam import Beam

# No test calls a server that happens to run on this machine.
os.environ["HORNBEAM_SOCKET"] = "off"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Beam]]:
    """Start a worker for the source of an app, and take only its `hello`."""
    started: list[Beam] = []

    def start(
        source: str, *, automatic_credit: bool = True, ops: bool = False, **config: Any
    ) -> Beam:
        (tmp_path / "small_app.py").write_text(textwrap.dedent(source))
        beam = Beam(automatic_credit=automatic_credit, ops=ops)
        started.append(beam)
        app = config.pop("app", "small_app:app")
        return beam.start(app, pythonpath=[str(tmp_path)], **config)

    yield start
    for beam in started:
        beam.__exit__()


@pytest.fixture
def run(start: Callable[..., Beam]) -> Callable[..., Beam]:
    """Start a worker for the source of an app, and wait until it is ready."""

    def run(source: str, **config: Any) -> Beam:
        beam = start(source, **config)
        beam.expect("ready")
        return beam

    return run
