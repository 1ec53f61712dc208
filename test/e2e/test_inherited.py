"""A listening socket that the command is started with: systemd's activation, and --fd."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from commands import Running, closing
from harness import DEADLINE, PYTHON, eventually
from operators import hornbeam

HERE = ("naming:application", "--lifespan", "off")

OPENED = """
import os, socket, sys
kinds, fd, count, place = sys.argv[1:5]
for number, kind in enumerate(kinds.split(","), int(fd)):
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
    if opened.fileno() == number:
        opened.detach()
    else:
        os.dup2(opened.fileno(), number)
        opened.close()
    os.set_inheritable(number, True)
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
    names = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            names.add(str(fd.readlink()))
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


@pytest.mark.parametrize(("fd", "count", "words"), [
    (7, 0, ("--bind", "fd:7", "-b", "fd:8,fd:9")), (3, 3, ()),
], ids=["--bind", "LISTEN_FDS"])  # fmt: skip
def test_several_sockets_are_all_served(run, tmp_path, fd, count, words):
    running = run("tcp,unix,tcp6", fd, count, *words)
    running.address()
    line = running.shown.splitlines()[0].partition("listening on ")[2]
    first, path, last = line.split(" and ")
    assert path == f"unix:{tmp_path}/socket"
    assert last.startswith("http://[::1]:")
    for url in (first, last):
        assert httpx.get(url, timeout=DEADLINE).status_code == 200
    with httpx.Client(transport=httpx.HTTPTransport(uds=f"{tmp_path}/socket")) as client:
        assert client.get("http://localhost/").status_code == 200
    running.signal(15)
    assert running.status() == 0
    assert (tmp_path / "socket").is_socket()


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
            for _ in range(2):
                before = running.worker()
                running.signal(signal.SIGHUP)
                begun, pid = told(systemd)
                assert begun.startswith(b"RELOADING=1\nMONOTONIC_USEC=")
                assert pid == running.process.pid
                assert told(systemd) == (b"READY=1", running.process.pid)
                assert running.worker() != before
            running.signal(15)
            assert told(systemd) == (b"STOPPING=1", running.process.pid)
            assert running.status() == 0


def test_systemd_hears_that_the_node_lives_and_no_more_when_it_does_not(tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        systemd.settimeout(DEADLINE)
        systemd.bind(address)
        variables = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}
        words = (*HERE, "--port", 0, "--drain-delay", "1s")
        with closing(Running(tmp_path, *words, variables=variables)) as running:
            assert b"WATCHDOG_USEC" not in Path(f"/proc/{running.worker()}/environ").read_bytes()
            said = [told(systemd) for _ in range(4)]
            assert (b"READY=1", running.process.pid) in said
            assert said.count((b"WATCHDOG=1", running.process.pid)) == 3
            node = running.named("beam")
            os.kill(node, signal.SIGSTOP)
            with pytest.raises(TimeoutError):
                systemd.settimeout(1)
                while told(systemd):
                    pass
            os.kill(node, signal.SIGCONT)
            systemd.settimeout(DEADLINE)
            assert told(systemd)[0] == b"WATCHDOG=1"
            running.signal(15)
            while told(systemd)[0] != b"STOPPING=1":
                pass
            assert told(systemd)[0] == b"WATCHDOG=1"
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


def test_a_restart_refuses_nobody(tmp_path):
    """Who connects meanwhile waits in the socket, which stays open, and the next one serves him."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=100) as opened,
        ThreadPoolExecutor(1) as pool,
    ):
        words, keep = (*HERE, "--fd", opened.fileno()), (opened.fileno(),)
        over = threading.Event()
        answers: list[bytes] = []
        clients = pool.submit(come_and_go, opened.getsockname(), answers, over)
        try:
            for number in range(3):
                (folder := tmp_path / str(number)).mkdir()
                with closing(Running(folder, *words, keep=keep)) as running:
                    enough = len(answers) + 20
                    eventually(lambda: len(answers) >= enough)  # noqa: B023
                    running.signal(signal.SIGTERM)
                    assert running.status() == 0
            (folder := tmp_path / "last").mkdir()
            with closing(Running(folder, *words, keep=keep)):
                over.set()
                clients.result(DEADLINE)
        finally:
            over.set()
    assert set(answers) == {b"HTTP/1.1 200"}


def come_and_go(address: tuple[str, int], answers: list[bytes], over: threading.Event) -> None:
    """Ask once on each of many connections, one after the other; note how answers begin."""
    while not over.is_set():
        with socket.create_connection(address, DEADLINE) as client:
            client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
            try:
                answers.append(client.recv(12))
            except OSError as error:
                answers.append(str(error).encode())


def test_systemd_socket_activate_starts_it(tmp_path):
    program = shutil.which("systemd-socket-activate") or pytest.skip("no systemd here")
    place = tmp_path / "socket"
    before = [program, "-l", place, "-E", "PYTHONPATH", "-E", "PATH"]
    with closing(Running(tmp_path, *HERE, before=before)) as running:
        eventually(place.is_socket)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(place))) as client:
            assert client.get("http://localhost/", timeout=DEADLINE).status_code == 200
        assert running.address() == f"unix:{place}"


def test_a_drain_by_its_local_socket_is_a_stop(tmp_path):
    place = tmp_path / "local"
    words = (*HERE, "--port", 0, "--local-socket", place, "--health-path", "/healthz",
             "--drain-delay", "2s")  # fmt: skip
    with closing(Running(tmp_path, *words)) as running:
        running.get()
        answer = hornbeam("drain", "--socket", place)
        assert (answer.status, answer.err) == (0, "")
        assert running.get("/healthz").json()["status"] == "draining"
        assert running.get().status_code == 200
        assert running.status() == 0
        assert "ERROR" not in running.shown
