"""An app with a function that runs in one worker of all; what happens is written into a file.

Who runs it holds the lock of another file meanwhile: the kernel gives that back at its death.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import time
from pathlib import Path

from hornbeam_erlang import only_one

import lifespans
from console import application as console


def trace(**event):
    with Path(os.environ["TRACE"]).open("a") as file:
        file.write(json.dumps({"pid": os.getpid(), **event}) + "\n")


@only_one("tracing")
async def traced():
    with Path(os.environ["TRACE"] + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            trace(event="overlap")
        trace(event="begins", token=traced.token)
        try:
            while True:
                await asyncio.sleep(0.01)
                if Path(os.environ["TRACE"] + ".hang").exists():
                    Path(os.environ["TRACE"] + ".hang").unlink()
                    trace(event="hangs")
                    time.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            trace(event="ends")


async def application(scope, receive, send):
    if scope["type"] != "lifespan":
        await console(scope, receive, send)
        return
    async with contextlib.AsyncExitStack() as stack:

        async def begin():
            await stack.enter_async_context(traced.running())

        await lifespans.lifespan_events(receive, send, begin, stack.aclose)
