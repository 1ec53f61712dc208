"""Which server is meant: the one that is named, that of this folder, or the only one.

Looks where processes outside of workers look (`_outside.discovery`).
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hornbeam_erlang._control.conversation import Conversation
from hornbeam_erlang._outside import discovery
from hornbeam_erlang.exceptions import HornbeamError, NotConnected

MOST_AT_ONCE = 32
"""How many servers are greeted at a time."""

HOW = "name one by --socket, with the path of its local socket or its process id"


class NoServer(HornbeamError):
    """Tell that there is no server, or that it is not clear which one is meant."""


def find(where: str | None, environment: Mapping[str, str] = os.environ) -> Conversation:
    """Begin a conversation with the server that is meant; raises `NoServer`.

    `where` is the path of its local socket or a process id, of its node or its command.
    """
    if where is not None and where.isdigit():
        return _with_pid(int(where), environment)
    if where is not None:
        return _named(Path(where), "--socket names", environment)
    variable = discovery.named(environment)
    if variable == discovery.OFF:
        raise NoServer(f"the environment variable {discovery.VARIABLE} is off; {HOW}")
    if variable is not None:
        return _named(Path(variable), f"{discovery.VARIABLE} names", environment)
    return _nearest(environment)


def _named(path: Path, who: str, environment: Mapping[str, str]) -> Conversation:
    try:
        return Conversation.begin(path, discovery.here(environment))
    except NotConnected as error:
        raise NoServer(str(error)) from error
    except (OSError, HornbeamError) as error:
        raise NoServer(f"no server answers at {path}, which {who}: {error}") from error


def _all(environment: Mapping[str, str]) -> tuple[list[Conversation], list[str]]:
    """Return the servers of this user, and why others let nobody in.

    All are greeted side by side: one that stands still holds up none behind it.
    """
    here = discovery.here(environment)
    with ThreadPoolExecutor(MOST_AT_ONCE) as threads:
        told = list(threads.map(lambda path: _begun(path, here), discovery.sockets(environment)))
    found = [server for server in told if isinstance(server, Conversation)]
    return found, [sentence for sentence in told if isinstance(sentence, str)]


def _begun(path: Path, here: list[str]) -> Conversation | str | None:
    """Return the server behind a socket, or why it lets nobody in; None where there is none."""
    try:
        return Conversation.begin(path, here)
    except (ConnectionRefusedError, FileNotFoundError):
        return None  # left of one that was killed
    except NotConnected as error:
        return str(error)
    except (OSError, HornbeamError) as error:
        return f"{path}: {error}"


def _with_pid(pid: int, environment: Mapping[str, str]) -> Conversation:
    servers, refusals = _all(environment)
    meant = [server for server in servers if pid in (server.os_pid, parent(server.os_pid))]
    _close_others(servers, meant)
    if not meant:
        raise NoServer(_none(f"no Hornbeam server of this user has the process id {pid}", refusals))
    return meant[0]


def parent(pid: int) -> int | None:
    """Return the parent of a process, which is the command of a node that it has started."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def _nearest(environment: Mapping[str, str]) -> Conversation:
    servers, refusals = _all(environment)
    if len(servers) == 1:
        return servers[0]
    if not servers:
        raise NoServer(_none(_nowhere(), refusals))
    found = discovery.nearest(discovery.here(environment), [server.folders for server in servers])
    meant = [servers[n] for n in found]
    _close_others(servers, meant if len(meant) == 1 else [])
    if len(meant) != 1:
        raise NoServer(_several(servers))
    return meant[0]


def _close_others(servers: Sequence[Conversation], meant: Sequence[Conversation]) -> None:
    for server in servers:
        if server not in meant:
            server.close()


def _several(servers: Sequence[Conversation]) -> str:
    lines = "".join(f"\n  {server}" for server in servers)
    return f"several servers of this user run, and not just one is of this folder; {HOW}:{lines}"


def _none(sentence: str, refusals: Sequence[str]) -> str:
    return "; ".join([sentence, *refusals])


def _nowhere() -> str:
    return (
        f"no Hornbeam server of this user (uid {os.geteuid()}) runs on this machine, as far as its "
        f"local socket is to be found; {HOW}"
    )
