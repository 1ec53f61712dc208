"""The event loop: made by its name in the configuration, and shut down with what it has started.

Knows asyncio and, if it is there, uvloop.
"""

import asyncio
import importlib
import importlib.util


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """Return a new loop; "auto" is uvloop where it is installed.

    Raises `ImportError` when uvloop is asked for and missing.
    """
    if name == "asyncio" or (name == "auto" and importlib.util.find_spec("uvloop") is None):
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    return loop


async def shut_generators(seconds: float) -> None:
    """End the asynchronous generators that are not over, in so many seconds."""
    ending = asyncio.create_task(asyncio.get_running_loop().shutdown_asyncgens())
    _, late = await asyncio.wait([ending], timeout=seconds)
    for task in late:
        task.cancel()


async def shut_threads(seconds: float) -> bool:
    """End the threads of the running loop's executor; return whether they ended in so many seconds.

    Who waits for them is left alone after that: when cancelled, it would wait without an end.
    """
    ending = asyncio.create_task(asyncio.get_running_loop().shutdown_default_executor())
    await asyncio.wait([ending], timeout=max(seconds, 0))
    return ending.done()
