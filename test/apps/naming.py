"""An app that says how it was started, and one that a function makes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from gallery import respond

PREFIX = "SAID_"


async def application(scope, receive, send):
    """Answer with what the command has made of its words."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    about = {
        "pid": os.getpid(),
        "python": sys.executable,
        "folder": str(Path.cwd()),
        "path": sys.path,
        "root_path": scope["root_path"],
        "scheme": scope["scheme"],
        "variables": {k: v for k, v in os.environ.items() if k.startswith(PREFIX)},
    }
    await respond(send, json.dumps(about).encode())


def make():
    return application


async def hanging(scope, receive, send):
    """Serve, and never come to an end."""
    if scope["type"] != "lifespan":
        return await application(scope, receive, send)
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    Path(os.environ["TRACE"]).write_text("told to stop")
    while True:
        try:
            await receive()
        except BaseException:
            continue
