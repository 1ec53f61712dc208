"""hornbeam top: a running server in a terminal, drawn anew every second, until a key ends it.

Needs rich (the extra `top`). Asks the server what `hornbeam status` and `hornbeam connections` ask.
"""

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hornbeam_erlang._command import pages
from hornbeam_erlang._control.conversation import Conversation

KEYS = {"s": "sent", "r": "received", "q": "queue", "a": "age"}

END = frozenset({"Q", "\x1b", "\x03", ""})

AROUND = 14
"""Lines that a screen needs besides the workers and the connections."""

Answer = Mapping[str, Any]


@dataclass
class Seen:
    """What was seen the last time, from which rates are made."""

    at: float = 0.0
    bytes: dict[int | str, tuple[int, int]] = field(default_factory=dict)
    counted: tuple[int, int] = (0, 0)


def watch(server: Conversation, every: float, timeout: float) -> None:
    """Show the server until a key ends it."""
    console = Console(highlight=False)
    by, seen = "sent", Seen()
    with keys() as stdin, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            status = server.ask("status", timeout)
            most = max(1, console.height - AROUND - len(status.get("workers", [])))
            node = status.get("node")
            listed = server.ask("connections", timeout, by=by, most=most, node=node)
            page, seen = draw(status, listed, by, seen, time.monotonic())
            live.update(page, refresh=True)
            key = pressed(stdin, every)
            if key in END:
                return
            by = KEYS.get(key or "", by)


@contextlib.contextmanager
def keys() -> Iterator[int]:
    """Let the block read keys as they are pressed."""
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    try:
        tty.setcbreak(stdin)
        yield stdin
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


def pressed(stdin: int, seconds: float) -> str | None:
    """Wait for a key; return none where there was none in time."""
    try:
        readable, _, _ = select.select([stdin], [], [], seconds)
    except KeyboardInterrupt:
        return "\x03"
    return os.read(stdin, 1).decode(errors="replace") if readable else None


def draw(status: Answer, listed: Answer, by: str, before: Seen, now: float) -> tuple[Group, Seen]:
    """Return a screen, and what the next one compares with."""
    workers = status.get("workers", [])
    counted = (
        sum(worker.get("requests") or 0 for worker in workers),
        sum(worker.get("messages") or 0 for worker in workers),
    )
    rows = listed["connections"]
    seen = Seen(
        now,
        {row["id"]: (row["bytes_in"], row["bytes_out"]) for row in rows if row["state"] != "busy"},
        counted,
    )
    seconds = now - before.at if before.at else 0.0
    rates = [_rate(new - old, seconds) for new, old in zip(counted, before.counted, strict=True)]
    head = Text(
        f"hornbeam {status['version']}, up "
        f"{pages.age(status['uptime'])}: {status.get('sockets', 0)} sockets, {listed['open']} "
        f"connections, {rates[0]} requests/s, {rates[1]} messages/s, {pages.size(status['memory'])}"
    )
    keys = Text(f"by {by}; keys: s sent, r received, q queue, a age, Q end", style="dim")
    return Group(head, _workers(workers), _connections(rows, before, seconds), keys), seen


def _rate(more: int, seconds: float) -> str:
    return f"{max(0, more) / seconds:.0f}" if seconds else "-"


def _workers(workers: list[Answer]) -> Table:
    return _table(pages.WORKER_HEADS, [pages.worker_row(worker) for worker in workers])


def _connections(rows: list[Answer], before: Seen, seconds: float) -> Table:
    return _table(
        (*pages.HEADS, "IN/s", "OUT/s"),
        [[*pages.connection_row(row), *_rates(row, before, seconds)] for row in rows],
    )


def _rates(row: Answer, before: Seen, seconds: float) -> list[str]:
    last = before.bytes.get(row["id"])
    if last is None or not seconds or row["state"] == "busy":
        return ["-", "-"]
    return [
        pages.size(max(0, now - then) / seconds)
        for now, then in zip((row["bytes_in"], row["bytes_out"]), last, strict=True)
    ]


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
