"""The idle load does not believe that a silent socket is open; nor is memory taken in motion."""

import socket
import subprocess
import sys

import pytest
import raw
from faulty import Faulty

from harness import probe
from harness.load import LoadError, window

FAULTS = {
    "speaks": "a message while it is idle|expected a text of 16 bytes",
    "closes": "the server closed with code 1001",
    "hangs up": "the server hung up: end of file",
    "changed": "the text after its number has changed|expected [0-9a-f]{16}",
    "deaf": "no echo within 5000 ms",
}
SOCKETS = 3
GROWS = "import time\nkept = []\nwhile True: kept.append(b'x' * 100000); time.sleep(0.001)"


def wrong(fault: str, pongs: list[bytes]) -> raw.Talk:
    """An echo that goes wrong once it is idle, or pings and goes right."""

    def talk(connection: socket.socket) -> None:
        raw.read_request(connection)
        connection.sendall(raw.UPGRADED)
        if fault == "hangs up":
            return None
        connection.sendall(
            {
                "speaks": raw.frame(raw.TEXT, b"hello"),
                "closes": raw.frame(raw.CLOSE, b"\x03\xe9"),
                "pings": raw.frame(raw.PING, b"are you there?"),
            }.get(fault, b"")
        )
        while True:
            opcode, payload = raw.read_frame(connection)
            if opcode == raw.PONG:
                pongs.append(payload)
            elif opcode == raw.CLOSE:
                return connection.sendall(raw.frame(raw.CLOSE, payload))
            elif fault != "deaf":
                last = bytes((payload[-1] ^ 1,)) if fault == "changed" else payload[-1:]
                connection.sendall(raw.frame(raw.TEXT, payload[:-1] + last))

    return talk


@pytest.mark.parametrize("fault", FAULTS)
def test_a_socket_that_is_not_idle_and_open_is_an_error(fault: str) -> None:
    talk = wrong(fault, [])
    with raw.Raw(talk) as server, pytest.raises(LoadError, match=FAULTS[fault]):
        window(server, "idle", sockets=SOCKETS)


def test_pings_are_answered() -> None:
    pongs: list[bytes] = []
    with raw.Raw(wrong("pings", pongs)) as server:
        window(server, "idle", sockets=SOCKETS)
    assert pongs == [b"are you there?"] * SOCKETS


@pytest.mark.parametrize("messages", [0, 1])
def test_all_sockets_are_open_while_the_harness_looks(messages: int) -> None:
    with Faulty("wrong_echo", "none") as server:
        rest = probe.descriptors(server.pid)
        figures = window(
            server,
            "idle",
            after=lambda: probe.descriptors(server.pid),
            sockets=SOCKETS,
            messages=messages,
        )
    assert figures["messages"] == SOCKETS
    assert figures["after"] == rest + SOCKETS


def test_memory_that_does_not_change_is_settled() -> None:
    # A process of its own, known by its command: whoever runs the tests may have another name.
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as waiting:
        kinds = probe.settled([waiting.pid])
        waiting.kill()
    assert kinds["Python"] >= 1 << 20
    assert kinds["BEAM"] == 0


def test_memory_that_grows_is_not_settled() -> None:
    with subprocess.Popen([sys.executable, "-c", GROWS]) as growing:
        try:
            with pytest.raises(TimeoutError, match="has not settled within 2 s"):
                probe.settled([growing.pid], within=2.0)
        finally:
            growing.kill()
