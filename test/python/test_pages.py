"""What answers of a server look like in a terminal."""

from typing import Any

import pytest
from hornbeam_erlang._command import doctor, pages

OPEN: dict[str, Any] = {
    "id": 7,
    "kind": "websocket",
    "state": "open",
    "peer": ["127.0.0.1", 4711],
    "path": "/chat",
    "worker": "worker-1",
    "seconds": 59,
    "bytes_in": 999,
    "bytes_out": 5_000_000,
    "unsent": 0,
    "untaken": 3,
    "mailbox": 0,
    "queue": 0,
}


def listed(*rows: dict[str, Any], busy: int = 0, silent: tuple[str, ...] = ()) -> str:
    answer = {"open": 2, "busy": busy, "connections": rows, "silent": silent}
    return pages.connections(answer, "queue")


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0B"), (999, "999B"), (1000, "1.0K"), (1 << 20, "1.0M"), (5 << 30, "5.0G"), (None, "-")],
)
def test_sizes_are_short(number, shown):
    assert pages.size(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")]
)
def test_ages_are_short(seconds, shown):
    assert pages.age(seconds) == shown


def test_a_list_has_80_columns_whatever_paths_are_like():
    shown = listed(OPEN | {"path": "/" + "x" * 300}, OPEN | {"id": 8, "unsent": 70_000})
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" in shown
    assert "68.4K unsent" in shown


def test_ids_of_nodes_are_shown_whole_and_those_that_are_silent_named():
    id_ = "hornbeam-4371@2001:db8:1:2:3:4:5:6/1001"
    shown = listed(OPEN | {"id": id_}, silent=("a@b", "c\n@d"))
    assert shown.splitlines()[1:3] == ["a@b does not answer", "c\\x0a@d does not answer"]
    assert shown.splitlines()[4].startswith(f"{id_}  ws ")


def test_workers_are_called_with_their_node():
    row = {"worker": "worker-1", "streams": [], "threads": []}
    assert pages.stacks([row | {"node": "a@b"}, row]) == "a@b/worker-1\n\nworker-1\n"
    silent = [{"node": "a@b", "error": "no_answer"}]
    assert pages.stacks(silent) == "a@b\n  does not answer: no_answer\n"


def test_paths_move_no_cursor():
    shown = listed(OPEN | {"path": "/\x1b[2J\r\n\u202e"})
    assert "/\\x1b[2J\\x0d\\x0a" in shown
    assert all(line.isprintable() for line in shown.splitlines())


def test_what_waits_is_told_for_the_client_first():
    assert pages.queue(OPEN) == "0"
    assert pages.queue(OPEN | {"untaken": 40, "queue": 40}) == "40 msgs"
    assert pages.queue(OPEN | {"unsent": 10, "untaken": 40, "queue": 50}) == "10B unsent"


def test_one_that_did_not_answer_is_listed():
    shown = listed({"id": 9, "state": "busy", "mailbox": 12, "pid": "<0.1.0>"}, busy=1)
    assert "1 too busy to answer" in shown
    assert "12 msgs" in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(["::1", 80], "[::1]:80"), (["10.0.0.1", 80], "10.0.0.1:80"), (["x", None], "x"), (None, "-")],
)
def test_peers_are_written_as_addresses(value, shown):
    assert pages.peer(value) == shown


NOTE: dict[str, Any] = {
    "at": 0,
    "direction": "in",
    "type": "text",
    "size": 5,
    "body": b"hel",
    "dropped": 0,
}


def test_a_note_shows_a_body_only_where_one_is_wanted():
    assert pages.note(NOTE | {"body": b""}, 0).endswith("<- text           5\n")
    assert pages.note(NOTE, 3).endswith("<- text           5 hel…\n")
    assert pages.note(NOTE | {"type": "binary", "body": b"\1\2", "size": 2}, 3).endswith(" 01 02\n")
    closing = NOTE | {"direction": "out", "type": "close", "body": b"\x0f\xa0bye"}
    assert pages.note(closing, 9).endswith("-> close          5 4000 bye\n")
    assert pages.note(NOTE | {"dropped": 3}, 0).startswith("… 3 not shown")


@pytest.mark.parametrize(
    ("ended", "shown"),
    [
        ({"ended": "limit", "dropped": 0}, "as many messages as were wanted\n"),
        ({"ended": ["closed", 1000], "dropped": 2}, "closed: 1000; 2 messages were not shown\n"),
        ({"ended": "replaced", "dropped": 0}, "somebody else looks at this connection now\n"),
    ],
)
def test_a_trace_says_why_it_is_over(ended, shown):
    assert pages.traced(ended) == shown


def test_the_doctor_tells_names_of_variables_and_no_values():
    here = doctor.local({"HORNBEAM_KEYFILE_PASSWORD": "a-secret", "OTHER": "x"})
    shown = doctor.page(here, None, "none runs")
    assert "HORNBEAM_KEYFILE_PASSWORD" in shown
    assert "a-secret" not in shown
    assert "OTHER" not in shown
    assert "none runs" in shown


def test_the_doctor_shows_errors_with_their_lines():
    crash = {"at": 0, "level": "error", "text": "one\n  two\x1b[2J"}
    node = {"versions": {"otp": "25"}, "crashes": [crash], "mounts": {"/": {"env": "hidden"}}}
    shown = doctor.page({}, node, None)
    assert "error\n    one\n      two\\x1b[2J" in shown
    assert "## Mounts\n\n/\n  env: hidden" in shown
    assert node["crashes"] == [crash]


PEER: dict[str, Any] = {
    "node": "hornbeam@10.0.0.2",
    "state": "up",
    "seconds": 7200,
    "version": "0.1.0",
    "why": "",
    "dropped": 0,
    "waiting": {"messages": 2, "bytes": 2048},
    "unacknowledged": {"messages": 0, "bytes": 0},
}


def of_cluster(*peers: dict[str, Any], **losses: dict[str, int]) -> str:
    answer = {"name": "shop", "node": "hornbeam@10.0.0.1", "incarnation": 7, "healed": 1}
    return pages.cluster(answer | {"peers": peers, "losses": losses})


def test_a_cluster_is_shown_in_80_columns_and_no_word_of_it_moves_a_cursor():
    away = {"node": "x\x1b[2J" * 30, "state": "waiting", "why": "\x1b[2J", "version": None}
    shown = of_cluster(PEER, PEER | away, publish={"cut": 3})
    assert "hornbeam@10.0.0.2" in shown and "2h" in shown and "2.0K" in shown
    assert "publish, cut: 3" in shown
    lines = shown.splitlines()
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines[:7])) <= 80


def test_a_node_alone_has_no_list_and_has_lost_nothing():
    assert of_cluster().endswith("\nno other nodes\n")
