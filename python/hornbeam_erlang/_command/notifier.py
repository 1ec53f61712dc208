"""What systemd is told of this process, where it asks by NOTIFY_SOCKET (sd_notify(3)).

It believes the process that it has started and no other: so the node, which knows when it serves,
when it does again after a reload, and that it lives, says so here by a pipe, a line each, and this
process passes it on.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Mapping

STOPPING = b"STOPPING=1"

OURS = frozenset(
    {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"}
)
"""Variables that are about this process, and so none of its children's."""


class Notifier:
    """Tells nobody where nobody asks."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._interval = alive_interval(environment)
        self._reader = -1

    def words(self) -> list[str]:
        """Return what a node has to be started with."""
        if not self._address:
            return []
        self._reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        alive = ["-hornbeam_watchdog", str(self._interval)] if self._interval else []
        return ["-hornbeam_ready", str(writer), *alive]

    def begin(self) -> None:
        """Listen to the node, in a thread that has the signals blocked that this one has."""
        if self._reader >= 0:
            threading.Thread(target=self._pass_on, daemon=True).start()

    def stopping(self) -> None:
        self._say(STOPPING)

    def reloading(self) -> None:
        """Say that a reload begins, and when: so systemd can tell an older end from its own."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say(b"RELOADING=1\nMONOTONIC_USEC=%d" % now)

    def _pass_on(self) -> None:
        with os.fdopen(self._reader, "rb") as lines:
            for line in lines:
                self._say(line.rstrip())

    def _say(self, what: bytes) -> None:
        """Say it; one who does not listen any more need not know."""
        if not self._address:
            return
        # An abstract address has a zero byte where its name shows an @.
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.sendto(what, address)


def alive_interval(environment: Mapping[str, str]) -> int:
    """Return how often systemd is to be told that the node lives (ms), 0 where it is not.

    That is half of what it waits for (sd_watchdog_enabled(3)).
    """
    limit = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    return max(1, int(limit) // 2000) if limit.isdigit() and int(limit) else 0
