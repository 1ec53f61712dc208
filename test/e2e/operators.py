"""The command as those who operate a server use it: run, and what it has said."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from harness import DEADLINE, PYTHON, Server, eventually
from visitors import environment, socket_of

COMMAND = [str(PYTHON), "-m", "hornbeam_erlang"]


class Done:
    """What a run of the command has said."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


def hornbeam(
    *words: object,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    deadline: float = DEADLINE,
) -> Done:
    return Done(
        subprocess.run(
            [*COMMAND, *map(str, words)],
            env=env or environment(HORNBEAM_SOCKET="off"),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=deadline,
            check=False,
        )
    )


def of(server: Server, *words: object, **more: Any) -> Done:
    return hornbeam(*words, "--socket", socket_of(server), **more)


def listed(server: Server, *words: object) -> list[dict[str, Any]]:
    return of(server, "connections", "--json", *words).json["connections"]


def only(server: Server) -> int:
    """Wait until one connection is listed; return its number."""
    return eventually(lambda: (found := listed(server)) and len(found) == 1 and found)[0]["id"]


TRACES = """
length([P || P <- processes(), {current_stacktrace, Stack} <- [process_info(P, current_stacktrace)],
             {hornbeam_control_trace, look, _, _} <- Stack])
"""
"""How many look, each of whom has told its connection so."""


def is_traced(server: Server) -> bool:
    """Tell whether anybody looks at the messages of a node's connections."""
    return server.node.eval(TRACES) > 0
