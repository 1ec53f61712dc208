"""One window: a load generator works on a server while the server's CPU is read.

The generator stands still around both readings (load/load.h), so the CPU between them
belongs to the messages between them. Knows the generators' talk, not what they send.
"""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

from harness import cpu
from servers.process import BENCH, Server


class LoadError(Exception):
    """A reply was wrong, late or missing; the message is the generator's."""


def window(
    server: Server,
    generator: str,
    beside: Callable[[], Any] | None = None,
    after: Callable[[], Any] | None = None,
    **options: float | str,
) -> dict[str, Any]:
    """Run one generator; returns its figures and CPU in µs per message.

    `beside` is called while the generator works; what it returns is in "beside". `after` is
    called when it has worked and its connections are still open; what it returns is in "after".
    What the generator tells after its window is among the figures. To a server that shows a
    certificate it speaks TLS. How often threads of the server went to sleep meanwhile is in
    "sleeps", by kind. Raises LoadError when it gives up.
    """
    if server.certificate:
        options |= {"tls": str(server.certificate.chain)}
    process = subprocess.Popen(
        [str(BENCH / "_build" / generator), f"--port={server.ports}"]
        + [f"--{name}={value}" for name, value in options.items()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _line(process)
        before, start = cpu.processes(), time.monotonic()
        slept = cpu.sleeps(before, server.pids)
        _go_on(process)
        more = {"beside": beside()} if beside else {}
        figures = json.loads(_line(process))
        now, seconds = cpu.processes(), time.monotonic() - start
        used = cpu.used(before, now, server.pids, process.pid)
        more |= {"sleeps": _difference(cpu.sleeps(now, server.pids), slept)}
        more |= {"after": after()} if after else {}
        rest, error = process.communicate("\n", timeout=60)
        if process.returncode:
            raise LoadError(error.strip() or "the load generator died")
        more |= json.loads(rest or "{}")
    finally:
        process.kill()
        process.communicate()
    figures["generator_cpu_us"] = 1e6 * figures.pop("generator_cpu_s") / figures["messages"]
    return per_message(figures, used, seconds) | more


def _difference(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {kind: after[kind] - before[kind] for kind in after}


def per_message(figures: dict[str, Any], used: cpu.Cpu, seconds: float) -> dict[str, Any]:
    """A generator's figures with the CPU that was used meanwhile, in µs per message."""
    micros = {kind: 1e6 * value / figures["messages"] for kind, value in used.tree.items()}
    return figures | {
        "rate": figures["messages"] / figures["seconds"],
        "cpu_us": sum(micros.values()),
        "cpu_us_by_process": micros,
        "cores_used_beside": used.beside / seconds,
    }


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout and process.stderr
    line = process.stdout.readline()
    if not line:
        raise LoadError(process.stderr.read().strip() or "the load generator died")
    return line


def _go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
