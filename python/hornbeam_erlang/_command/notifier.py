"""What systemd is told of this process, where it asks by NOTIFY_SOCKET (sd_notify(3)).

It believes the process that it has started and no other: so the node, which knows when it serves,
says so here by a pipe, and this process passes it on.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Mapping

READY = b"READY=1"
STOPPING = b"STOPPING=1"

OURS = frozenset({"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"})
"""Variables that are about this process, and so none of its children's."""


class Notifier:
    """Tells nobody where nobody asks."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._reader = -1

    def words(self) -> list[str]:
        """Return what a node has to be started with."""
        if not self._address:
            return []
        self._reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        return ["-hornbeam_ready", str(writer)]

    def begin(self) -> None:
        """Listen to the node, in a thread that has the signals blocked that this one has."""
        if self._reader >= 0:
            threading.Thread(target=self._pass_on, daemon=True).start()

    def stopping(self) -> None:
        self._say(STOPPING)

    def _pass_on(self) -> None:
        if os.read(self._reader, len(READY)):
            self._say(READY)

    def _say(self, what: bytes) -> None:
        """Say it; one who does not listen any more need not know."""
        if not self._address:
            return
        # An abstract address has a zero byte where its name shows an @.
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.sendto(what, address)
