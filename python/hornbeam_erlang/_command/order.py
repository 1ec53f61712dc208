"""What a node is told: the app, the options, and how its terminal looks. One msgpack value.

It travels through a file without a name that the node inherits, since it may hold secrets: a
command line and an environment are read by others. The node empties it when it has read it.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hornbeam_erlang._command.settings import Setting
from hornbeam_erlang._wire.values import pack
from hornbeam_erlang.terms import Atom


@dataclass(frozen=True)
class Order:
    """All that the node of the command has to know."""

    app: str | None
    settings: Mapping[str, Setting]
    file: str
    """What settings of the project's file have as their origin."""
    log_level: str
    colors: bool
    only_check: bool

    def packed(self) -> bytes:
        told: dict[str, Any] = {
            "app": self.app,
            "options": {name: setting.value for name, setting in self.settings.items()},
            "origins": {name: self._origin(name) for name in self.settings},
            "log_level": Atom(self.log_level),
            "colors": self.colors,
            "only_check": self.only_check,
        }
        return pack(told, "order")

    def _origin(self, name: str) -> str:
        """A file alone does not tell which of its lines is meant."""
        origin = self.settings[name].origin
        return f"{name} in {origin}" if origin == self.file else origin


def inherited_file(content: bytes) -> int:
    """Return the descriptor of a file that a child process can read."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("hornbeam-order")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.write(fd, content)
    os.set_inheritable(fd, True)
    return fd
