"""What the node and its workers hold, at one moment and compared between two.

Counts must be what they were; memory may have grown by what its rule allows.
"""

from dataclasses import dataclass
from typing import Any

from harness import cpu
from harness.probe import descriptors, resident
from servers.hornbeam import ProbedHornbeam

MIB = 1 << 20

Account = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """One thing that was compared."""

    what: str
    before: float
    after: float
    allowed: float

    @property
    def leaks(self) -> bool:
        """Whether there is more than is allowed; of a count, also whether there is less."""
        if self.allowed == self.before:
            return self.after != self.before
        return self.after > self.allowed


def workers(server: ProbedHornbeam) -> list[cpu.Process]:
    """The Python processes of the server, the eldest first."""
    family = cpu.tree(cpu.processes(), server.pid)
    return sorted((p for p in family if p.kind == "Python"), key=lambda p: (p.started, p.pid))


def take(server: ProbedHornbeam, rest: bool = False) -> Account:
    """What is held now; `rest` lets the node collect its garbage first."""
    beam = next(p for p in cpu.tree(cpu.processes(), server.pid) if p.kind == "BEAM")
    pythons = workers(server)
    return (server.probe.facts_at_rest() if rest else server.probe.facts()) | {
        "beam_rss": resident(beam.pid),
        "beam_descriptors": descriptors(beam.pid),
        "workers": [
            {
                "pid": p.pid,
                "rss": resident(p.pid),
                "descriptors": descriptors(p.pid),
            }
            for p in pythons
        ],
    }


def counts(account: Account) -> dict[str, int]:
    """Everything that is counted and must not change."""
    found = {key: account[key] for key in ("processes", "ports", "atoms", "beam_descriptors")}
    found["rows"] = sum(account["tables"].values())
    found |= {f"rows of {name}": rows for name, rows in account["tables"].items()}
    found |= {f"processes of {kind}": number for kind, number in account["kinds"].items()}
    pairs = enumerate(account["workers"], 1)
    return found | {f"descriptors of worker {n}": w["descriptors"] for n, w in pairs}


def sizes(account: Account) -> dict[str, int]:
    """Everything that is measured in bytes."""
    found = {f"memory: {kind}": size for kind, size in account["memory"].items()}
    found["BEAM resident"] = account["beam_rss"]
    pairs = enumerate(account["workers"], 1)
    return found | {f"worker {n} resident": w["rss"] for n, w in pairs}


def compare(before: Account, after: Account, share: float, extra: float) -> list[Line]:
    """Both accounts beside each other; bytes may grow by a share and `extra` MiB."""
    was, now = counts(before), counts(after)
    lines = [Line(what, was.get(what, 0), now.get(what, 0), was.get(what, 0)) for what in was | now]
    was, now = sizes(before), sizes(after)
    return lines + [
        Line(what, was[what], now[what], was[what] * (1 + share) + extra * MIB)
        for what in was
        if what in now
    ]
