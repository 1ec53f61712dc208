"""Make the two wheels of the Python package, which carry the server.

    tools/wheel.py FOLDER

The wheel of this platform has an Erlang of its own and the libraries that it needs, but for those
that every system of the wheel's tag has; auditwheel finds out which tag that is. The other wheel
fits every platform. It has compiled modules only, for the OTP that is here or a later one.

What is carried is this machine's, and the licences are those that Debian's packages come with.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILT = (ROOT / "_build" / "wheel" / "lib", ROOT / "_deps" / "lib")
ENVIRONMENT = (
    {"SOURCE_DATE_EPOCH": "1580601600"}
    | os.environ
    | {
        "ERL_LIBS": ":".join(map(str, BUILT)),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
)
"""The same sources make the same wheels; the date is the one that hatchling has for that."""

SYSTEMS_OWN = re.compile(r"lib(c|m|dl|rt|pthread|util|stdc\+\+|gcc_s|z)\.so\.\d+")
"""What PEP 600 promises and auditwheel does not carry. A copy of this machine's libstdc++ would fit
only where glibc is as young as here; without one the wheel fits systems that are years older."""

COMMON_LICENCE = re.compile(r"/usr/share/common-licenses/[A-Za-z0-9.-]*[A-Za-z0-9]")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("hornbeam_erlang-*.whl"):
        old.unlink()
    run("rebar3", "as", "wheel", "compile")
    with tempfile.TemporaryDirectory() as work:
        server, erlang = Path(work, "server"), Path(work, "erlang")
        lay_out(server, "server")
        build(server, folder)
        lay_out(erlang, "erlang")
        gather_licences(erlang)
        run("auditwheel", "repair", "--wheel-dir", folder, build(erlang, Path(work, "dist")))
    for wheel in sorted(folder.glob("hornbeam_erlang-*.whl")):
        sys.stdout.write(f"{wheel.stat().st_size / 1e6:5.1f} MB  {wheel}\n")


def lay_out(project: Path, what: str) -> None:
    """Copy the Python project, and lay into it what the wheel carries of Erlang."""
    shutil.copytree(ROOT / "python", project, ignore=shutil.ignore_patterns("__pycache__"))
    carried, licences = carried_in(project), project / "licenses"
    run("escript", ROOT / "tools" / "carried.escript", carried, what)
    shutil.copy(ROOT / "config" / "vm.args", carried)
    licences.mkdir()
    shutil.copy(ROOT / "LICENSE", licences / "hornbeam")
    for licence in carried.glob("lib/*/LICENSE"):
        licence.rename(licences / licence.parent.name)
    for licence in carried.glob("lib/*/priv/*/*.LICENSE"):
        shutil.copy(licence, licences / licence.stem)


def carried_in(project: Path) -> Path:
    return project / "hornbeam_erlang" / "_erlang"


def build(project: Path, folder: Path) -> Path:
    """Make a wheel and return it."""
    before = set(folder.glob("*.whl"))
    run("hatchling", "build", "--target", "wheel", "--directory", folder, cwd=project)
    (made,) = {*folder.glob("*.whl")} - before
    return made


# Licences


def gather_licences(project: Path) -> None:
    """Copy those of this machine's Erlang, and of the libraries that auditwheel will carry."""
    for source in [emulator(), *libraries(carried_in(project))]:
        licence = licence_of(source)
        shutil.copy(licence, project / "licenses" / licence.parent.name)
        for common in set(COMMON_LICENCE.findall(licence.read_text())):
            shutil.copy(common, project / "licenses")


def emulator() -> Path:
    where = 'io:put_chars(os:getenv("BINDIR")), halt().'
    return Path(said_by("erl", "-noinput", "-eval", where), "beam.smp")


def libraries(carried: Path) -> set[Path]:
    """Return what the carried programs load that not every system has."""
    programs = [path for path in carried.rglob("*") if is_program(path)]
    return {library for program in programs for library in loaded_by(program)}


def is_program(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def loaded_by(program: Path) -> Iterator[Path]:
    for name, path in re.findall(r"(\S+) => (/\S+)", said_by("ldd", program)):
        if not SYSTEMS_OWN.fullmatch(name):
            yield Path(path)


def licence_of(file: Path) -> Path:
    """Return what the Debian package of a file says of its licence."""
    real = file.resolve()
    # Debian knows some files by their place before /lib became a link to /usr/lib.
    for name in (real, Path("/", real.relative_to("/usr"))):
        known = said_by("dpkg-query", "--search", name)
        if known:
            return Path("/usr/share/doc", known.partition(":")[0], "copyright")
    sys.exit(f"make wheel: no package of this system has {file}, so its licence is not known")


# Other programs


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    quiet = ROOT / "tools" / "quiet.sh"
    subprocess.run([quiet, *command], cwd=cwd, env=ENVIRONMENT, check=True)


def said_by(*command: str | Path) -> str:
    """Return what a command says; nothing where it fails."""
    return subprocess.run(
        command, env=ENVIRONMENT, check=False, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ).stdout  # fmt: skip


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]).resolve())
    except subprocess.CalledProcessError as error:
        sys.exit(f"make wheel: {Path(error.cmd[1]).name} failed")
