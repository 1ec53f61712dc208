"""A network of machines that have nothing but a network of their own, on this one; root only.

Each `Machine` is a process that does nothing, in namespaces of its own (network_namespaces(7),
mount_namespaces(7)); a bridge in the namespace of one more connects them. They have no names and
leave no file behind, so all is gone with the processes, which end with this one however it ends.

A cut is silent, as that of a cable is: what is sent goes to a hardware address that nobody has.
Knows nothing of Hornbeam.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

NOBODY = "02:00:00:00:00:ff"

WITH_US = ["setpriv", "--pdeathsig", "KILL", "--"]
"""What a command begins with that is to end with this process."""

HOLD = "echo ready && exec sleep infinity"
HOLD_WITH_HOSTS = f'mount --bind "$0" /etc/hosts && {HOLD}'


def is_possible() -> bool:
    """Say whether this user may make networks and has what it takes."""
    with contextlib.suppress(OSError):
        bridge = ["unshare", "--net", "ip", "link", "add", "br0", "type", "bridge"]
        return os.geteuid() == 0 and succeeds(bridge)
    return False


@functools.cache
def has_hosts() -> bool:
    """Say whether a machine has an /etc/hosts of its own: in a chroot nothing can be mounted so."""
    return succeeds(["unshare", "--mount", "true"])


def succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Machine:
    """A machine of the network, at an address and, where that can be, with its own /etc/hosts."""

    def __init__(self, number: int, hosts: Path) -> None:
        self.number = number
        self.ip = f"10.77.0.{number}"
        self.mac = f"02:00:00:00:00:{number:02x}"
        self.spaces = ["--net", "--mount"] if has_hosts() else ["--net"]
        hold = HOLD_WITH_HOSTS if has_hosts() else HOLD
        self.holder = subprocess.Popen(
            [*WITH_US, "unshare", *self.spaces, "sh", "-c", hold, str(hosts)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == b"ready\n", "no namespaces"

    def inside(self, folder: Path | str = "/") -> list[str]:
        """Return what a command begins with that is to run on this machine, in a folder."""
        enter = ["nsenter", "--target", str(self.holder.pid), *self.spaces]
        return [*WITH_US, *enter, f"--wdns={folder}", "--"]

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self.inside(), *words], stderr=subprocess.PIPE)

    def run(self, *words: str) -> None:
        done(self.begin(*words))

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait()
        if self.holder.stdout:
            self.holder.stdout.close()


def done(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate(timeout=10)
    assert process.returncode == 0, f"{process.args}: {said.decode()}"


class Network:
    """So many machines, all of which reach each other until a link is cut."""

    def __init__(self, hosts: Path, count: int = 3) -> None:
        self.machines: list[Machine] = []
        self._all: list[Machine] = []
        try:
            self._make(hosts, count)
        except BaseException:
            self.close()
            raise

    def _make(self, hosts: Path, count: int) -> None:
        for number in range(count + 1):
            self._all.append(Machine(number, hosts))
        self._hub, *self.machines = self._all
        self._hub.run("ip", "link", "add", "br0", "type", "bridge")
        self._hub.run("ip", "link", "set", "br0", "up")
        for machine in self.machines:
            self._plug(machine)
        for one, other in itertools.permutations(self.machines, 2):
            done(self._send(one, other, other.mac))

    def _plug(self, machine: Machine) -> None:
        port, space = f"port{machine.number}", str(machine.holder.pid)
        self._hub.run("ip", "link", "add", port, "master", "br0", "up", "type", "veth",
                      "peer", "name", "eth0", "address", machine.mac, "netns", space)  # fmt: skip
        machine.run("ip", "address", "add", f"{machine.ip}/24", "dev", "eth0")
        machine.run("ip", "link", "set", "eth0", "up")
        machine.run("ip", "link", "set", "lo", "up")

    def _send(self, one: Machine, other: Machine, mac: str) -> subprocess.Popen[bytes]:
        """Say where what a machine sends to another goes."""
        return one.begin("ip", "neighbour", "replace", other.ip, "lladdr", mac, "nud", "permanent",
                         "dev", "eth0")  # fmt: skip

    # Links

    def cut(self, one: Machine, other: Machine) -> None:
        """Let nothing pass between two machines, either way."""
        self._each_way([(one, other), (other, one)], cut=True)

    def cut_one_way(self, one: Machine, other: Machine) -> None:
        """Let nothing pass from one machine to another; the way back stays."""
        self._each_way([(one, other)], cut=True)

    def isolate(self, machine: Machine) -> None:
        """Cut a machine off from all others."""
        self._each_way(pairs_of(machine, self.machines), cut=True)

    def heal(self) -> None:
        """Let everything pass everywhere."""
        self._hub.run("ip", "link", "set", "br0", "up")
        self._each_way(itertools.permutations(self.machines, 2), cut=False)

    def _each_way(self, ways: Iterable[tuple[Machine, Machine]], *, cut: bool) -> None:
        # At the same time, since a cut may be a matter of milliseconds.
        begun = [self._send(one, other, NOBODY if cut else other.mac) for one, other in ways]
        for process in begun:
            done(process)

    def cut_all(self) -> None:
        """Cut every machine off from every other, at once."""
        self._hub.run("ip", "link", "set", "br0", "down")

    @contextlib.contextmanager
    def narrow(self, machine: Machine, rate: str) -> Iterator[None]:
        """Bound what a machine sends, such as "1mbit" a second; what waits for 1 s is lost."""
        machine.run("tc", "qdisc", "replace", "dev", "eth0", "root",
                    "tbf", "rate", rate, "burst", "32k", "latency", "1s")  # fmt: skip
        try:
            yield
        finally:
            machine.run("tc", "qdisc", "delete", "dev", "eth0", "root")

    @contextlib.contextmanager
    def slow(self, machine: Machine, *words: str) -> Iterator[None]:
        """Delay or lose what a machine sends, in netem's words, such as `"delay", "50ms"`."""
        machine.run("tc", "qdisc", "replace", "dev", "eth0", "root", "netem", *words)
        try:
            yield
        finally:
            machine.run("tc", "qdisc", "delete", "dev", "eth0", "root")

    def has_netem(self) -> bool:
        """Say whether this kernel can be asked for `slow`."""
        words = ["tc", "qdisc", "replace", "dev", "lo", "root", "netem", "delay", "1ms"]
        return succeeds([*self._hub.inside(), *words])

    def close(self) -> None:
        for machine in self._all:
            machine.close()


def pairs_of(machine: Machine, machines: list[Machine]) -> list[tuple[Machine, Machine]]:
    others = [other for other in machines if other is not machine]
    return [(machine, other) for other in others] + [(other, machine) for other in others]
