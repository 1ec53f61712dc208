"""Who is present, and what is counted, is the same on all nodes soon after whatever happens."""

from __future__ import annotations

import time

import pytest
from harness import eventually
from people import People
from topics import SETTLED


@pytest.mark.parametrize("which", ["full", "pair"])
def test_each_side_of_a_cut_sees_its_own_and_after_it_everybody(cluster, which):
    people = People(cluster.members)
    people.settled()
    one, two, three = cluster.members
    if which == "full":
        cluster.network.cut_all()
        eventually(lambda: people.seen_from(one)[:2] == [[one.name], 1], 2 * SETTLED)
    else:
        cluster.network.cut(one.machine, two.machine)
        eventually(lambda: people.seen_from(one)[1] == people.seen_from(two)[1] == 2, 2 * SETTLED)
        assert people.seen_from(three)[1] == 3
    people.change(2)
    cluster.network.heal()
    cluster.joined()
    people.settled()


def test_a_cut_of_a_moment_is_noticed_by_nobody(cluster):
    people = People(cluster.members)
    people.settled()
    (one, two, _) = cluster.members
    people.consoles[two](
        """
        seen = []
        async def watch(topic):
            async for diff in presence.changes(topic):
                seen.append(sorted(diff["leaves"]))
        task = asyncio.create_task(watch(t))
        """,
        t=people.topic,
    )
    cluster.network.cut(one.machine, two.machine)
    time.sleep(0.006)  # the length of the cut
    cluster.network.heal()
    people.consoles[one]("presence.track(t, 'last', {}) != ''", t=people.topic)
    eventually(lambda: people.consoles[two]("'last' in presence.list(t)", t=people.topic), SETTLED)
    eventually(lambda: people.consoles[two]("len(seen)") > 1, SETTLED)
    assert people.consoles[two]("[each for each in seen if each]") == []


def test_a_node_that_was_killed_takes_its_people_along_and_its_visits_stay(cluster):
    people = People(cluster.members)
    people.settled()
    one = cluster.members[0]
    one.kill()
    people.forget(one)
    people.settled()
    one.restart()
    people.come(one)
    people.settled()


def test_a_node_that_stood_still_comes_back_with_its_people(cluster):
    people = People(cluster.members)
    people.settled()
    one, two, _ = cluster.members
    one.stall()
    try:
        eventually(lambda: people.seen_from(two)[1] == 2, 2 * SETTLED)
    finally:
        one.resume()
    cluster.joined()
    people.settled()
