"""What was said where, and what it comes to: one value for each option of the server. Pure.

A flag beats a variable, a variable a file, and a file the default. That holds for each row of the
table (options.py) by itself, and then among rows that are ways to say the same.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hornbeam_erlang._command import values
from hornbeam_erlang._command.options import ROWS, Row
from hornbeam_erlang._command.values import INFINITY, Kind
from hornbeam_erlang.terms import Atom


class Rank(enum.IntEnum):
    """Who is believed, the first most."""

    FLAG = 0
    VARIABLE = 1
    ACTIVATED = 2
    """The socket of systemd's socket activation, which is the address of this very process."""
    FILE = 3
    DEFAULT = 4


@dataclass(frozen=True)
class Said:
    """A value, and where it was said: `--port`, `PORT`, `pyproject.toml`."""

    row: Row
    value: Any
    rank: Rank
    origin: str


@dataclass(frozen=True)
class Setting:
    """What an option comes to."""

    value: Any
    origin: str
    kind: Kind


class Contradiction(ValueError):
    """Two ways to say one thing, of which nobody can know which is meant."""


BY_NAME: Mapping[str, Row] = {row.name: row for row in ROWS}

_PLACES = {name: place for place, name in enumerate(BY_NAME)}

DEFAULT = "default"

# What a row's own words stand for where the server has others.
_WORDS = {
    "auto": Atom("asgi"),
    "asgi3": Atom("asgi"),
    "0": Atom("none"),
    "1": Atom("optional"),
    "2": Atom("required"),
}


def settle(said: Sequence[Said], inherited: Mapping[str, str]) -> dict[str, Setting]:
    """Return the options that somebody has said something about.

    `inherited` is the environment: a file of variables gives way to it. Raises `Contradiction`.
    """
    by_target: dict[str, dict[str, Said]] = {}
    for each in sorted(said, key=lambda each: _PLACES[each.row.name]):
        by_target.setdefault(each.row.target, {})[each.row.name] = each
    settled = {
        target: setting
        for target, rows in by_target.items()
        if (setting := _SPECIAL.get(target, _one)(rows, inherited)) is not None
    }
    return _with_ping_timeout(settled, by_target.get("websocket_timeout", {}))


Rows = Mapping[str, Said]


def _setting(said: Said) -> Setting:
    return Setting(said.value, said.origin, said.row.kind)


def _one(rows: Rows, _inherited: Mapping[str, str]) -> Setting:
    return _setting(_first(list(rows.values())))


def _first(said: Sequence[Said]) -> Said:
    """Return who is believed among rows that say the same."""
    rank = min(each.rank for each in said)
    first, *others = [each for each in said if each.rank == rank]
    if others:
        raise Contradiction(f"{first.origin} and {others[0].origin} say the same thing: keep one")
    return first


def _translated(rows: Rows, _inherited: Mapping[str, str]) -> Setting:
    setting = _setting(_first(list(rows.values())))
    return replace(setting, value=_WORDS.get(setting.value, setting.value))


def _compress(rows: Rows, _inherited: Mapping[str, str]) -> Setting:
    setting = _setting(_first(list(rows.values())))
    return replace(setting, value=values.read(Kind.SWITCH, setting.value))


def _ciphers(rows: Rows, _inherited: Mapping[str, str]) -> Setting:
    """Split them at colons too, as OpenSSL does."""
    setting = _setting(rows["ciphers"])
    return replace(setting, value=[name for part in setting.value for name in part.split(":")])


WHOLE = {"bind": "", "uds": "unix:", "fd": "fd:"}
"""Ways to say all of an address, and what stands in front of their values."""


def _addresses(said: Said) -> list[str]:
    said_of = said.value if isinstance(said.value, list) else [said.value]
    return [f"{WHOLE[said.row.name]}{value}" for value in said_of]


def _bind(rows: Rows, _inherited: Mapping[str, str]) -> Setting:
    """Put host and port into the first address that somebody of no higher rank has named."""
    whole = [rows[name] for name in WHOLE if name in rows]
    base = _first(whole) if whole else None
    parts = [rows[name] for name in ("host", "port") if name in rows]
    if base is not None and base.rank is Rank.ACTIVATED:
        parts = [part for part in parts if part.rank is Rank.FLAG]
    if base is not None:
        for part in parts:
            if part.rank == base.rank:
                raise Contradiction(f"{base.origin} and {part.origin} exclude each other")
        parts = [part for part in parts if part.rank < base.rank]
        if not parts:
            return Setting(
                values.read(Kind.ADDRESSES, _addresses(base)), base.origin, Kind.ADDRESSES
            )
    said = {part.row.name: part.value for part in parts}
    host, port = _host_and_port(base)
    address = f"{_bracketed(said.get('host', host))}:{said.get('port', port)}"
    return Setting(address, " and ".join(part.origin for part in parts), Kind.ADDRESSES)


