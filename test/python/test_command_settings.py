"""Who is believed: flags, then variables, then the file, then the defaults."""

import tomllib

import pytest
from command import asked, origins, refused, run, run_app, succeeded
from hornbeam_erlang._command.options import ROWS
from hornbeam_erlang._command.report import SECRET
from hornbeam_erlang._command.values import Kind


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def toml(folder, text, name="hornbeam.toml"):
    (folder / name).write_text(text)


def test_flag_beats_variable_beats_file_beats_default(folder):
    assert (asked()["workers"], origins()["workers"]) == (1, "default")
    toml(folder, "workers = 2")
    assert (asked()["workers"], origins()["workers"]) == (2, "hornbeam.toml")
    variables = {"HORNBEAM_WORKERS": "3"}
    assert asked(variables=variables)["workers"] == 3
    assert origins(variables=variables)["workers"] == "HORNBEAM_WORKERS"
    assert asked("--workers", "4", variables=variables)["workers"] == 4
    assert origins("-w", "4", variables=variables)["workers"] == "-w"


@pytest.mark.parametrize(
    ("variable", "value", "option", "expected"),
    [
        ("WEB_CONCURRENCY", "3", "workers", 3),
        ("PORT", "80", "bind", "127.0.0.1:80"),
        ("FORWARDED_ALLOW_IPS", "*", "forwarded_allow_ips", "any"),
    ],
)
def test_variable_that_others_read_too_comes_after_ours(variable, value, option, expected):
    assert asked(variables={variable: value})[option] == expected
    assert origins(variables={variable: value})[option] == variable
    own = {"workers": "HORNBEAM_WORKERS", "bind": "HORNBEAM_PORT"}.get(option)
    if own:
        assert asked(variables={variable: value, own: "7"})[option] in (7, "127.0.0.1:7")


SAMPLES = {
    Kind.TEXT: "some:text",
    Kind.PATH: "some-path",
    Kind.COUNT: "7",
    Kind.DURATION: "7s",
    Kind.SIZE: "7K",
    Kind.NAMES: "one,two",
    Kind.PATHS: "one:two",
    Kind.SWITCH: "true",
    Kind.FIELDS: "A=b",
    Kind.LINES: "a: b, c",
    Kind.ADDRESS: "127.0.0.1:7",
    Kind.ADDRESSES: "127.0.0.1:1,unix:/a",
}

OPTIONS = [row for row in ROWS if row.means is None and row.name not in SECRET]


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: row.name)
def test_each_flag_variable_and_key_says_its_option(row, folder):
    sample = row.words[-1] if row.kind is Kind.WORD else SAMPLES[row.kind]
    said = set()
    for flag in (*row.long_flags, *row.short_flags):
        words = [flag] if row.kind is Kind.SWITCH else [flag, sample]
        said.add(str(asked(*words)[row.name]))
        assert origins(*words)[row.name] == flag
    for variable in row.all_variables:
        said.add(str(asked(variables={variable: sample})[row.name]))
        assert origins(variables={variable: sample})[row.name] == variable
    for key in (*row.keys, *(key.replace("_", "-") for key in row.keys)):
        toml(folder, f'{key} = "{sample}"')
        said.add(str(asked()[row.name]))
        assert origins()[row.name] == "hornbeam.toml"
    assert len(said) == 1


def test_file_has_numbers_truths_and_lists_of_its_own(folder):
    toml(
        folder,
        'app = "site:app"\nworkers = 2\ntimeout = 2.5\nreload = true\n'
        'allowed-hosts = ["a.example", "b.example"]\n[env]\nA = "b"\n',
    )
    found = asked()
    assert found["app"] == "main:app"
    assert (found["workers"], found["timeout"], found["reload"]) == (2, "2500ms", True)
    assert found["allowed_hosts"] == ["a.example", "b.example"]


def test_file_may_be_a_part_of_pyproject_and_its_own_comes_first(folder):
    toml(folder, "[tool.hornbeam]\nworkers = 2\n", "pyproject.toml")
    assert (asked()["workers"], origins()["workers"]) == (2, "pyproject.toml")
    toml(folder, "workers = 3")
    assert asked()["workers"] == 3
    toml(folder, "workers = 4", "other.toml")
    assert asked("-c", "other.toml")["workers"] == 4
    assert asked(variables={"HORNBEAM_CONFIG": "other.toml"})["workers"] == 4


def test_pyproject_of_others_says_nothing(folder):
    toml(folder, '[project]\nname = "site"\n', "pyproject.toml")
    assert asked()["workers"] == 1


