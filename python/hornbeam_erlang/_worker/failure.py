"""An exception as the BEAM hears of it: class, message, traceback without our own frames. Pure."""

import traceback
import unicodedata  # noqa: F401 - traceback imports it late, when a folder of the app is in front
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from hornbeam_erlang._handlers import class_name
from hornbeam_erlang._worker.logs import clip

_OURS = str(Path(__file__).parent)
_IMPORT_SYSTEM = "<frozen importlib"


class Failure(NamedTuple):
    """What `failed` and `ended` carry."""

    class_: str
    message: str
    traceback: str


def describe(error: BaseException) -> Failure:
    """Describe an exception that came out of the app."""
    return Failure(class_name(type(error)), clip(_message(error)), clip(_traceback(error)))


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # the app's own __str__
        return f"<{type(broken).__name__} in __str__>"


def _traceback(error: BaseException) -> str:
    trace = _skip_ours(error.__traceback__)
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()


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
