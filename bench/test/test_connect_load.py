"""The load of whole lives believes none of their stages: each wrong one stops it."""

import socket

import pytest
import raw
from faulty import Faulty

from harness.load import LoadError, window
from servers.certificate import Certificate

FAULTS = {
    "refused": "the handshake was refused: HTTP/1.1 403",
    "accept": "the handshake was refused: HTTP/1.1 101",
    "cut": "the handshake broke off: end of file",
    "early": "a message to nobody|a second echo|expected",
    "changed": "the text after its number has changed",
    "bytes": "expected a text of 20 bytes, got opcode 2",
    "doubled": "a second echo",
    "code": "the server closed with code 1001",
    "closes": "the server closed with code 1000",
    "no close": "the server hung up: end of file",
    "resets": "not an end but Connection reset by peer|the server hung up: Connection reset",
    "after": "a frame after Close|not an end but a byte",
    "stays": "nothing for 5000 ms with [1-3] lives in progress",
    "silent": "nothing for 5000 ms with [1-3] lives in progress",
}
LOAD = {"lives": 3, "size": 20, "warmup": 0, "seconds": 0.2}


def wrong(fault: str) -> raw.Talk:
    """A whole life that goes wrong at one stage, or at none."""

    def talk(connection: socket.socket) -> None:
        raw.read_request(connection)
        if fault == "cut":
            return connection.sendall(raw.UPGRADED[:40])
        connection.sendall(upgraded(fault))
        _, text = raw.read_frame(connection)
        connection.sendall(echoed(fault, text))
        if fault in ("no close", "silent"):
            raw.read_frame(connection)
        if fault == "no close":
            return None
        if fault == "silent":
            return for_ever(connection)
        opcode, code = raw.read_frame(connection)
        while opcode != raw.CLOSE:  # a pong
            opcode, code = raw.read_frame(connection)
        connection.sendall(closed(fault, code))
        if fault == "resets":
            raw.reset(connection)
        if fault == "stays":
            for_ever(connection)
        return None

    return talk


def upgraded(fault: str) -> bytes:
    """What comes where the upgrade is due."""
    return {
        "refused": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        "accept": raw.UPGRADED.replace(b"s3pP", b"S3pP"),
        "early": raw.UPGRADED + raw.frame(raw.TEXT, b"welcome"),
    }.get(fault, raw.UPGRADED)


def echoed(fault: str, text: bytes) -> bytes:
    """What comes where the echo is due."""
    right = raw.frame(raw.TEXT, text)
    return {
        "changed": raw.frame(raw.TEXT, text[:-1] + b"\x01"),
        "bytes": raw.frame(raw.BINARY, text),
        "doubled": right * 2,
        "closes": raw.frame(raw.CLOSE, b"\x03\xe8"),
    }.get(fault, raw.frame(raw.PING, b"?") + right if fault == "none" else right)


def closed(fault: str, code: bytes) -> bytes:
    """What comes where the answer to Close is due."""
    right = raw.frame(raw.CLOSE, code)
    return {
        "code": raw.frame(raw.CLOSE, b"\x03\xe9"),
        "after": right + raw.frame(raw.TEXT, b"more"),
    }.get(fault, right)


def for_ever(connection: socket.socket) -> None:
    """Hold a connection until the load is gone."""
    while connection.recv(4096):
        pass


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_life_is_an_error(fault: str, shown: Certificate | None) -> None:
    with raw.Raw(wrong(fault), shown) as server, pytest.raises(LoadError, match=FAULTS[fault]):
        window(server, "connect", **LOAD)


@pytest.mark.parametrize("sources", [1, 3])
def test_right_lives_are_counted_and_paid_for(sources: int, shown: Certificate | None) -> None:
    with Faulty("wrong_echo", "none", shown) as server:
        figures = window(server, "connect", sources=sources, **LOAD)
    assert figures["messages"] > 20
    assert figures["cpu_us"] > 0
    assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["max_us"] * 1.02


@pytest.mark.parametrize("notifies", [True, False])
def test_ends_that_tls_does_not_know_of_are_counted(
    notifies: bool, certificate: Certificate
) -> None:
    with raw.Raw(wrong("none"), certificate, notifies) as server:
        figures = window(server, "connect", **LOAD)
    assert figures["without_close_notify"] == (0 if notifies else figures["messages"])


def test_lives_come_from_as_many_addresses_as_are_asked_for() -> None:
    seen = set()

    def talk(connection: socket.socket) -> None:
        seen.add(connection.getpeername()[0])
        wrong("none")(connection)

    with raw.Raw(talk) as server:
        window(server, "connect", sources=3, **LOAD)
    assert seen == {"127.0.0.1", "127.0.0.2", "127.0.0.3"}


def test_a_server_that_is_gone_is_an_error() -> None:
    with raw.Raw(wrong("none")) as server:
        pass
    with pytest.raises(LoadError, match=r"cannot (connect|send the handshake)"):
        window(server, "connect", **LOAD)
