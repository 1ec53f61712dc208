"""Where the local sockets of this user's servers are, and which of several is meant.

Knows files, users and folders, in the places of hornbeam_local_socket; must not know the wire.
"""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

VARIABLE = "HORNBEAM_SOCKET"

# What the variable says of a process that is to call nobody.
OFF = "off"


def named(environment: Mapping[str, str]) -> str | None:
    """Return what the environment says where the socket is."""
    return environment.get(VARIABLE) or None


def folders(environment: Mapping[str, str]) -> list[Path]:
    """Return where this user's sockets may be: a server need not have our environment."""
    user = os.geteuid()
    logins = [environment.get("XDG_RUNTIME_DIR"), f"/run/user/{user}"]
    places = [Path(login, "hornbeam") for login in logins if login]
    return list(dict.fromkeys([*places, Path(f"/tmp/hornbeam-{user}")]))


def sockets(environment: Mapping[str, str]) -> list[Path]:
    """Return the sockets that are there: anybody may make a folder in /tmp, so only ours count."""
    return [
        path
        for folder in folders(environment)
        if _is_closed(folder)
        for path in sorted(folder.glob("*.sock"))
        if _is_ours(path)
    ]


def _is_closed(folder: Path) -> bool:
    status = _status(folder)
    return (
        status is not None
        and stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & 0o077
    )


def _is_ours(path: Path) -> bool:
    status = _status(path)
    return status is not None and stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid()


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def here(environment: Mapping[str, str]) -> list[str]:
    """Return the current folder, without symbolic links and as the user came there; none if it is
    gone."""
    try:
        real = str(Path.cwd())
    except OSError:
        return []
    shown = environment.get("PWD", real)
    try:
        is_same = Path(shown).samefile(real)
    except OSError:
        is_same = False
    return list(dict.fromkeys([real, shown])) if is_same else [real]


def nearest(places: Iterable[str], candidates: Sequence[Sequence[str]]) -> list[int]:
    """Return which candidates have a folder nearest above one of those places, or there.

    Each candidate has the folders of its apps. Of none that is above, none is returned.
    """
    reals = [Path(os.path.realpath(place)) for place in places]
    depths = [
        max((_depth(folder, reals) for folder in folders), default=-1) for folders in candidates
    ]
    best = max(depths, default=-1)
    return [n for n, depth in enumerate(depths) if depth == best >= 0]


def _depth(folder: str, places: Iterable[Path]) -> int:
    real = Path(os.path.realpath(folder))
    return len(real.parts) if any(place.is_relative_to(real) for place in places) else -1
