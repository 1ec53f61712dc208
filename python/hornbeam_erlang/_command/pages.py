"""What a server's answers look like in a terminal: lines of its width, without colours. Pure.

Paths and reasons are others' words, so what would move a cursor is written out.
"""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

WIDTH = 80
ENDLESS = 100_000

Row = Mapping[str, Any]


def text(value: Any) -> str:
    """Return a value in one line that does nothing to a terminal."""
    if value is None:
        return "-"
    said = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in said)


def lines_of(value: Any) -> str:
    """Return a text with its lines, and nothing else that does something to a terminal."""
    said = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return "\n".join(text(line) for line in said.replace("\t", "    ").split("\n"))


def size(number: Any) -> str:
    """Return bytes in the unit that needs few digits."""
    if not isinstance(number, int | float):
        return "-"
    value = float(number)
    for unit in ("B", "K", "M", "G"):
        if abs(value) < 1000 or unit == "G":
            return f"{value:.0f}{unit}" if unit == "B" or value >= 100 else f"{value:.1f}{unit}"
        value /= 1024
    raise AssertionError


def age(seconds: Any) -> str:
    """Return seconds as a person says them."""
    if not isinstance(seconds, int | float):
        return "-"
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], width: int, wide: int) -> str:
    """Return a table; the column numbered `wide` gives way where there is no room."""
    cells = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(heads))]
    room = width - (sum(widths) - widths[wide]) - 2 * (len(heads) - 1)
    widths[wide] = max(len(heads[wide]), min(widths[wide], room))
    return "".join(
        "  ".join(_cut(cell, widths[n]).ljust(widths[n]) for n, cell in enumerate(row)).rstrip()
        + "\n"
        for row in cells
    )


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: max(0, width - 1)] + "…"


def peer(value: Any) -> str:
    """Return who is at the other end."""
    match value:
        case [host, None]:
            return text(host)
        case [host, port]:
            return f"[{text(host)}]:{port}" if ":" in str(host) else f"{text(host)}:{port}"
    return text(value)


KINDS = {"websocket": "ws", "event_stream": "sse"}

HEADS = ("ID", "KIND", "PEER", "PATH", "WORKER", "AGE", "IN", "OUT", "QUEUE")


def connection_row(row: Row) -> list[str]:
    """Return the cells of one connection; one that was too busy to answer tells its mailbox."""
    if row["state"] == "busy":
        return [text(row["id"]), "busy", "-", "-", "-", "-", "-", "-", f"{row['mailbox']} msgs"]
    return [
        text(row["id"]),
        KINDS.get(row["kind"], text(row["kind"])),
        peer(row["peer"]),
        text(row["path"]),
        text(row["worker"]),
        age(row["seconds"]),
        size(row["bytes_in"]),
        size(row["bytes_out"]),
        queue(row),
    ]


def queue(row: Row) -> str:
    """Return what waits for the client (bytes), or else for the app and the connection."""
    if row["unsent"]:
        return f"{size(row['unsent'])} unsent"
    return f"{row['untaken'] + row['mailbox']} msgs" if row["queue"] else "0"


def connections(answer: Row, by: str, width: int = WIDTH) -> str:
    """Return the list of connections."""
    rows = answer["connections"]
    head = f"{answer['open']} open, {len(rows)} shown, most {by} first\n"
    if answer["busy"]:
        head += f"{answer['busy']} too busy to answer\n"
    for node in answer.get("silent", []):
        head += f"{text(node)} does not answer\n"
    return head + (table(HEADS, map(connection_row, rows), width, 3) if rows else "")


def connection(row: Row) -> str:
    """Return what is known of one connection, a line each."""
    shown = dict(row) | {"peer": peer(row.get("peer"))}
    shown["subscriptions"] = ", ".join(map(text, row.get("subscriptions") or [])) or "-"
    for name in ("bytes_in", "bytes_out", "unsent"):
        shown[name] = f"{row.get(name)} ({size(row.get(name))})"
    return "".join(f"{name:<14} {text(value)}\n" for name, value in sorted(shown.items()))


def status(answer: Row, where: str, width: int = WIDTH) -> str:
    """Return what a server says of itself."""
    apps = ", ".join(f"{text(app)} at {text(path)}" for path, app in answer.get("apps", {}).items())
    facts = [
        ("hornbeam", f"{text(answer['version'])}, Erlang/OTP {text(answer['otp'])}"),
        ("socket", where),
        ("address", ", ".join(map(text, answer.get("addresses", []))) or "-"),
        ("apps", apps or "-"),
        ("up", f"{age(answer['uptime'])}, {text(answer.get('health', {}).get('status', '-'))}"),
        ("node", f"{size(answer['memory'])}, {answer['processes']} processes"),
        ("open", f"{answer.get('sockets', 0)} sockets, {answer.get('streams', 0)} streams, "
                 f"{answer.get('waiting', 0)} waiting"),
    ]  # fmt: skip
    lines = "".join(f"{name:<10}{value}\n" for name, value in facts)
    workers = table(WORKER_HEADS, map(worker_row, answer.get("workers", [])), width, 0)
    counted = {k: v for k, v in answer.get("counters", {}).items() if v}
    told = "".join(f"  {text(name)}: {value}\n" for name, value in sorted(counted.items()))
    return f"{lines}\n{workers}" + (f"\ncounted\n{told}" if told else "")


