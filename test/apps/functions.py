"""Functions that Erlang calls, beside an app that does nothing."""

import asyncio
import os
import time

from hornbeam_erlang import aio, state_incr, state_set

from gallery import respond


def add(a, b):
    return a + b


async def add_later(a, b):
    await asyncio.sleep(0.01)
    return a + b


def fail(message):
    raise LookupError(message)


async def fail_later(message):
    await asyncio.sleep(0)
    raise LookupError(message)


def give_a_set():
    return {"things": [1, {2}]}


async def sleep_and_note(key, seconds):
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        state_set(key, "cancelled")
        raise


def block(seconds):
    time.sleep(seconds)


def die():
    os._exit(3)


def note(key):
    state_set(key, "noted")


def count(key, times):
    for _ in range(times):
        last = state_incr(key)
    return last


async def count_later(key, times):
    for _ in range(times):
        last = await aio.state_incr(key)
    return last


async def application(scope, receive, send):
    if scope["type"] == "http":
        await respond(send, b"functions")
