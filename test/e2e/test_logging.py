"""What apps log, as their set-ups of `logging` say: the same as under uvicorn, each line once."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from commands import Running, closing
from harness import PYTHON
from terms import Atom
from uvicorn.config import LOGGING_CONFIG

HERE = ("main:application", "--port", "0", "--lifespan", "off", "--no-access-log")

SERVED = """
async def application(scope, receive, send):
    work()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"worked"})
"""

LOGGER = """
import logging
log = logging.getLogger("shop")

def work():
    log.info("told of größe")
    log.warning("warned of größe")
    try:
        {}["größe"]
    except KeyError:
        log.exception("it failed")
"""


@pytest.fixture
def run(tmp_path) -> Iterator[Callable[..., Running]]:
    """Start the command with an app of this source, and let that work once."""
    with contextlib.ExitStack() as stack:

        def start(source: str, *words: object, **how) -> Running:
            (tmp_path / "main.py").write_text(source + SERVED, encoding="utf-8")
            running = stack.enter_context(closing(Running(tmp_path, *HERE, *words, **how)))
            running.get()
            return running

        yield start


def ended(running: Running) -> tuple[str, str]:
    """Stop it; return what it has written to standard output, and behind its banner to error."""
    running.signal(signal.SIGTERM)
    assert running.status() == 0
    return running.printed, running.shown.partition("  Ctrl-C    stops\n")[2]


def traceback(path: Path, indent: str = "") -> str:
    """Return what Python says of the app's exception, as a pattern; newer ones mark more of it."""
    lines = [
        "Traceback (most recent call last):",
        f'  File "{path}/main.py", line [0-9]+, in work',
        '    {}["größe"]',
        "MARKS",
        "KeyError: 'größe'",
    ]
    text = "".join(f"{indent}{re.escape(line)}\n" for line in lines)
    text = text.replace(re.escape("[0-9]+"), "[0-9]+")
    return text.replace(f"{indent}MARKS\n", "(?:[ ~^]+\n)?")


def test_without_a_set_up_warnings_are_shown_as_events_with_their_level(run, tmp_path):
    printed, shown = ended(run(LOGGER))
    assert printed == ""
    assert re.fullmatch(
        "WARNING:  worker-1 shop: warned of größe\n"
        "ERROR:    worker-1 shop: it failed\n" + traceback(tmp_path, "    "),
        shown,
    )


def basic(arguments: str) -> str:
    return f"import logging, sys\nlogging.basicConfig({arguments})\n{LOGGER}"


def by_dict(more: str = "") -> str:
    return f"""
import logging.config
logging.config.dictConfig({{
    "version": 1,
    "formatters": {{"own": {{"format": "own {{levelname}} {{name}} {{message}}", "style": "{{"}}}},
    "handlers": {{"console": {{"class": "logging.StreamHandler", "formatter": "own", {more}}}}},
    "root": {{"handlers": ["console"], "level": "INFO"}},
}})
{LOGGER}"""


DJANGO = """
import django
from django.conf import settings
settings.configure(
    DEBUG=DEBUGGING,
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"own": {"format": "own {levelname} {name} {message}", "style": "{"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "own"}},
        "root": {"handlers": ["console"], "level": "INFO"},
    },
)
django.setup()
"""

LOGURU = """
from loguru import logger as log

def work():
    log.info("told of größe")
    log.warning("warned of größe")
    try:
        {}["größe"]
    except KeyError:
        log.opt(exception=True, capture=False).error("it failed")
"""

STRUCTLOG = """
import structlog
log = structlog.get_logger()

def work():
    log.info("told of größe")
    log.warning("warned of größe")
    log.error("it failed", of="größe")
"""

OWN = "own INFO shop told of größe\nown WARNING shop warned of größe\nown ERROR shop it failed\n"

TIME = r"[0-9-]{10} [0-9:]{8}(?:\.[0-9]+)?"

