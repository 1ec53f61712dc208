"""The table of options beside those of the server, of its guide, of uvicorn and of gunicorn."""

import re
from pathlib import Path

import pytest
from command import GUIDE, asked, refused
from hornbeam_erlang._command import values
from hornbeam_erlang._command.options import ELSEWHERE, ROWS
from hornbeam_erlang._command.values import Kind
from uvicorn import main as uvicorn_command

ROW = re.compile(r"^\| `([a-z0-9_]+)` \| ([^|]+) \|([^|]*)\|", re.MULTILINE)

DOCUMENTED = {name: (default.strip(), unit.strip()) for name, default, unit in ROW.findall(GUIDE)}

OPTIONS = {row.name: row for row in ROWS if row.means is None}

UNITS = {"ms": Kind.DURATION, "bytes": Kind.SIZE, "folders": Kind.PATHS, "names": Kind.NAMES}


def test_every_option_of_the_guide_has_a_flag_and_no_other():
    assert sorted(OPTIONS) == sorted(DOCUMENTED)


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_default_is_the_servers(name):
    default, _ = DOCUMENTED[name]
    if name in OTHERWISE:
        assert (default, OPTIONS[name].default) == OTHERWISE[name]
    else:
        assert erlang(name) == default


# One process has all that an app keeps in variables, as its author is used to, and a terminal shows
# what is asked of it.
OTHERWISE = {"workers": ("processors", "1"), "access_log": ("`false`", "true")}


def erlang(name: str) -> str:
    """Write a row's default as the guide does."""
    row = OPTIONS[name]
    if not row.default:
        empty = {Kind.NAMES: "[]", Kind.PATHS: "[]", Kind.LINES: "[]", Kind.FIELDS: "#{}"}
        return f"`{empty.get(row.kind, NO_VALUE.get(name, 'undefined'))}`"
    term = values.read(row.kind, row.default, row.words)
    if row.kind is Kind.NAMES and all(word in row.words for word in term):
        quoted = [f"'{word}'" if "." in word else word for word in term]
        return f"`{quoted[0]}`" if len(quoted) == 1 else f"`[{','.join(quoted)}]`"
    if row.kind is Kind.NAMES:
        return "`[{}]`".format(",".join(f'"{item}"' for item in term))
    if row.kind in (Kind.TEXT, Kind.PATH, Kind.ADDRESSES) and term not in row.words:
        return f'`"{term}"`'
    return f"`{str(term).lower() if isinstance(term, bool) else term}`"


NO_VALUE = {"root_path": '""'}


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_kind_is_that_of_the_unit(name):
    _, unit = DOCUMENTED[name]
    assert OPTIONS[name].kind is UNITS.get(unit, OPTIONS[name].kind)
    if OPTIONS[name].kind in (Kind.DURATION, Kind.SIZE):
        assert UNITS.get(unit) is OPTIONS[name].kind


def test_no_two_rows_have_a_name_in_common():
    for names in (
        [flag for row in ROWS for flag in (*row.long_flags, *row.short_flags)],
        [variable for row in ROWS for variable in row.all_variables],
        [key for row in ROWS for key in row.keys],
    ):
        assert len(names) == len(set(names))
    assert not ELSEWHERE.keys() & {flag for row in ROWS for flag in row.long_flags}


# What uvicorn's flags become

PEM = str(Path(__file__).parents[1] / "wire" / "vectors.txt")  # any file

