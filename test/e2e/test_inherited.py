"""A listening socket that the command is started with: systemd's activation, and --fd."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from commands import Running, closing
from harness import DEADLINE, PYTHON

HERE = ("naming:application", "--lifespan", "off")

OPENED = """
import os, socket, sys
kind, fd, count, place = sys.argv[1:5]
if kind == "unix":
    opened = socket.socket(socket.AF_UNIX)
    opened.bind(place)
elif kind == "udp":
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("127.0.0.1", 0))
else:
    family, host = (socket.AF_INET6, "::1") if kind == "tcp6" else (socket.AF_INET, "127.0.0.1")
    opened = socket.socket(family)
    opened.bind((host, 0))
if kind in ("unix", "tcp", "tcp6"):
    opened.listen(9)
os.dup2(opened.fileno(), int(fd))
os.set_inheritable(int(fd), True)
if count != "0":
    os.environ |= {"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[5], sys.argv[5:])
"""


@pytest.fixture
def run(tmp_path) -> Iterator[Callable[..., Running]]:
    """Start the command with a socket at a descriptor; `count` of them are systemd's."""
    with contextlib.ExitStack() as stack:

        def start(kind: str, fd: int, count: int, *words: object) -> Running:
            before = [PYTHON, "-c", OPENED, kind, fd, count, tmp_path / "socket"]
            return stack.enter_context(closing(Running(tmp_path, *HERE, *words, before=before)))

        yield start


def served(running: Running) -> int:
    address = running.address()
    if not address.startswith("unix:"):
        return running.get().status_code
    transport = httpx.HTTPTransport(uds=address.removeprefix("unix:"))
    with httpx.Client(transport=transport) as client:
        return client.get("http://localhost/").status_code


def sockets(pid: int) -> set[str]:
    """Name what a process has open that is a socket."""
    names = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    return {name for name in names if name.startswith("socket:")}


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix"])
@pytest.mark.parametrize(("fd", "count", "words"), [(7, 0, ("--fd", 7)), (3, 1, ())],
                         ids=["--fd", "LISTEN_FDS"])  # fmt: skip
def test_a_socket_that_it_is_started_with_is_served(run, tmp_path, kind, fd, count, words):
    running = run(kind, fd, count, *words)
    assert served(running) == 200
    begin = {"tcp": "http://127.0.0.1:", "tcp6": "http://[::1]:", "unix": f"unix:{tmp_path}"}
    assert running.address().startswith(begin[kind])
    shared = sockets(running.named("beam")) & sockets(running.process.pid)
    assert len(shared) == 1
    assert not shared & sockets(running.worker())
    running.signal(15)
    assert running.status() == 0
    if kind == "unix":  # it is its maker's to delete
        assert (tmp_path / "socket").is_socket()


def test_a_flag_beats_systemd_and_systemd_a_file(run, tmp_path):
    (tmp_path / "hornbeam.toml").write_text('bind = "127.0.0.1:1"\n')
    assert served(run("tcp", 3, 1)) == 200
    running = run("tcp", 3, 1, "--uds", tmp_path / "own")
    assert running.address() == f"unix:{tmp_path}/own"


def test_sockets_of_another_process_are_none_of_its(run, tmp_path):
    variables = {"LISTEN_FDS": "1", "LISTEN_PID": "1"}
    with closing(Running(tmp_path, *HERE, "--print-config", variables=variables)) as running:
        assert running.status() == 0
        assert 'bind = "127.0.0.1:8000"' in running.printed


def test_several_sockets_are_refused(run):
    running = run("tcp", 3, 2)
    assert running.status() == 2
    assert "LISTEN_FDS is 2: one socket can be listened on, say one --fd" in running.shown


@pytest.mark.parametrize(
    ("kind", "fd", "said", "sentence"),
    [
        ("tcp", 7, 99, "socket operation on non-socket: fd:99 (--fd); this process was started "
                       "with no socket by that number"),
        ("tcp", 7, 1, "socket operation on non-socket: fd:1 (--fd); this process was started "
                      "with no socket by that number"),
        ("udp", 7, 7, "socket type not supported: fd:7 (--fd); a stream socket of TCP or a Unix "
                      "socket is needed"),
    ],
)  # fmt: skip
def test_what_cannot_be_listened_on_is_named(run, kind, fd, said, sentence):
    running = run(kind, fd, 0, "--fd", said)
    assert running.status() == 3
    assert running.shown == f"hornbeam does not start: cannot listen: {sentence}\n"


@pytest.mark.parametrize("place", ["{}/notify", "@hornbeam-{}"])
def test_systemd_is_told_by_the_process_that_it_has_started(tmp_path, place):
    address = place.format(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        systemd.settimeout(DEADLINE)
        systemd.bind(address.replace("@", "\0"))
        variables = {"NOTIFY_SOCKET": address, "SAID_A": "something"}
        with closing(Running(tmp_path, *HERE, "--port", 0, variables=variables)) as running:
            assert told(systemd) == (b"READY=1", running.process.pid)
            assert running.get().status_code == 200
            worker = Path(f"/proc/{running.worker()}/environ").read_bytes()
            assert b"SAID_A=something" in worker
            assert b"NOTIFY_SOCKET" not in worker
            running.signal(15)
            assert told(systemd) == (b"STOPPING=1", running.process.pid)
            assert running.status() == 0


def told(systemd: socket.socket) -> tuple[bytes, int]:
    """Return what it is told next, and by which process."""
    text, ((_, _, credentials), *_), _, _ = systemd.recvmsg(100, socket.CMSG_SPACE(12))
    return text, struct.unpack("3i", credentials)[0]


def test_a_client_that_came_before_is_served(tmp_path):
    """So nobody is refused while the server starts, or is started again."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        address = opened.getsockname()
        with socket.create_connection(address) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            fd = opened.fileno()
            with closing(Running(tmp_path, *HERE, "--fd", fd, keep=(fd,))):
                assert client.recv(12) == b"HTTP/1.1 200"
