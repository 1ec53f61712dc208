"""Which Erlang runs the server, and what is said where there is none."""

import subprocess
from pathlib import Path

import pytest
from hornbeam_erlang._command import runtime
from hornbeam_erlang._command.runtime import Runtime, RuntimeNotFound, find_runtime

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 30


def evaluated(found: Runtime, expression: str, **how) -> str:
    """Start a node, and return what an expression is there."""
    say = f'io:format("~0tp", [{expression}]), halt().'
    environment = found.environment(how.pop("given")) if "given" in how else found.environment()
    answer = subprocess.run(
        found.command("-eval", say), env=environment, check=True, timeout=DEADLINE, text=True,
        stdout=subprocess.PIPE, **how,
    )  # fmt: skip
    return answer.stdout


def program(path: Path, script: str) -> Path:
    """Write a shell script that can be executed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def carried(tmp_path) -> Path:
    """Lay out what a wheel carries, without an Erlang."""
    folder = tmp_path / "_erlang"
    (folder / "lib" / "hornbeam-1" / "ebin").mkdir(parents=True)
    (folder / "OTP_VERSION").write_text("26.2\n")
    (folder / "vm.args").write_text("## Both.\n+sbwt none\n+x 1\n\n-name somebody\n")
    return folder


@pytest.fixture
def erl(tmp_path, monkeypatch):
    """Make an `erl` that says it is some version of the emulator, the only one on the path."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def made(said: str) -> Path:
        return program(tmp_path / "bin" / "erl", said)

    return made


def test_a_checkout_runs_what_is_built_there():
    assert str(ROOT / "_build") in evaluated(find_runtime(), "code:which(hornbeam)")


def test_a_node_has_no_name_and_no_cookie():
    found = evaluated(
        find_runtime(), "{node(), auth:get_cookie()}", given={"PATH": "/usr/bin:/bin"}
    )
    assert found == "{nonode@nohost,nocookie}"


def test_a_node_runs_no_file_of_the_working_folder_or_the_user(tmp_path):
    (tmp_path / ".erlang").write_text('io:format("not mine").')
    home = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    assert evaluated(find_runtime(), "yes", cwd=tmp_path, given=home) == "yes"


def test_files_have_pythons_names_whatever_the_locale(tmp_path):
    (tmp_path / "größe").touch()
    given = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    found = evaluated(
        find_runtime(), "filelib:is_file([$g, $r, 246, 223, $e])", cwd=tmp_path, given=given
    )
    assert found == "true"


def test_an_idle_node_does_not_spin():
    assert "+sbwt none" in " ".join(find_runtime().command())


def test_the_emulators_flags_are_taken_and_a_releases_name_is_not(carried, erl):
    erl("echo '(BEAM) emulator version 14.2'")
    assert runtime.of_wheel(carried).flags == ("+sbwt", "none", "+x", "1")


def test_a_wheel_without_erlang_takes_that_of_the_path(carried, erl):
    path = erl("echo '(BEAM) emulator version 14.2' >&2")
    found = runtime.of_wheel(carried)
    assert found.program == path
    assert found.code == (carried / "lib" / "hornbeam-1" / "ebin",)


def test_one_that_is_older_than_the_code_is_refused_in_a_sentence(carried, erl):
    path = erl("echo '(BEAM) emulator version 13.1.5'")
    with pytest.raises(RuntimeNotFound) as refusal:
        runtime.of_wheel(carried)
    assert str(refusal.value) == (
        f"hornbeam needs Erlang/OTP 26 or later, and {path} is OTP 25: install it, by "
        "`apt install erlang-ssl`, `dnf install erlang` or `brew install erlang`"
    )


def test_no_erlang_at_all_is_a_sentence_that_says_how_to_get_it(carried, erl):
    with pytest.raises(RuntimeNotFound, match=r"no `erl` on the PATH: .*`apt install erlang-ssl`"):
        runtime.of_wheel(carried)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [("exit 1", "does not run"), ("echo 'no such version'", "does not tell its version")],
)
def test_an_erl_that_is_none_is_named(carried, erl, script, sentence):
    path = erl(script)
    with pytest.raises(RuntimeNotFound, match=f"{path} {sentence}"):
        runtime.of_wheel(carried)


def test_a_wheel_with_an_erlang_asks_nobody_for_one(carried, erl):
    erlexec = program(carried / "erts-14.2" / "bin" / "erlexec", "")
    found = runtime.of_wheel(carried)
    assert (found.program, found.code) == (erlexec, ())
    environment = found.environment({"ERL_LIBS": "/of/another", "HOME": "/home/ada"})
    assert environment == {
        "BINDIR": str(erlexec.parent),
        "EMU": "beam",
        "ERL_CRASH_DUMP_SECONDS": "0",
        "HOME": "/home/ada",
        "PROGNAME": "erl",
        "ROOTDIR": str(carried),
    }


@pytest.mark.parametrize("name", ["ERL_CRASH_DUMP", "ERL_CRASH_DUMP_SECONDS"])
def test_a_dump_that_is_asked_for_is_left_to_be_made(carried, erl, name):
    erl("echo '(BEAM) emulator version 14.2'")
    given = {name: "7"}
    assert runtime.of_wheel(carried).environment(given) == given


def test_a_checkout_that_is_not_built_says_so(tmp_path):
    with pytest.raises(RuntimeNotFound, match="is not built: `make build` does that"):
        runtime.of_checkout(tmp_path)
