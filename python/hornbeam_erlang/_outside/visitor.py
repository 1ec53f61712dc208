"""The one carrier of a process outside of all workers: found, kept, replaced, ended.

Knows the order of things: the first op connects, the one after the connection's end connects anew,
a child that was forked has a connection of its own, and the end of the process waits until the node
has done what it was told.
"""

import atexit
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import hornbeam_erlang
from hornbeam_erlang._outside import discovery
from hornbeam_erlang._outside.carrier import VisitorCarrier
from hornbeam_erlang._outside.greeting import Greeting, greet
from hornbeam_erlang.exceptions import HornbeamError, NotConnected

# Children of these end without what `atexit` has, but do what was registered here.
_PARENTS = ("multiprocessing.util", "billiard.util")


class _Visitor:
    """The connection of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._carrier: VisitorCarrier | None = None
        # The modules of `_PARENTS` that know of us.
        self._told: set[str] = set()

    def carrier(self) -> VisitorCarrier:
        """Return what carries this process's ops; raises `NotConnected` with what to do."""
        current = self._carrier
        if current is not None and current.is_open:
            return current
        with self._lock:
            if self._carrier is None or not self._carrier.is_open:
                self._carrier = _connected(_find())
                self._end_with_parents()
            return self._carrier

    def close(self) -> None:
        """End the connection, if there is one, once the node has done what it was told."""
        current, self._carrier = self._carrier, None
        if current is not None:
            current.close()

    def _end_with_parents(self) -> None:
        for name in _PARENTS:
            if name in sys.modules and name not in self._told:
                sys.modules[name].Finalize(None, self.close, exitpriority=-100)
                self._told.add(name)

    def forked(self) -> None:
        """Leave the connection to the parent: the next op of this process makes one."""
        current = self._carrier
        self.__init__()  # type: ignore[misc] # the lock may have been held by another thread
        if current is not None:
            current.abandon()


_visitor = _Visitor()
carrier = _visitor.carrier
atexit.register(_visitor.close)
os.register_at_fork(after_in_child=_visitor.forked)


def _connected(greeting: Greeting) -> VisitorCarrier:
    try:
        return VisitorCarrier(greeting)
    except RuntimeError as error:  # no thread is started any more at the interpreter's end
        greeting.socket.close()
        raise NotConnected(f"no connection to a Hornbeam server can be made: {error}") from error


# Which server


def _find() -> Greeting:
    environment = os.environ
    where = discovery.named(environment)
    if where == discovery.OFF:
        raise NotConnected(f"this is not a Hornbeam worker, and {discovery.VARIABLE} is off")
    here = discovery.here(environment)
    if where is not None:
        return _greet_named(Path(where), here)
    greetings, refusals = _greet_all(discovery.sockets(environment), here)
    if len(greetings) == 1:
        return greetings[0]
    if not greetings:
        raise NotConnected("; ".join(refusals) if refusals else _nowhere())
    return _nearest(greetings, here)


def _greet_named(path: Path, here: Sequence[str]) -> Greeting:
    try:
        return greet(path, hornbeam_erlang.__version__, here)
    except (OSError, HornbeamError) as error:
        if isinstance(error, NotConnected):
            raise
        raise NotConnected(
            f"this is not a Hornbeam worker, and no server answers at {path}, which "
            f"{discovery.VARIABLE} names: {error}"
        ) from error


def _greet_all(paths: Sequence[Path], here: Sequence[str]) -> tuple[list[Greeting], list[str]]:
    """Return who lets us in, and why others do not; a socket may be left of one that was killed."""
    greetings, refusals = [], []
    for path in paths:
        try:
            greetings.append(greet(path, hornbeam_erlang.__version__, here))
        except (ConnectionRefusedError, FileNotFoundError):
            continue
        except (OSError, HornbeamError) as error:
            refusals.append(str(error) if isinstance(error, NotConnected) else f"{path}: {error}")
    return greetings, refusals


def _nearest(greetings: Sequence[Greeting], here: Sequence[str]) -> Greeting:
    """Return the one whose app is in the current folder or above it; the others are left."""
    found = discovery.nearest(here, [greeting.config.folders for greeting in greetings])
    chosen = greetings[found[0]] if len(found) == 1 else None
    for greeting in greetings:
        if greeting is not chosen:
            greeting.socket.close()
    if chosen is None:
        raise NotConnected(_several(greetings))
    return chosen


def _several(greetings: Sequence[Greeting]) -> str:
    lines = "".join(f"\n  {greeting.path} ({greeting.config})" for greeting in greetings)
    return (
        "this is not a Hornbeam worker, and several servers of this user run, of which not one "
        "alone has its app in the current folder or above it. Set the environment variable "
        f"{discovery.VARIABLE} to the socket of one of them:{lines}"
    )


def _nowhere() -> str:
    return (
        "this is not a Hornbeam worker, and no Hornbeam server of this user "
        f"(uid {os.geteuid()}) runs on this machine, as far as its local socket is to be found. "
        "Start one, as the same user, or set the environment variable "
        f"{discovery.VARIABLE} to the path that its option local_socket names. In tests, use "
        "hornbeam_erlang.testing.Beam"
    )
