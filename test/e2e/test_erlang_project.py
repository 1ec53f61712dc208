"""Hornbeam in other people's projects, which have no more of it than apps/hornbeam."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from clients import RawWebSocket
from harness import APPS, DEADLINE, PYTHON, ROOT, eventually
from terms import Atom, charlist, text

HORNBEAM = ROOT / "apps" / "hornbeam"
EXAMPLE = ROOT / "examples" / "auction"

BUILD = 300
"""Seconds that a build may take on a machine that is busy with others too."""


def built(folder: Path, *command: object) -> str:
    """Build in a folder, with the libraries of this checkout where hex does not answer."""
    libraries = [str(ROOT / "_deps" / "lib"), os.environ.get("ERL_LIBS", "")]
    answer = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=os.environ | {"ERL_LIBS": ":".join(filter(None, libraries)), "TERM": "dumb"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False, timeout=BUILD, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout
    return answer.stdout


def copied(source: Path, target: Path) -> Path:
    """Copy what belongs to a folder, without what was built or linked there."""
    ignored = shutil.ignore_patterns("_build", "_checkouts", "rebar.lock", "__pycache__")
    return Path(shutil.copytree(source, target, ignore=ignored))


# The example: a release with an app below its own supervisor


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the example's release with Hornbeam in _checkouts; return its folder."""
    project = copied(EXAMPLE, tmp_path_factory.mktemp("example") / "auction")
    copied(HORNBEAM, project / "_checkouts" / "hornbeam")
    built(project, "rebar3", "release", "-o", project / "rel")
    return project / "rel" / "auction"


class Auction:
    """The example's release, at a socket of the test's own."""

    host, port = "localhost", 80

    def __init__(self, release: Path, tmp: Path) -> None:
        self.release, self.socket, self.said = release, tmp / "socket", tmp / "said"
        shipped = str(release / "releases" / "0.1.0" / "sys.config")
        options = {"bind": f"unix:{self.socket}", "workers": 1, "python": PYTHON}
        pairs = text([(Atom(key), value) for key, value in options.items()])
        (tmp / "sys.config").write_text(f"[{charlist(shipped)}, {{hornbeam, {pairs}}}].")
        # Without a daemon for names, which would stay.
        (tmp / "vm.args").write_text(
            f"-name auction-{uuid.uuid4().hex}@127.0.0.1\n-start_epmd false\n-dist_listen false\n"
        )
        files = {"RELX_CONFIG_PATH": tmp / "sys.config", "VMARGS_PATH": tmp / "vm.args"}
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [release / "bin" / "auction", "foreground"],
                env=os.environ | {name: str(path) for name, path in files.items()},
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip

    def connect(self, timeout: float = DEADLINE) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(str(self.socket))
        return connection

    def bid(self, bidder: str, amount: int) -> httpx.Response:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket))) as client:
            return client.post(f"http://localhost/bids/{bidder}", params={"amount": amount})

    def serves(self) -> bool:
        assert self.process.poll() is None, self.said.read_text()
        with contextlib.suppress(OSError):
            self.connect().close()
            return True
        return False


@pytest.fixture
def auction(release: Path, tmp_path: Path) -> Iterator[Auction]:
    running = Auction(release, tmp_path)
    try:
        eventually(running.serves, 60)
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()


def test_the_example_serves_and_ends_in_order(auction):
    watcher = RawWebSocket(auction, "/bids")
    assert json.loads(watcher.read_message()) == {"bidder": "nobody", "amount": 0}
    assert auction.bid("ada", 10).json() == {"bidder": "ada", "amount": 10}
    assert json.loads(watcher.read_message()) == {"bidder": "ada", "amount": 10}
    refused = auction.bid("bob", 10)
    assert refused.status_code == 409
    assert refused.json() == {"detail": "somebody has offered as much"}
    assert auction.bid("größe", 11).json() == {"bidder": "größe", "amount": 11}
    assert json.loads(watcher.read_message()) == {"bidder": "größe", "amount": 11}
    auction.process.send_signal(signal.SIGTERM)
    assert watcher.read_close() == (1001, "the server stops")
    watcher.socket.close()
    assert auction.process.wait(60) == 0
    said = auction.said.read_text()
    assert "CRASH REPORT" not in said and "SUPERVISOR REPORT" not in said


