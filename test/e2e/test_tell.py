"""Ops that nobody asks about, on a real node: they are done, in their order, and within bounds."""

from __future__ import annotations

import os
import signal

import pytest
from clients import TEXT, RawWebSocket
from harness import Node, alive, eventually


@pytest.fixture
def server(serve):
    return serve("console:application", workers=2)


@pytest.fixture
def two(server, consoles):
    """Two consoles in two workers."""
    return consoles(server, 2)


def test_many_sets_are_done_before_the_next_get(two, key):
    source = "for n in range(20_000): state_set((k, n % 1000), n)\nlen(state_keys((k,)))"
    assert two[0](source, k=key) == 1000
    assert two[1]("state_get((k, 999))", k=key) == 19_999


def test_many_threads_tell_and_read_what_they_have_told(two, key):
    source = """
        def work(name):
            for n in range(2000):
                state_set((k, name), n)
            return state_get((k, name))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.to_thread(work, n)) for n in range(4)]
        [task.result() for task in tasks]
    """
    assert two[0](source, k=key) == [1999] * 4


def test_all_that_is_published_comes_in_its_order(two, key):
    reader, publisher = two
    reader("subscribe(k)", k=key)
    publisher("for n in range(900): publish(k, n)", k=key)
    assert reader("[(await aio.receive_pubsub(10)).value for _ in range(900)]") == list(range(900))


def test_it_is_done_before_what_the_same_handler_sends(two, key):
    """The client hears of each, and asks another worker at once."""
    teller, other = two
    for n in range(50):
        source = """
            state_set(k, n)
            await send({"type": "websocket.send", "text": "done"})
        """
        teller.ask(source, k=key, n=n)
        assert teller.next_pushed() == "done"
        assert other("state_get(k)", k=key) == n
        teller.answer()


def test_what_is_bound_to_a_connection_is_done_before_what_follows_and_ends_with_it(two, key):
    teller, other = two
    source = "state_set(k, 1, scope='connection'); state_set((k, 'too'), state_get(k))"
    teller(source, k=key)
    assert other("state_get((k, 'too'))", k=key) == 1
    teller.leave()
    eventually(lambda: other("state_get(k)", k=key) is None)


def test_a_failure_that_nobody_has_asked_is_logged_with_its_line(two):
    two[0]("pass\ncast('there is none of this name')\nNone")
    two[0].server.node.wait_log(r"<test>:2: functions\.cast has failed: NotFound")


def test_who_asks_gets_the_failure(two):
    with pytest.raises(LookupError, match="no function is registered"):
        two[0]("await cast('there is none of this name')")


def test_a_worker_that_is_killed_in_the_middle_takes_nobody_along(two, key):
    teller, other = two
    teller.ask("while True: state_set(k, 1); publish(k, 2)", k=key)
    eventually(lambda: other("state_get(k)", k=key) == 1)
    teller.kill_worker()
    assert other("state_set(k, 2); state_get(k)", k=key) == 2


# The end of a worker

MANY = 1000


def told(node: Node, pid: int, who: str) -> int:
    """Return how many of its numbers a worker has told."""
    return node.eval(f'length(hornbeam_state:keys({{<<"told">>, {pid}, <<"{who}">>}}))')


@pytest.fixture
def telling(tmp_path):
    """A node of its own with two workers, and a socket in each."""
    node = Node(tmp_path)
    server = node.serve("telling:application", workers=2, drain_timeout=100)
    sockets = [RawWebSocket(server, "/") for _ in range(2)]
    eventually(lambda: [worker["streams"] for worker in server.workers()] == [1, 1])
    yield node, server, sockets
    assert not node.close()


@pytest.mark.parametrize(
    ("end", "count"),
    [("hornbeam:reload()", 2), ('hornbeam:set_workers("/", 1)', 1), ("hornbeam:stop()", 2)],
)
def test_what_is_told_at_an_orderly_end_is_done(telling, end, count):
    """By a handler, the lifespan and threads, at a reload, by one too many, and at the stop."""
    node, server, _ = telling
    pids = server.worker_pids()
    node.eval(end)
    ended = eventually(lambda: [*gone] if len(gone := set(pids) - living(pids)) == count else None)
    for pid in ended:
        by = {who: told(node, pid, who) for who in ("leaving", "lifespan", "executor", "thread")}
        assert by == dict.fromkeys(by, MANY)


def living(pids: list[int]) -> set[int]:
    return {pid for pid in pids if alive(pid)}


def test_what_was_told_before_a_client_heard_of_it_is_done_though_the_worker_is_killed(telling):
    node, server, sockets = telling
    for socket in sockets:
        socket.frame(TEXT, b"go on")
        assert socket.read() == (TEXT, b"go on")
    pids = server.worker_pids()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert [told(node, pid, "handler") for pid in pids] == [MANY] * 2
