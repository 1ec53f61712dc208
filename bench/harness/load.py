"""One window: a load generator works on a server while the server's CPU is read.

The generator stands still around both readings (load/load.h), so the CPU between them
belongs to the messages between them. Knows the generators' talk, not what they send.
"""

import json
import subprocess
import time
from typing import Any

from harness import cpu
from servers.process import BENCH, Server


class LoadError(Exception):
    """A reply was wrong, late or missing; the message is the generator's."""


def window(server: Server, generator: str, **options: float) -> dict[str, Any]:
    """Run one generator; returns its figures and CPU in µs per message.

    Raises LoadError when the generator gives up.
    """
    process = subprocess.Popen(
        [str(BENCH / "_build" / generator), f"--port={server.port}"]
        + [f"--{name}={value}" for name, value in options.items()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _line(process)
        before, start = cpu.processes(), time.monotonic()
        _go_on(process)
        figures = json.loads(_line(process))
        after, seconds = cpu.processes(), time.monotonic() - start
        _go_on(process)
        process.wait(timeout=60)
    finally:
        process.kill()
        process.communicate()
    return _per_message(figures, cpu.used(before, after, server.pid, process.pid), seconds)


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


def _per_message(figures: dict[str, Any], used: cpu.Cpu, seconds: float) -> dict[str, Any]:
    messages = figures["messages"]
    micros = {kind: 1e6 * value / messages for kind, value in used.tree.items()}
    return {
        "messages": messages,
        "rate": messages / figures["seconds"],
        "p50_us": figures["p50_us"],
        "p99_us": figures["p99_us"],
        "max_us": figures["max_us"],
        "cpu_us": sum(micros.values()),
        "cpu_us_by_process": micros,
        "generator_cpu_us": 1e6 * figures["generator_cpu_s"] / messages,
        "cores_used_beside": used.beside / seconds,
    }
