"""The consistent state by `hornbeam_erlang.cluster`, in a real node that is a cluster alone."""

from __future__ import annotations

import uuid

import hornbeam_erlang
import pytest
from harness import Node, StartError, eventually
from operators import of
from terms import Atom


def told(folder, **keys):
    settings = {"name": "shop", "data_dir": str(folder), "members": 1} | keys
    return {Atom(key): value for key, value in settings.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A node with a name, which is no other's, and the folder in which it is found by it."""
    meeting = tmp_path_factory.mktemp("meeting")
    name = f"n{uuid.uuid4().hex}@127.0.0.1"
    running = Node(tmp_path_factory.mktemp("node"), name=name, meeting=meeting)
    yield running
    running.close()


@pytest.fixture(scope="module")
def server(named, folder):
    return named.serve("console:application", workers=2, cluster=told(folder))


@pytest.fixture
def two(server, consoles, key):
    """A console in each of two workers, of which `k` is a key that is nobody else's."""
    both = consoles(server, 2)
    for console in both:
        console("import asyncio; from hornbeam_erlang import aio, cluster, leader", k=key)
    eventually(lambda: has_begun(both[0]))
    return both


def has_begun(console):
    try:
        return console("cluster.get(k + 'x', 7)") == 7
    except hornbeam_erlang.exceptions.Unavailable:
        return False


def test_what_one_worker_sets_the_other_has(two):
    one, other = two
    one("cluster.set(k, {'a': [1, None, b'x', (1,)]})")
    assert other("cluster.get(k)") == {"a": [1, None, b"x", (1,)]}
    assert (one("cluster.add(k, 1)"), other("cluster.delete(k)")) == (False, True)
    assert [console("cluster.incr(k, 0.5)") for console in (one, other)] == [0.5, 1.0]
    assert [console("cluster.cas(k, 1.0, 2)") for console in (one, other)] == [True, False]
    assert other("await aio.cluster.get(k)") == 2


def test_it_is_none_of_the_shared_state(two):
    two[0]("cluster.set(k, 1)")
    assert two[1]("state_get(k)") is None


@pytest.mark.parametrize(
    ("source", "raises"),
    [
        ("cluster.set(k, 'x' * (1 << 20))", hornbeam_erlang.LimitExceeded),
        ("cluster.set(k, 'one'); cluster.incr(k)", TypeError),
        ("cluster.incr(k, 1e308); cluster.incr(k, 1e308)", ValueError),
        ("cluster.get(1.5)", TypeError),
    ],
)
def test_what_cannot_be_is_refused_in_the_same_words_as_elsewhere(two, source, raises):
    with pytest.raises(raises):
        two[0](source)


def test_a_lock_is_one_workers_and_the_next_ones_when_it_is_killed(two):
    one, other = two
    one("global held; held = cluster.lock(k); first = await held.__aenter__()")
    first = one("held._token")
    with pytest.raises(hornbeam_erlang.OpTimeout):
        other("async with cluster.lock(k, timeout=0.2): pass")
    one.kill_worker()
    other("global got; got = cluster.lock(k, timeout=20); await got.__aenter__()")
    assert other("got._token") > first
    assert other("got.is_lost") is False


def test_who_leads_has_a_lease_and_keeps_it(two):
    one, _other = two
    one("global lead; lead = leader(k); await lead.__aenter__()")
    until = one("lead._until")
    eventually(lambda: one("lead._until") > until)
    assert one("[lead.is_lost, lead.is_held()]") == [False, True]


def test_the_members_are_shown_and_one_that_runs_is_not_taken_out(server, named):
    shown = of(server, "members")
    assert shown.status == 0
    assert shown.out.startswith(f"{named.name} leads\nholds ")
    told = of(server, "members", "--json").json
    assert (told["members"], told["reachable"]) == ([named.name], [named.name])
    refused = of(server, "members", "--remove", named.name)
    assert (refused.status, "stop it first" in refused.err) == (1, True)
    refused = of(server, "members", "--remove", "nobody@nowhere")
    assert (refused.status, "no member" in refused.err) == (1, True)


def test_it_is_there_after_a_start_of_the_server(named, folder, consoles, key):
    named.eval("hornbeam:stop()")
    for value in (None, "kept"):
        server = named.serve("console:application", cluster=told(folder))
        (console,) = consoles(server)
        console("from hornbeam_erlang import cluster", k=key)
        eventually(lambda console=console: has_begun(console))
        assert console("cluster.get(k)") == value
        console("cluster.set(k, 'kept')")
        console.leave()
        named.eval("hornbeam:stop()")


def test_a_folder_that_cannot_be_made_is_named(named):
    with pytest.raises(StartError) as refusal:
        named.serve("console:application", cluster=told("/proc/nowhere"))
    assert "the folder /proc/nowhere/consensus/" in refusal.value.sentence
