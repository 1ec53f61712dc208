"""Handlers that start processes; a WebSocket is told their numbers, and then does as it is told."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

from gallery import gallery
from sockets import accept, messages, say

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(3600)
"""

kept = []


async def executor(scope, receive, send):
    """Have the processes of an executor, as apps do that have much to compute."""
    pool = ProcessPoolExecutor(2)
    kept.append(pool)
    await asyncio.gather(*(asyncio.wrap_future(pool.submit(os.getpid)) for _ in range(8)))
    await tell_and_obey([child.pid for child in multiprocessing.active_children()], receive, send)


async def stubborn(scope, receive, send):
    """Have a child that does not end when it is asked to."""
    await tell_and_obey([started().pid], receive, send)


async def daemon(scope, receive, send):
    """Have a child that is to live on: in a session of its own."""
    await tell_and_obey([started(start_new_session=True).pid], receive, send)


def started(**options) -> subprocess.Popen:
    child = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, **options)
    kept.append(child)
    child.stdout.readline()
    return child


async def tell_and_obey(children, receive, send):
    await accept(send)
    await say(send, " ".join(map(str, [os.getpid(), *children])))
    async for _ in messages(receive):
        os._exit(7)


application = gallery(globals())
