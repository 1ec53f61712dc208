"""hornbeam status, connections, kick, …: what those who operate a server ask of it and tell it.

Each is one request to the server that is meant (`_control`), shown as lines or as JSON. Ends with
status 1 where the server refuses, 2 where what was said here is wrong, 3 where no server answers.
"""

import base64
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import click

from hornbeam_erlang._command import pages
from hornbeam_erlang._control.conversation import Conversation, NoAnswer, Refused
from hornbeam_erlang._control.servers import NoServer, find

REFUSED = 1
NO_SERVER = 3

PATIENCE = 10.0
"""How long an answer is waited for (seconds), but for those that take as long as they take."""

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

F = TypeVar("F", bound=Callable[..., Any])


class Options:
    """What all of these have in common."""

    def __init__(self, where: str | None, timeout: float | None, as_json: bool) -> None:
        self.where = where
        self.timeout = timeout
        self.as_json = as_json

    @contextlib.contextmanager
    def server(self) -> Iterator[Conversation]:
        """Give the block a conversation with the server that is meant; ends the command where that
        goes wrong."""
        try:
            with find(self.where) as conversation:
                yield conversation
        except Refused as error:
            _end(str(error), REFUSED)
        except (NoServer, NoAnswer) as error:
            _end(str(error), NO_SERVER)

    def ask(self, name: str, *, patient: bool = False, **args: Any) -> Any:
        """Return the answer of the server that is meant."""
        with self.server() as server:
            return server.ask(name, self.patience(patient), **args)

    def patience(self, patient: bool = False) -> float | None:
        if self.timeout is not None:
            return self.timeout
        return None if patient else PATIENCE

    def show(self, answer: Any, shown: str) -> None:
        """Write the answer as it was wanted."""
        click.echo(to_json(answer) if self.as_json else shown, nl=self.as_json)

    def done(self, sentence: str) -> None:
        """Say what was done."""
        self.show({"done": sentence}, f"{sentence}\n")


def _end(sentence: str, status: int) -> NoReturn:
    click.echo(f"hornbeam: {sentence}", err=True)
    sys.exit(status)


def to_json(value: Any) -> str:
    """Return JSON; bytes are text where they are some, else base64."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return value.decode()
        return {"base64": base64.b64encode(value).decode()}
    return str(value)


def width() -> int:
    """Return how wide lines may be: as the terminal, and as they like where there is none."""
    return max(pages.WIDTH, shutil.get_terminal_size((pages.ENDLESS, 24)).columns)


def common(function: F) -> F:
    """Give a subcommand what all have."""
    for option in (
        click.option(
            "-s", "--socket", "where", metavar="PATH|PID",
            help="Which server: the path of its local socket, or a process id; the default is the "
            "one that HORNBEAM_SOCKET names, the only one, or that of this folder.",
        ),
        click.option(
            "--timeout", type=click.FloatRange(0.001), metavar="SECONDS",
            help=f"How long to wait for an answer; the default is {PATIENCE:g} where it is quick.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Write JSON."),
    ):  # fmt: skip
        function = option(function)
    return function


def connection_id(_context: click.Context, _parameter: click.Parameter, said: str) -> int | str:
    """Return what a connection is called: a number, or NODE/NUMBER of another node."""
    node, slash, number = said.rpartition("/")
    if not number.isdecimal() or bool(slash) != bool(node):
        raise click.BadParameter(f"{said!r} is no number, with or without NODE/ in front")
    return f"{node}/{number}" if node else int(number)


def by_id(function: F) -> F:
    """Give a subcommand the connection that it is about."""
    return click.argument("connection", metavar="ID", callback=connection_id)(function)


def by_node(function: F) -> F:
    """Give a subcommand that asks all nodes of a cluster the way to ask one."""
    return click.option(
        "--node", metavar="NAME",
        help="Only of that node of the cluster, by its name or what stands behind its @; the "
        "default is all of them.",
    )(function)  # fmt: skip


@click.group("hornbeam", context_settings=SETTINGS)
def operate() -> None:
    """See into a running server, and tell it what to do."""


@operate.command()
@common
def status(where: str | None, timeout: float | None, as_json: bool) -> None:
    """Show what the server serves, its workers, and what it has counted."""
    options = Options(where, timeout, as_json)
    with options.server() as server:
        answer = server.ask("status", options.patience())
        options.show(answer, pages.status(answer, str(server.path), width()))


@operate.command()
@common
def cluster(where: str | None, timeout: float | None, as_json: bool) -> None:
    """Show the other nodes of the server's cluster, what waits for them, and what was lost."""
    options = Options(where, timeout, as_json)
    answer = options.ask("cluster")
    options.show(answer, pages.cluster(answer, width()))


