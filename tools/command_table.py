"""Writes the tables of the command's flags into the pages that have them, from those of options.

    .venv/bin/python tools/command_table.py

docs/guide/command.md has all of them, docs/coming-from/ has those of other servers: uvicorn's as
its own command lists them, gunicorn's as below.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from hornbeam_erlang._command.options import ELSEWHERE, ROWS, SECTIONS, Row

DOCS = Path(__file__).parents[1] / "docs"

BEGIN = "<!-- made by tools/command_table.py -->"
END = "<!-- end -->"

# All flags of the command


def tables() -> str:
    parts = [_section(title, rows) for title, rows in SECTIONS.items()]
    refused = "\n".join(f"| `{flag}` | {sentence} |" for flag, sentence in ELSEWHERE.items())
    parts.append(f"### What means nothing here\n\n| flag | instead |\n|---|---|\n{refused}\n")
    return "\n".join(parts)


def _section(title: str, rows: tuple[Row, ...]) -> str:
    lines = "\n".join(map(_line, rows))
    return f"### {title}\n\n| flag | default | meaning |\n|---|---|---|\n{lines}\n"


def _line(row: Row) -> str:
    flags = ", ".join(f"`{flag}`" for flag in (*row.short_flags, *row.long_flags))
    words = f" ({', '.join(f'`{word}`' for word in row.words)})" if row.words else ""
    others = f" Also `{'`, `'.join(row.variables)}`." if row.variables else ""
    default = f"`{row.default}`" if row.default else ""
    return f"| {flags} {row.kind.value}{words} | {default} | {row.help}{others} |"


# Those of others

TAKEN = {flag: row for row in ROWS for flag in (*row.short_flags, *row.long_flags)}

BY_ITSELF = {
    "--version": "the same",
    "--help": "the same",
    "--config": "`-c FILE`: a TOML file; gunicorn's is a program in Python",
    "--check-config": "the same: the node checks all of it, without the app",
    "--print-config": "the same, each with the place where it was said",
}
"""Flags that the command has without an option of the server."""

GUNICORN = (
    *("--bind", "--workers", "--worker-class", "--threads", "--worker-connections"),
    *("--max-requests", "--max-requests-jitter", "--timeout", "--graceful-timeout"),
    *("--keep-alive", "--limit-request-line", "--limit-request-fields"),
    *("--limit-request-field_size", "--reload", "--reload-extra-file", "--preload", "--chdir"),
    *("--daemon", "--env", "--pid", "--user", "--group", "--umask", "--forwarded-allow-ips"),
    *("--access-logfile", "--access-logformat", "--error-logfile", "--log-level", "--log-config"),
    *("--keyfile", "--certfile", "--ca-certs", "--cert-reqs", "--ciphers", "--statsd-host"),
    *("--config", "--check-config", "--print-config", "--name", "--pythonpath", "--backlog"),
    *("--reuse-port", "--proxy-protocol", "--proxy-allow-from", "--paste"),
)
"""What gunicorn's documentation of its settings lists, without what only its own workers know."""

INSTEAD = {
    "--limit-request-field_size": "`--limit-request-field-size`",
    "--reload-extra-file": "`--reload-include`, by its name",
    "--user": "start it as that user: `User=` of systemd, `USER` of a Dockerfile",
    "--group": "start it with that group: `Group=` of systemd",
    "--umask": "start it with that mask: `UMask=` of systemd",
    "--access-logfile": "standard output; `--no-access-log` for none",
    "--access-logformat": "`--access-log-format`, with the same directives",
    "--error-logfile": "standard error",
    "--statsd-host": "`--metrics`, for Prometheus ([operations](../guide/operations.md#metrics)); "
    "Erlang code may attach to [events](../guide/deployment.md#events)",
    "--name": "the command keeps its name",
    "--reuse-port": "one node listens, and gives requests to the worker with the most room",
    "--paste": "not read",
}
"""What has another name here, or another place."""


def uvicorns() -> str:
    from uvicorn import main

    flags = (parameter.opts for parameter in main.params if parameter.param_type_name == "option")
    return _theirs("uvicorn", (next(f for f in names if f.startswith("--")) for names in flags))


def gunicorns() -> str:
    return _theirs("gunicorn", iter(GUNICORN))


def _theirs(server: str, flags: Iterator[str]) -> str:
    lines = "\n".join(f"| `{flag}` | {_here(flag)} |" for flag in flags)
    return f"| {server} | here |\n|---|---|\n{lines}\n"


def _here(flag: str) -> str:
    if flag in INSTEAD:
        return INSTEAD[flag]
    if flag in BY_ITSELF:
        return BY_ITSELF[flag]
    if flag in ELSEWHERE:
        return f"refused: {ELSEWHERE[flag]}"
    row = TAKEN[flag]
    option = "" if row.target == "command" else f", the option `{row.target}`"
    return f"the same{option}. {row.help}"


PAGES: dict[Path, Callable[[], str]] = {
    DOCS / "guide" / "command.md": tables,
    DOCS / "coming-from" / "uvicorn.md": uvicorns,
    DOCS / "coming-from" / "gunicorn.md": gunicorns,
}


def page(path: Path) -> str:
    """Return a page with its tables made anew."""
    head, rest = path.read_text(encoding="utf-8").split(BEGIN)
    return f"{head}{BEGIN}\n\n{PAGES[path]()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(page(path), encoding="utf-8")
