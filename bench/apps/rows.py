"""Operations on shared state, timed by the worker that does them, in a table of so many rows.

An HTTP request names the operation and how many rows there are to be; half of them are texts and
half are counters. Each call takes a row at random, and its result is compared with what is due.
"""

import random
from array import array
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import timing
from hornbeam_erlang import aio, state_get, state_incr, state_set

BATCH = 1000  # rows that are set at once
VALUE = "0123456789abcdef"

Event = dict[str, Any]
Send = Callable[[Event], Awaitable[None]]

counted = array("Q")  # what stands in each counter
numbers = random.Random(1)


async def application(scope: Event, receive: Callable[[], Awaitable[Event]], send: Send) -> None:
    """Measure for an HTTP request."""
    if scope["type"] == "http":
        asked = timing.asked(scope)
        await fill(int(asked["rows"]) // 2)
        figures = await timing.measure(OPS[asked["op"]](), float(asked["seconds"]))
        await timing.respond(send, figures)


async def fill(pairs: int) -> None:
    """Add what is missing: a text and a counter of each number."""
    for first in range(len(counted), pairs, BATCH):
        fresh = range(first, min(first + BATCH, pairs))
        texts = {f"text:{number}": VALUE for number in fresh}
        await aio.state_set_multi(texts | {f"counter:{number}": 0 for number in fresh})
        counted.extend([0] * len(fresh))


def gets() -> Iterator[tuple[timing.Call, str]]:
    """Read texts."""
    while True:
        yield partial(state_get, f"text:{numbers.randrange(len(counted))}"), VALUE


def sets() -> Iterator[tuple[timing.Call, None]]:
    """Write texts anew."""
    while True:
        yield partial(state_set, f"text:{numbers.randrange(len(counted))}", VALUE), None


def increments() -> Iterator[tuple[timing.Call, int]]:
    """Count up."""
    while True:
        number = numbers.randrange(len(counted))
        counted[number] += 1
        yield partial(state_incr, f"counter:{number}"), counted[number]


OPS = {"get": gets, "set": sets, "incr": increments}
