"""The wheels: what is in them, and what a stranger's system makes of them."""

from __future__ import annotations

import email
import re
import socket
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import PYTHON, ROOT
from websockets.sync.client import connect

LARGEST = 12_000_000
"""Bytes of a wheel that nobody minds to download."""

SERVER = {
    *("hornbeam", "cowboy", "cowlib", "prometheus", "ranch"),
    *("ra", "aten", "gen_batch_server", "seshat"),
}
OTP = {"kernel", "stdlib", "crypto", "asn1", "public_key", "sasl", "ssl"}

PROGRAMS = {"beam.smp", "erlexec", "erl_child_setup", "inet_gethost"}
LIBRARIES = {"libcrypto", "libtinfo"}
"""What is carried; a younger OpenSSL wants others too."""

SYSTEMS_OWN = {"ld-linux-x86-64", "libc", "libgcc_s", "libm", "libstdc++", "libz"}


def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def below(wheel: Path, folder: str) -> set[str]:
    """Return the names of files and folders in a folder of what a wheel carries of Erlang."""
    found = (re.match(rf"hornbeam_erlang/_erlang/{folder}/([^/]+)", name) for name in names(wheel))
    return {match[1] for match in found if match}


def applications(wheel: Path) -> set[str]:
    return {name.partition("-")[0] for name in below(wheel, "lib")}


def metadata(wheel: Path, name: str) -> email.message.Message:
    (path,) = (found for found in names(wheel) if found.endswith(f".dist-info/{name}"))
    return email.message_from_bytes(zipfile.ZipFile(wheel).read(path))


def licences(wheel: Path) -> set[str]:
    found = (re.search(r"\.dist-info/licenses/licenses/(.+)", name) for name in names(wheel))
    return {match[1] for match in found if match}


def library(path: str) -> str:
    """Return the name of a library, without its version and the mark of auditwheel's copy."""
    return re.sub(r"(-[0-9a-f]{8})?\.so.*", "", Path(path).name)


def libraries(wheel: Path) -> set[str]:
    found = (name for name in names(wheel) if name.startswith("hornbeam_erlang.libs/lib"))
    return {library(name) for name in found}


def talks(port: int) -> str:
    """Let an app answer a request and a message; return the interpreter that runs it."""
    about = httpx.get(f"http://127.0.0.1:{port}/").json()
    with connect(f"ws://127.0.0.1:{port}/echo") as socket:
        socket.send("größe")
        assert socket.recv() == "größe"
    return about["executable"]


# A bare system


def test_a_bare_system_serves_http_and_websockets(bare, start):
    running = start(bare)
    python = str(bare.venv / "bin" / "python")
    assert talks(running.port()) == python
    running.says(f"python +{re.escape(python)}")
    assert running.stop() == 0


def test_two_on_one_host_do_not_meet(bare, start):
    both = [start(bare, LC_ALL=locale) for locale in ("C", "C.UTF-8")]
    for running in both:
        talks(running.port())


def test_two_who_are_told_of_a_cluster_meet(bare, start):
    ports = [free_port(), free_port()]
    told = {
        "HORNBEAM_CLUSTER": "two",
        "HORNBEAM_CLUSTER_COOKIE": "of-two-in-a-bare-system",
        "HORNBEAM_JOIN": ",".join(f"127.0.0.1:{port}" for port in ports),
    }
    for running in [start(bare, **told, HORNBEAM_CLUSTER_PORT=str(port)) for port in ports]:
        running.says("cluster node connected")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_node_listens_where_it_was_told_and_nowhere_else(here, start):
    running = start(here)
    port = running.port()
    assert running.listens_on() == {port}


def test_a_node_has_its_own_libraries_but_those_that_every_system_has(bare, start):
    running = start(bare)
    talks(running.port())
    maps = (running.node() / "maps").read_text()
    loaded = re.findall(r"\S*/\S+\.so\b.*$", maps, re.MULTILINE)
    own = {library(path) for path in loaded if "hornbeam_erlang" in path}
    assert own >= {*LIBRARIES, "crypto"}
    assert {library(path) for path in loaded if "hornbeam_erlang" not in path} == SYSTEMS_OWN


# Without an Erlang in the wheel


def test_the_wheel_for_all_platforms_serves_by_the_erl_of_the_path(here, start):
    assert talks(start(here).port()) == str(here.venv / "bin" / "python")