UVICORN = {
    "--host": (["0.0.0.0"], {"bind": "0.0.0.0:8000"}),
    "--port": (["80"], {"bind": "127.0.0.1:80"}),
    "--uds": (["/run/app"], {"bind": "unix:/run/app"}),
    "--reload": ([], {"reload": True}),
    "--reload-dir": (["a"], {"reload_dirs": ["a"]}),
    "--reload-include": (["*.html"], {"reload_includes": ["*.html"]}),
    "--reload-exclude": (["x"], {"reload_excludes": ["x"]}),
    "--reload-delay": (["0.25"], {"reload_delay": "250ms"}),
    "--workers": (["3"], {"workers": 3}),
    "--loop": (["uvloop"], {"loop": "uvloop"}),
    "--ws-max-size": (["1024"], {"websocket_max_frame_size": "1K"}),
    "--ws-ping-interval": (["5.0"], {"websocket_ping_interval": "5s"}),
    "--ws-ping-timeout": (["7.5"], {"websocket_timeout": "27500ms"}),
    "--ws-per-message-deflate": (["true"], {"websocket_compress": True}),
    "--lifespan": (["on"], {"lifespan": "on"}),
    "--access-log": ([], {"access_log": True}),
    "--interface": (["asgi3"], {"worker_class": "asgi"}),
    "--log-level": (["debug"], {}),
    "--log-config": (["l.json"], {"log_config": "l.json"}),
    "--use-colors": ([], {}),
    "--proxy-headers": ([], {"forwarded_allow_ips": ["127.0.0.1", "::1"]}),
    "--no-proxy-headers": ([], {"forwarded_allow_ips": []}),
    "--forwarded-allow-ips": (["10.0.0.1,10.0.0.2"],
                              {"forwarded_allow_ips": ["10.0.0.1", "10.0.0.2"]}),
    "--fd": (["3"], {"bind": "fd:3"}),
    "--header": (["A:b, c"], {"headers": ["A:b, c"]}),
    "--server-header": ([], {"server_header": True}),
    "--no-server-header": ([], {"server_header": False}),
    "--date-header": ([], {"date_header": True}),
    "--no-date-header": ([], {"date_header": False}),
    "--root-path": (["/api"], {"root_path": "/api"}),
    "--limit-concurrency": (["5"], {"max_connections": 5}),
    "--backlog": (["5"], {"backlog": 5}),
    "--limit-max-requests": (["5"], {"max_requests": 5}),
    "--limit-max-requests-jitter": (["5"], {"max_requests_jitter": 5}),
    "--timeout-keep-alive": (["5"], {"keepalive_timeout": "5s"}),
    "--timeout-graceful-shutdown": (["5"], {"shutdown_timeout": "5s"}),
    "--timeout-worker-healthcheck": (["5"], {"worker_hang_timeout": "5s"}),
    "--ssl-keyfile": (["k"], {"keyfile": "k"}),
    "--ssl-certfile": (["c"], {"certfile": "c"}),
    "--ssl-keyfile-password": (["p"], {}),
    "--ssl-cert-reqs": (["2"], {"verify": "required"}),
    "--ssl-ca-certs": (["a"], {"cacertfile": "a"}),
    "--ssl-ciphers": (["A:B"], {"ciphers": ["A", "B"]}),
    "--app-dir": (["src"], {"pythonpath": ["src"]}),
    "--factory": ([], {"factory": True}),
}  # fmt: skip

# They do something else than say an option; other tests run them.
OTHERS = {"--env-file", "--version"}


def uvicorn_flags():
    return {
        flag
        for parameter in uvicorn_command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
        if flag.startswith("-") and not flag.startswith("--no-")
    }


def test_every_flag_of_uvicorn_is_taken_or_refused():
    known = UVICORN.keys() | OTHERS | ELSEWHERE.keys()
    assert uvicorn_flags() - known == set()
    assert not {flag for flag in UVICORN.keys() - uvicorn_flags() if not flag.startswith("--no-")}


@pytest.mark.parametrize("flag", UVICORN)
def test_flag_of_uvicorn_means_the_same(flag):
    words, expected = UVICORN[flag]
    found = asked(flag, *words)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("word", "meant"), [("auto", "asgi"), ("asgi3", "asgi"), ("asgi2", "asgi2"), ("wsgi", "wsgi")]
)
def test_interface_of_uvicorn_is_a_worker_class(word, meant):
    assert asked("--interface", word)["worker_class"] == meant


@pytest.mark.parametrize("flag", sorted(ELSEWHERE))
def test_flag_that_means_nothing_here_says_what_to_do(flag):
    value = [] if flag in WITHOUT_VALUE else ["1"]
    assert refused(flag, *value) == f"{flag} has no meaning here: {ELSEWHERE[flag]}"


WITHOUT_VALUE = {
    flag
    for parameter in uvicorn_command.params
    if getattr(parameter, "is_flag", False)
    for flag in parameter.opts
} | {"--preload", "--daemon"}


# Those of gunicorn


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-b", "0.0.0.0:80"], {"bind": "0.0.0.0:80"}),
        (["-b", "unix:/run/app"], {"bind": "unix:/run/app"}),
        (["-w", "4"], {"workers": 4}),
        (["-k", "asgi"], {"worker_class": "asgi"}),
        (["-k", "wsgi", "--threads", "4"], {"worker_class": "wsgi", "threads": 4}),
        (["--worker-connections", "10"], {"worker_connections": 10}),
        (["--max-requests", "10"], {"max_requests": 10}),
        (["--graceful-timeout", "10"], {"shutdown_timeout": "10s"}),
        (["--keep-alive", "2"], {"keepalive_timeout": "2s"}),
        (["--chdir", "/"], {"chdir": "/"}),
        (["-e", "A=b"], {}),
        (["--certfile", "c"], {"certfile": "c"}),
        (["--ca-certs", "c"], {"cacertfile": "c"}),
    ],
)
def test_flag_of_gunicorn_means_the_same(words, expected):
    found = asked(*words)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["-k", "sync"], "say wsgi --threads 1"),
        (["-k", "gthread"], "say wsgi"),
        (["-k", "uvicorn.workers.UvicornWorker"], "say asgi"),
        (["-c", "gunicorn.conf.py"], "TOML"),
        (["--preload"], "share no memory"),
    ],
)
def test_word_that_means_nothing_here_says_what_to_do(words, part):
    assert part in refused(*words)
