"""Three nodes that the tests of a module share, on machines whose network can be cut; root only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from members import Cluster
from network import is_possible

# No test calls a server that happens to run on this machine.
os.environ["HORNBEAM_SOCKET"] = "off"


@pytest.fixture(scope="session", autouse=True)
def machines() -> None:
    if not is_possible():
        pytest.skip("namespaces of Linux are root's to make")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, machines: None) -> Iterator[Cluster]:
    """Three nodes of which each test leaves as many."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield cluster.start()
    finally:
        cluster.close()


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """The same for one test, healed and whole before the next."""
    yield shared
    shared.network.heal()
    for member in shared.members:
        if member.running is None:
            member.restart()
    shared.joined()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Make a cluster of the test's own; arguments are those of `Cluster`."""
    made: list[Cluster] = []

    def make_one(*words: str, **how: Any) -> Cluster:
        made.append(Cluster(tmp_path, *words, **how))
        return made[-1]

    yield make_one
    for cluster in made:
        cluster.close()
