"""Links that are cut, nodes that stand still or die: all is as before, soon after that is over."""

from __future__ import annotations

import time

import pytest
from harness import eventually
from topics import SETTLED, Listeners

NOTICED = 15.0
"""Seconds in which a node knows that a link is dead."""


@pytest.mark.parametrize("seconds", [0.006, 5])
@pytest.mark.parametrize("which", ["full", "pair", "one way"])
def test_publish_is_right_after_a_cut_that_is_soon_healed(cluster, which, seconds):
    listeners = Listeners(cluster.members)
    one, two = cluster.network.machines[:2]
    match which:
        case "full":
            cluster.network.cut_all()
        case "pair":
            cluster.network.cut(one, two)
        case "one way":
            cluster.network.cut_one_way(one, two)
    time.sleep(seconds)  # the length of the cut
    cluster.network.heal()
    listeners.settled()


def test_a_cut_between_two_leaves_the_third_connected_with_both(cluster):
    one, two, three = cluster.members
    listeners = Listeners(cluster.members)
    cluster.network.cut(one.machine, two.machine)
    eventually(lambda: one.knows() == two.knows() == {three.name}, NOTICED)
    assert three.knows() == {one.name, two.name}
    assert [listeners.heard_of(member) for member in cluster.members] == [(2, 2), (2, 2), (3, 3)]
    cluster.network.heal()
    listeners.settled()


def test_a_node_that_stood_still_is_left_alone_and_comes_back(cluster):
    one, two, three = cluster.members
    listeners = Listeners(cluster.members)
    one.stall()
    try:
        eventually(lambda: two.knows() == {three.name}, NOTICED)
        eventually(lambda: three.knows() == {two.name}, NOTICED)
    finally:
        one.resume()
    listeners.settled()


def test_a_link_that_somebody_has_ended_is_there_again_whoever_kept_it(cluster):
    one, two, _ = cluster.members
    listeners = Listeners(cluster.members)
    for kept_by in ("hornbeam_joiner", "hornbeam_distribution"):
        one("rpc_call(node(), 'erlang', 'exit', [rpc_call(node(), 'erlang', 'whereis', "
            "[terms.Atom(name)]), terms.Atom('kill')])", name=kept_by)  # fmt: skip
        one("rpc_call(node(), 'erlang', 'disconnect_node', [terms.Atom(name)])", name=two.name)
        listeners.settled()
        assert cluster.is_whole()


def test_a_node_that_was_killed_leaves_nothing_and_comes_back_by_its_name(cluster):
    one, two, three = cluster.members
    listeners = Listeners(cluster.members)
    one.kill()
    listeners.forget(one)
    eventually(lambda: two.knows() == {three.name}, SETTLED)
    listeners.settled()
    one.restart()
    listeners.listen(one)
    listeners.settled()


def test_a_node_whose_end_nobody_heard_of_comes_back_by_its_name(cluster):
    """As after a loss of power: the others may still have the link to its former life."""
    one = cluster.members[0]
    listeners = Listeners(cluster.members)
    cluster.network.isolate(one.machine)
    one.kill()
    listeners.forget(one)
    one.restart()
    listeners.listen(one)
    cluster.network.heal()
    listeners.settled()
