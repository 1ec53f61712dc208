"""The event loop by its name in the configuration. Knows asyncio and, if it is there, uvloop."""

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
