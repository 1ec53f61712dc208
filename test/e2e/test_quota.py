"""What an app keeps in the node is bounded: what runs away is refused, and nobody else."""

from __future__ import annotations

import os
import signal

import pytest
from harness import eventually
from terms import text

SMALL = {
    "workers": 2,
    "connection_state_max_rows": 10,
    "connection_state_max_bytes": 100_000,
    "connection_max_topics": 5,
    "worker_max_hooks": 3,
    "worker_max_executions": 2,
}

OPTION = "worker_max_executions"

UNTIL_REFUSED = """
import hornbeam_erlang

def until_refused(action):
    for n in range(100000):
        try:
            action(n)
        except hornbeam_erlang.LimitExceeded as error:
            return n, str(error)

kept = []

def opened(items):
    kept.append(items)
    next(items)

until_refused(lambda n: {action})
"""


@pytest.fixture
def small(serve):
    return serve("console:application", **SMALL)


def until_refused(console, action, **names):
    """Return how often an action was done before it was refused, and by which option."""
    times, sentence = console(UNTIL_REFUSED.format(action=action), **names)
    return times, sentence.split()[2]


def quota(server):
    return server.info()["quota"]


def kinds(server):
    return {name: (kind["bytes"], kind["rows"]) for name, kind in quota(server)["kinds"].items()}


@pytest.mark.parametrize(
    ("action", "times", "option"),
    [
        ("connection_state().__setitem__(n, n)", 10, "connection_state_max_rows"),
        ("connection_state().__setitem__(0, b'x' * 1000 * n)", 100, "connection_state_max_bytes"),
        ("state_set((k, n), 1, scope='connection').result()", 10, "connection_state_max_rows"),
        ("state_incr((k, n), scope='connection')", 10, "connection_state_max_rows"),
        ("subscribe(f'{k}{n}')", 5, "connection_max_topics"),
        ("subscribe(f'{k}{n}', forward=True)", 5, "connection_max_topics"),
    ],
)
def test_what_runs_away_is_refused_and_no_other(small, consoles, key, action, times, option):
    before = kinds(small)
    here, there = consoles(small, 2)
    refused = quota(small)["refused"][option]
    assert until_refused(here, action, k=key) == (times, option)
    assert quota(small)["refused"][option] == refused + 1
    assert until_refused(there, action, k=f"{key}there") == (times, option)
    for console in here, there:
        console.socket.close()
    for kind in "connections", "bindings", "topics":
        eventually(lambda kind=kind: kinds(small)[kind] == before[kind])


@pytest.mark.parametrize(
    ("action", "times", "option"),
    [
        ("register_hook(f'{k}{n}', lambda *args: None)", 3, "worker_max_hooks"),
        ("list(stream(k, 'numbers')) if n < 5 else opened(stream(k, 'numbers'))", 7, OPTION),
        ("execute_async(k, 'numbers')", 2, OPTION),
    ],
)
def test_a_worker_has_so_many_hooks_and_executions(serve, consoles, key, action, times, option):
    server = serve("console:application", fresh=True, **SMALL)
    here, there = consoles(server, 2)
    server.node.eval(f"hornbeam:register_hook({text(key)}, fun(_, _) -> [1, 2] end)")
    assert until_refused(here, action, k=key) == (times, option)
    assert until_refused(there, action, k=f"{key}") == (times, option)


def test_the_node_is_full_for_all_until_something_goes(serve, consoles, key):
    server = serve("console:application", fresh=True)
    held = quota(server)
    server = serve(
        "console:application",
        fresh=True,
        workers=2,
        state_max_rows=held["rows"] + 20,
        state_max_bytes=held["bytes"] + 1_000_000,
    )
    here, there = consoles(server, 2)
    times, option = until_refused(here, "state_set((k, n), n).result()", k=key)
    assert option == "state_max_rows"
    assert 15 < times <= 20
    assert until_refused(there, "state_add((k, n, n), n)", k=key) == (0, "state_max_rows")
    assert there("state_get((k, 3))", k=key) == 3
    there("state_set((k, 3), 4)", k=key)
    assert until_refused(there, "state_set((k, 3), b'x' * 1_000_000).result()", k=key) == (
        0,
        "state_max_bytes",
    )
    assert here("state_get((k, 3))", k=key) == 4
    there("for other in state_keys((k,)): state_delete(other)", k=key)
    assert here("state_set((k, 3), b'x' * 900_000)", k=key) is None
    here("state_delete((k, 3))", k=key)


def test_an_app_that_asks_for_many_long_answers_at_once_gets_them_all(serve, consoles, key):
    # The longest has 4.1 MB: what is asked while it is on its way is not refused, and two of them
    # are too much for a third.
    server = serve("console:application", fresh=True, workers=1, worker_max_unread_bytes=5_000_000)
    (console,) = consoles(server)
    refused = quota(server)["refused"]["worker_max_unread_bytes"]
    answers = console(
        """
        state_set_multi({(k, n): b'x' * 1000 for n in range(2000)})
        state_set((k, 'long'), b'x' * 2_000_000)
        lists = [aio.state_items((k,)) for _ in range(10)]
        keys = [aio.state_keys((k,)) for _ in range(10)]
        values = [aio.state_get((k, 'long')) for _ in range(20)]
        found = await asyncio.gather(*lists, *keys, *values)
        for other in state_keys((k,)):
            state_delete(other)
        [len(each) for each in found]
        """,
        k=key,
    )
    assert answers == [2001] * 20 + [2_000_000] * 20
    assert quota(server)["refused"]["worker_max_unread_bytes"] == refused


def test_a_worker_that_dies_gives_back_what_it_kept(serve, consoles, key):
    server = serve("console:application", fresh=True, workers=1)
    (console,) = consoles(server)
    before = kinds(server)
    console(
        """
        for n in range(100):
            connection_state()[n] = b'x' * n
            state_set((k, n), n, scope='connection')
            subscribe(f'{k}{n}')
        """,
        k=key,
    )
    assert kinds(server)["topics"][1] == before["topics"][1] + 100
    os.kill(console.pid, signal.SIGKILL)
    for kind in "state", "connections", "bindings", "topics":
        eventually(lambda kind=kind: kinds(server)[kind] == before[kind])


def test_values_that_differ_in_much_order_are_not_compared(small, consoles, key):
    (console, *_) = consoles(small, 1)
    console(
        """
        import hornbeam_erlang
        pairs = [(n, b'x' * 100) for n in range(20000)]
        state_set(k, dict(pairs))
        try:
            state_cas(k, dict(pairs[::-1]), 1)
        except hornbeam_erlang.LimitExceeded as error:
            assert 'too long to be compared' in str(error)
        else:
            raise AssertionError('compared')
        assert state_cas(k, dict(pairs), 1)
        state_delete(k)
        """,
        k=key,
    )