def test_a_release_has_the_documentation(release):
    (ebin,) = release.glob("lib/hornbeam-*/ebin")
    assert "A child of your own supervisor" in documentation(ebin)


def documentation(ebin: Path) -> str:
    """Read what h(hornbeam, child_spec) shows."""
    shows = (
        "{ok, Docs} = code:get_doc(hornbeam),"
        "io:put_chars(shell_docs:render(hornbeam, child_spec, Docs)), halt()."
    )
    return built(ebin, "erl", "-noshell", "-pa", ebin, "-eval", shows)


# A project that has it from git


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository with this working tree's apps/hornbeam and nothing else."""
    folder = tmp_path_factory.mktemp("repository")
    copied(HORNBEAM, folder / "apps" / "hornbeam")
    who = ["-c", "user.name=a test", "-c", "user.email=test@localhost"]
    built(folder, "git", "init", "--quiet", "--initial-branch", "main")
    built(folder, "git", "add", "--all")
    built(folder, "git", *who, "commit", "--quiet", "--message", "As it is")
    return folder


def test_rebar3_builds_it_by_git_subdir(repository, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shop.app.src").write_text(
        '{application, shop, [{vsn, "1"}, {applications, [kernel, stdlib, hornbeam]}]}.\n'
    )
    (tmp_path / "rebar.config").write_text(
        f'{{deps, [{{hornbeam, {{git_subdir, "file://{repository}", {{branch, "main"}},'
        ' "apps/hornbeam"}}]}.\n'
    )
    built(tmp_path, "rebar3", "compile")
    (beam,) = tmp_path.glob("_build/default/lib/hornbeam/**/ebin/hornbeam.beam")
    assert "A child of your own supervisor" in documentation(beam.parent)
    # All that a worker starts with is found from there.
    options = {"bind": "127.0.0.1:0", "workers": 1, "python": PYTHON, "pythonpath": [APPS]}
    given = text({Atom(key): value for key, value in options.items()})
    serves = (
        "{ok, _} = application:ensure_all_started(hornbeam),"
        f'ok = hornbeam:start("functions:application", {given}),'
        'io:format("~p", [hornbeam:call(functions, add, [1, 2])]), init:stop().'
    )
    assert "{ok,3}" in built(tmp_path, "erl", "-noshell", "-pa", beam.parent, "-eval", serves)


MIX = """
defmodule Shop.MixProject do
  use Mix.Project

  def project, do: [app: :shop, version: "1.0.0", deps: deps()]
  def application, do: [extra_applications: [:logger]]

  defp deps do
    [{:hornbeam, git: "file://REPOSITORY", branch: "main", subdir: "apps/hornbeam"}]
  end
end
"""

SERVES = """
import IEx.Helpers
h(:hornbeam.child_spec)
children = [{:hornbeam, OPTIONS}]
{:ok, _} = Supervisor.start_link(children, strategy: :one_for_one)
IO.inspect(:hornbeam.call("functions", "add", [1, 2]))
"""


def test_mix_builds_it_by_subdir(repository, tmp_path):
    if shutil.which("mix") is None:
        pytest.skip("no mix here")
    (tmp_path / "mix.exs").write_text(MIX.replace("REPOSITORY", str(repository)))
    options = (
        f'app: "functions:application", workers: 1, bind: "127.0.0.1:0", python: "{PYTHON}",'
        f' pythonpath: ["{APPS}"]'
    )
    (tmp_path / "serves.exs").write_text(SERVES.replace("OPTIONS", options))
    # Where hex does not answer, mix finds what is compiled already there.
    for library in (ROOT / "_deps" / "lib").glob("*"):
        found = tmp_path / "_build" / "dev" / "lib" / library.name.partition("-")[0]
        found.parent.mkdir(parents=True, exist_ok=True)
        found.symlink_to(library)
    mix = ["env", f"MIX_HOME={tmp_path}/home", f"MIX_REBAR3={shutil.which('rebar3')}", "mix"]
    built(tmp_path, *mix, "deps.get")
    said = built(tmp_path, *mix, "run", "serves.exs")
    assert "A child of your own supervisor" in said
    assert "{:ok, 3}" in said
