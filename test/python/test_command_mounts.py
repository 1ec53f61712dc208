"""Several apps: what --mount and the tables of a file come to."""

import pytest
from command import asked, refused, run_app


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def toml(folder, text, name="hornbeam.toml"):
    (folder / name).write_text(text)


API = {"path": "/api", "app": "api:app"}
LIVE = {"path": "/live", "app": "live:app"}


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["--mount", "/api=api:app", "--mount", "/live=live:app"], {}),
        (["--mount", "/api=api:app, /live=live:app"], {}),
        (["--mount=/api=api:app,/live=live:app"], {}),
        ([], {"HORNBEAM_MOUNT": "/api=api:app,/live=live:app"}),
    ],
)
def test_mounts_are_said_by_flags_and_a_variable(words, variables):
    assert asked(*words, variables=variables)["mount"] == [API, LIVE]


def test_mount_of_a_file_has_options_of_its_own_by_all_their_names(folder):
    toml(
        folder,
        """
        timeout = "7s"
        [[mount]]
        path = "/api"
        app = "api:app"
        timeout = "5m"
        worker-connections = 3
        app-dir = "src"
        pythonpath = ["lib"]
        ws_max_size = "2M"
        ws-ping-interval = 10
        ws-ping-timeout = 5
        on_connect = "my_rules:check"
        [[mount]]
        path = "/live"
        app = "live:app"
        """,
    )
    found = asked()
    assert found["timeout"] == "7s"
    assert found["mount"] == [
        API
        | {
            "timeout": "5m",
            "worker_connections": 3,
            "pythonpath": ["src", "lib"],
            "websocket_max_frame_size": "2M",
            "websocket_ping_interval": "10s",
            "websocket_timeout": "15s",
            "on_connect": "my_rules:check",
        },
        LIVE,
    ]


def test_mounts_may_be_a_part_of_pyproject(folder):
    toml(folder, '[[tool.hornbeam.mount]]\npath = "/api"\napp = "api:app"\n', "pyproject.toml")
    assert asked()["mount"] == [API]


def test_mounts_of_a_flag_are_in_the_place_of_those_of_the_file(folder):
    toml(folder, '[[mount]]\npath = "/live"\napp = "live:app"\n')
    assert asked()["mount"] == [LIVE]
    assert asked("--mount", "/api=api:app")["mount"] == [API]


def test_mounts_of_a_file_may_be_texts(folder):
    toml(folder, 'mount = ["/api=api:app", "/live=live:app"]')
    assert asked()["mount"] == [API, LIVE]


def test_a_path_may_have_an_equals_sign():
    assert asked("--mount", "/a=b=c:d")["mount"] == [{"path": "/a=b", "app": "c:d"}]


def test_with_mounts_no_app_is_asked_for():
    shown = run_app("--print-config", "--mount", "/api=api:app")
    assert shown.exit_code == 0
    assert "app = " not in shown.stdout.split("[[mount]]")[0]


def test_what_is_shown_of_mounts_says_the_same_again_and_no_secret(folder):
    text = '[[mount]]\npath = "/api"\napp = "api:app"\ntimeout = "90s"\nenv = {A = "sesame"}\n'
    toml(folder, text)
    shown = run_app("--print-config").stdout
    assert "sesame" not in shown
    assert "# env = hidden" in shown
    toml(folder, shown)
    assert asked()["mount"] == [API | {"timeout": "90s"}]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('path = "/api"\napp = "api"',
         'hornbeam.toml: mount: "api" is not MODULE:ATTRIBUTE; did you mean api:app?'),
        ('path = "/api"\ntime_out = 1', "hornbeam.toml: mount: the mount /api has an unknown key "
         "time_out; did you mean timeout?"),
        ('app = "api:app"\ntime_out = 1', "hornbeam.toml: mount: a mount has an unknown key "
         "time_out; did you mean timeout?"),
        ('path = "/api"\ntimeout = "soon"',
         "hornbeam.toml: mount: the mount /api: timeout: soon is not a duration such as 30s, 5m or "
         "250ms (a number without a unit is seconds) or infinity"),
        ('path = "/api"\nws_max_size = 1\nwebsocket_max_frame_size = 2',
         "hornbeam.toml: mount: the mount /api says websocket_max_frame_size twice, under two "
         "names"),
        ('path = "/api"\nlog_level = "info"',
         "hornbeam.toml: mount: the mount /api cannot have log_level of its own"),
        ('path = "/api"\nmount = "/x=y:z"',
         "hornbeam.toml: mount: the mount /api cannot have mount of its own"),
    ],
)  # fmt: skip
def test_mistake_in_a_mount_of_a_file_is_named(folder, text, sentence):
    toml(folder, f"[[mount]]\n{text}\n")
    assert refused() == sentence


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("api:app", "api:app is not PATH=APP, such as /api=api:app"),
        ("/api=", '"" is not MODULE:ATTRIBUTE; did you mean main:app?'),
        ("=api:app", "=api:app is not PATH=APP, such as /api=api:app"),
        ("/api=api.py", '"api.py" is not MODULE:ATTRIBUTE; did you mean api:app?'),
    ],
)
def test_mistake_in_a_mount_is_named(given, sentence):
    assert refused("--mount", given) == f"--mount: {sentence}"


@pytest.mark.parametrize("env", ['{A = ["SECRET"]}', '["SECRET"]', "[1]", '"SECRET"'])
@pytest.mark.parametrize("table", ["", '[[mount]]\npath = "/x"\napp = "a:app"\n'])
def test_values_of_variables_are_shown_in_no_error(folder, env, table):
    toml(folder, f'app = "main:app"\n{table}env = {env}\n')
    sentence = refused()
    assert "env: the value " in sentence
    assert "SECRET" not in sentence
