"""Who leads, in memory: lines of those who stand for a name, of whom the first one leads.

Knows candidates by the numbers that they have given themselves. Must not know how one waits.
"""

import concurrent.futures
import itertools

# What one is told who waits: the token, or 0, and for how long that is certain (None: for good).
Standing = list[int | None]


class Candidate:
    """One who stands, and who waits to hear of it: each knows a token."""

    def __init__(self, line: tuple[str, bool]) -> None:
        self.line = line
        self.token = 0
        self.waiting: list[tuple[int, concurrent.futures.Future[Standing]]] = []

    def set(self, token: int) -> None:
        """Give it a token, or take it away, and tell those who know another one."""
        self.token = token
        told = [future for known, future in self.waiting if known != token]
        self.waiting = [each for each in self.waiting if each[0] == token]
        for future in told:
            if future.set_running_or_notify_cancel():
                future.set_result([token, None])


class Leaders:
    """All who stand."""

    def __init__(self) -> None:
        self._candidates: dict[int, Candidate] = {}
        self._lines: dict[tuple[str, bool], list[Candidate]] = {}
        self._tokens = itertools.count(1)

    def stand(self, name: str, is_lock: bool, ref: int) -> None:
        """Stand for a name, behind those who stand for it already."""
        if ref not in self._candidates:
            candidate = self._candidates[ref] = Candidate((name, is_lock))
            self._lines.setdefault(candidate.line, []).append(candidate)
            self._elect(candidate.line)

    def standing(self, ref: int) -> Standing | None:
        """Return what a candidate has, if there is that one."""
        candidate = self._candidates.get(ref)
        return None if candidate is None else [candidate.token, None]

    def other(self, ref: int, known: int) -> concurrent.futures.Future[Standing] | None:
        """Return what it will have as soon as that is another token than the one that is known."""
        if (candidate := self._candidates.get(ref)) is None:
            return None
        future: concurrent.futures.Future[Standing] = concurrent.futures.Future()
        candidate.waiting.append((known, future))
        candidate.set(candidate.token)
        return future

    def resign(self, ref: int) -> None:
        """Stand no more."""
        if (candidate := self._candidates.pop(ref, None)) is not None:
            self._leave(candidate)

    def depose(self, name: str) -> None:
        """Let who leads have lost; raises `LookupError` where nobody does."""
        leading = [c for c in self._candidates.values() if c.line[0] == name and c.token]
        if not leading:
            raise LookupError(f"nobody leads {name!r}")
        for candidate in leading:
            self._leave(candidate)
            candidate.set(0)

    def _leave(self, candidate: Candidate) -> None:
        if candidate in self._lines.get(candidate.line, ()):
            self._lines[candidate.line].remove(candidate)
            self._elect(candidate.line)

    def _elect(self, line: tuple[str, bool]) -> None:
        if not self._lines[line]:
            del self._lines[line]
        elif not self._lines[line][0].token:
            self._lines[line][0].set(next(self._tokens))
