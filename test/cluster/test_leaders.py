"""Who leads on three nodes, and what they agree on, when they are cut off, stalled and killed."""

from __future__ import annotations

import itertools

import pytest
from harness import eventually
from members import Cluster, Member

STAND = """
global events, task
import asyncio, time
from hornbeam_erlang import LeadershipLost, leader
events = []
async def stand():
    while True:
        try:
            async with leader("nightly") as token:
                events.append(["leads", time.monotonic(), token])
                try:
                    await asyncio.sleep(3600)
                finally:
                    events.append(["ends", time.monotonic(), token])
        except LeadershipLost:
            pass
task = asyncio.create_task(stand())
"""

LIMIT = 40.0
"""Seconds until it is known that a node is gone, its time is over, and another one leads."""


@pytest.fixture
def consistent(make, tmp_path) -> Cluster:
    """Three nodes with consistent state, of one test."""
    cluster = make("--cluster-data-dir", tmp_path / "data", "--cluster-members", "3").start()
    for member in cluster.members:
        member("from hornbeam_erlang import cluster")
        eventually(lambda member=member: is_there(member), LIMIT)
    return cluster


def is_there(member: Member) -> bool:
    return member("""
        from hornbeam_erlang import Unavailable, cluster
        try:
            found = cluster.get("ready", True)
        except (Unavailable, TimeoutError):
            found = False
        found
    """)


def events(member: Member) -> list[tuple[str, float, int]]:
    return [tuple(event) for event in member("events")]


def leads(member: Member) -> bool:
    return [event for event, _, _ in events(member)][-1:] == ["leads"]


def all_stand(cluster: Cluster) -> Member:
    """Have a worker of each node stand; return the node whose worker leads."""
    for member in cluster.members:
        member(STAND)
    return one_leads(cluster.members)


def one_leads(members: list[Member]) -> Member:
    (leading,) = eventually(lambda: [*filter(leads, members)], LIMIT)
    return leading


def never_two(cluster: Cluster) -> None:
    """Look whether nobody has begun before the one with the token before had ended."""
    told = [event for member in cluster.members if member.running for event in events(member)]
    turns: dict[int, dict[str, float]] = {}
    for event, at, token in told:
        turns.setdefault(token, {})[event] = at
    for (_, before), (_, after) in itertools.pairwise(sorted(turns.items())):
        assert before["ends"] <= after["leads"]


# Without consistent state


def test_a_killed_node_is_followed_by_one_of_the_others(make):
    cluster = make().start()
    leading = all_stand(cluster)
    ((_, _, token),) = events(leading)
    others = [member for member in cluster.members if member is not leading]
    assert [events(member) for member in others] == [[], []]
    leading.kill()
    (_, _, next_token) = events(one_leads(others))[-1]
    assert next_token > token


def test_both_sides_of_a_cut_have_a_leader_and_one_when_it_is_healed(make):
    cluster = make().start()
    leading = all_stand(cluster)
    others = [member for member in cluster.members if member is not leading]
    cluster.network.isolate(leading.machine)
    later = one_leads(others)
    assert leads(leading)
    assert events(later)[-1][2] > events(leading)[-1][2]
    cluster.network.heal()
    eventually(lambda: sum(map(leads, cluster.members)) == 1, LIMIT)


def test_a_node_that_comes_back_leads_nothing_that_another_one_does(make):
    cluster = make().start()
    leading = all_stand(cluster)
    ((_, _, token),) = events(leading)
    other = next(member for member in cluster.members if member is not leading)
    other.kill()
    other.restart()
    cluster.joined()
    other(STAND)
    assert events(leading)[-1][2] == token
    assert events(other) == []


# With it


def test_a_leader_that_is_cut_off_ends_before_the_next_one_begins(consistent):
    leading = all_stand(consistent)
    others = [member for member in consistent.members if member is not leading]
    consistent.network.isolate(leading.machine)
    one_leads(others)
    never_two(consistent)
    consistent.network.heal()
    consistent.joined()
    one_leads(consistent.members)
    never_two(consistent)


def test_a_leader_whose_node_stands_still_ends_before_the_next_one_begins(consistent):
    leading = all_stand(consistent)
    others = [member for member in consistent.members if member is not leading]
    leading.stall()
    one_leads(others)
    leading.resume()
    consistent.joined()
    one_leads(consistent.members)
    never_two(consistent)


def test_a_minority_refuses_and_a_majority_goes_on(consistent):
    cut, *others = consistent.members
    cut("cluster.set('k', 1)")
    consistent.network.isolate(cut.machine)
    eventually(lambda: is_there(others[0]), LIMIT)
    others[1]("cluster.set('k', 2)")
    assert others[0]("cluster.get('k')") == 2
    eventually(lambda: not is_there(cut), LIMIT)
    consistent.network.heal()
    consistent.joined()
    eventually(lambda: is_there(cut), LIMIT)
    assert cut("cluster.get('k')") == 2


def test_nothing_is_lost_when_all_nodes_are_killed(consistent):
    for number, member in enumerate(consistent.members * 10):
        member("cluster.set(n, n)", n=number)
    for member in consistent.members:
        member.kill()
    consistent.start()
    for member in consistent.members:
        eventually(lambda member=member: is_there(member), LIMIT)
        assert member("[cluster.get(n) for n in range(30)]") == list(range(30))
