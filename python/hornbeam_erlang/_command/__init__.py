"""The command `hornbeam`: a server for whoever has a Python app and no Erlang shell."""

from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run `hornbeam APP [flags]` with the arguments of this process; does not return."""
    from hornbeam_erlang._command.command import main as run

    run()
