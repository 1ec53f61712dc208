"""What the figures were measured on."""

import os
import platform
import resource
import subprocess
from datetime import UTC, datetime
from pathlib import Path

_CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")


def machine() -> dict[str, str]:
    """Processor, cores, kernel, TCP's congestion control, system, date and commit."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "tcp": _CONGESTION.read_text().strip(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
    }


def raise_descriptors() -> int:
    """Let us and what we start open as many descriptors as we may; returns how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _processor() -> str:
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields.get('cpu family')}, model {fields.get('model')})"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    result = subprocess.run(
        command, check=False, cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return result.stdout.strip() or "not committed"
