"""This operating-system process: its descriptors, its signals, and its end with the BEAM.

Knows the operating system; must not know the wire or the app.
"""

import ctypes
import fcntl
import os
import select
import signal
import sys
import threading
from typing import NoReturn

FROM_BEAM = 3
TO_BEAM = 4

PIPE_SIZE = 1 << 20

CHECK_INTERVAL = 1000  # ms

STOPPED = 0
FAILED = 1
WITHOUT_BEAM = 1
USAGE = 64
PROTOCOL_ERROR = 70

_PR_SET_PDEATHSIG = 1


def take_over() -> None:
    """Make this process a worker; exits if the BEAM's pipes are not there."""
    try:
        _secure_pipes()
    except OSError:
        sys.stderr.write(
            "hornbeam_erlang._worker is started by the BEAM, with pipes on descriptors 3 and 4\n"
        )
        sys.exit(USAGE)
    _empty_stdin()
    _leave_signals_to_the_beam()
    _die_with_the_beam()


def _secure_pipes() -> None:
    """Keep the pipes to ourselves: a grandchild that holds one hides our end from the BEAM."""
    for fd in (FROM_BEAM, TO_BEAM):
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
        _widen(fd)
    os.register_at_fork(after_in_child=_forked)


def _widen(fd: int) -> None:
    """Ask for a larger pipe; the user's limit or another system may refuse."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            return


def _empty_stdin() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _leave_signals_to_the_beam() -> None:
    """Ignore the signals that ask for an end.

    A service manager may send them to all processes of a service, and it is the node that decides
    when its workers stop: it has sockets to close first. A handler, not SIG_IGN: that would be
    inherited by the programs that the app starts.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)


def _forked() -> None:
    """Make a forked child an ordinary process again."""
    for fd in (FROM_BEAM, TO_BEAM):
        try:
            os.close(fd)
        except OSError:
            continue
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _die_with_the_beam() -> None:
    """Make sure that no worker outlives its node, even one that is busy and never reads.

    The kernel's signal comes also while native code holds the interpreter's lock; the watcher
    comes on systems without it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    threading.Thread(target=_watch, name="hornbeam-watch", daemon=True).start()


def _watch() -> None:
    ours = _pipes()
    while ours and _pipes() == ours:
        poll = select.poll()
        poll.register(FROM_BEAM, 0)  # a hang-up is always reported
        if poll.poll(CHECK_INTERVAL):
            break
    exit_without_beam()


def _pipes() -> tuple[tuple[int, int], ...]:
    """Return what stands at our descriptors.

    An app may close them (`os.closerange`, a library that makes a daemon), and the system then
    gives their numbers to another file, which the wire must not be written into.
    """
    try:
        stats = [os.fstat(fd) for fd in (FROM_BEAM, TO_BEAM)]
    except OSError:
        return ()
    return tuple((stat.st_dev, stat.st_ino) for stat in stats)


def exit_without_beam() -> NoReturn:
    """Exit at once: there is nobody left to serve or to tell."""
    os._exit(WITHOUT_BEAM)
