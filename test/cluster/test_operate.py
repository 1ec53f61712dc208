"""What the command tells of a cluster: its nodes, and their connections and workers, on any."""

from __future__ import annotations

import time

import pytest
from clients import CLOSE
from harness import eventually
from members import Cluster, Member

BOUND = 8.0
"""Seconds that a command may take where a node stands still; a hang guard."""


@pytest.fixture
def open_on(cluster: Cluster) -> dict[str, str]:
    """Open a connection on each node; say what it is called, by the node's name."""
    for member in cluster.members:
        member("None")
    (one, *_) = cluster.members
    rows = eventually(lambda: (found := listed(one)) and len(found) == 3 and found)
    return {row["node"]: row["id"] for row in rows}


def listed(member: Member, *words: object) -> list[dict]:
    return member.operate("connections", "--json", *words).json["connections"]


def test_connections_of_all_nodes_are_listed_by_any(cluster, open_on):
    assert open_on.keys() == {member.name for member in cluster.members}
    for member in cluster.members:
        assert {row["id"] for row in listed(member)} == set(open_on.values())
        assert [row["id"] for row in listed(member, "--node", member.name)] == [
            open_on[member.name]
        ]
    one, two, _ = cluster.members
    assert [row["node"] for row in listed(one, "--node", two.machine.ip)] == [two.name]
    refused = one.operate("connections", "--node", "nobody")
    assert (refused.status, two.name in refused.err) == (1, True)


def test_those_that_have_most_of_all_nodes_come_first(cluster, open_on):
    one, two, three = cluster.members
    three("None", padding=b"x" * 2_000_000)
    two("None", padding=b"x" * 1_000_000)
    found = listed(one, "--top", "received", "-n", 2)
    assert [row["node"] for row in found] == [three.name, two.name]
    shown = one.operate("connections", "--top", "received", "-n", 2).out.splitlines()
    assert shown[0] == "3 open, 2 shown, most received first"
    assert shown[2].startswith(open_on[three.name])


def test_one_of_another_node_is_shown_traced_and_closed(cluster, open_on):
    one, two, _ = cluster.members
    with two.console() as other:
        (id_,) = {row["id"] for row in listed(one)} - set(open_on.values())
        shown = one.operate("connection", id_, "--json").json
        assert (shown["id"], shown["node"], shown["path"]) == (id_, two.name, "/console")
        traced = one.operate("trace", id_, "--seconds", 1, "--json").out
        assert '"ended": "seconds"' in traced
        assert one.operate("kick", id_, "--code", 4001).out == (
            f"connection {id_} is closed with 4001\n"
        )
        assert other.read()[0] == CLOSE
    assert one.operate("connection", id_).status == 1
    assert one.operate("kick", "no/thing").status == 2


def test_stacks_of_all_nodes(cluster, open_on):
    one, two, _ = cluster.members
    stacks = one.operate("stacks", "--json").json
    assert {row["node"] for row in stacks} == open_on.keys()
    (row,) = one.operate("stacks", f"{two.name}/worker-1", "--json").json
    assert (row["node"], row["worker"]) == (two.name, "worker-1")
    assert one.operate("stacks", "worker-1").out.startswith(f"{one.name}/worker-1\n")


def test_a_node_that_stands_still_is_named_and_the_others_are_complete(cluster, open_on):
    one, two, three = cluster.members
    two.stall()
    try:
        began = time.monotonic()
        answer = one.operate("connections", "--json").json
        assert time.monotonic() - began < BOUND
        assert answer["silent"] == [two.name]
        assert {row["node"] for row in answer["connections"]} == {one.name, three.name}
        # Later it is known to be gone.
        refused = one.operate("kick", open_on[two.name])
        assert refused.status == 1
        assert two.name in refused.err
    finally:
        two.resume()


# The cluster itself


def states(member: Member) -> dict[str, str]:
    return {peer["node"]: peer["state"] for peer in of_cluster(member)["peers"]}


def of_cluster(member: Member) -> dict:
    return member.operate("cluster", "--json").json


def test_who_is_there_and_who_is_not_is_told(cluster):
    one, two, three = cluster.members
    both = {two.name: "up", three.name: "up"}
    eventually(lambda: states(one) == both)
    assert two.name in one.operate("cluster").out
    cluster.network.isolate(three.machine)
    eventually(lambda: states(one)[three.name] in ("waiting", "trying"), 30)
    assert states(one)[two.name] == "up"
    cluster.network.heal()
    eventually(lambda: states(one) == both, 30)
    assert of_cluster(one)["healed"] >= 1
