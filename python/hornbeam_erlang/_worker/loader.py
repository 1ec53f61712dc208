"""From "module:attribute" to the callable of the app. Knows imports; must not know the wire."""

import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from hornbeam_erlang._asgi.scope import App, Receive, Send


def prepare_path(pythonpath: Sequence[str]) -> None:
    """Put the folders of the app in front of `sys.path`: the given ones, and the current one.

    The worker has imported what it needs by now, so nothing in them can stand in its way. Those
    of the variable PYTHONPATH come back from the end, where `priv/run.py` has put them.
    """
    given = os.getenv("PYTHONPATH", "").split(os.pathsep)
    late = {os.path.abspath(path) for path in given}  # noqa: PTH100 - as `site` does it
    sys.path.sort(key=lambda path: path not in late)
    sys.path[:0] = [*pythonpath, str(Path.cwd())]


def load(target: str, interface: str = "asgi") -> Any:
    """Import an app, or what returns it when it is called: "module:attribute()".

    Of an ASGI app comes what speaks ASGI 3, and of a WSGI app what it is. Raises what the import
    raises, `ImportError` for a target that is not "module:attribute", `AttributeError` for a
    missing attribute, `TypeError` for what does not speak the interface.
    """
    name = target.removesuffix("()")
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise ImportError(f'the app is named "module:attribute", not "{target}"')
    app = _attribute(_module(module_name), attribute)
    if name != target:
        app = _made(name, app)
    if not callable(app):
        raise TypeError(f"{target} is not callable: its type is {type(app).__name__}")
    return _SPEAKING[interface](target, app)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:  # the app's own mistake, which its traceback shows
            raise
        meant = did_you_mean(error.name, [module.name for module in pkgutil.iter_modules(_own())])
        raise ModuleNotFoundError(f"{error}{meant}", name=error.name) from None


def _own() -> list[str]:
    """Return the folders of `sys.path` that are neither Python's nor where pip installs."""
    python = str(Path(os.__file__).parent)
    return [
        folder
        for folder in sys.path
        if folder != python
        and not folder.startswith(f"{python}{os.sep}")
        and Path(folder).name not in ("site-packages", "dist-packages")
    ]


def _made(target: str, factory: Any) -> Any:
    if not callable(factory):
        raise TypeError(f"{target} is no factory but a {type(factory).__name__}")
    return factory()


def _attribute(module: Any, path: str) -> Any:
    found = module
    for name in path.split("."):
        if not hasattr(found, name):
            meant = did_you_mean(name, [known for known in dir(found) if known[0] != "_"])
            raise AttributeError(f"module {module.__name__!r} has no attribute {path!r}{meant}")
        found = getattr(found, name)
    return found


def did_you_mean(given: str, known: Sequence[str]) -> str:
    """Return the end of a sentence that names what was meant; empty if nothing is like it."""
    near = get_close_matches(given, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


# Interfaces


def _asgi(target: str, app: Any) -> App:
    if _takes(app, 3):
        return cast(App, app)
    if _takes(app, 1) and not inspect.iscoroutinefunction(app):
        return _single(app)
    if _takes(app, 2):
        raise TypeError(
            f"{target} takes two arguments, as WSGI apps do: say --interface wsgi (the option "
            "worker_class)"
        )
    raise _no_app(target, app, "scope, receive and send")


def _asgi2(target: str, app: Any) -> App:
    if not _takes(app, 1):
        raise _no_app(target, app, "a scope alone, as apps of ASGI 2 are")
    return _single(app)


def _wsgi(target: str, app: Any) -> Any:
    if _takes(app, 2):
        return app
    if _takes(app, 3):
        raise TypeError(f"{target} takes three arguments, as ASGI apps do: it is no WSGI app")
    raise _no_app(target, app, "an environ and start_response, as WSGI apps are")


_SPEAKING: dict[str, Callable[[str, Any], Any]] = {"asgi": _asgi, "asgi2": _asgi2, "wsgi": _wsgi}


def _single(app: Any) -> App:
    """Make an app of ASGI 2, which is called with the scope and then with the rest, one of 3."""

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await app(scope)(receive, send)

    return application


def _no_app(target: str, app: Any, arguments: str) -> TypeError:
    if _takes(app, 0):
        return TypeError(
            f"{target} takes no arguments, as factories do: say --factory (the option factory)"
        )
    return TypeError(f"{target} cannot be called with {arguments}")


def _takes(app: Any, count: int) -> bool:
    try:
        inspect.signature(app).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # no signature to look at, as in native code
        return True
    return True
