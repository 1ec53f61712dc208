"""Handlers that do to their worker what no app should; `gallery` says how they are reached.

A WebSocket handler does it at the client's first message, so that the client has seen it open.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import logging
import os
import re
import subprocess
import sys
import threading
import time
import warnings

import msgpack
from hornbeam_erlang._ops.identity import current

from gallery import gallery, read_body, respond
from sockets import accept, echo, messages, say, who  # noqa: F401 - part of the gallery

log = logging.getLogger("shop.orders")

kept = []


async def opened(receive, send):
    """Accept, say which worker this is, and wait for the first message."""
    await accept(send)
    await say(send, str(os.getpid()))
    async for event in messages(receive):
        return event["text"]
    raise ConnectionError("gone before the first message")


async def exits(scope, receive, send):
    if scope["type"] == "websocket":
        await opened(receive, send)
    os._exit(7)


async def segfaults(scope, receive, send):
    await opened(receive, send)
    faulthandler._sigsegv()


async def grows(scope, receive, send):
    """Take as many megabytes as the client says, and keep them."""
    kept.append(b"x" * (int(await opened(receive, send)) << 20))
    await say(send, "grown")
    await receive()


async def rubbish(scope, receive, send):
    """Write what the client asks for, in hexadecimal, on the wire."""
    os.write(4, bytes.fromhex(await opened(receive, send)))
    await receive()


async def speaks(scope, receive, send):
    """Say the stream's number, then write the client's messages on the wire."""
    await accept(send)
    await say(send, f"{os.getpid()} {current.get()}")
    async for event in messages(receive):
        os.write(4, event["bytes"])


async def answers(scope, receive, send):
    """Answer with the frame in the query string or the request's body; it names the stream 0."""
    frame = bytes.fromhex(scope["query_string"].decode()) or await read_body(receive)
    code, _, *fields = msgpack.unpackb(frame)
    frame = msgpack.packb([code, current.get(), *fields])
    left = len(frame).to_bytes(4, "big") + frame
    while left:
        with contextlib.suppress(BlockingIOError):  # the pipe is full
            left = left[os.write(4, left) :]
        await asyncio.sleep(0)
    await asyncio.sleep(3600)


async def closes_the_wire(scope, receive, send):
    await opened(receive, send)
    os.close(4)
    await receive()


async def blocks(scope, receive, send):
    seconds = float(await opened(receive, send))
    await say(send, "sleeping")
    await asyncio.sleep(0)
    time.sleep(seconds)
    await say(send, "awake")
    await receive()


async def spins(scope, receive, send):
    await opened(receive, send)
    while True:
        pass


async def holds_the_gil(scope, receive, send):
    await opened(receive, send)
    re.match(r"(a+)+$", "a" * 64 + "b")


async def swallows_cancellation(scope, receive, send):
    await opened(receive, send)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


async def forks(scope, receive, send):
    """Leave a process behind that has every descriptor, then die."""
    how = await opened(receive, send)
    if how == "fork":
        child = os.fork()
        if child == 0:
            time.sleep(3600)
    else:
        child = subprocess.Popen(["sleep", "3600"], close_fds=False, start_new_session=True).pid
    await say(send, str(child))
    await receive()
    os._exit(0)


async def says_things(scope, receive, send):
    """Print, log and warn in the ways that apps do."""
    print("printed to stdout")
    print("printed to stderr", file=sys.stderr)
    print("two\nlines")
    print("surrogate \udcff and snowman ☃")
    logging.getLogger("uvicorn.error").info("logged as %s", "info")
    log.warning("logged as warning")
    log.error("logged as error")
    log.critical("logged as critical")
    try:
        raise KeyError("handled badly")
    except KeyError:
        log.exception("logged with traceback")
    warnings.warn("old ways", stacklevel=1)
    threading.Thread(target=fail, args=("in a thread",)).start()
    await respond(send, b"said")


def fail(where):
    raise LookupError(where)


async def leaves_a_task(scope, receive, send):
    async def task():
        fail("in a task")

    asyncio.get_running_loop().call_soon(lambda: fail("in a callback"))
    lost = asyncio.create_task(task())
    await asyncio.wait([lost])
    del lost
    gc.collect()
    await respond(send, b"left")


async def raises(scope, receive, send):
    if scope["type"] == "websocket":
        await opened(receive, send)
    fail("in a handler")


async def forges(scope, receive, send):
    """Say what the client has sent in all the ways that end in a log."""
    text = scope["path"]
    print(text)
    log.warning("told %s", text)
    threading.Thread(target=fail, args=(text,), name=text).start()
    fail(text)


async def flood(send):
    while True:
        await say(send, "x" * 1000)


async def floods_in_a_group(scope, receive, send):
    await opened(receive, send)
    async with asyncio.TaskGroup() as group:
        group.create_task(flood(send))
        group.create_task(flood(send))


async def fails_in_a_group(scope, receive, send):
    async def fail_when_gone():
        while (await receive())["type"] != "websocket.disconnect":
            pass
        fail("beside a flood")

    await opened(receive, send)
    async with asyncio.TaskGroup() as group:
        group.create_task(flood(send))
        group.create_task(fail_when_gone())


async def raises_in_a_circle(scope, receive, send):
    await opened(receive, send)
    await receive()
    error = LookupError("in a circle")
    raise error from error


async def writes_natively(scope, receive, send):
    """Write to the standard descriptors behind Python's back."""
    await opened(receive, send)
    libc = ctypes.CDLL(None)
    for fd in (1, 2):
        os.write(fd, b"\x00\x01native bytes \xff\n" * 1000)
        libc.dprintf(fd, b"from C\n")
    subprocess.run(["sh", "-c", "echo from a child; echo and its errors >&2"], check=True)
    await say(send, "written")
    await receive()


async def prints_much(scope, receive, send):
    for number in range(20_000):
        print(number, "x" * 1000)
    await respond(send, b"printed")


async def reads_stdin(scope, receive, send):
    await respond(send, repr(sys.stdin.read() if sys.stdin else "").encode())


application = gallery(globals())
