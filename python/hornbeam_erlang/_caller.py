"""Which code of an app is running: who reads published messages by `check_pubsub`.

Such a reader waits in ASGI's `receive` for something else, so `receive` has to wake it, with an
event that a framework would refuse. Frames of the stack tell whose `receive` it is: pure looks
at them, no state here.
"""

import builtins
from types import FrameType, ModuleType
from typing import Any

# Under a handler's own frames stand ours, or those of a loop when it is in a task of its own.
_SERVERS = frozenset({"hornbeam_erlang", "asyncio", "__main__", ""})

# The names by which a module has `check_pubsub` at hand.
_PACKAGE = ("hornbeam_erlang", "hornbeam_erlang.pubsub", "hornbeam_erlang.aio")


def top_module(frame: FrameType) -> str:
    """Return the top-level package or module of a frame's code, or "" if it names none."""
    return str(frame.f_globals.get("__name__") or "").partition(".")[0]


def named(frame: FrameType | None) -> FrameType | None:
    """Return the frame, or the next one outward whose code belongs to a module."""
    while frame is not None and not top_module(frame):
        frame = frame.f_back
    return frame


def own(frame: FrameType) -> tuple[set[Any], str]:
    """Return the code of this frame and of those around it of the same module, and who is next."""
    module = top_module(frame)
    codes = set()
    outer: FrameType | None = frame
    while outer is not None and top_module(outer) in (module, ""):
        codes.add(outer.f_code)
        outer = outer.f_back
    return codes, "" if outer is None else top_module(outer)


def knows_check_pubsub(frame: FrameType) -> bool:
    """Tell whether the frame's module has `check_pubsub` among its names."""
    names = frame.f_globals
    return (
        "check_pubsub" in names
        or hasattr(builtins, "check_pubsub")
        or any(type(it) is ModuleType and it.__name__ in _PACKAGE for it in names.values())
    )


def note(polled: dict[str, set[Any]], frame: FrameType | None) -> None:
    """Note the code that reads by `check_pubsub`."""
    frame = named(frame)
    if frame is None or frame.f_code in polled.get(module := top_module(frame), ()):
        return
    polled.setdefault(module, set()).update(own(frame)[0])


def is_noted(polled: dict[str, set[Any]], frame: FrameType | None) -> bool:
    """Tell whether the code that awaits `receive` is such a reader, and not a framework.

    It is when its module is, and when nothing of another kind has called it to pass the event
    on: a module's own middleware in front of a framework is no reader.
    """
    if frame is None or (noted := polled.get(top_module(frame))) is None:
        return False
    codes, outer = own(frame)
    return outer in _SERVERS or not noted.isdisjoint(codes)
