"""The file of the option log_config: how `logging` begins in this process, as uvicorn reads it.

JSON and YAML are for `logging.config.dictConfig`, anything else for `fileConfig`. Knows nothing of
the node; what is imported here is imported by who says the option only.
"""

import importlib
import json
import logging.config
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

WITHOUT_YAML = "cannot be read without a library: pip install pyyaml"


def prepare(path: str) -> Callable[[], None]:
    """Read a file; return what configures `logging` by it, for which the app can be imported.

    Both raise `ValueError` with a sentence that names the file.
    """
    configure = _told(path, lambda: _reader(path))
    return lambda: _told(path, configure)


def _reader(path: str) -> Callable[[], None]:
    match Path(path).suffix:
        case ".json":
            given = json.loads(Path(path).read_text(encoding="utf-8"))
        case ".yaml" | ".yml":
            given = _yaml(Path(path).read_text(encoding="utf-8"))
        case _:
            return lambda: logging.config.fileConfig(
                path, disable_existing_loggers=False, encoding="utf-8"
            )
    if not isinstance(given, dict):
        raise ValueError(f"it has a {type(given).__name__} where a table of logging's is expected")
    return lambda: logging.config.dictConfig(given)


def _yaml(text: str) -> Any:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError as error:
        raise ValueError(WITHOUT_YAML) from error
    return yaml.safe_load(text)


def _told(path: str, do: Callable[[], Result]) -> Result:
    try:
        return do()
    except Exception as error:
        raise ValueError(f"log_config {path}: {_reasons(error)}") from error


def _reasons(error: BaseException) -> str:
    """Say what went wrong and why: `logging` tells the reason by the cause alone."""
    said = [_reason(error)]
    while (cause := error.__cause__) is not None:
        error = cause
        if str(error) not in said[-1]:
            said.append(_reason(error))
    return ": ".join(said)


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