@operate.command()
@click.option(
    "--remove", "gone", metavar="NODE",
    help="Take out a member that is gone for good; one that runs would come back.",
)  # fmt: skip
@common
def members(gone: str | None, where: str | None, timeout: float | None, as_json: bool) -> None:
    """Show the members of the cluster's consistent state, or take one out."""
    options = Options(where, timeout, as_json)
    if gone is not None:
        options.ask("remove_member", node=gone)
        options.done(f"{gone} is no member any more")
        return
    answer = options.ask("members")
    options.show(answer, pages.members(answer))


@operate.command()
@click.option(
    "--top", "by", type=click.Choice(["sent", "received", "queue", "age"]), default="age",
    show_default=True,
    help="Which come first: those that were sent most bytes, that sent most, for which most waits, "
    "or the oldest.",
)  # fmt: skip
@click.option("-n", "--most", type=click.IntRange(1, 10_000), default=20, show_default=True,
              help="How many are listed.")  # fmt: skip
@click.option(
    "--path",
    metavar="PATH",
    help="Only those with that path; with * at its end, all that begin so.",
)
@click.option("--during", "seconds", type=click.IntRange(1, 60), metavar="SECONDS",
              help="By what is added in so many seconds from now, not in all.")  # fmt: skip
@by_node
@common
def connections(
    by: str, most: int, path: str | None, seconds: int | None, node: str | None,
    where: str | None, timeout: float | None, as_json: bool,
) -> None:  # fmt: skip
    """List open WebSockets and event streams, of all nodes of a cluster.

    Each is asked for one number, and only those that are listed for more.
    """
    options = Options(where, timeout, as_json)
    with options.server() as server:
        patience = options.patience()
        limit = None if patience is None else patience + (seconds or 0)
        question = {"by": by, "most": most, "path": path, "seconds": seconds, "node": node}
        answer = server.ask("connections", limit, **question)
        options.show(answer, pages.connections(answer, by, width()))


@operate.command()
@by_id
@common
def connection(
    connection: int | str, where: str | None, timeout: float | None, as_json: bool
) -> None:
    """Show all that is known of one open connection."""
    options = Options(where, timeout, as_json)
    answer = options.ask("connection", id=connection)
    options.show(answer, pages.connection(answer))


