"""hornbeam APP [flags]: reads what is said to it, and becomes the parent of a node that serves.

In place of an app stands a word of `operate`, which is for a server that runs.

Made from the table of options.py; click reads flags and variables, and its map of defaults is the
project's file. What is wrong ends it with a sentence: with status 2 where it is something said
here, with 3 where the server does not start.
"""

import contextlib
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

import hornbeam_erlang
from hornbeam_erlang._command import files, mounts, operate, parent, values
from hornbeam_erlang._command.notifier import OURS, Notifier
from hornbeam_erlang._command.options import ELSEWHERE, ROWS, SECRET, SECTIONS, Row, variable
from hornbeam_erlang._command.order import Order, inherited_file
from hornbeam_erlang._command.refused import INSTEAD
from hornbeam_erlang._command.report import report
from hornbeam_erlang._command.runtime import RuntimeNotFound, find_runtime
from hornbeam_erlang._command.settings import (
    BY_NAME,
    DEFAULT,
    Contradiction,
    Rank,
    Said,
    Setting,
    settle,
)
from hornbeam_erlang._command.values import Kind

DID_NOT_START = 3

STDERR = 2
"""Not sys.stderr, which is None where the process was started without one."""

LISTS = frozenset({Kind.NAMES, Kind.PATHS, Kind.FIELDS, Kind.LINES, Kind.ADDRESSES, Kind.MOUNTS})

RANKS = {
    ParameterSource.COMMANDLINE: Rank.FLAG,
    ParameterSource.ENVIRONMENT: Rank.VARIABLE,
    ParameterSource.DEFAULT_MAP: Rank.FILE,
}


@dataclass
class Heard:
    """What this run has been told so far."""

    arguments: Sequence[str] = ()
    file: files.File = field(default_factory=files.File)
    said: list[Said] = field(default_factory=list)


class Command(click.Command):
    """One that remembers its words, and shows its flags by sections."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ensure_object(Heard).arguments = tuple(args)
        return super().parse_args(ctx, with_values(args))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {
            param.name: param.get_help_record(ctx) for param in self.get_params(ctx) if param.name
        }
        for title, rows in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([record for row in rows if (record := records.pop(row.name))])
        with formatter.section("This command"):
            formatter.write_dl([record for record in records.values() if record])
        with formatter.section("Instead of an app, to see into a running server and tell it"):
            formatter.write_dl(
                [(name, command.get_short_help_str(90))
                 for name, command in operate.operate.commands.items()]
            )  # fmt: skip


ALONE = frozenset(
    flag for row in ROWS if row.kind is Kind.ADDRESS for flag in (*row.long_flags, *row.short_flags)
)
"""Flags that may stand without a value."""

_TRUTHS = ("true", "false")

_NO_VALUE = re.compile(r"|-.*|[^\W\d][\w.]*(:[^\W\d][\w.]*)?|.*\.py(:.*)?|.*/.*")
"""Nothing, another flag, or what may be meant as the app."""


def with_values(words: list[str]) -> list[str]:
    """Return the words with a value behind each flag that stands alone.

    What follows such a flag is its value unless it may be the app.
    """
    given: list[str] = []
    for word, follows in zip(words, [*words, ""][1:], strict=True):
        is_alone = word in ALONE and _NO_VALUE.fullmatch(follows) and follows not in _TRUTHS
        given += [f"{word}=true"] if is_alone else [word]
    return given


# Where a value comes from


def origin(ctx: click.Context, param: click.Parameter) -> str:
    """Return what a user would call the place where a value was said."""
    heard = ctx.ensure_object(Heard)
    match ctx.get_parameter_source(param.name or ""):
        case ParameterSource.COMMANDLINE:
            flags = [*param.opts, *param.secondary_opts]
            return next((flag for flag in flags if _is_used(flag, heard.arguments)), flags[0])
        case ParameterSource.ENVIRONMENT:
            names = param.envvar if isinstance(param.envvar, Sequence) else ()
            return str(next((name for name in names if os.environ.get(name)), "environment"))
    return heard.file.name


def _is_used(flag: str, arguments: Sequence[str]) -> bool:
    return any(word == flag or word.startswith(f"{flag}=") for word in arguments)


# Options of click


def option(row: Row) -> click.Option:
    """Make a row a flag."""
    is_list = row.kind in LISTS
    long = "/".join([row.long_flags[0], f"--no-{row.long_flags[0][2:]}"])
    is_switch = row.kind is Kind.SWITCH
    flags = [long, *row.long_flags[1:]] if is_switch else list(row.long_flags)
    return click.Option(
        [row.name, *row.short_flags, *flags],
        help=f"{row.help}{_help_default(row)}",
        envvar=list(row.all_variables),
        multiple=is_list,
        is_flag=is_switch,
        default=None,
        type=VerbatimFlag() if is_switch else Verbatim(),
        metavar=None if is_switch else _metavar(row),
        callback=_hear(row),
        expose_value=False,
    )


class Verbatim(click.types.UnprocessedParamType):
    """Whatever was said, whole; the table's kinds read it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return [rv]


