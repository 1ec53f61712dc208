"""How a process outside of all workers finds a node, is let in, and what becomes of it."""

import gc
import logging
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import pytest
from beam import CODES
from doors import Door, Scripted
from hornbeam_erlang import (
    ConnectionEnded,
    NotConnected,
    OpTimeout,
    publish,
    receive_pubsub,
    state_get,
    state_set,
    subscribe,
    testing,
)
from hornbeam_erlang._outside import discovery, visitor
from hornbeam_erlang._outside.greeting import greet


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder in which servers are looked for."""
    place = tmp_path / "hornbeam"
    place.mkdir(mode=0o700)
    monkeypatch.setattr(discovery, "folders", lambda _environment: [place])
    monkeypatch.delenv("HORNBEAM_SOCKET")
    yield place
    visitor._visitor.close()


@pytest.fixture
def door(folder):
    """The one server that runs."""
    opened = Door(folder / "1.sock")
    yield opened
    opened.close()


def eventually(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# Found


def test_places_are_those_of_the_login_and_one_in_tmp():
    user = os.geteuid()
    found = discovery.folders({"XDG_RUNTIME_DIR": "/run/x"})
    assert found == [
        Path("/run/x/hornbeam"),
        Path(f"/run/user/{user}/hornbeam"),
        Path(f"/tmp/hornbeam-{user}"),
    ]
    assert len(discovery.folders({"XDG_RUNTIME_DIR": f"/run/user/{user}"})) == 2


def listen(path):
    opened = socket.socket(socket.AF_UNIX)
    opened.bind(str(path))
    return opened


def test_sockets_of_a_folder_that_is_closed_to_others_are_found(folder):
    with listen(folder / "b.sock"), listen(folder / "a.sock"), listen(folder / "other"):
        (folder / "file.sock").touch()
        assert discovery.sockets({}) == [folder / "a.sock", folder / "b.sock"]


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o755, 0o777])
def test_folder_that_is_open_to_others_does_not_count(folder, mode):
    with listen(folder / "a.sock"):
        folder.chmod(mode)
        assert discovery.sockets({}) == []


def test_link_to_a_folder_does_not_count(folder, tmp_path):
    with listen(folder / "a.sock"):
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
        assert discovery.sockets({}) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can be played by root alone")
@pytest.mark.parametrize("whose", ["folder", "socket"])
def test_what_is_another_users_does_not_count(folder, whose):
    with listen(folder / "a.sock"):
        os.chown(folder if whose == "folder" else folder / "a.sock", 65534, 65534)
        assert discovery.sockets({}) == []


@pytest.mark.parametrize(
    ("here", "candidates", "found"),
    [
        ("/srv/shop", [["/srv/shop"], ["/srv/blog"]], [0]),
        ("/srv/shop/cart", [["/srv/shop"], ["/srv"]], [0]),
        ("/srv/shop", [["/srv/shop/cart"], ["/srv"]], [1]),
        ("/srv/shopping", [["/srv/shop"]], []),
        ("/srv/shop", [["/srv/blog", "/srv/shop"], ["/srv"]], [0]),
        ("/srv/shop", [["/srv/shop"], ["/srv/shop"]], [0, 1]),
        ("/srv", [["/"], []], [0]),
        ("/srv", [[]], []),
    ],
)
def test_nearest_folder_above_is_meant(here, candidates, found):
    assert discovery.nearest([here], candidates) == found


def test_current_folder_is_known_with_and_without_links(tmp_path, monkeypatch):
    (tmp_path / "releases").mkdir()
    (tmp_path / "current").symlink_to("releases")
    monkeypatch.chdir(tmp_path / "current")
    real, shown = str(tmp_path / "releases"), str(tmp_path / "current")
    assert discovery.here({"PWD": shown}) == [real, shown]
    assert discovery.here({"PWD": "/"}) == [real]
    assert discovery.here({}) == [real]
    assert discovery.nearest(discovery.here({}), [[shown]]) == [0]


# Let in


def test_the_one_server_is_called(door):
    assert state_get("k") == "op 1"
    (name, (version, about)), *_ = door.heard
    assert (name, version, about["wants"], about["os_pid"]) == ("hello", 1, "ops", os.getpid())
    assert about["folders"][0] == str(Path.cwd())


def test_socket_that_is_left_of_a_dead_server_is_passed_over(door, folder):
    listen(folder / "0.sock").close()
    assert state_get("k") == "op 1"


def test_variable_names_the_socket(folder, tmp_path, monkeypatch):
    elsewhere = Door(tmp_path / "named")
    monkeypatch.setenv("HORNBEAM_SOCKET", str(tmp_path / "named"))
    assert state_get("k") == "op 1"
    elsewhere.close()


def test_where_no_server_runs_a_sentence_says_what_to_do(folder):
    with pytest.raises(NotConnected, match=r"no Hornbeam server of this user \(uid \d+\) runs"):
        state_get("k")


def test_off_calls_nobody(door, monkeypatch):
    monkeypatch.setenv("HORNBEAM_SOCKET", "off")
    with pytest.raises(NotConnected, match="HORNBEAM_SOCKET is off"):
        state_get("k")
    assert not door.heard


def test_variable_that_names_no_server_is_named(folder, monkeypatch):
    monkeypatch.setenv("HORNBEAM_SOCKET", "/nowhere/at/all")
    with pytest.raises(
        NotConnected, match=r"/nowhere/at/all, which HORNBEAM_SOCKET names.*No such"
    ):
        state_get("k")


def test_of_several_none_is_guessed(door, folder):
    other = Door(folder / "2.sock", apps=[["blog:app", "/srv/blog"]])
    with pytest.raises(NotConnected) as raised:
        state_get("k")
    assert f"{folder / '1.sock'} (shop:app in /srv/shop)" in str(raised.value)
    assert f"{folder / '2.sock'} (blog:app in /srv/blog)" in str(raised.value)
    other.close()


def test_of_several_that_of_the_current_folder_is_meant(door, folder):
    other = Door(folder / "2.sock", apps=[["blog:app", str(Path.cwd())]])
    assert state_get("k") == "op 1"
    assert [name for name, _ in other.heard] == ["hello", "op"]
    other.close()


REFUSED = msgpack.packb([CODES["refused"], 0, "upgrade the server"])


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        (REFUSED, "does not let us in: upgrade the server"),
        (b"", "has closed the connection"),
        (b"\x01", "not a message"),
        (msgpack.packb([CODES["event"], 0, "t", b""]), "comes before start"),
        (msgpack.packb([CODES["start"], 0, {}]), "not the config of this version"),
    ],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_who_does_not_let_us_in_is_named_with_the_reason(
    folder, monkeypatch, says, sentence, is_named
):
    path = folder / "1.sock"
    opened = Scripted(path, says)
    if is_named:
        monkeypatch.setenv("HORNBEAM_SOCKET", str(path))
    with pytest.raises(NotConnected, match=sentence) as raised:
        state_get("k")
    assert str(path) in str(raised.value)
    opened.close()


def test_who_comes_in_a_crowd_waits_for_its_turn(tmp_path):
    path = tmp_path / "full.sock"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(1)
    crowd = []
    with pytest.raises(BlockingIOError):
        while True:
            crowd.append(socket.socket(socket.AF_UNIX))
            crowd[-1].setblocking(False)
            crowd[-1].connect(str(path))
    with ThreadPoolExecutor(1) as pool:
        greeting = pool.submit(greet, path, "0", [])
        with pytest.raises(TimeoutError):
            greeting.result(0.5)
        for _ in range(len(crowd)):  # the last of them has not come in
            listening.accept()[0].close()
        with pytest.raises((NotConnected, ConnectionError)):
            greeting.result(20)
    for one in (listening, *crowd):
        one.close()


def test_who_does_not_let_us_in_is_passed_over_where_another_does(door, folder):
    other = Scripted(folder / "0.sock", REFUSED)
    assert state_get("k") == "op 1"
    other.close()


def test_stand_in_of_a_test_comes_first(door):
    with testing.Beam():
        state_set("k", 1).result()
        assert state_get("k") == 1
    assert not door.heard
    assert state_get("k") == "op 1"


# The end


def test_end_of_the_server_is_told_to_all_who_wait_and_the_next_op_connects_anew(door, folder):
    door.answer = lambda say, name, fields: name == "hello" and say("start", door.config)
    raised = []

    def wait(act):
        try:
            act()
        except NotConnected as error:
            raised.append(error)

    sent = state_set("k", 1)
    acts = [lambda: state_get("k"), sent.result, lambda: state_set("k", 2).result()]
    threads = [threading.Thread(target=wait, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    eventually(lambda: len(door.heard) == 4)
    door.close()
    for thread in threads:
        thread.join(10)
    assert [str(error)[:14] for error in raised] == ["the connection"] * 3
    (folder / "1.sock").unlink()
    again = Door(folder / "1.sock")
    assert state_get("k") == "op 1"
    again.close()


def test_who_has_subscribed_reads_what_came_and_then_hears_of_the_end(door):
    def answer(say, name, fields):
        Door.answer(door, say, name, fields)
        if name == "op" and fields[1] == 20:
            say("event", "t", msgpack.packb("last"))

    door.answer = answer
    subscribe("t")
    carrier = visitor.carrier()
    eventually(lambda: len(carrier.topics.mailbox(0)))
    mailbox = carrier.topics.mailbox(0)
    door.close()
    eventually(lambda: not carrier.is_open)
    assert mailbox.receive(1).value == "last"
    with pytest.raises(ConnectionEnded):
        mailbox.receive(1)


def test_what_the_wire_does_not_know_ends_the_connection_and_is_logged(door, caplog):
    def answer(say, name, fields):
        if name == "hello":
            say("start", door.config)
        else:
            say("stop", 5)

    door.answer = answer
    with caplog.at_level(logging.ERROR, "hornbeam.wire"), pytest.raises(NotConnected):
        state_get("k")
    assert "message 11 is none for a visitor" in caplog.text


def test_node_that_does_not_answer_is_waited_for_no_longer_than_op_timeout(folder):
    slow = Door(folder / "1.sock", op_timeout=50)
    slow.answer = lambda say, name, fields: name == "hello" and say("start", slow.config)
    with pytest.raises(OpTimeout, match=r"Erlang has not answered state.get within 0.05 s"):
        state_get("k")
    with pytest.raises(OpTimeout):
        state_set("k", 1).result()
    slow.close()


def test_publishes_that_the_node_does_not_take_fail_loudly(folder):
    slow = Door(folder / "1.sock", op_timeout=50)
    slow.answer = lambda say, name, fields: name == "hello" and say("start", slow.config)

    def flood():
        for n in range(100_000):
            publish("t", n)

    with pytest.raises(OpTimeout, match=r"pubsub.publish was not sent"):
        flood()
    slow.close()


def in_the_reading_thread(act):
    visitor.carrier()._link.call_later(0, act)


def in_the_middle_of_a_message(act):
    visitor.carrier()._link.put(act)


WHERE = [in_the_reading_thread, in_the_middle_of_a_message]


@pytest.mark.parametrize("run", WHERE)
def test_finalizer_may_publish_wherever_it_runs(door, run):
    class Last:
        def __del__(self):
            publish("t", "gone")

    state_get("k")
    last = Last()
    last.itself = last
    del last
    run(gc.collect)
    eventually(lambda: len(door.heard) == 3)
    assert door.heard[2][1][1:] == [22, ["t", msgpack.packb("gone")]]


@pytest.mark.parametrize("run", WHERE)
def test_blocking_call_where_its_answer_is_to_come_in_is_refused(door, run):
    state_get("k")
    found = []

    def call():
        try:
            state_get("k")
        except RuntimeError as error:
            found.append(str(error))

    run(call)
    eventually(lambda: found)
    assert "called Erlang where the answer is to come in" in found[0]


def test_what_is_published_has_left_the_process_when_the_function_returns(door, tmp_path):
    """Pools of processes end theirs by `os._exit`."""
    state_get("k")
    if (child := os.fork()) == 0:
        try:
            for n in range(100):
                publish("t", n)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    eventually(lambda: len(door.heard) == 103)


def test_child_that_was_forked_does_not_wait_for_what_its_parent_has_sent(door):
    door.answer = lambda say, name, fields: name == "hello" and say("start", door.config)
    sent = state_set("k", 1)
    if (child := os.fork()) == 0:
        status = 1
        try:
            sent.result(5)
        except NotConnected:
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_receiving_has_its_time(door):
    with pytest.raises(OpTimeout, match="no message came"):
        receive_pubsub(0.01)
