"""What servers hold: memory and descriptors of processes from /proc, and what a node tells.

Knows how to ask bench/servers/probe.erl; knows nothing of when to ask.
"""

import json
import os
import re
import socket
import time
from collections import deque
from pathlib import Path
from typing import Any

from harness import cpu

LOOK_SECONDS = 0.2  # between two looks
STILL_LOOKS = 6  # in which nothing that counts may change until memory is taken for settled
STILL_BYTES = 256 * 1024
SETTLE_SECONDS = 30.0

_PAGE = os.sysconf("SC_PAGE_SIZE")

Facts = dict[str, Any]


class Probe:
    """A connection to the probe inside a node."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=60)
        self._stream = self._socket.makefile("rw")

    def facts(self) -> Facts:
        """Processes, ports, atoms, memory by kind, rows by table, the longest mailbox."""
        return self._ask("facts")

    def facts_at_rest(self) -> Facts:
        """The same after every process of the node has collected its garbage."""
        return self._ask("rest")

    def load(self) -> Facts:
        """Memory by kind and the longest mailbox."""
        return self._ask("load")

    def _ask(self, what: str) -> Facts:
        self._stream.write(f"{what}\n")
        self._stream.flush()
        facts: Facts = json.loads(self._stream.readline())
        return facts

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()


def resident(pid: int) -> int:
    """Bytes of a process in memory, 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


def proportional(pid: int) -> int:
    """Bytes of a process in memory, each page shared out among who maps it; 0 when it is gone.

    The field Pss of proc(5); pages that a child shares with its parent are so counted once.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def settled(roots: list[int], within: float = SETTLE_SECONDS) -> dict[str, int]:
    """The proportional bytes by kind of process of whole trees, once they have settled.

    Raises TimeoutError when they still change after so many seconds.
    """
    deadline = time.monotonic() + within
    looks: deque[dict[str, int]] = deque(maxlen=STILL_LOOKS)
    while time.monotonic() < deadline:
        looks.append(_proportional_by_kind(roots))
        sums = [sum(look.values()) for look in looks]
        if len(looks) == STILL_LOOKS and max(sums) - min(sums) <= STILL_BYTES:
            return looks[-1]
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"memory has not settled within {within:.0f} s: {sums}")


def _proportional_by_kind(roots: list[int]) -> dict[str, int]:
    everyone = cpu.processes()
    kinds = dict.fromkeys(cpu.KINDS, 0)
    for root in roots:
        for process in cpu.tree(everyone, root):
            kinds[process.kind] += proportional(process.pid)
    return kinds


def descriptors(pid: int) -> int:
    """How many file descriptors a process has open, 0 when it is gone."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return 0


class Watch:
    """The memory of a server's processes, and what its node tells: now, and the peaks so far."""

    def __init__(self, roots: list[int], probe: Probe | None) -> None:
        everyone = cpu.processes()
        self._family = [p for root in roots for p in cpu.tree(everyone, root)]
        self._probe = probe
        self.peaks: dict[str, int] = {}

    def look(self) -> dict[str, int]:
        """Bytes in memory by kind of process and, of a node, `beam_total` and `mailbox`."""
        now = dict.fromkeys(cpu.KINDS, 0)
        for process in self._family:
            now[process.kind] += resident(process.pid)
        if self._probe:
            load = self._probe.load()
            now |= {"beam_total": load["memory"]["total"], "mailbox": load["longest_mailbox"]}
        self.peaks = {key: max(value, self.peaks.get(key, 0)) for key, value in now.items()}
        return now

    def keep_looking(self, seconds: float) -> None:
        """Look again and again for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(LOOK_SECONDS)

    @staticmethod
    def resident(look: dict[str, int]) -> int:
        """All bytes in memory of a look."""
        return sum(look[kind] for kind in cpu.KINDS)
