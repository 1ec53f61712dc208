"""The process that the user sees: it starts the node, passes signals on to it, and ends as it does.

    started ──SIGINT, SIGTERM──▶ stopping ──another one──▶ killed
       └──────────────┴─ the node has ended ─┴──▶ its status

Erlang cannot hear SIGINT, so the node ignores it. It stops at the end of its input, a pipe that
closes when it is told to, and also when this process is killed. As the first process of a container
it is the parent of whoever has lost his own. Knows no option.
"""

import os
import signal
from collections.abc import Callable, Mapping
from types import FrameType

from hornbeam_erlang._command.notifier import Notifier

STOP = frozenset({signal.SIGINT, signal.SIGTERM})
HEARD = STOP | {signal.SIGHUP, signal.SIGCHLD}
TERMINAL = "/dev/tty"


def open_streams() -> None:
    """Put /dev/null where this process was started without a standard stream.

    Otherwise what is opened next, such as the pipe of the node's input, would take its place.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def run(command: list[str], environment: Mapping[str, str], notifier: Notifier) -> int:
    """Run a node until its end; return the exit status."""
    # They wait until they are asked for, so none is lost. A handler, because the first process
    # of a container does not get signals that it does nothing about.
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    for number in HEARD:
        signal.signal(number, _heard)
    leash, hand = os.pipe()
    node = os.posix_spawn(
        command[0],
        command,
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, leash, 0)],
        setsigmask=(),
        setsigdef=[*HEARD, signal.SIGPIPE],
    )
    os.close(leash)
    notifier.begin()

    def stop() -> None:
        notifier.stopping()
        os.close(hand)

    def reload() -> None:
        notifier.reloading()
        os.kill(node, signal.SIGHUP)

    return _follow(node, stop, reload, has_terminal(), ignores_hangup)


def _heard(_number: int, _frame: FrameType | None) -> None:
    raise AssertionError("signals are waited for, and blocked otherwise")


def _follow(
    node: int,
    stop: Callable[[], None],
    reload: Callable[[], None],
    had_terminal: bool,
    ignores_hangup: bool,
) -> int:
    is_stopping = False
    while True:
        number = signal.sigwait(HEARD)
        if number == signal.SIGCHLD:
            ended = reap(node)
            if ended is not None:
                return exit_status(ended, is_stopping)
        elif number == signal.SIGHUP and had_terminal and not has_terminal():
            # The terminal was closed, and with it whoever could say more.
            if not (ignores_hangup or is_stopping):
                is_stopping = True
                stop()
        elif number == signal.SIGHUP:
            reload()
        elif is_stopping:
            os.kill(node, signal.SIGKILL)
        else:
            is_stopping = True
            stop()


def reap(node: int) -> int | None:
    """Bury all children that have ended; return the node's status if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == node:
            found = os.waitstatus_to_exitcode(status)


def exit_status(ended: int, is_stopping: bool) -> int:
    """Return what a shell would make of the node's end; one that had not begun stops well too."""
    if is_stopping and ended == -signal.SIGTERM:
        return 0
    return ended if ended >= 0 else 128 - ended


def has_terminal() -> bool:
    try:
        os.close(os.open(TERMINAL, os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