@pytest.mark.parametrize(
    ("words", "variables", "line"),
    [
        ([], {}, 'app = "by.file:app" # hornbeam.toml'),
        ([], {"HORNBEAM_APP": "by.variable:app"}, 'app = "by.variable:app" # HORNBEAM_APP'),
        (["by.word:app"], {"HORNBEAM_APP": "by.variable:app"}, 'app = "by.word:app" # argument'),
    ],
)
def test_app_may_stand_in_the_file_or_a_variable(folder, words, variables, line):
    toml(folder, 'app = "by.file:app"')
    shown = run_app("--print-config", *words, variables=variables).stdout
    assert line in [" ".join(shown_line.split()) for shown_line in shown.splitlines()]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("worker = 2", "hornbeam.toml has an unknown key worker; did you mean workers?"),
        ("nonsense = 2", "hornbeam.toml has an unknown key nonsense"),
        ("timeout = '5 minutes'", "hornbeam.toml: timeout: 5 minutes is not a duration such as "
         "30s, 5m or 250ms (a number without a unit is seconds) or infinity"),
        ("max_requests = 1\nlimit_max_requests = 2",
         "hornbeam.toml says limit_max_requests twice, under two names"),
        ("reload = 'perhaps'", "hornbeam.toml: reload: perhaps is not true or false"),
    ],
)  # fmt: skip
def test_mistake_in_a_file_is_named(folder, text, sentence):
    toml(folder, text)
    assert refused() == sentence


def test_file_that_is_no_toml_or_missing_is_refused(folder):
    toml(folder, "workers = ")
    assert refused().startswith("hornbeam.toml cannot be read: ")
    assert refused("-c", "missing.toml").startswith("missing.toml cannot be read: ")


@pytest.mark.parametrize(
    ("words", "variables", "sentence"),
    [
        (["--workers", "x"], {}, "--workers: x is not a whole number"),
        ([], {"HORNBEAM_TIMEOUT": "x"}, "HORNBEAM_TIMEOUT: x is not a duration such as 30s, 5m or "
         "250ms (a number without a unit is seconds) or infinity"),
        (["--loop", "uvlop"], {}, "--loop: uvlop is not one of auto, uvloop, asyncio; "
         "did you mean uvloop?"),
        (["--uds", "a", "--port", "8"], {}, "--uds and --port exclude each other"),
        (["--uds", "a", "--bind", "b"], {}, "--bind and --uds say the same thing: keep one"),
        (["--interface", "auto", "-k", "asgi"], {},
         "-k and --interface say the same thing: keep one"),
        (["--env-file", "missing"], {}, "--env-file: missing is not a file"),
        (["--env", "A"], {}, "--env: the value is not NAME=VALUE"),
    ],
)  # fmt: skip
def test_mistake_is_named_with_its_place(words, variables, sentence):
    assert refused(*words, variables=variables) == sentence


def test_unknown_flag_says_what_was_meant():
    assert "--workers" in refused("--worker", "2")


@pytest.mark.parametrize("name", ["main", "main.py", "./main.py:app", "main:", ":app"])
def test_app_that_is_only_a_file_says_how_it_is_named(name):
    result = run_app(name)
    assert result.exit_code == 2
    assert f'"{name}" is not MODULE:ATTRIBUTE; did you mean main:app?' in result.stderr


def test_no_app_is_asked_for():
    result = run_app()
    assert result.exit_code == 2
    assert "which app? Name it as MODULE:ATTRIBUTE, such as main:app" in result.stderr


def test_variable_like_ours_is_told_of():
    result = run("--print-config", variables={"HORNBEAM_WORKES": "2", "HORNBEAM_E2E_RUN": "x"})
    assert result.exit_code == 0
    assert result.stderr == (
        "hornbeam: the variable HORNBEAM_WORKES is unknown; did you mean HORNBEAM_WORKERS?\n"
    )


@pytest.mark.parametrize(
    ("words", "variables", "text", "bind"),
    [
        (["--port", "80"], {}, 'bind = "0.0.0.0:90"', "0.0.0.0:80"),
        (["--host", "::"], {}, 'bind = "0.0.0.0:90"', "[::]:90"),
        (["--host", "[::1]"], {"PORT": "70"}, "", "[::1]:70"),
        ([], {"PORT": "70"}, 'uds = "/run/app"', "127.0.0.1:70"),
        ([], {"HORNBEAM_UDS": "/run/app"}, "port = 80", "unix:/run/app"),
        (["--bind", "[::1]:0"], {"PORT": "70"}, "host = '0.0.0.0'", "[::1]:0"),
    ],
)
def test_address_is_put_together(folder, words, variables, text, bind):
    toml(folder, text)
    assert asked(*words, variables=variables)["bind"] == bind


