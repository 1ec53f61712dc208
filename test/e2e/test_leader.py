"""One of all workers: which runs, and what ends it, in real processes. Never two at once."""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path

import pytest
from harness import alive, eventually
from terms import Atom

APP = "leading:application"


class Traces:
    """What the function of all workers has written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def of(self, event: str) -> list[dict]:
        return [each for each in self.events if each["event"] == event]

    def begun(self, times: int) -> dict:
        """Wait until it has begun so often; return how it did the last time."""
        eventually(lambda: len(self.of("begins")) == times)
        assert self.of("overlap") == []
        return self.of("begins")[-1]


@pytest.fixture
def traces(tmp_path):
    (tmp_path / "trace").touch()
    return Traces(tmp_path / "trace")


@pytest.fixture
def lead(serve, traces):
    """Serve the app in 4 workers, or as often as it is said."""

    def start(**options):
        options = {"workers": 4, "env": {"TRACE": str(traces.path)}} | options
        return serve(APP, fresh=True, **options)

    return start


def test_it_runs_in_one_of_four_workers(lead, traces):
    server = lead()
    first = traces.begun(1)
    assert first["pid"] in server.worker_pids()
    assert first["token"] > 1_600_000_000_000_000


def test_it_moves_when_its_worker_is_killed_and_runs_nowhere_twice(lead, traces):
    server = lead()
    pids = [traces.begun(1)["pid"]]
    for times in range(2, 6):
        os.kill(pids[-1], signal.SIGKILL)
        pids.append(traces.begun(times)["pid"])
        assert not alive(pids[-2])
        eventually(lambda: len(server.worker_pids()) == 4)
    tokens = [each["token"] for each in traces.of("begins")]
    assert tokens == sorted(set(tokens))
    assert all(a != b for a, b in itertools.pairwise(pids))


def test_it_moves_when_its_worker_hangs(lead, traces):
    lead(worker_hang_timeout=1500)
    first = traces.begun(1)
    Path(f"{traces.path}.hang").touch()
    second = traces.begun(2)
    assert [each["pid"] for each in traces.of("hangs")] == [first["pid"]]
    assert second["pid"] != first["pid"]
    assert not alive(first["pid"])


def test_a_reload_ends_it_before_it_begins_in_a_new_worker(lead, traces):
    server = lead()
    first = traces.begun(1)
    before = set(server.worker_pids())
    server.node.eval("hornbeam:reload()")
    second = traces.begun(2)
    assert second["pid"] not in before
    assert [(each["event"], each["pid"]) for each in traces.events] == [
        ("begins", first["pid"]),
        ("ends", first["pid"]),
        ("begins", second["pid"]),
    ]


def test_a_retired_worker_leads_until_its_last_client_has_left(lead, traces, consoles):
    server = lead(workers=1)
    first = traces.begun(1)
    (console,) = consoles(server)
    assert console("os.getpid()") == first["pid"]
    server.node.eval("spawn(fun() -> hornbeam:reload() end)")
    eventually(lambda: server.worker_pids() != [first["pid"]])
    assert alive(first["pid"])
    assert len(traces.events) == 1
    console.leave()
    second = traces.begun(2)
    assert second["pid"] != first["pid"]
    assert traces.of("ends")[0]["pid"] == first["pid"]


def test_the_apps_of_one_server_are_all_of_them(serve, traces):
    options = {"workers": 2, "env": {"TRACE": str(traces.path)}}
    server = serve(
        APP,
        fresh=True,
        mounts=[{Atom("path"): "/other", Atom("app"): APP}],
        **options,
    )
    first = traces.begun(1)
    os.kill(first["pid"], signal.SIGKILL)
    traces.begun(2)
    eventually(lambda: len(server.node.eval("hornbeam_leader:leading()")) == 1)


def test_a_stop_ends_it_in_order(lead, traces):
    server = lead()
    first = traces.begun(1)
    server.stop()
    last = traces.events[-1]
    assert [each["event"] for each in traces.events][:2] == ["begins", "ends"]
    assert traces.of("ends")[0]["pid"] == first["pid"]
    assert len(traces.of("begins")) == len(traces.of("ends"))
    assert last["event"] == "ends"
    assert traces.of("overlap") == []