WORKER_HEADS = ("WORKER", "PID", "STATE", "STREAMS", "RSS", "LATENCY", "RESTARTS", "MOUNT")


def worker_row(row: Row) -> list[str]:
    latency = row.get("latency")
    return [
        text(row["name"]),
        text(row["os_pid"]),
        "slow" if row.get("slow") else text(row["state"]),
        text(row.get("streams")),
        size(row.get("rss")),
        f"{latency}ms" if isinstance(latency, int) else text(latency),
        text(row.get("restarts")),
        text(row.get("pool")),
    ]


def cluster(answer: Row, width: int = WIDTH) -> str:
    """Return what a server knows of its cluster."""
    facts = [
        ("cluster", text(answer["name"])),
        ("node", f"{text(answer['node'])}, incarnation {answer['incarnation']}"),
        ("healed", str(answer["healed"])),
    ]
    lines = "".join(f"{name:<10}{value}\n" for name, value in facts)
    rows = [peer_row(row) for row in answer["peers"]]
    peers = table(PEER_HEADS, rows, width, 0) if rows else "no other nodes\n"
    why = "".join(
        f"{text(row['node'])}: {text(row['why'])}\n" for row in answer["peers"] if row["why"]
    )
    lost = "".join(
        f"  {text(room)}, {text(reason)}: {messages}\n"
        for room, reasons in sorted(answer["losses"].items())
        for reason, messages in sorted(reasons.items())
    )
    return f"{lines}\n{peers}" + (f"\n{why}" if why else "") + (f"\nlost\n{lost}" if lost else "")


def members(answer: Row) -> str:
    """Return who is a member of the consistent state, and how much that holds."""

    def line(name: Any) -> str:
        words = [
            "leads" if name == answer["leader"] else "",
            "" if name in answer["reachable"] else "out of reach",
        ]
        return " ".join([text(name), *filter(None, words)])

    held = f"{answer['rows']} values, {answer['bytes']} bytes" if "rows" in answer else "unknown"
    return "".join(f"{line(name)}\n" for name in answer["members"]) + f"holds {held}\n"


PEER_HEADS = ("NODE", "STATE", "SINCE", "VERSION", "WAITING", "UNACKED", "DROPPED")


def peer_row(row: Row) -> list[str]:
    """Return the cells of another node."""
    return [
        text(row["node"]),
        text(row["state"]),
        age(row["seconds"]),
        text(row["version"]),
        size(row["waiting"]["bytes"]),
        size(row["unacknowledged"]["bytes"]),
        str(row["dropped"]),
    ]


def stacks(answer: Sequence[Row]) -> str:
    """Return what the workers are doing."""
    return "\n".join(map(_stacks, answer))


def _stacks(row: Row) -> str:
    named = [text(row[key]) for key in ("node", "worker") if row.get(key)]
    parts = [f"{'/'.join(named)}\n"]
    if "error" in row:
        return f"{parts[0]}  does not answer: {text(row['error'])}\n"
    for stream in row["streams"]:
        parts.append(
            f"  stream {stream['number']}, {text(stream['type'])} {text(stream['path'])}\n"
        )
        parts.append(_indented(stream["stack"]))
    for thread in row["threads"]:
        parts += [f"  thread {text(thread['name'])}\n", _indented(thread["stack"])]
    return "".join(parts)


def _indented(stack: str) -> str:
    return "".join(f"    {line}\n" for line in lines_of(stack).rstrip("\n").split("\n"))


def note(row: Row, bodies: int) -> str:
    """Return the line of one traced message."""
    at = datetime.datetime.fromtimestamp(row["at"] / 1_000_000)
    arrow = "<-" if row["direction"] == "in" else "->"
    lost = f"… {row['dropped']} not shown: they came too fast\n" if row["dropped"] else ""
    line = f"{at:%H:%M:%S.%f} {arrow} {row['type']:<7} {row['size']:>8}"
    if bodies and row["type"] == "close":
        line += f" {int.from_bytes(row['body'][:2], 'big')} {text(row['body'][2:])}"
    elif bodies:
        line += f" {_body(row)}"
    return f"{lost}{line}\n"


def _body(row: Row) -> str:
    cut = "…" if len(row["body"]) < row["size"] else ""
    if row["type"] == "binary":
        return f"{row['body'].hex(' ')}{cut}"
    return f"{text(row['body'])}{cut}"


def traced(answer: Row) -> str:
    """Return why a trace is over."""
    ended = {
        "limit": "as many messages as were wanted",
        "seconds": "the time is over",
        "replaced": "somebody else looks at this connection now",
        "closed": "the connection is closed",
    }
    why = answer["ended"]
    told = f"closed: {text(why[1])}" if isinstance(why, list) else ended.get(why, text(why))
    lost = f"; {answer['dropped']} messages were not shown" if answer["dropped"] else ""
    return f"{told}{lost}\n"