SET_UPS = {
    "basicConfig": (
        basic("level=logging.INFO"), "err",
        "INFO:shop:told of größe\nWARNING:shop:warned of größe\nERROR:shop:it failed\nTRACEBACK",
    ),
    "basicConfig to standard output": (
        basic('level=logging.INFO, stream=sys.stdout, format="%(message)s"'), "out",
        "told of größe\nwarned of größe\nit failed\nTRACEBACK",
    ),
    "dictConfig, which disables loggers": (by_dict(), "err", f"{OWN}TRACEBACK"),
    "dictConfig to standard output": (
        by_dict('"stream": "ext://sys.stdout"'), "out", f"{OWN}TRACEBACK",
    ),
    "Django's settings": (
        DJANGO.replace("DEBUGGING", "False") + LOGGER, "err", f"{OWN}TRACEBACK",
    ),
    "Django's own loggers": (
        DJANGO.replace("DEBUGGING", "True") + LOGGER.replace('"shop"', '"django.shop"'), "err",
        # Those of Django have a handler by default, and pass on: twice, under any server.
        "told of größe\nown INFO django.shop told of größe\n"
        "warned of größe\nown WARNING django.shop warned of größe\n"
        "it failed\nTRACEBACKown ERROR django.shop it failed\nTRACEBACK",
    ),
    "a handler of a logger": (
        "import logging\n"
        "logging.getLogger('shop').addHandler(logging.StreamHandler())\n"
        "logging.getLogger('shop').setLevel('INFO')\n" + LOGGER, "err",
        "told of größe\nwarned of größe\nit failed\nTRACEBACK",
    ),
    "structlog": (
        STRUCTLOG, "out",
        rf"{TIME} \[info     \] told of größe *\n{TIME} \[warning  \] warned of größe *\n"
        rf"{TIME} \[error    \] it failed +of=größe\n",
    ),
    "loguru": (
        LOGURU, "err",
        rf"{TIME} \| INFO     \| main:work:[0-9]+ - told of größe\n"
        rf"{TIME} \| WARNING  \| main:work:[0-9]+ - warned of größe\n"
        rf"{TIME} \| ERROR    \| main:work:[0-9]+ - it failed\n"
        r"Traceback \(most recent call last\):\n(?:.*\n)*KeyError: 'größe'\n",
    ),
}  # fmt: skip

COLOR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("name", SET_UPS)
def test_each_line_is_shown_once_and_as_the_app_says(run, tmp_path, name):
    source, stream, pattern = SET_UPS[name]
    printed, shown = ended(run(source))
    said, silent = (printed, shown) if stream == "out" else (shown, printed)
    assert re.fullmatch(pattern.replace("TRACEBACK", traceback(tmp_path)), COLOR.sub("", said)), (
        said
    )
    assert silent == ""


def test_colors_of_an_app_are_colors(run):
    printed, _ = ended(run("def work():\n    print('\\x1b[1;32mgrün\\x1b[0m\\x1b[2Jx')\n"))
    assert printed == "\x1b[1;32mgrün\x1b[0m\\x1b[2Jx\n"


@pytest.mark.parametrize(
    ("set_up", "name"),
    [
        ("import logging.config; logging.config.dictConfig({'version': 1})", "silenced"),
        ("import logging; logging.basicConfig(level=0)", "basic"),
    ],
    ids=lambda word: word if word.isalpha() else "",
)
def test_what_fails_is_in_the_nodes_log_once(run, set_up, name):
    running = run(f"{set_up}\ndef work():\n    raise LookupError({name!r})\n")
    _, shown = ended(running)
    assert shown.startswith("ERROR:    worker-1 hornbeam.app: http / failed\n    Traceback")
    assert shown.count(f"LookupError: {name}") == 1


def test_loggers_of_other_servers_are_heard(run):
    source = """
import logging

def work():
    for name in ("uvicorn", "uvicorn.error", "gunicorn.error"):
        logging.getLogger(name).info("by way of %s", name)
"""
    _, shown = ended(run(source))
    assert shown == "".join(
        f"INFO:     worker-1 {name}: by way of {name}\n"
        for name in ("uvicorn", "uvicorn.error", "gunicorn.error")
    )


# The option log_config

