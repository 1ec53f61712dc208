"""From "module:attribute" to the callable of the app. Knows imports; must not know the wire."""

import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hornbeam_erlang._asgi.scope import App


def prepare_path(pythonpath: Sequence[str]) -> None:
    """Put the folders of the app in front of `sys.path`: the given ones, and the current one.

    The worker has imported what it needs by now, so nothing in them can stand in its way. Those
    of the variable PYTHONPATH come back from the end, where `priv/run.py` has put them.
    """
    given = os.getenv("PYTHONPATH", "").split(os.pathsep)
    late = {os.path.abspath(path) for path in given}  # noqa: PTH100 - as `site` does it
    sys.path.sort(key=lambda path: path not in late)
    sys.path[:0] = [*pythonpath, str(Path.cwd())]


def load(target: str) -> App:
    """Import an app.

    Raises what the import raises, `ImportError` for a target that is not "module:attribute",
    `AttributeError` for a missing attribute, `TypeError` for what is no ASGI 3 app.
    """
    module_name, colon, attribute = target.partition(":")
    if not (colon and module_name and attribute):
        raise ImportError(f'the app is named "module:attribute", not "{target}"')
    app = _attribute(importlib.import_module(module_name), attribute)
    _check(target, app)
    return cast(App, app)


def _attribute(module: Any, path: str) -> Any:
    found = module
    for name in path.split("."):
        if not hasattr(found, name):
            raise AttributeError(f"module {module.__name__!r} has no attribute {path!r}")
        found = getattr(found, name)
    return found


def _check(target: str, app: Any) -> None:
    if not callable(app):
        raise TypeError(f"{target} is not callable but a {type(app).__name__}")
    if _takes(app, 3):
        return
    if _takes(app, 1):
        raise TypeError(f"{target} takes one argument: ASGI 2 apps are not supported, only ASGI 3")
    if _takes(app, 2):
        raise TypeError(f"{target} takes two arguments, as WSGI apps do: it is no ASGI app")
    if _takes(app, 0):
        raise TypeError(f"{target} takes no arguments, as factories do: name the app it returns")
    raise TypeError(f"{target} cannot be called with scope, receive and send")


def _takes(app: Any, count: int) -> bool:
    try:
        inspect.signature(app).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # no signature to look at, as in native code
        return True
    return True
