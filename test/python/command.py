"""The command as a test runs it: what it would serve with, or why it refuses."""

import tomllib
from pathlib import Path

from click.testing import CliRunner, Result
from hornbeam_erlang._command.command import make_command

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "configuration.md").read_text()

VARIABLES = ("WEB_CONCURRENCY", "PORT", "FORWARDED_ALLOW_IPS")


def run(*words, variables=()):
    """Run the command for an app, in the present folder, with the variables of the test alone."""
    return run_app("main:app", *words, variables=variables)


def run_app(*words, variables=()):
    """Run it for the app that words, variables or the folder's file name, if they do."""
    others = dict.fromkeys(VARIABLES)
    return CliRunner().invoke(make_command(), list(words), env=others | dict(variables))


def asked(*words, variables=()):
    """Return the options that it would serve with, by their names."""
    return tomllib.loads(succeeded(run("--print-config", *words, variables=variables)).stdout)


def origins(*words, variables=()):
    """Return where the value of each option comes from."""
    shown = succeeded(run("--print-config", *words, variables=variables)).stdout
    lines = [line.removeprefix("# ") for line in shown.splitlines()]
    return {line.split(" ", 1)[0]: line.rsplit(" # ", 1)[1] for line in lines}


def refused(*words, variables=()):
    """Return the sentence with which it refuses what is said here."""
    result = run("--print-config", *words, variables=variables)
    assert result.exit_code == 2, result.output
    return result.stderr.strip().splitlines()[-1].removeprefix("Error: ")


def succeeded(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result
