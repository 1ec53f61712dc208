"""Nodes find each other: by a list, by DNS, by one of them, and on one machine."""

from __future__ import annotations

import pytest
from network import has_hosts
from topics import Listeners


def test_three_nodes_find_each_other_and_publish_to_all(cluster):
    assert cluster.is_whole()
    Listeners(cluster.members).settled()


@pytest.mark.skipif(not has_hosts(), reason="no /etc/hosts of a machine's own in a chroot")
def test_a_name_of_dns_stands_for_all_of_its_addresses(make):
    cluster = make(join="nodes.test")
    with cluster.hosts.open("a") as hosts:
        hosts.writelines(f"{machine.ip} nodes.test\n" for machine in cluster.network.machines)
    cluster.start()


def test_nodes_that_know_one_find_all_and_two_of_them_share_a_machine(make):
    cluster = make(count=2, join="10.77.0.1:4370")
    cluster.add(cluster.network.machines[1], port=4371)
    cluster.start()
    Listeners(cluster.members).settled()
    assert {member.name for member in cluster.members} == {
        "hornbeam@10.77.0.1",
        "hornbeam@10.77.0.2",
        "hornbeam-4371@10.77.0.2",
    }