@operate.command()
@by_id
@click.option("--code", type=int, default=1008, show_default=True, help="What to close it with.")
@click.option("--reason", default="", help="The reason that its client is told.")
@common
def kick(
    connection: int | str, code: int, reason: str,
    where: str | None, timeout: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Close one open connection."""
    options = Options(where, timeout, as_json)
    options.ask("kick", id=connection, code=code, reason=reason)
    options.done(f"connection {connection} is closed with {code}")


@operate.command()
@click.argument("worker", required=False)
@by_node
@common
def stacks(
    worker: str | None, node: str | None, where: str | None, timeout: float | None, as_json: bool
) -> None:
    """Show what the handlers and threads of a worker are doing now, or of all on all nodes.

    A worker of another node is called NODE/WORKER.
    """
    options = Options(where, timeout, as_json)
    answer = options.ask("stacks", worker=worker, node=node)
    options.show(answer, pages.stacks(answer))


@operate.command()
@click.argument("path", required=False)
@common
def reload(path: str | None, where: str | None, timeout: float | None, as_json: bool) -> None:
    """Load the code of all apps, or of the one at PATH, anew, while everything is served."""
    options = Options(where, timeout, as_json)
    options.ask("reload", patient=True, path=path)
    options.done(f"{path or 'all apps'}: the code is loaded anew")


@operate.command()
@click.argument("number", type=int, metavar="N")
@click.argument("path", required=False)
@common
def workers(
    number: int, path: str | None, where: str | None, timeout: float | None, as_json: bool
) -> None:
    """Run N workers from now on, of the only app or the one at PATH."""
    options = Options(where, timeout, as_json)
    options.ask("workers", patient=True, workers=number, path=path)
    options.done(f"{number} worker{'s' * (number != 1)}")


@operate.command()
@common
def drain(where: str | None, timeout: float | None, as_json: bool) -> None:
    """Have the server begin to stop, as SIGTERM does, and do not wait for its end."""
    options = Options(where, timeout, as_json)
    options.ask("drain")
    options.done("the server begins to stop")


@operate.command("log-level")
@click.argument(
    "level", type=click.Choice(["debug", "info", "notice", "warning", "error", "critical"])
)
@common
def log_level(level: str, where: str | None, timeout: float | None, as_json: bool) -> None:
    """Log from that level on, until the server ends."""
    options = Options(where, timeout, as_json)
    options.ask("log_level", level=level)
    options.done(f"logs from {level} on")


@operate.command()
@by_id
@click.option("-n", "--messages", type=click.IntRange(1, 1_000_000), default=1000,
              show_default=True, help="End after so many.")  # fmt: skip
@click.option("--seconds", type=click.IntRange(1, 3600), default=60, show_default=True,
              help="End after so many.")  # fmt: skip
@click.option("--bodies", type=click.IntRange(0, 65_536), is_flag=False, flag_value=200, default=0,
              metavar="[BYTES]",
              help="Show so many bytes of each message; 200 where none is said.")  # fmt: skip
@common
def trace(
    connection: int | str, messages: int, seconds: int, bodies: int,
    where: str | None, timeout: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Show the messages of one open connection as they come and go.

    Costs nothing where nobody looks, and ends by itself. The connection waits for nobody: what
    comes faster than it can be shown is counted.
    """
    options = Options(where, timeout, as_json)
    with options.server() as server, contextlib.suppress(KeyboardInterrupt):
        limit = seconds + (options.patience() or PATIENCE)
        limits = {"messages": messages, "seconds": seconds, "bodies": bodies}
        notes = server.follow("trace", limit, id=connection, **limits)
        options_show = _json_note if as_json else pages.note
        try:
            while True:
                click.echo(options_show(next(notes), bodies), nl=False)
        except StopIteration as end:
            options.show(end.value, pages.traced(end.value))


def _json_note(row: Any, _bodies: int) -> str:
    return f"{to_json(row)}\n"


@operate.command()
@click.option("--every", type=click.FloatRange(0.2, 60), default=1.0, show_default=True,
              metavar="SECONDS", help="How often to look.")  # fmt: skip
@common
def top(every: float, where: str | None, timeout: float | None, as_json: bool) -> None:
    """Show the server live: its workers, rates, and the connections that have most of something.

    Keys: s, r, q, a say what the connections are listed by (sent, received, queue, age), Q or
    Ctrl-C ends.
    """
    options = Options(where, timeout, as_json)
    if as_json:
        raise click.UsageError("top is for a terminal; status and connections write JSON")
    try:
        from hornbeam_erlang._command.top import watch
    except ImportError:
        _end(
            "top needs a library to draw with: pip install 'hornbeam-erlang[top]' (connections "
            "--top lists the same once)",
            REFUSED,
        )
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("top is for a terminal; status and connections write lines")
    with options.server() as server:
        watch(server, every, options.patience() or PATIENCE)


@operate.command()
@common
def doctor(where: str | None, timeout: float | None, as_json: bool) -> None:
    """Print one report about this installation and the running server, to paste into an issue.

    Without a server it says what it can. Secrets that were given as such are not in it.
    """
    from hornbeam_erlang._command import doctor as report

    options = Options(where, timeout, as_json)
    local = report.local(os.environ)
    try:
        with find(where) as server:
            node, missing = server.ask("doctor", options.patience()), None
    except (NoServer, NoAnswer, Refused) as error:
        node, missing = None, str(error)
    options.show(
        {"installation": local, "server": node, "no_server": missing},
        report.page(local, node, missing),
    )


NAMES = frozenset(operate.commands)
"""What is no app: an app has a colon in its name."""