class VerbatimFlag(click.types.BoolParamType):
    """The same for what is true when only its flag is said."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value


def _metavar(row: Row) -> str:
    if row.kind is Kind.WORD:
        return f"[{'|'.join(row.words)}]"
    return str(row.kind.value)


def _help_default(row: Row) -> str:
    return f"  [default: {row.default}]" if row.default else ""


def _hear(row: Row) -> Callable[[click.Context, click.Parameter, Any], None]:
    def hear(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        rank = RANKS.get(ctx.get_parameter_source(row.name) or ParameterSource.DEFAULT)
        if rank is None or value is None:
            return
        place = origin(ctx, param)
        if rank is Rank.FLAG and row.name in UNSEEN:
            raise click.UsageError(f"{place}: {UNSEEN[row.name]}", ctx)
        given = _flat(row, value)
        try:
            if row.kind is Kind.MOUNTS:
                term = mounts.read(given, place, os.environ, _read)
            else:
                term = _read(row, given)
        except ValueError as error:
            place_of = f"{place}: {row.name}" if rank is Rank.FILE else place
            raise click.UsageError(f"{place_of}: {_shown(row, given)}{error}", ctx) from error
        ctx.ensure_object(Heard).said.append(Said(row, term, rank, place))

    return hear


UNSEEN = {
    "cluster_cookie": "who looks at this machine's processes would see it; say it by "
    "HORNBEAM_CLUSTER_COOKIE, or in a file that --cluster-cookie-file names"
}
"""What is said by a variable or a file only."""


def _flat(row: Row, value: Any) -> Any:
    """Return a list's items as they were said; a file's table is one of them."""
    if row.kind not in LISTS:
        return value
    items = list(value)
    return items[0] if len(items) == 1 else items


def _shown(row: Row, given: Any) -> str:
    """Return the begin of a sentence about a value; one about mounts has its own."""
    if row.kind is Kind.MOUNTS:
        return ""
    return "the value " if row.name in SECRET else f"{given} "


def _read(row: Row, given: Any) -> Any:
    if row.name == "env_file":
        return _file_of_variables(given)
    if isinstance(given, str) and (instead := INSTEAD.get((row.target, given))):
        raise ValueError(instead)
    return values.read(row.kind, given, row.words)


def _file_of_variables(path: str) -> Mapping[str, str]:
    try:
        from dotenv import dotenv_values
    except ImportError as error:
        raise ValueError("cannot be read without a library: pip install python-dotenv") from error
    if not Path(path).is_file():
        raise ValueError("is not a file")
    return {name: text for name, text in dotenv_values(path).items() if text is not None}


def refusal(flag: str, sentence: str) -> click.Option:
    """Make a flag of others that mean nothing here one that says so."""

    def refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if ctx.get_parameter_source(param.name or "") in RANKS:
            raise click.UsageError(f"{origin(ctx, param)} has no meaning here: {sentence}", ctx)

    return click.Option(
        [flag, f"--no-{flag[2:]}"] if flag in WITHOUT_VALUE else [flag],
        hidden=True,
        envvar=[variable(flag)],
        is_flag=flag in WITHOUT_VALUE,
        default=None,
        callback=refuse,
        expose_value=False,
    )


WITHOUT_VALUE = frozenset({"--http2", "--reset-contextvars", "--preload", "--daemon"})


# The rest of the command line


def read_file(ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
    """Make the project's file what holds where flags and variables say nothing."""
    heard = ctx.ensure_object(Heard)
    if path is not None and path.endswith(".py"):
        raise click.UsageError(
            f"--config: {path} is code, as gunicorn's is; here it is a TOML file: keys are the "
            "names of the flags, such as `workers = 4`",
            ctx,
        )
    try:
        heard.file = files.read(Path(path)) if path else files.find()
    except ValueError as error:
        raise click.UsageError(str(error), ctx) from error
    ctx.default_map = {name: _as_given(name, value) for name, value in heard.file.said.items()}


