"""Which of several servers a command is for."""

import os
import threading

import pytest
from doors import CONFIG, Door
from hornbeam_erlang._control import servers
from hornbeam_erlang._outside import discovery


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder in which servers are looked for."""
    place = tmp_path / "hornbeam"
    place.mkdir(mode=0o700)
    monkeypatch.setattr(discovery, "folders", lambda _environment: [place])
    return place


class Waiting(Door):
    """A server that lets somebody in once another one has been asked."""

    other_asked = threading.Event()

    def answer(self, say, name, fields):
        assert self.other_asked.wait(60)
        super().answer(say, name, fields)


class Asked(Door):
    def answer(self, say, name, fields):
        Waiting.other_asked.set()
        super().answer(say, name, fields)


def about(pid):
    return {"os_pid": pid, "apps": CONFIG["apps"]}


def test_a_server_that_does_not_answer_holds_up_none_behind_it(folder):
    first = Waiting(folder / "1.sock", **about(os.getpid()))
    second = Asked(folder / "2.sock", **about(1))
    try:
        with servers.find(str(os.getpid()), {}) as found:
            assert found.path == folder / "1.sock"
    finally:
        first.close()
        second.close()
