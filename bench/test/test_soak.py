"""The soak finds what it is there to find: replies that are wrong, and what is left over."""

import asyncio
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import BENCH
from faulty import Faulty

from soaking import accounts
from soaking.crowd import Crowd, Wrong, echoing, hear

FAULTS = {
    "changed": "Wrong: expected",
    "before": "Wrong: expected",
    "doubled": "Wrong: expected",
    "closed": "Ended: closed with 4001",
}
ACCOUNT: dict[str, Any] = {
    "processes": 100,
    "ports": 5,
    "atoms": 20000,
    "beam_descriptors": 20,
    "tables": {"state": 3},
    "kinds": {"gen:init_it/6": 9},
    "memory": {"total": 100 << 20},
    "beam_rss": 200 << 20,
    "workers": [{"rss": 30 << 20, "descriptors": 14}, {"rss": 30 << 20, "descriptors": 14}],
}


def lived(fault: str) -> Crowd:
    """A crowd that has echoed for a while."""
    with Faulty("wrong_echo", fault) as server:
        crowd = Crowd(server.host, server.port, random.Random(1), (echoing,), 0.001)
        asyncio.run(crowd.live(4, 1.0))
    return crowd


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_echo_is_an_error(fault: str) -> None:
    assert FAULTS[fault] in lived(fault).errors[0]


def test_right_echoes_are_counted() -> None:
    crowd = lived("none")
    assert not crowd.errors
    assert crowd.done["echoes"] > 50


def test_what_is_cut_by_a_kill_is_no_error() -> None:
    with Faulty("wrong_echo", "closed") as server:
        crowd = Crowd(server.host, server.port, random.Random(1), (echoing,), 0.001)
        crowd.saw_kill()
        asyncio.run(crowd.live(4, 1.0))
    assert crowd.done["cut"] > 0
    assert not crowd.errors


@pytest.mark.parametrize("text", ["room-1 7 3 x", "room-2 7 4 x", "room-1 7 4 xy", "room-1 7"])
def test_a_text_that_is_doubled_or_of_elsewhere_or_changed_is_wrong(text: str) -> None:
    with pytest.raises(Wrong):
        hear(Crowd("", 0, random.Random(1), ()), {"7": 3}, text, "room-1")


def leaking(**changed: Any) -> list[str]:
    """What leaks when the second account differs in this."""
    lines = accounts.compare(ACCOUNT, ACCOUNT | changed, share=0.05, extra=2.0)
    return [line.what for line in lines if line.leaks]


def test_counts_must_be_what_they_were() -> None:
    assert leaking() == []
    assert leaking(processes=101) == ["processes"]
    assert leaking(ports=4) == ["ports"]
    assert leaking(tables={"state": 2, "topics": 1}) == ["rows of state", "rows of topics"]
    assert leaking(kinds={}) == ["processes of gen:init_it/6"]
    assert leaking(workers=ACCOUNT["workers"][:1]) == ["descriptors of worker 2"]


def test_bytes_may_grow_by_what_is_allowed_and_no_more() -> None:
    most = int((200 << 20) * 1.05) + (2 << 20)
    assert leaking(beam_rss=most) == []
    assert leaking(beam_rss=most + 1) == ["BEAM resident"]
    assert leaking(memory={"total": 110 << 20}) == ["memory: total"]
    assert leaking(memory={"total": 50 << 20}) == []


def test_a_server_that_keeps_something_is_found(tmp_path: Path) -> None:
    command = [str(BENCH / "soak"), "--app=leaky:application", f"--results={tmp_path}"]
    command += ["--warmup=4", "--minutes=0.07", "--clients=20"]
    environ = os.environ | {"PYTHONPATH": str(BENCH / "test")}
    soak = subprocess.run(command, check=False, env=environ, capture_output=True, text=True)
    assert soak.returncode == 1
    assert "rows of hornbeam_state" in soak.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"soak.json", "soak.md", "soak.png"}
