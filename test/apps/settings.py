"""Apps that answer with what the options of their worker made of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from gallery import respond

not_callable = 42


async def application(scope, receive, send):
    """Answer with the worker's folder, environment, path and event loop."""
    if scope["type"] == "http":
        loop = type(asyncio.get_running_loop())
        seen = {
            "cwd": str(Path.cwd()),
            "env": dict(os.environ),
            "path": sys.path,
            "prefix": sys.prefix,
            "executable": sys.executable,
            "loop": f"{loop.__module__}.{loop.__name__}",
            "root_path": scope["root_path"],
            "pid": os.getpid(),
        }
        await respond(send, json.dumps(seen).encode())


class Holder:
    """A place for an app deeper than the module."""

    application = staticmethod(application)


class Callable:
    """An app that is an object."""

    async def __call__(self, scope, receive, send):
        await application(scope, receive, send)


as_object = Callable()


def make():
    return application
