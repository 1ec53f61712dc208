"""python -m hornbeam_erlang._watch: tell the node that files of the app have changed.

    python -m hornbeam_erlang._watch [--include PATTERN]... [--exclude PATTERN]... FOLDER...

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

# After so many milliseconds of changes they are told even if more come.
LONGEST_BURST = 1600

try:
    from watchfiles import Change, DefaultFilter, watch
except ImportError:
    sys.stdout.write(f"failed {INSTALL}\n")
    sys.exit(1)


class Wanted(DefaultFilter):
    """Python's files and what else is asked for, outside of caches and environments."""

    def __init__(self, includes: Sequence[str], excludes: Sequence[str]) -> None:
        super().__init__()
        self._includes = ("*.py", *includes)
        self._excludes = excludes

    def __call__(self, change: Change, path: str) -> bool:
        return self._is_wanted(Path(path)) and super().__call__(change, path)

    def _is_wanted(self, path: Path) -> bool:
        """A folder that is excluded takes along what is in it."""
        return any(map(path.match, self._includes)) and not any(
            place.match(pattern) for pattern in self._excludes for place in (path, *path.parents)
        )


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


def follow(folders: Sequence[str], wanted: Wanted, delay: int) -> None:
    """Tell of changes until the node is gone; `delay` is how long files have to be quiet (ms)."""
    longest = max(LONGEST_BURST, delay)
    changing = watch(
        *folders, watch_filter=wanted, stop_event=Leash(), step=delay, debounce=longest
    )
    for changes in changing:
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
    parser.add_argument("--exclude", action="append", default=[])
    parser.add_argument("--delay", type=int, default=50)
    parser.add_argument("folders", nargs="+")
    arguments = parser.parse_args()
    wanted = Wanted(arguments.include, arguments.exclude)
    try:
        follow(arguments.folders, wanted, arguments.delay)
    except OSError as error:
        fail(f"the files cannot be watched: {error}")


if __name__ == "__main__":
    main()