def test_the_wheel_for_all_platforms_says_how_to_get_an_erlang(here, start):
    running = start(here, PATH="/nowhere")
    running.says("there is no `erl` on the PATH: install it, by `apt install erlang-ssl`")
    assert running.status() == 3


# What pip takes


@pytest.mark.parametrize(
    "platform",
    [
        "musllinux_1_2_x86_64",
        "manylinux_2_17_x86_64",
        "manylinux_2_39_aarch64",
        "macosx_14_0_arm64",
    ],
)
def test_pip_takes_the_wheel_for_all_platforms_elsewhere(pure, tmp_path, platform):
    assert taken(pure.parent, tmp_path, platform) == pure.name


def test_pip_takes_the_wheel_with_an_erlang_where_it_fits(carrying, tmp_path):
    platform = carrying.stem.rpartition("-")[2]
    assert taken(carrying.parent, tmp_path, platform) == carrying.name


def taken(wheels: Path, folder: Path, platform: str) -> str:
    """Let pip choose between the two wheels for a platform."""
    subprocess.run(
        [
            PYTHON, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-index", "--find-links", wheels, "--no-deps", "--dest", folder,
            "--platform", platform, "--only-binary", ":all:", "hornbeam-erlang",
        ],
        check=True, timeout=60,
    )  # fmt: skip
    (wheel,) = folder.iterdir()
    return wheel.name


# What is in them


@pytest.fixture(params=["pure", "carrying"])
def wheel(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_a_wheel_is_small(wheel):
    assert wheel.stat().st_size <= LARGEST


def test_the_wheel_for_all_platforms_has_the_server_only(pure):
    assert applications(pure) == SERVER
    assert not [name for name in names(pure) if ".so" in name or "erts" in name]
    assert metadata(pure, "WHEEL")["Root-Is-Purelib"] == "true"


def test_the_wheel_with_an_erlang_has_just_what_the_server_needs(carrying):
    assert applications(carrying) == SERVER | OTP
    assert below(carrying, r"erts-[\d.]+/bin") == PROGRAMS
    assert libraries(carrying) >= LIBRARIES
    assert not libraries(carrying) & SYSTEMS_OWN
    assert metadata(carrying, "WHEEL")["Root-Is-Purelib"] == "false"


def test_the_licences_of_the_server_go_along(wheel):
    assert {name.partition("-")[0] for name in licences(wheel)} >= SERVER


def test_the_licences_of_an_erlang_and_its_libraries_go_along(carrying):
    assert licences(carrying) >= {"erlang-base", "Apache-2.0"}
    packages = {name for name in licences(carrying) if name.startswith("lib")}
    assert {re.sub(r"\d.*", "", name) for name in packages} == {
        "libssl" if name == "libcrypto" else name for name in libraries(carrying)
    }


def test_no_source_and_no_page_goes_along(wheel):
    files = [Path(name) for name in names(wheel) if "/_erlang/" in name and name[-1] != "/"]
    files = [path for path in files if path.parent.name != "dashboard"]  # the live page is served
    assert not {path.suffix for path in files} & {".erl", ".hrl", ".c", ".h", ".a", ".html", ".md"}


def test_no_file_names_the_folder_in_which_it_was_made(wheel):
    with zipfile.ZipFile(wheel) as archive:
        telling = [name for name in archive.namelist() if bytes(ROOT) in plain(archive.read(name))]
    assert telling == []


def plain(file: bytes) -> bytes:
    """Return what a file says, with what a compiled module says in compressed form."""
    chunk = file.find(b"LitT")
    if not file.startswith(b"FOR1") or chunk < 0:
        return file
    size, unpacked = struct.unpack_from(">II", file, chunk + 4)
    return file + zlib.decompress(file[chunk + 12 : chunk + 8 + size]) if unpacked else file


# The version


def versions() -> Iterator[str]:
    """Yield the version as each file says it."""
    for file, pattern in {
        "python/hornbeam_erlang/__init__.py": r'__version__ = "(.+)"',
        "apps/hornbeam/src/hornbeam.app.src": r'{vsn, "(.+)"}',
        "rebar.config": r'{release, {hornbeam, "(.+)"}',
    }.items():
        (version,) = re.findall(pattern, (ROOT / file).read_text())
        yield version


def test_all_say_the_same_version(wheel):
    assert set(versions()) == {metadata(wheel, "METADATA")["Version"]}
