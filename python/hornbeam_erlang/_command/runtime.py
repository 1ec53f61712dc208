"""The Erlang that runs the server: where it is, and how a process becomes it.

A wheel carries the server's code, and that of this platform an Erlang beside it; without one it is
the `erl` of the search path. A checkout has the code where `make build` puts it. Knows nothing of
what the server is told, and starts nothing but an `erl` that tells its version.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hornbeam_erlang.exceptions import HornbeamError

__all__ = ["Runtime", "RuntimeNotFound", "find_runtime"]

PACKAGE = Path(__file__).resolve().parents[1]
CARRIED = PACKAGE / "_erlang"
"""What tools/wheel.py puts into a wheel: vm.args, OTP_VERSION, lib/, and maybe erts-VERSION/."""

CHECKOUT = PACKAGE.parents[1]

OLDEST_OTP = 25
OTP_OF_ERTS = 12
"""Since OTP 23 an emulator's major version is this much less than that of its OTP."""

HOW_TO_GET = (
    "install it, by `apt install erlang-ssl`, `dnf install erlang` or `brew install erlang`"
)
"""Debian's erlang-ssl brings all that the server needs, and erlang-base alone does not."""


class RuntimeNotFound(HornbeamError):
    """Tell, in one sentence, what is missing here and how to get it."""


@dataclass(frozen=True)
class Runtime:
    """An Erlang, and the server's code for it."""

    program: Path
    """What is executed; it stays the same process when it becomes the emulator."""
    flags: tuple[str, ...]
    """What config/vm.args says of the emulator."""
    code: tuple[Path, ...] = ()
    """Folders of compiled modules, to be looked through before Erlang's own."""
    root: Path | None = None
    """The folder of a carried Erlang, which has the server's code among its own."""

    def command(self, *arguments: str) -> list[str]:
        """Return what to execute for a node without a name, and so without a network of its own.

        No `.erlang` of the user or the working folder is run, the terminal is not read, Ctrl-C is
        left to others, and files have the names that they have in Python, whatever the locale.
        `arguments` are `erl`'s.
        """
        boot = ["-boot", "no_dot_erlang", "-noinput", "+Bi", "+fnu", *self.flags]
        code = ["-pa", *map(str, self.code)] if self.code else []
        return [str(self.program), *boot, *code, *arguments]

    def environment(self, given: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the environment to execute it in, made from a `given` one.

        A node that dies leaves no dump of its memory in the working folder, unless asked to.
        """
        made = dict(given)
        if self.root is not None:
            made |= {"ROOTDIR": str(self.root), "BINDIR": str(self.program.parent)}
            made |= {"EMU": "beam", "PROGNAME": "erl"}
            made.pop("ERL_LIBS", None)  # of another Erlang: it would hide what is carried
        if "ERL_CRASH_DUMP" not in made:
            made.setdefault("ERL_CRASH_DUMP_SECONDS", "0")
        return made


def find_runtime() -> Runtime:
    """Find an Erlang for this installation.

    Raises `RuntimeNotFound` where there is none, or only one that is too old.
    """
    if CARRIED.is_dir():
        return of_wheel(CARRIED)
    if (CHECKOUT / "rebar.config").exists():
        return of_checkout(CHECKOUT)
    raise RuntimeNotFound(
        f"{PACKAGE} carries no server: it was not installed from a wheel of hornbeam-erlang"
    )


def of_wheel(carried: Path) -> Runtime:
    flags = emulator_flags(carried / "vm.args")
    for program in carried.glob("erts-*/bin/erlexec"):
        return Runtime(program, flags, root=carried)
    built_with = int((carried / "OTP_VERSION").read_text().partition(".")[0])
    return Runtime(installed(built_with), flags, libraries(carried / "lib"))


def of_checkout(checkout: Path) -> Runtime:
    code = libraries(checkout / "_build" / "default" / "lib", checkout / "_deps" / "lib")
    if not any(folder.parent.name == "hornbeam" for folder in code):
        raise RuntimeNotFound(f"the server in {checkout} is not built: `make build` does that")
    return Runtime(installed(OLDEST_OTP), emulator_flags(checkout / "config" / "vm.args"), code)


def libraries(*folders: Path) -> tuple[Path, ...]:
    return tuple(ebin for folder in folders for ebin in sorted(folder.glob("*/ebin")))


def emulator_flags(vm_args: Path) -> tuple[str, ...]:
    """Return the emulator's own flags, not those of a release's node that has a name."""
    lines = vm_args.read_text().splitlines()
    return tuple(word for line in lines if line.startswith("+") for word in line.split())


def installed(oldest: int) -> Path:
    """Return the `erl` of the search path."""
    found = shutil.which("erl")
    if found is None:
        raise RuntimeNotFound(
            f"hornbeam needs Erlang/OTP {oldest} or later, and there is no `erl` on the PATH: "
            f"{HOW_TO_GET}"
        )
    otp = otp_of(found)
    if otp < oldest:
        raise RuntimeNotFound(
            f"hornbeam needs Erlang/OTP {oldest} or later, and {found} is OTP {otp}: {HOW_TO_GET}"
        )
    return Path(found)


def otp_of(erl: str) -> int:
    """Ask an `erl` what it is, which it tells in a few milliseconds, without starting a node."""
    try:
        said = subprocess.run(
            [erl, "+V"], capture_output=True, stdin=subprocess.DEVNULL, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeNotFound(f"{erl} does not run: {error}") from error
    version = re.search(r"version (\d+)", said.stdout + said.stderr)
    if version is None:
        raise RuntimeNotFound(f"{erl} does not tell its version, but {said.stderr!r}")
    return int(version[1]) + OTP_OF_ERTS
