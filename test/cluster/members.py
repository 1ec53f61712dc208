"""The nodes of a cluster, each run by the command `hornbeam` on a machine of its own.

Clients come by a Unix socket, which no cut of the network touches: so what a node does while it is
cut off can be asked and seen.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

from commands import Address, Running
from consoles import Console
from harness import DEADLINE, eventually
from network import Machine, Network
from operators import Done, hornbeam

APP = "console:application"

PORT = 4370
"""The command's own."""

COOKIE = "of-the-tests-and-of-nobody-else"

LIMIT = 30.0
"""Seconds in which a node starts, also where others start beside it."""


class Local(Address):
    """The address of a server that is reached by a Unix socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.host, self.port = "localhost", "80"

    def connect(self, timeout: float = DEADLINE) -> socket.socket:
        opened = socket.socket(socket.AF_UNIX)
        opened.settimeout(timeout)
        opened.connect(str(self.path))
        return opened


class Member:
    """A node of the cluster: its machine, its folder, and the command that runs, if one does."""

    def __init__(
        self,
        machine: Machine,
        folder: Path,
        words: list[str],
        variables: dict[str, str],
        port: int = PORT,
    ) -> None:
        self.machine, self.folder, self.port = machine, folder, port
        self.words, self.variables = words, variables
        self.running: Running | None = None
        self._console: Console | None = None
        folder.mkdir()

    @property
    def name(self) -> str:
        """What Erlang calls the node."""
        suffix = "" if self.port == PORT else f"-{self.port}"
        return f"hornbeam{suffix}@{self.machine.ip}"

    @property
    def process(self) -> Running:
        assert self.running is not None, "it does not run"
        return self.running

    @property
    def log(self) -> str:
        return self.process.shown

    def start(self) -> None:
        """Run the command; `serving` waits until it serves."""
        self.running = Running(
            self.folder, APP, "--bind", f"unix:{self.folder / 'http'}", "--rpc-allow", ALLOWED,
            "--cluster-port", self.port, *SILENT, *self.words,
            before=self.machine.inside(self.folder), variables=self.variables,
        )  # fmt: skip

    def serving(self) -> None:
        eventually(self.is_serving, LIMIT)

    def is_serving(self) -> bool:
        assert self.process.process.poll() is None, self.log
        return "listening on" in self.log

    # What is asked of it

    def console(self) -> Console:
        """Open a WebSocket in whose handler Python is evaluated."""
        return Console(Local(self.folder / "http"))

    def __call__(self, source: str, **names: Any) -> Any:
        """Evaluate Python in one connection, which stays until the node ends."""
        if self._console is None:
            self._console = self.console()
        return self._console(source, **names)

    def erlang(self, module: str, function: str, *arguments: Any) -> Any:
        """Call a function of `ALLOWED` in the node."""
        return self("rpc_call(node(), m, f, a)", m=module, f=function, a=list(arguments))

    def knows(self) -> set[str]:
        """Return the names of the nodes that it is connected with."""
        return set(self("nodes()"))

    def operate(self, *words: object) -> Done:
        """Run the command on this node's server, as who operates it does.

        By the path in its banner: whoever is named by a process id is looked for among all servers
        of this machine, of which some may stand still.
        """
        return hornbeam(*words, "--socket", re.search(r"control +(\S+)", self.log)[1])

    # What happens to it

    def node_pid(self) -> int:
        return self.process.named("beam")

    def stall(self) -> None:
        """Stop the node's process as it stands; its clients and its links stay open."""
        pid = self.node_pid()
        os.kill(pid, signal.SIGSTOP)
        # Its threads stop one after the other, as they are met.
        eventually(lambda: states(pid) == {"T"})

    def resume(self) -> None:
        os.kill(self.node_pid(), signal.SIGCONT)

    def kill(self) -> None:
        """End all of its processes as `kill -9` does, the node's first."""
        os.kill(self.node_pid(), signal.SIGKILL)
        self.close()

    def stop(self) -> int:
        """Stop it as systemd does; return the status."""
        self.process.signal(signal.SIGTERM)
        status = self.process.status()
        self.close()
        return status

    def restart(self) -> None:
        self.start()
        self.serving()

    def close(self) -> None:
        if self._console is not None:
            self._console.socket.close()
        if self.running is not None:
            self.running.close()
        self._console = self.running = None


def states(pid: int) -> set[str]:
    """Return what the threads of a process do, in the kernel's letters."""
    stats = [task.joinpath("stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


SILENT = ("--websocket-timeout", "infinity", "--websocket-ping-interval", "infinity")
"""A console answers no pings while nothing is asked of it, and a cut may last."""

ALLOWED = ",".join([
    "erlang",
    "hornbeam",
    "hornbeam_call_peers",
    "hornbeam_cluster_status",
    "hornbeam_joiner",
    "hornbeam_link_calls",
    "hornbeam_pubsub",
    "sys",
])  # fmt: skip
"""Modules of Erlang that tests call."""


class Cluster:
    """A network with a node on each of its machines."""

    def __init__(self, folder: Path, *words: str, count: int = 3, join: str | None = None) -> None:
        self.folder, self.hosts = folder, folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n")
        self.network = Network(self.hosts, count)
        every = ",".join(machine.ip for machine in self.network.machines)
        self.words = ["--cluster", "tests", "--join", join or every, *words]
        self.members: list[Member] = []
        for machine in self.network.machines:
            self.add(machine)

    def add(self, machine: Machine, port: int = PORT) -> Member:
        """Make a node that does not run yet."""
        folder = self.folder / f"node{len(self.members) + 1}"
        variables = {"HORNBEAM_CLUSTER_COOKIE": COOKIE}
        self.members.append(Member(machine, folder, [*self.words], variables, port))
        return self.members[-1]

    def start(self) -> Cluster:
        """Start all nodes at once; return when all serve and are connected."""
        self.serve()
        self.joined()
        return self

    def serve(self) -> None:
        """Start them and wait for none to find another."""
        for member in self.members:
            member.start()
        for member in self.members:
            member.serving()

    def joined(self, limit: float = LIMIT) -> None:
        """Wait until each of those that run is connected with each other one."""
        eventually(self.is_whole, limit)

    def is_whole(self) -> bool:
        running = [member for member in self.members if member.running is not None]
        names = {member.name for member in running}
        return all(member.knows() == names - {member.name} for member in running)

    def close(self) -> None:
        for member in self.members:
            member.close()
        self.network.close()
