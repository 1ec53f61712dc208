"""An exception as the BEAM hears of it: class, message, traceback without our own frames. Pure.

Nothing here raises, whatever the exception's own code does.
"""

import traceback
import unicodedata  # noqa: F401 - traceback imports it late, when a folder of the app is in front
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from hornbeam_erlang._ops.handlers import class_name
from hornbeam_erlang._wire.text import clip, clip_name

_OURS = str(Path(__file__).parent)
_IMPORT_SYSTEM = "<frozen importlib"
_TRACEBACK = "Traceback (most recent call last):\n"


class Failure(NamedTuple):
    """What `failed` and `ended` carry."""

    class_: str
    message: str
    traceback: str


def describe(error: BaseException) -> Failure:
    """Describe an exception that came out of the app."""
    return Failure(
        clip_name(_safely(_class, error)),
        clip(_safely(_message, error)),
        clip(
            _safely(_traceback, error)
            or _safely(_frames, error)
            or f"{_safely(_class, error)}: {_safely(_message, error)}"
        ),
    )


def declared(kind: str, message: str) -> Failure:
    """Describe what the app itself has declared failed.

    Starlette's apps, so FastAPI's, put the whole traceback into the message.
    """
    if _TRACEBACK not in message:
        return Failure(kind, clip(message), "")
    text = message.strip("\n")
    return Failure(kind, clip(text.rpartition("\n")[2].strip()), clip(text))


def _safely(part: Callable[[BaseException], str], error: BaseException) -> str:
    """Return a part of the description; empty if the exception's own code breaks it."""
    try:
        return part(error)
    except BaseException:
        return ""


def _class(error: BaseException) -> str:
    return class_name(type(error))


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:
        return f"<{type(broken).__name__} in __str__>"


def _traceback(error: BaseException) -> str:
    trace = _skip_ours(error.__traceback__)
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()


def _frames(error: BaseException) -> str:
    """Return where an exception comes from that cannot be shown itself, nor what it is made of."""
    lines = traceback.format_tb(_skip_ours(error.__traceback__))
    return f"{_TRACEBACK}{''.join(lines)}{_class(error)}: {_message(error)}"


def _skip_ours(trace: TracebackType | None) -> TracebackType | None:
    """Drop the leading frames that lie before the app: ours and the import system's."""
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, _IMPORT_SYSTEM)) or Path(filename).parts[-2:] == (
        "importlib",
        "__init__.py",
    )