TABLE = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"own": {"format": "own %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "own"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}

INI = """
[loggers]
keys=root
[handlers]
keys=console
[formatters]
keys=own
[logger_root]
level=INFO
handlers=console
[handler_console]
class=StreamHandler
formatter=own
[formatter_own]
format=own %(levelname)s %(name)s %(message)s
"""

FILES = {
    "logging.json": json.dumps(TABLE),
    "logging.yaml": json.dumps(TABLE, indent=1),  # which is YAML too
    "logging.yml": json.dumps(TABLE),
    "logging.ini": INI,
    "logging.conf": INI,
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_configures_the_apps_logging(run, tmp_path, name):
    (tmp_path / name).write_text(FILES[name])
    printed, shown = ended(run(LOGGER, "--log-config", name))
    assert re.fullmatch(OWN + traceback(tmp_path), shown)
    assert printed == ""


def test_uvicorns_own_configuration_may_be_that_file(run, tmp_path):
    (tmp_path / "logging.json").write_text(json.dumps(LOGGING_CONFIG))
    source = LOGGER.replace('"shop"', '"uvicorn.error"')
    _, shown = ended(run(source, "--log-config", "logging.json"))
    assert re.fullmatch(
        "INFO:     told of größe\nWARNING:  warned of größe\nERROR:    it failed\n"
        + traceback(tmp_path),
        shown,
    )


def test_classes_in_that_file_may_be_the_apps(run, tmp_path):
    (tmp_path / "shouting.py").write_text(
        "import logging\n"
        "class Shouting(logging.Formatter):\n"
        "    def format(self, record):\n"
        "        return record.getMessage().upper()\n"
    )
    table = TABLE | {"formatters": {"own": {"()": "shouting.Shouting"}}}
    (tmp_path / "logging.json").write_text(json.dumps(table))
    source = "import sys\nassert len(sys.argv) == 1\n" + LOGGER
    _, shown = ended(run(source, "--log-config", "logging.json"))
    assert shown == "TOLD OF GRÖSSE\nWARNED OF GRÖSSE\nIT FAILED\n"


BAD = {
    "no JSON": ("logging.json", "{", "Expecting property name enclosed in double quotes: "
                "line 1 column 2 (char 1)"),
    "no table": ("logging.json", "[]", "it has a list where a table of logging's is expected"),
    "a class that is not there": (
        "logging.json",
        json.dumps(TABLE | {"formatters": {"own": {"()": "no_such.Formatter"}}}),
        "Unable to configure formatter 'own': Cannot resolve 'no_such.Formatter': "
        "No module named 'no_such'",
    ),
    "no sections": ("logging.ini", "[other]\n", "KeyError: 'formatters'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_does_not_do_ends_the_start(tmp_path, name):
    file, content, sentence = BAD[name]
    (tmp_path / file).write_text(content)
    (tmp_path / "main.py").write_text(LOGGER + SERVED, encoding="utf-8")
    with closing(Running(tmp_path, *HERE, "--log-config", file)) as running:
        assert running.status() == 3
        assert running.shown == (
            f"hornbeam does not start: ValueError: log_config {tmp_path}/{file}: {sentence}\n"
            "    app          main:application\n"
            f"    folder       {tmp_path}\n"
            f"    interpreter  {PYTHON}\n"
        )


def test_a_file_that_is_not_there_is_named(tmp_path):
    with closing(Running(tmp_path, *HERE, "--log-config", "none.json")) as running:
        assert running.status() == 3
        assert running.shown == (
            'hornbeam does not start: --log-config has the value "none.json"; expected the path '
            "of a file\n"
        )


# In the log of a node


def test_an_event_of_logging_is_one_event_of_the_node(own_node, tmp_path):
    (tmp_path / "main.py").write_text(LOGGER + SERVED, encoding="utf-8")
    (tmp_path / "own.py").write_text(basic("level=logging.INFO") + SERVED, encoding="utf-8")
    for app, pattern in {
        "main": r"\[error\] worker-1 shop: it failed.*Traceback.*KeyError: 'größe'",
        "own": r"\[warning\] worker-1 stderr: ERROR:shop:it failed.*Traceback.*KeyError: 'größe'",
    }.items():
        server = own_node.serve(
            f"{app}:application", chdir=tmp_path, workers=1, lifespan=Atom("off")
        )
        assert httpx.get(server.http).text == "worked"
        own_node.wait_log(pattern)
        server.stop()
    assert len(re.findall("Traceback", own_node.log)) == 2
