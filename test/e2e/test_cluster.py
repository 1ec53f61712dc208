"""A node that is told of a cluster: what it is told by, what it refuses, and whom it joins.

What becomes of several of them when their network is cut is test/cluster's.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import Running, closing
from harness import ROOT, Node, StartError, eventually
from terms import Atom

APP = "naming:application"

COOKIE = {"HORNBEAM_CLUSTER_COOKIE": "nobody-knows-it-but-us"}

SHOP = ("--cluster", "shop")


@pytest.fixture
def run(tmp_path) -> Iterator[Callable[..., Running]]:
    """Start the command with an app; it and all that came from it is gone after the test."""
    with contextlib.ExitStack() as stack:

        def start(*words, app: str = APP, name: str = "node", variables=COOKIE) -> Running:
            folder = tmp_path / name
            folder.mkdir()
            running = Running(folder, app, "--port", "0", "--lifespan", "off", *words,
                              variables=variables)  # fmt: skip
            return stack.enter_context(closing(running))

        yield start


@pytest.fixture
def ports() -> Iterator[list[int]]:
    """Give two ports that nobody listens at; they are bound, so that nobody else gets them."""
    with socket.socket() as one, socket.socket() as other:
        for bound in (one, other):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1], other.getsockname()[1]]


@pytest.mark.parametrize(("ip", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_two_nodes_of_one_host_join_by_their_ports(run, ports, ip, host):
    join = ",".join(f"{host}:{port}" for port in ports)
    nodes = [
        run(*SHOP, "--join", join, "--cluster-port", port, name=f"node{port}") for port in ports
    ]
    for node, (own, other) in zip(nodes, (ports, ports[::-1]), strict=True):
        node.address()
        eventually(lambda node=node, other=other: connected(f"hornbeam-{other}@{ip}") in node.shown)
        assert f"  cluster   shop, as hornbeam-{own}@{ip}\n" in node.shown


def test_two_nodes_join_by_certificates_made_as_the_guide_says(run, ports, tmp_path):
    guide = (ROOT / "docs" / "guide" / "clustering.md").read_text()
    (commands,) = re.findall(r"```sh\n(openssl req.*?)```", guide, re.DOTALL)
    subprocess.run(["bash", "-ec", commands], cwd=tmp_path, check=True, capture_output=True)
    certificates = itertools.chain.from_iterable(
        (f"--cluster-{kind}file", tmp_path / file)
        for kind, file in (("cert", "node.pem"), ("key", "node.key"), ("cacert", "cluster-ca.pem"))
    )
    words = (*SHOP, "--join", ",".join(f"127.0.0.1:{port}" for port in ports), *certificates)
    nodes = [
        run(*words, "--cluster-port", port, name=f"node{port}", variables={}) for port in ports
    ]
    for node, other in zip(nodes, ports[::-1], strict=True):
        node.address()
        eventually(
            lambda node=node, other=other: connected(f"hornbeam-{other}@127.0.0.1") in node.shown
        )


def connected(name: str) -> str:
    return f"cluster node connected\n    cluster: shop\n    node: '{name}'\n"


def test_a_node_gets_its_name_again_when_its_app_starts_at_last(run, ports, tmp_path):
    app = tmp_path / "node" / "changing.py"
    running = run(
        *SHOP, "--cluster-port", ports[0], "--cluster-address", "127.0.0.1", "--reload",
        app="changing:application",
    )  # fmt: skip
    eventually(lambda: "It tries again" in running.shown)

    def serves() -> bool:
        # Nobody says from when on it is watched.
        app.write_text("from naming import application\n")
        return "listening on" in running.shown

    eventually(serves)
    assert f"  cluster   shop, as hornbeam-{ports[0]}@127.0.0.1\n" in running.shown


@pytest.mark.parametrize("is_consistent", [False, True])
def test_a_node_that_is_stopped_ends_in_order(run, ports, tmp_path, is_consistent):
    words = ["--cluster-data-dir", tmp_path / "data", "--cluster-members", "1"]
    running = run(*SHOP, "--cluster-port", ports[0], "--cluster-address", "127.0.0.1",
                  *(words if is_consistent else []))  # fmt: skip
    running.address()
    running.signal(signal.SIGTERM)
    assert running.status() == 0
    assert "ERROR" not in running.shown


REFUSED_BY_THE_COMMAND = {
    "what is about no cluster": (
        ["--join", "a", "--cluster-port", "4370"],
        "--join is about a cluster: name it, by --cluster\n",
    ),
    "a cookie that others see": (
        [*SHOP, "--cluster-cookie", "x" * 20],
        "--cluster-cookie: who looks at this machine's processes would see it; say it by "
        "HORNBEAM_CLUSTER_COOKIE, or in a file that --cluster-cookie-file names\n",
    ),
}


@pytest.mark.parametrize("what", REFUSED_BY_THE_COMMAND)
def test_the_command_refuses(run, what):
    words, sentence = REFUSED_BY_THE_COMMAND[what]
    running = run(*words, variables={})
    assert running.status() == 2
    assert running.shown.endswith(f"Error: {sentence}")


REFUSED_BY_THE_NODE = {
    "no secret": (
        SHOP, {},
        "option cluster has no cookie; expected a secret of 16 to 255 characters by "
        "HORNBEAM_CLUSTER_COOKIE or --cluster-cookie-file, or certificates by --cluster-certfile "
        "and --cluster-cacertfile (--cluster)",
    ),
    "a short one": (
        SHOP, {"HORNBEAM_CLUSTER_COOKIE": "short"},
        "the cookie of cluster has the value hidden; expected a secret of 16 to 255 characters",
    ),
    "a name with blanks": (
        ("--cluster", "my shop"), COOKIE,
        'the name of cluster has the value "my shop"; expected a name of 1 to 64 letters',
    ),
    "a host that is none": (
        (*SHOP, "--join", "a,b:c:d"), COOKIE,
        'the join of cluster has the value "a","b:c:d"; expected a list of hosts, each "host"',
    ),
    "a port that is none": (
        (*SHOP, "--cluster-port", "0"), COOKIE,
        "the port of cluster has the value 0; expected a number from 1 to 65535 "
        "(--cluster and --cluster-port and HORNBEAM_CLUSTER_COOKIE)",
    ),
    "an address that is a name": (
        (*SHOP, "--cluster-address", "localhost"), COOKIE,
        'the address of cluster has the value "localhost"; expected an IP address of this machine',
    ),
    "an address of others": (
        (*SHOP, "--cluster-address", "192.0.2.1"), COOKIE,
        "cannot listen for the cluster's other nodes: can't assign requested address: "
        "192.0.2.1:4370",
    ),
    "half of TLS": (
        (*SHOP, "--cluster-certfile", __file__), {},
        "option cluster has no cacertfile; expected the path of a PEM file that there is, which "
        "certfile needs",
    ),
    "a file that is no certificate": (
        (*SHOP, "--cluster-certfile", __file__, "--cluster-cacertfile", __file__), {},
        f"{__file__} has no certificate in PEM",
    ),
    "a cookie said twice": (
        (*SHOP, "--cluster-cookie-file", __file__), COOKIE,
        f'the cookie_file of cluster has the value "{__file__}"; expected the path of a file '
        "that there is, and no cookie beside it",
    ),
    "a file that is not there": (
        (*SHOP, "--cluster-cookie-file", "/no/cookie"), {},
        'the cookie_file of cluster has the value "/no/cookie"; expected the path of a file that '
        "there is",
    ),
    "a majority of nobody knows how many": (
        (*SHOP, "--cluster-data-dir", "data"), COOKIE,
        "option cluster has no members; expected how many nodes begin the consistent state",
    ),
    "a file without a cookie": (
        (*SHOP, "--cluster-cookie-file", __file__, "--cluster-address", "127.0.0.1"), {},
        f"{__file__}: expected text of 16 to 255 characters",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED_BY_THE_NODE)
def test_a_node_does_not_start_with(run, what):
    words, variables, sentence = REFUSED_BY_THE_NODE[what]
    running = run(*words, variables=variables)
    assert running.status() == 3
    assert f"hornbeam does not start: {sentence}" in running.shown


def test_a_port_that_another_has_is_named(run, ports):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = run(*SHOP, "--cluster-address", "127.0.0.1", "--cluster-port", port)
        assert running.status() == 3
    assert (
        "cannot listen for the cluster's other nodes: address already in use: "
        f"127.0.0.1:{port}; another node listens there: end it, or choose another port (--cluster "
        "and --cluster-port and --cluster-address and HORNBEAM_CLUSTER_COOKIE)\n"
    ) in running.shown


def test_what_was_said_is_shown_again_without_the_cookie(run, tmp_path):
    running = run(*SHOP, "--join", "a,b:4371", "--cluster-port", "4371", "--print-config")
    assert running.status() == 0
    shown = [line.partition(" #")[0].rstrip() for line in running.printed.splitlines()]
    for line in ('cluster = "shop"', 'join = ["a", "b:4371"]', "cluster_port = 4371"):
        assert line in shown
    assert "# cluster_cookie = hidden" in running.printed
    assert COOKIE["HORNBEAM_CLUSTER_COOKIE"] not in running.printed


# Nodes of Erlang projects


def test_a_node_that_was_not_prepared_for_a_name_says_by_what(tmp_path):
    with ended(Node(tmp_path)) as node:
        with pytest.raises(StartError) as refused:
            node.serve("console:application", cluster=told(["127.0.0.1"]))
        assert refused.value.sentence == (
            "a node that is to get a name for its cluster is started with emulator flags, which "
            "vm.args may have: -proto_dist hornbeam_cluster -epmd_module hornbeam_cluster_epmd "
            "-connect_all false -nocookie"
        )


def test_a_node_that_has_a_name_keeps_it_and_joins(tmp_path):
    with contextlib.ExitStack() as stack:
        meeting = folder(tmp_path / "meeting")
        one, _other = (
            stack.enter_context(
                ended(Node(folder(tmp_path / name), name=f"{name}@127.0.0.1", meeting=meeting))
            )
            for name in ("one", "other")
        )
        assert one.eval("nodes()") == []
        one.serve("console:application", cluster={Atom("name"): "shop", Atom("join"): [
            "other@127.0.0.1"]})  # fmt: skip
        eventually(lambda: one.eval("nodes()") == ["other@127.0.0.1"])
        one.eval("hornbeam:stop()")
        assert one.eval("node()") == "one@127.0.0.1"


def told(join: list[str]) -> dict:
    return {Atom("name"): "shop", Atom("join"): join, Atom("cookie"): "x" * 20,
            Atom("address"): "127.0.0.1"}  # fmt: skip


def folder(path: Path) -> Path:
    path.mkdir()
    return path


@contextlib.contextmanager
def ended(node: Node) -> Iterator[Node]:
    try:
        yield node
    finally:
        assert not node.close()