@pytest.mark.parametrize(
    ("words", "variables", "text", "binds"),
    [
        (["-b", "0.0.0.0:80", "--bind", "unix:/run/app"], {}, "", ["0.0.0.0:80", "unix:/run/app"]),
        (["-b", "0.0.0.0:80, [::]:80"], {}, "", ["0.0.0.0:80", "[::]:80"]),
        ([], {"HORNBEAM_BIND": "0.0.0.0:80,[::]:80"}, "bind = 'x'", ["0.0.0.0:80", "[::]:80"]),
        ([], {}, "bind = ['0.0.0.0:80', 'fd:3']", ["0.0.0.0:80", "fd:3"]),
        (["--port", "90"], {}, "bind = ['unix:/run/app', '0.0.0.0:80']", "0.0.0.0:90"),
    ],
)
def test_several_addresses_are_said(folder, words, variables, text, binds):
    toml(folder, text)
    assert asked(*words, variables=variables)["bind"] == binds


def test_silence_is_counted_from_the_last_sign_of_life():
    words = ["--ws-ping-interval", "10", "--ws-ping-timeout", "5"]
    assert asked(*words)["websocket_timeout"] == "15s"
    assert asked(*words[2:])["websocket_timeout"] == "25s"
    assert asked("--ws-ping-interval", "infinity", *words[2:])["websocket_timeout"] == "infinity"


def test_folders_of_the_app_come_in_order():
    assert asked("--app-dir", "src", "--pythonpath", "a:b")["pythonpath"] == ["src", "a", "b"]


@pytest.mark.parametrize("option", ["allowed_hosts", "allowed_origins", "forwarded_allow_ips"])
def test_star_is_anybody(option):
    flag = f"--{option.replace('_', '-')}"
    assert asked(flag, "*")[option] == asked(flag, "any")[option] == "any"


def test_origins_may_be_words_and_patterns():
    found = asked("--allowed-origins", "same_host,https://a.example")["allowed_origins"]
    assert found == ["same_host", "https://a.example"]


def test_secrets_are_not_shown(folder):
    (folder / "variables").write_text("B=secret-b\n")
    words = ["--keyfile-password", "sesame", "--env", "A=secret-a", "--env-file", "variables",
             "--dashboard-token", "a-secret-of-the-page"]  # fmt: skip
    shown = run("--print-config", *words).stdout
    assert "keyfile_password = hidden" in shown
    assert "env = hidden" in shown
    assert "dashboard_token = hidden" in shown
    assert "sesame" not in shown
    assert "secret" not in shown


def test_what_is_shown_says_the_same_again(folder):
    words = ["--timeout", "7", "--workers", "3", "--max-body-size", "3M", "--allowed-hosts", "a,b"]
    first = run("--print-config", *words).stdout
    toml(folder, first)
    again = run("--print-config").stdout
    assert [line.split(" # ")[0] for line in again.splitlines()] == [
        line.split(" # ")[0] for line in first.splitlines()
    ]


def test_version_names_python_too():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("hornbeam 0.1.0 with CPython 3.")


# A flag that may stand alone


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), False),
        (("--metrics",), True),
        (("--metrics", "--workers", "2"), True),
        (("--metrics", "0.0.0.0:9000"), "0.0.0.0:9000"),
        (("--metrics=[::]:9000",), "[::]:9000"),
        (("--metrics", "localhost:9000"), "localhost:9000"),
        (("--metrics", "false"), False),
    ],
)
def test_an_address_may_be_left_out(words, expected):
    assert asked(*words)["metrics"] == expected


@pytest.mark.parametrize("app", ["main:app", "main", "main.py", "src/main.py:app"])
def test_the_app_is_no_address(app):
    shown = run_app("--metrics", app, "--print-config")
    assert tomllib.loads(succeeded(shown).stdout)["metrics"] is True


def test_an_address_is_said_by_a_variable_or_a_file(folder):
    assert asked(variables={"HORNBEAM_METRICS": "1"})["metrics"] is True
    toml(folder, 'metrics = "127.0.0.1:1"')
    assert asked()["metrics"] == "127.0.0.1:1"
    assert asked("--metrics")["metrics"] is True
    toml(folder, "metrics = true")
    assert asked()["metrics"] is True
    toml(folder, "metrics = 5")
    assert "hornbeam.toml: metrics: 5 is not" in refused()
