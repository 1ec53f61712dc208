"""A bare system: a root with one Python, the libraries of a minimal Debian, and no Erlang.

Everything but /srv and /tmp is read-only. It shares the network, the processes and /dev with this
machine, so that a client outside reaches what runs inside. It is a mount namespace of the process
that is started there, and is gone with it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14")

DEBIANS_OWN = re.compile(r"lib(c|m|dl|rt|pthread|util|resolv|anl|nss_\w+|stdc\+\+|gcc_s)\.so\.\d+")
"""glibc, and what else every Debian has since apt needs it; Python does not."""

NOBODY = 12345
"""The number of a user that no system knows by name."""


@dataclass(frozen=True)
class Interpreter:
    """A Python of this machine, or of a Debian in a folder that tools/debian.sh has made."""

    program: Path
    version: str
    system: Path = Path("/")
    """The root in which all its files are, and the shell and the libraries of its system."""

    def inside(self, *command: str | Path) -> list[str | Path]:
        """Return what to execute for a command in its system."""
        if self.system == Path("/"):
            return list(command)
        return ["chroot", self.system, *command]

    @cached_property
    def folders(self) -> list[Path]:
        """What it needs besides libraries."""
        say = "import sys, sysconfig; print(sys.base_prefix, sysconfig.get_path('stdlib'))"
        prefix, standard = said_by(*self.inside(self.program, "-I", "-c", say)).split()
        return [Path(standard)] if prefix == "/usr" else [Path(prefix)]

    @cached_property
    def libraries(self) -> set[Path]:
        """The libraries of the system that it loads, with all its modules but Tk's."""
        found = (f for folder in self.folders for f in self.found(folder, "lib-dynload/*.so"))
        modules = [path for path in found if "tkinter" not in path.name]
        return {
            library
            for library in self.loaded_by(self.program, *modules)
            if not any(library.is_relative_to(folder) for folder in self.folders)
        }

    def found(self, folder: Path, pattern: str) -> list[Path]:
        """Return files below a folder of its system, as that knows them."""
        outside = self.system / folder.relative_to("/")
        return [Path("/", path.relative_to(self.system)) for path in outside.rglob(pattern)]

    def loaded_by(self, *programs: Path) -> set[Path]:
        """Return the libraries that programs of its system load."""
        command = self.inside("ldd", *programs)
        listed = subprocess.run(command, check=False, capture_output=True, text=True).stdout
        return {Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(0x", listed, re.MULTILINE)}


def interpreters() -> list[Interpreter]:
    """Find one Python of each version, in the places where they are kept, then in Debians."""
    kept = Path.home() / ".pyenv" / "versions"
    found = {}
    for version in VERSIONS:
        own = Path(sys.base_prefix, "bin", f"python{version}")
        others = [Path("/usr/bin", own.name), Path("/usr/local/bin", own.name)]
        for program in [own, *others, *sorted(kept.glob(f"{version}.*/bin/{own.name}"))]:
            if program.exists():
                found.setdefault(version, Interpreter(program, version))
        for system in debians():
            program = Path("/usr/bin", own.name)
            if (system / program.relative_to("/")).exists():
                found.setdefault(version, Interpreter(program, version, system))
    return list(found.values())


def debians() -> list[Path]:
    """Find the systems that tools/debian.sh has made here; only root gets into them."""
    kept = os.environ.get("DEBIAN_SYSTEMS") or Path(__file__).parents[2] / "_debian"
    return sorted(Path(kept).resolve().glob("[a-z]*/")) if os.geteuid() == 0 else []


def said_by(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


ENTER = """\
set -eu
root={root} srv={srv} system={system} mode=$1
shift
# In a chroot / is no mount, and whoever made that has seen to this.
mount --make-rprivate / 2>/dev/null || true
mount -t tmpfs none "$root"
while read -r file; do mkdir -p "$root${{file%/*}}"; cp -L "$system$file" "$root$file"; done <<END
{files}
END
for folder in {folders}; do
    mkdir -p "$root$folder"
    mount --rbind "$system$folder" "$root$folder"
done
mkdir "$root/dev" "$root/proc"
mount --rbind /dev "$root/dev"
# The first process of a container sees only its own.
if [ $$ = 1 ]; then mount -t proc proc "$root/proc"; else mount --rbind /proc "$root/proc"; fi
mkdir "$root/srv" "$root/tmp"
mount --bind "$srv" "$root/srv"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mount -o remount,ro "$root"
if [ "$mode" = frozen ]; then mount -o remount,bind,ro "$root/srv"; fi
exec env -i "$@"
"""
"""What makes the root in a mount namespace, and becomes what shall run in it."""


class Root:
    """A bare system around one interpreter; `srv` is its /srv."""

    def __init__(self, interpreter: Interpreter, folder: Path) -> None:
        self.root, self.srv, self.script = folder / "root", folder / "srv", folder / "enter.sh"
        self.root.mkdir()
        self.srv.mkdir()
        self.script.write_text(
            ENTER.format(
                root=shlex.quote(str(self.root)),
                srv=shlex.quote(str(self.srv)),
                system=shlex.quote(str(interpreter.system).rstrip("/")),
                files="\n".join(map(str, sorted(needed_by(interpreter)))),
                folders=shlex.join(map(str, interpreter.folders)),
            )
        )

    def command(
        self, *command: str | Path, user: int | None = None, folder: Path = Path("/"), **given: str
    ) -> list[str]:
        """Return what to execute outside so that a command runs inside, with `given` variables.

        With a `user`, /srv is read-only too. Where only root may become somebody else, and this
        is not root, that user is the owner.
        """
        is_root = os.geteuid() == 0
        become = [f"--userspec={user}:{user}"] if user is not None and is_root else []
        variables = {"PATH": "/usr/bin:/bin"} | given
        return [
            "unshare", *([] if is_root else ["--user", "--map-root-user"]),
            "--mount", "--propagation", "unchanged", "sh", str(self.script),
            "open" if user is None else "frozen",
            *(f"{name}={value}" for name, value in variables.items()),
            "/usr/sbin/chroot", *become, str(self.root),
            "/bin/sh", "-c", 'cd "$0" && exec "$@"', str(folder), *map(str, command),
        ]  # fmt: skip


def needed_by(interpreter: Interpreter) -> set[Path]:
    """Return the files of the system that a Python and a shell need."""
    shell = Path("/bin/sh")
    files = {shell, interpreter.program, *interpreter.libraries, *interpreter.loaded_by(shell)}
    files |= {path for path in known_to(interpreter) if DEBIANS_OWN.fullmatch(path.name)}
    return {
        file
        for file in files
        if not any(file.is_relative_to(folder) for folder in interpreter.folders)
    }


def known_to(interpreter: Interpreter) -> set[Path]:
    """Return the libraries that the loader of its system knows."""
    program = shutil.which("ldconfig", path="/sbin:/usr/sbin") or "ldconfig"
    listed = said_by(*interpreter.inside(program, "-p"))
    return {Path(path) for path in re.findall(r"x86-64\).* => (/\S+)", listed)}