def _as_given(name: str, value: Any) -> Any:
    """Let click see a list where it looks for the values of a flag that is given several times."""
    row = BY_NAME.get(name)
    if row is None or row.kind not in LISTS or isinstance(value, list):
        return value
    return [value]


def show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        python = f"{platform.python_implementation()} {platform.python_version()}"
        click.echo(f"hornbeam {hornbeam_erlang.__version__} with {python} on {platform.system()}")
        ctx.exit()


def own_parameters() -> list[click.Parameter]:
    return [
        click.Argument(["app"], required=False, envvar=["HORNBEAM_APP"]),
        click.Option(
            ["-c", "--config"], is_eager=True, expose_value=False, callback=read_file,
            metavar="PATH", envvar=["HORNBEAM_CONFIG"],
            help="A TOML file with what is not said here; the default is hornbeam.toml, or "
            "[tool.hornbeam] of pyproject.toml.",
        ),
        click.Option(
            ["--check-config"], is_flag=True, help="Check all that was said, and serve nothing."
        ),
        click.Option(
            ["--print-config"], is_flag=True,
            help="Show each option with its value and where that comes from, and serve nothing.",
        ),
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show_version,
            help="Show the version and exit.",
        ),
    ]  # fmt: skip


def serve(app: str | None, check_config: bool, print_config: bool) -> None:
    ctx = click.get_current_context()
    heard = ctx.ensure_object(Heard)
    warn_of_typos(os.environ)
    try:
        settled = settle(heard.said + activated(os.environ), os.environ)
    except Contradiction as error:
        raise click.UsageError(str(error), ctx) from error
    terminal = {said.row.name: said.value for said in heard.said if said.row.target == "command"}
    if print_config:
        click.echo(report(app, app_origin(ctx), settled), nl=False)
        return
    order = Order(
        None if app is None and "mounts" in settled else named(app, ctx),
        with_defaults(settled),
        heard.file.name,
        values.LEVELS[str(terminal.get("log_level", "info"))],
        terminal.get("use_colors", has_colors()),
        check_config,
    )
    sys.exit(run(order))


FIRST_ACTIVATED = 3
"""The first socket of systemd's socket activation (sd_listen_fds(3))."""


def activated(environment: Mapping[str, str]) -> list[Said]:
    """Return what systemd says by the sockets that it has opened for this process."""
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit() or count == "0":
        return []
    numbers = list(range(FIRST_ACTIVATED, FIRST_ACTIVATED + int(count)))
    return [Said(BY_NAME["fd"], numbers, Rank.ACTIVATED, "LISTEN_FDS")]


def app_origin(ctx: click.Context) -> str:
    (parameter,) = (param for param in ctx.command.params if param.name == "app")
    if ctx.get_parameter_source("app") is ParameterSource.COMMANDLINE:
        return "argument"
    return origin(ctx, parameter)


def named(app: str | None, ctx: click.Context) -> str:
    """Return the name of the app, if it is one."""
    if app is None:
        raise click.UsageError("which app? Name it as MODULE:ATTRIBUTE, such as main:app", ctx)
    try:
        return values.app(app)
    except ValueError as error:
        raise click.UsageError(f'"{app}" {error}', ctx) from error


