"""python -m hornbeam_erlang._watch: tell the node that files of the app have changed.

    python -m hornbeam_erlang._watch [--include PATTERN]... FOLDER...

Knows the library watchfiles; must not know what becomes of the news. Standard output carries one
line for each: `watching` once changes are seen, `changed FILE, …`, and `failed SENTENCE` before an
end with status 1. The end of standard input is the end of the node, and of this process.
"""

import argparse
import importlib.util
import os
import select
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

INSTALL = "the option reload needs a Python library: pip install 'hornbeam-erlang[reload]'"

# The longest line, in characters: the names of the files are for a person.
MAX_LINE = 500

try:
    from watchfiles import Change, DefaultFilter, watch
except ImportError:
    sys.stdout.write(f"failed {INSTALL}\n")
    sys.exit(1)


class Wanted(DefaultFilter):
    """Python's files and what else is asked for, outside of caches and environments."""

    def __init__(self, patterns: Sequence[str]) -> None:
        super().__init__()
        self._patterns = ("*.py", *patterns)

    def __call__(self, change: Change, path: str) -> bool:
        wanted = any(Path(path).match(pattern) for pattern in self._patterns)
        return wanted and super().__call__(change, path)


class Leash:
    """What watchfiles asks, again and again while it watches, whether it is to stop."""

    def __init__(self) -> None:
        self._is_notified = False

    def is_set(self) -> bool:
        """Say whether the node is gone; the first question means that the watch stands."""
        if not self._is_notified:
            self._is_notified = True
            tell("watching")
        readable, _, _ = select.select([0], [], [], 0)
        return bool(readable) and os.read(0, 1024) == b""


def tell(line: str) -> None:
    """Write one line; the node may be gone."""
    text = line.replace("\n", "?")[:MAX_LINE]
    try:
        os.write(1, f"{text}\n".encode(errors="backslashreplace"))
    except BrokenPipeError:
        sys.exit(0)


def forget_bytecode(paths: Iterable[str]) -> None:
    """Delete what is cached of changed files.

    Python takes a cache for valid by the source's size and its time in whole seconds: two saves
    within a second may look the same.
    """
    for path in paths:
        if path.endswith(".py"):
            Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)


def follow(folders: Sequence[str], patterns: Sequence[str]) -> None:
    """Tell of changes until the node is gone."""
    for changes in watch(*folders, watch_filter=Wanted(patterns), stop_event=Leash()):
        paths = sorted(path for _, path in changes)
        forget_bytecode(paths)
        tell("changed " + ", ".join(paths))


def fail(sentence: str) -> NoReturn:
    tell(f"failed {sentence}")
    sys.exit(1)


def main() -> None:
    # They reach the whole group of processes; the end of the node is what counts.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    parser.add_argument("--include", action="append", default=[])
    parser.add_argument("folders", nargs="+")
    arguments = parser.parse_args()
    try:
        follow(arguments.folders, arguments.include)
    except OSError as error:
        fail(f"the files cannot be watched: {error}")


if __name__ == "__main__":
    main()
