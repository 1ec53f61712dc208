"""CPU time from /proc: of a whole tree of processes, and of everything beside it.

Times are seconds of user and system mode together, with the children that a process has
already buried, so that nothing is lost when a worker ends inside a window. The kernel's
unit is 10 ms: of a window of seconds it is well below 1 %.
"""

import os
from dataclasses import dataclass
from pathlib import Path

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_COMMANDS = {
    "beam": "BEAM",
    "python": "Python",
    "hornbeam": "Python",
    "uvicorn": "Python",
    "gunicorn": "Python",
    "daphne": "Python",
    "granian": "Python",
    "hypercorn": "Python",
    "redis": "redis",
}
KINDS = (*dict.fromkeys(_COMMANDS.values()), "other")


@dataclass(frozen=True)
class Process:
    """One line of /proc/PID/stat."""

    pid: int
    parent: int
    command: str
    cpu: float
    started: int

    @property
    def kind(self) -> str:
        """One of KINDS, by the command's name."""
        return next((k for name, k in _COMMANDS.items() if self.command.startswith(name)), "other")


@dataclass(frozen=True)
class Cpu:
    """What was used between two looks, in seconds."""

    tree: dict[str, float]  # by kind: "BEAM", "Python", "redis", "other"
    beside: float  # all other processes of the machine


def processes() -> dict[int, Process]:
    """All processes of the machine, by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            process = _parse(text)
            found[process.pid] = process
    return found


def of(pid: int) -> float:
    """Seconds of CPU that a living process has used."""
    return _parse(Path(f"/proc/{pid}/stat").read_text(errors="replace")).cpu


def tree(everyone: dict[int, Process], root: int) -> list[Process]:
    """The process `root` and all that descend from it."""
    children: dict[int, list[Process]] = {}
    for process in everyone.values():
        children.setdefault(process.parent, []).append(process)
    family = [everyone[root]] if root in everyone else []
    for process in family:  # grows while we walk it
        family.extend(children.get(process.pid, []))
    return family


def sleeps(everyone: dict[int, Process], roots: list[int]) -> dict[str, int]:
    """How often threads of these trees have gone to sleep, by kind (proc(5), status)."""
    kinds = dict.fromkeys(KINDS, 0)
    for root in roots:
        for process in tree(everyone, root):
            kinds[process.kind] += _sleeps_of(process.pid)
    return kinds


def _sleeps_of(pid: int) -> int:
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/status"):
        try:
            text = task.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        _, _, rest = text.partition("\nvoluntary_ctxt_switches:")
        total += int(rest.split(None, 1)[0])
    return total


def used(
    before: dict[int, Process], after: dict[int, Process], servers: list[int], load: int
) -> Cpu:
    """The CPU used between two looks by the servers' trees and by all but them and the load.

    `load` is the process that works on the servers, its children aside.
    """
    kinds = dict.fromkeys(KINDS, 0.0)
    for sign, everyone in ((-1, before), (1, after)):
        for server in servers:
            for process in tree(everyone, server):
                kinds[process.kind] += sign * process.cpu
    whole = sum(p.cpu for p in after.values()) - sum(p.cpu for p in before.values())
    mine = after[load].cpu - before[load].cpu
    return Cpu(kinds, max(0.0, whole - sum(kinds.values()) - mine))


def _parse(text: str) -> Process:
    # proc(5): the command stands in brackets and may itself hold spaces and brackets.
    head, _, rest = text.rpartition(")")
    pid, _, command = head.partition(" (")
    fields = rest.split()
    ticks = sum(int(field) for field in fields[11:15])
    return Process(int(pid), int(fields[1]), command, ticks * _TICK, int(fields[19]))
