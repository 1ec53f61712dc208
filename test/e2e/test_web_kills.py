"""The web room's own processes die under load: nobody who is connected notices."""

from __future__ import annotations

import contextlib
import http.client
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from clients import CLOSE, TEXT, RawWebSocket
from harness import DEADLINE, Server, eventually

SOCKETS = 12
REQUESTERS = 3

VICTIMS = {
    "the listener": "[whereis(hornbeam_listener)]",
    "who counts the connections": "[whereis(hornbeam_connection_limit)]",
    "both": "[whereis(hornbeam_connection_limit), whereis(hornbeam_listener)]",
    "an acceptor": "[hd(ranch:procs(hornbeam, acceptors))]",
}
"""Erlang that names processes; killed, they are followed by others of the same name."""


class Load:
    """WebSockets that echo, and clients that ask again and again on connections they keep."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.over = threading.Event()
        self.turns = [0] * (SOCKETS + REQUESTERS)
        self.failures: list[BaseException] = []
        self.sockets = [RawWebSocket(server, "/who") for _ in range(SOCKETS)]
        for ws in self.sockets:
            ws.read_message()
        work = [self.echo] * SOCKETS + [self.ask] * REQUESTERS
        self.threads = [
            threading.Thread(target=self.until_over, args=(each, place))
            for place, each in enumerate(work)
        ]
        for thread in self.threads:
            thread.start()

    def until_over(self, work: Callable[[int], None], place: int) -> None:
        try:
            work(place)
        except BaseException as failure:
            self.failures.append(failure)

    def echo(self, place: int) -> None:
        ws = self.sockets[place]
        while not self.over.is_set():
            data = b"%d" % self.turns[place]
            ws.frame(TEXT, data)
            assert ws.read_message() == data
            self.turns[place] += 1

    def ask(self, place: int) -> None:
        client = http.client.HTTPConnection(self.server.host, self.server.port, DEADLINE)
        with contextlib.closing(client):
            client.connect()
            first = client.sock
            while not self.over.is_set():
                client.request("GET", "/journal/0?x")
                answer = client.getresponse()
                assert (answer.status, client.sock) == (200, first)
                answer.read()
                self.turns[place] += 1

    def goes_on(self) -> None:
        """Wait until each of them has had a few more turns."""
        before = list(self.turns)
        eventually(
            lambda: (
                self.failures
                or all(now >= then + 3 for then, now in zip(before, self.turns, strict=True))
            )
        )
        assert not self.failures

    def end(self) -> None:
        """Let all requesters go; the WebSockets stay open."""
        self.over.set()
        for thread in self.threads:
            thread.join(DEADLINE)


@contextlib.contextmanager
def loaded(server: Server) -> Iterator[Load]:
    load = Load(server)
    try:
        yield load
    finally:
        load.end()
        for ws in load.sockets:
            ws.socket.close()


def killed(server: Server, victims: str) -> None:
    """Kill processes and wait until others have taken their places."""
    server.node.eval(
        f"Old = {victims}, [exit(Pid, kill) || Pid <- Old],"
        "[receive {'DOWN', _, process, Pid, _} -> ok end"
        " || Pid <- Old, _ <- [monitor(process, Pid)]]"
    )
    eventually(
        lambda: server.node.eval(
            f"try lists:all(fun erlang:is_process_alive/1, {victims}) catch _:_ -> false end"
        )
    )


def sockets_of(server: Server) -> int | None:
    """Count the connections, unless there is nobody to ask for a moment."""
    return server.info().get("sockets")


@pytest.mark.parametrize("victims", VICTIMS.values(), ids=VICTIMS.keys())
def test_whoever_is_killed_clients_go_on_and_others_come(own_node, victims):
    server = own_node.serve("failures:application")
    with loaded(server) as load:
        # A supervisor lets ten die in ten seconds.
        for _ in range(3):
            killed(server, victims)
            load.goes_on()
            with RawWebSocket(server, "/who") as late:
                late.read_message()
                eventually(lambda: sockets_of(server) == SOCKETS + REQUESTERS + 1)
                late.frame(CLOSE, struct.pack(">H", 1000))
                late.read_close()
            eventually(lambda: sockets_of(server) == SOCKETS + REQUESTERS)
        load.end()
        eventually(lambda: sockets_of(server) == SOCKETS)
        with ThreadPoolExecutor() as pool:
            stopped = pool.submit(server.stop)
            for ws in load.sockets:
                assert ws.read_close() == (1001, "the server stops")
                ws.socket.close()
            stopped.result()
    again = own_node.serve("failures:application")
    assert sockets_of(again) == 0
    with RawWebSocket(again, "/who") as ws:
        ws.read_message()
        assert sockets_of(again) == 1


def test_who_comes_and_goes_while_nobody_counts_is_counted(serve):
    server = serve("failures:application", fresh=True)
    stays = [RawWebSocket(server, "/who") for _ in range(3)]
    goes = RawWebSocket(server, "/who")
    eventually(lambda: sockets_of(server) == 4)
    node = server.node
    node.eval("supervisor:terminate_child(hornbeam_server_sup, hornbeam_connection_limit)")
    goes.socket.close()
    stays.append(RawWebSocket(server, "/who"))
    stays.append(RawWebSocket(server, "/who"))
    node.eval("{ok, _} = supervisor:restart_child(hornbeam_server_sup, hornbeam_connection_limit)")
    eventually(lambda: sockets_of(server) == 5)
    for ws in stays:
        ws.socket.close()
    eventually(lambda: sockets_of(server) == 0)


def test_a_limit_holds_after_the_death_of_who_counts(serve):
    server = serve("failures:application", fresh=True, max_connections=3)
    sockets = [RawWebSocket(server, "/who") for _ in range(3)]
    for _ in range(3):
        killed(server, VICTIMS["who counts the connections"])
        with pytest.raises(AssertionError, match="503"):
            RawWebSocket(server, "/who")
        sockets.pop().socket.close()
        eventually(lambda: sockets_of(server) == 2)
        # The app's handler takes a place until it has ended, too.
        eventually(lambda: server.info()["streams"] == 2)
        sockets.append(RawWebSocket(server, "/who"))
        assert sockets_of(server) == 3
    for ws in sockets:
        ws.socket.close()


def test_an_idle_websocket_is_not_told_to_stay_away_after_a_suspension(own_node):
    """A client that was told 1000 would not come again, and it has done nothing wrong."""
    server = own_node.serve("failures:application", websocket_timeout=1500)
    ws = RawWebSocket(server, "/who")
    ws.read_message()
    own_node.process.send_signal(signal.SIGSTOP)
    time.sleep(2.5)  # the time that passes is what is tried
    own_node.process.send_signal(signal.SIGCONT)
    try:
        code, _reason = ws.read_close()
    except (EOFError, ConnectionError):
        code = 1006
    assert code in (1001, 1006)
    with RawWebSocket(server, "/who") as next_one:
        next_one.read_message()
