"""The report of `hornbeam doctor`: what this installation is, and what a server says of itself.

Of variables only names are told: values may be secrets.
"""

import contextlib
import datetime
import importlib.metadata
import platform
import resource
import sys
import sysconfig
from collections.abc import Mapping
from typing import Any

import hornbeam_erlang
from hornbeam_erlang._command import pages
from hornbeam_erlang._command.runtime import RuntimeNotFound, find_runtime

PACKAGES = (
    *("click", "msgpack", "uvloop", "watchfiles", "rich", "python-dotenv"),
    *("django", "channels", "fastapi", "starlette", "litestar", "quart", "flask"),
    *("python-socketio", "sse-starlette", "uvicorn", "gunicorn", "granian"),
)


def local(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what can be known without a server."""
    return {
        "hornbeam-erlang": hornbeam_erlang.__version__,
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "executable": sys.executable,
        "gil": not sysconfig.get_config_var("Py_GIL_DISABLED"),
        "platform": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
        "erlang": _erlang(),
        "open files": "{} (at most {})".format(*resource.getrlimit(resource.RLIMIT_NOFILE)),
        "packages": _packages(),
        "variables": sorted(name for name in environment if name.startswith("HORNBEAM_")),
    }


def _erlang() -> str:
    try:
        return str(find_runtime().program)
    except RuntimeNotFound as error:
        return f"none: {error}"


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def page(here: Mapping[str, Any], node: Any, missing: str | None) -> str:
    """Return the report as text."""
    parts = [_section("This installation", here)]
    if node is None:
        return "\n".join([*parts, f"No server is in this report: {missing}\n"])
    crashes = node.pop("crashes", [])
    parts += [_section(name.capitalize(), node[name]) for name in sorted(node)]
    parts.append(_crashes(crashes))
    node["crashes"] = crashes
    return "\n".join(parts)


def _section(title: str, value: Any) -> str:
    return f"## {title}\n\n{''.join(_lines(value, 0))}"


def _lines(value: Any, depth: int) -> list[str]:
    """Write a mapping as indented lines."""
    lines = []
    for key, item in sorted(value.items()):
        name = f"{'  ' * depth}{pages.text(key)}"
        if isinstance(item, Mapping) and item:
            lines += [f"{name}\n", *_lines(item, depth + 1)]
        elif isinstance(item, list) and any(isinstance(one, Mapping) for one in item):
            for number, one in enumerate(item, 1):
                lines += [f"{name} {number}\n", *_lines(one, depth + 1)]
        elif isinstance(item, str) and "\n" in item:
            text = pages.lines_of(item).strip("\n").replace("\n", f"\n{'  ' * (depth + 1)}")
            lines.append(f"{name}\n{'  ' * (depth + 1)}{text}\n")
        else:
            lines.append(f"{name}: {_value(item)}\n")
    return lines


def _value(item: Any) -> str:
    if isinstance(item, list):
        return ", ".join(map(pages.text, item)) or "-"
    return pages.text(item)


def _crashes(crashes: Any) -> str:
    if not crashes:
        return "## Recent errors\n\nnone\n"
    return "## Recent errors\n\n" + "\n".join(map(_crash, crashes))


def _crash(crash: Mapping[str, Any]) -> str:
    at = datetime.datetime.fromtimestamp(crash["at"] / 1_000_000).isoformat(" ", "seconds")
    text = pages.lines_of(crash["text"]).replace("\n", "\n    ")
    return f"{at} {crash['level']}\n    {text}\n"