def _host_and_port(base: Said | None) -> tuple[str, str]:
    addresses = _addresses(base) if base else []
    known = [address for address in addresses if _is_host_and_port(address)]
    host, _, port = [*known, BY_NAME["bind"].default][0].rpartition(":")
    return host, port


def _is_host_and_port(address: str) -> bool:
    return not address.startswith(("unix:", "fd:"))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _pythonpath(rows: Rows, _inherited: Mapping[str, str]) -> Setting:
    said = [rows[name] for name in ("app_dir", "pythonpath") if name in rows]
    folders = [
        folder
        for each in said
        for folder in ([each.value] if each.row.name == "app_dir" else each.value)
    ]
    return Setting(folders, _origins(said), Kind.PATHS)


def _env(rows: Rows, inherited: Mapping[str, str]) -> Setting:
    said = [rows[name] for name in ("env_file", "env") if name in rows]
    variables: dict[str, str] = {}
    for each in said:
        given = each.value
        if each.row.name == "env_file":
            given = {name: text for name, text in given.items() if name not in inherited}
        variables |= given
    return Setting(variables, _origins(said), Kind.FIELDS)


def _forwarded(rows: Rows, _inherited: Mapping[str, str]) -> Setting | None:
    whether = rows.get("proxy_headers")
    if whether is not None and not whether.value:
        return Setting([], whether.origin, Kind.NAMES)
    return _any(rows, _inherited)


def _any(rows: Rows, _inherited: Mapping[str, str]) -> Setting | None:
    """Read a list that may be the word for all there is."""
    for each in rows.values():
        if each.row.kind is Kind.NAMES:
            is_any = each.value in ([Atom("any")], [Atom("*")])
            return replace(_setting(each), value=Atom("any") if is_any else each.value)
    return None


def _cluster(rows: Rows, _inherited: Mapping[str, str]) -> Setting:
    """Gather the keys of one option of the server from flags that are about it."""
    said = list(rows.values())
    if "cluster" not in rows:
        raise Contradiction(f"{said[0].origin} is about a cluster: name it, by --cluster")
    keys = {cluster_key(each.row): each.value for each in said}
    return Setting(keys, _origins(said), Kind.FIELDS)


def cluster_key(row: Row) -> str:
    """Return what the option `cluster` calls a row."""
    return "name" if row.name == "cluster" else row.name.removeprefix("cluster_")


def _origins(said: Sequence[Said]) -> str:
    return " and ".join(each.origin for each in said)


def _with_ping_timeout(settled: dict[str, Setting], rows: Rows) -> dict[str, Setting]:
    """Count a client's silence from its last sign of life, not from the ping that it left open."""
    timeout = settled.get("websocket_timeout")
    if timeout is None or "ws_ping_timeout" not in rows:
        return settled
    if timeout.origin != rows["ws_ping_timeout"].origin:
        return settled
    interval = settled.get("websocket_ping_interval")
    pause = interval.value if interval else default(BY_NAME["websocket_ping_interval"])
    total = INFINITY if INFINITY in (pause, timeout.value) else pause + timeout.value
    return settled | {"websocket_timeout": replace(timeout, value=total)}


def default(row: Row) -> Any:
    """Return a row's default as a term; None if it has none."""
    return values.read(row.kind, row.default, row.words) if row.default else None


_SPECIAL: dict[str, Callable[[Rows, Mapping[str, str]], Setting | None]] = {
    "bind": _bind,
    "pythonpath": _pythonpath,
    "env": _env,
    "forwarded_allow_ips": _forwarded,
    "allowed_hosts": _any,
    "proxy_protocol_from": _any,
    "allowed_origins": _any,
    "worker_class": _translated,
    "verify": _translated,
    "websocket_compress": _compress,
    "ciphers": _ciphers,
    "cluster": _cluster,
    "command": lambda _rows, _inherited: None,
}
