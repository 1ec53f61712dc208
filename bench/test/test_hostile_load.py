"""The hostile load does not believe that it was hostile: it counts whom it did not reach."""

import pytest
from faulty import Faulty

from harness.attack import Attack
from harness.load import LoadError
from harness.probe import Watch

SECONDS = 1.0
COUNT = 2
BYTES = 20_000_000


def attacked(fault: str) -> dict[str, dict[str, int]]:
    """What hostile clients of a server saw."""
    with Faulty("wrong_hostile", fault) as server:
        watch = Watch(server.pids, None)
        with Attack(server, watch, count=COUNT, bytes=BYTES) as attack:
            attack.watch(SECONDS)
            clients = attack.stop()
    assert clients
    return clients


def test_a_server_that_drowns_keeps_all_clients_and_lets_none_be_idle() -> None:
    clients = attacked("none")
    for kind in ("deaf", "flood", "download", "upload"):
        assert (clients[kind]["gone"], clients[kind]["idle"]) == (0, 0)
    assert 0 < clients["flood"]["written"] < COUNT * BYTES
    assert clients["deaf"]["waiting"] > 65536


def test_clients_that_the_server_ends_are_counted() -> None:
    clients = attacked("ends")
    assert clients["deaf"]["gone"] == COUNT
    assert clients["flood"]["gone"] == COUNT


def test_readers_who_are_sent_nothing_are_counted() -> None:
    clients = attacked("silent")
    assert clients["deaf"]["idle"] == COUNT
    assert clients["download"]["idle"] == COUNT


def test_writers_stop_at_their_bytes_where_the_server_takes_all() -> None:
    clients = attacked("silent")
    assert BYTES * COUNT <= clients["flood"]["written"] < BYTES * COUNT + COUNT * 70_000
    assert clients["upload"]["written"] == BYTES * COUNT


def test_a_server_that_refuses_is_an_error() -> None:
    with (
        Faulty("wrong_hostile", "refuses") as server,
        pytest.raises(LoadError, match="was refused"),
    ):
        watch = Watch(server.pids, None)
        with Attack(server, watch, count=COUNT) as attack:
            attack.watch(SECONDS)
            attack.stop()


def test_an_attack_stops_when_the_server_holds_too_much() -> None:
    with Faulty("wrong_hostile", "none") as server:
        watch = Watch(server.pids, None)
        most = watch.resident(watch.look()) // 2
        with Attack(server, watch, most, count=COUNT) as attack:
            attack.watch(SECONDS)
            assert attack.stopped_after is not None
            assert attack.stop() is None
        server.check_alive()