PREFIX = "HORNBEAM_"

OTHER_VARIABLES = frozenset(
    {"APP", "CONFIG", *(variable(flag).removeprefix(PREFIX) for flag in ELSEWHERE)}
)


OWN = {"workers": 1, "access_log": True}


def with_defaults(settled: Mapping[str, Setting]) -> dict[str, Setting]:
    """Add what this command has other defaults for than the server has."""
    own = {name: Setting(value, DEFAULT, BY_NAME[name].kind) for name, value in OWN.items()}
    if not settled.keys() & {"python", "venv"}:
        own["python"] = Setting(sys.executable, DEFAULT, Kind.PATH)
    return own | dict(settled)


def has_colors() -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or os.isatty(STDERR)


def warn_of_typos(environment: Mapping[str, str]) -> None:
    """Say so when a variable looks like one of ours; others may begin like that too."""
    known = [name.removeprefix(PREFIX) for row in ROWS for name in row.all_variables]
    for name in sorted(environment):
        rest = name.removeprefix(PREFIX)
        if rest == name or rest in [*known, *OTHER_VARIABLES]:
            continue
        if meant := values.did_you_mean(rest, known):
            meant = meant.replace("did you mean ", f"did you mean {PREFIX}")
            click.echo(f"hornbeam: the variable {name} is unknown{meant}", err=True)


CLUSTER_FLAGS = (
    *("-proto_dist", "hornbeam_cluster", "-epmd_module", "hornbeam_cluster_epmd"),
    *("-connect_all", "false", "-nocookie"),
)
"""What a node is started with that gets its name later (hornbeam_distribution has them too)."""


def run(order: Order) -> int:
    """Serve until the end; return the exit status."""
    try:
        runtime = find_runtime()
    except RuntimeNotFound as error:
        click.echo(f"hornbeam does not start: {error}", err=True)
        return DID_NOT_START
    for name in order.settings.keys() & {"bind", "redirect_http"}:
        inherit_sockets(order.settings[name].value)
    fd = inherited_file(order.packed())
    notifier = Notifier(os.environ)
    named = CLUSTER_FLAGS if "cluster" in order.settings else ()
    words = [*named, "-hornbeam_order", str(fd), *notifier.words(), "-s", "hornbeam_command"]
    unwanted = OURS | {variable(f"--{name.replace('_', '-')}") for name in UNSEEN}
    environment = {name: text for name, text in os.environ.items() if name not in unwanted}
    return parent.run(runtime.command("+fnu", *words), runtime.environment(environment), notifier)


def inherit_sockets(addresses: str | list[str]) -> None:
    """Let the node have those that this process was started with, as far as they are addresses."""
    for address in [addresses] if isinstance(addresses, str) else addresses:
        if address.startswith("fd:") and address[3:].isdigit():
            with contextlib.suppress(OSError):  # the node says what is wrong with it
                os.set_inheritable(int(address[3:]), True)


def make_command() -> click.Command:
    parameters = own_parameters()
    parameters += [option(row) for row in ROWS]
    parameters += [refusal(flag, sentence) for flag, sentence in ELSEWHERE.items()]
    return Command(
        "hornbeam",
        params=parameters,
        callback=serve,
        help="Serve a Python app, named as MODULE:ATTRIBUTE, such as main:app.\n\n"
        "An Erlang node, which this command starts and stays the parent of, holds the sockets; "
        "Python processes run the app.\n\n"
        "Each flag is also a variable, HORNBEAM_ and its name in capitals, and a key of "
        "hornbeam.toml or of [tool.hornbeam] in pyproject.toml.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def main() -> NoReturn:
    """Run the command with the words of this process."""
    parent.open_streams()
    if sys.argv[1:2] and sys.argv[1] in operate.NAMES:
        operate.operate.main(prog_name="hornbeam")
    make_command().main(prog_name="hornbeam")
    sys.exit(0)
