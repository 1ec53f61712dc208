"""Processes outside of all workers, which a test starts: Python that visits a real node.

A script's last line of output is its result. `Visitor` is one that lives on and evaluates what it
is sent, as a console of a worker does.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from harness import DEADLINE, Server

# What asyncio says of callbacks that took long is about this machine.
PRELUDE = """
import asyncio, logging, multiprocessing, os, sys, threading, time
from hornbeam_erlang import *
from hornbeam_erlang import aio
logging.getLogger("asyncio").addFilter(lambda said: not said.getMessage().startswith("Executing"))
"""

LOOP = """
import ast, sys, traceback
for line in sys.stdin:
    source, names = ast.literal_eval(line)
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    try:
        scope = globals()
        scope.update(names)
        exec(compile(tree, "<test>", "exec"), scope)
        value = eval(compile(ast.Expression(last.value), "<test>", "eval"), scope) if last else None
        print(repr(("value", value)), flush=True)
    except BaseException as error:
        print(repr(("raised", f"{type(error).__name__}: {error}")), flush=True)
"""


def socket_of(server: Server) -> str:
    """Return where the local socket of a server is."""
    path = server.info()["local_socket"]
    return path.decode() if isinstance(path, bytes) else path


def environment(**variables: str) -> dict[str, str]:
    """Return this environment, in which nobody says where a socket is."""
    kept = {k: v for k, v in os.environ.items() if k not in ("HORNBEAM_SOCKET", "PWD")}
    return kept | variables


def at(server: Server) -> dict[str, str]:
    """Return an environment that names the socket of a server."""
    return environment(HORNBEAM_SOCKET=socket_of(server))


def arguments(source: str) -> list[str]:
    return [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", source]


def run(source: str, env: dict[str, str], cwd: Path | None = None, **names: Any) -> Any:
    """Run a script to its end and return what the `result` is that it has set."""
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    script = f"{PRELUDE}{given}{textwrap.dedent(source)}\nprint(repr(result))"
    done = subprocess.run(
        arguments(script),
        # Python 3.12 and later warn of a fork beside a thread, which is what a few of them do.
        env=env | {"PYTHONWARNINGS": "ignore:This process:DeprecationWarning"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=3 * DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr
    return ast.literal_eval(done.stdout.splitlines()[-1])


class Raised(Exception):
    """What a visitor has raised, as `Class: text`."""


class Visitor:
    """A process that visits a node and evaluates what it is sent."""

    def __init__(self, env: dict[str, str], cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            arguments(PRELUDE + LOOP),
            env=env,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, source: str, **names: Any) -> Any:
        """Evaluate statements; return the value of the last, or raise `Raised`."""
        self.ask(source, **names)
        return self.answer()

    def ask(self, source: str, **names: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(repr((textwrap.dedent(source), names)) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        outcome, value = ast.literal_eval(self.process.stdout.readline())
        if outcome == "raised":
            raise Raised(value)
        return value

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)

    def close(self) -> int:
        """Let it end as a script does; return its exit status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        status = self.process.wait(DEADLINE)
        self.process.stdout.close()
        return status
