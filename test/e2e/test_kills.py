"""Processes of the node are killed, one after the other, under load: no client notices."""

from __future__ import annotations

import json
import socket
import threading

import pytest
from clients import RawWebSocket
from harness import DEADLINE, Node, Server, eventually

PROCESSES = {
    name: f"whereis({name})"
    for name in (
        "hornbeam_state_sweeper",
        "hornbeam_scoped_state",
        "hornbeam_hooks",
        "hornbeam_executions_sup",
        "hornbeam_pubsub_registry",
        "hornbeam_pubsub_peers",
        "hornbeam_pubsub_inbox_sup",
        "hornbeam_links",
        "hornbeam_links_sup",
        "hornbeam_presence_server",
        "hornbeam_counter_server",
        "hornbeam_api_sup",
    )
}
"""What is killed, and the expression that finds it; it is undefined, or fails, while it is away."""

SOCKETS, KILLS = 6, 3

PUBLISH = """
true = register(publisher, spawn(fun() ->
    (fun Publish(N) ->
        [hornbeam:publish(Topic, N) || Topic <- [TOPICS]],
        receive {stop, From} -> From ! {stopped, N} after 2 -> Publish(N + 1) end
    end)(1)
end)), ok
"""
"""Numbers, until it is told to stop."""

STOP = "publisher ! {stop, self()}, receive {stopped, N} -> N end"

KILL = """
Find = fun() -> try FIND catch _:_ -> undefined end end,
Before = Find(),
exit(Before, kill),
(fun Again() ->
    case Find() of
        After when is_pid(After), After =/= Before -> ok;
        _ -> receive after 5 -> Again() end
    end
end)()
"""


class Client:
    """A socket whose messages are read all the time, into a list for each topic."""

    def __init__(self, server: Server, key: str) -> None:
        self.ws = RawWebSocket(server, f"/bound?{key}")
        self.said: dict[str, list[int]] = {key: [], f"{key} forwarded": []}
        self.begun = threading.Event()
        self.failure: BaseException | None = None
        self.reader = threading.Thread(target=self.read, args=[f"{key} forwarded"], daemon=True)
        self.reader.start()
        assert self.begun.wait(DEADLINE)

    def read(self, forwarded: str) -> None:
        try:
            while True:
                match json.loads(self.ws.read_message()):
                    case int(number):
                        self.said[forwarded].append(number)
                    case None:
                        self.begun.set()
                    case [topic, number]:
                        self.said[topic].append(number)
        except BaseException as error:
            self.failure = error

    def close(self) -> None:
        self.ws.socket.shutdown(socket.SHUT_RDWR)  # the reader holds it open past a close
        self.reader.join(DEADLINE)
        self.ws.socket.close()

    def has(self, number: int) -> bool:
        assert self.failure is None
        return all(numbers and numbers[-1] == number for numbers in self.said.values())


def counted(node: Node, key: str) -> int:
    return node.eval(f'hornbeam_state:get(<<"{key}">>, 0)')


@pytest.mark.parametrize("process", PROCESSES)
def test_a_killed_process_costs_no_socket_and_no_subscription(serve, process):
    server = serve("resuming:application", workers=2, fresh=True, websocket_resume=True)
    node, key = server.node, f"kills-of-{process}"
    clients = [Client(server, key) for _ in range(SOCKETS)]
    node.eval(PUBLISH.replace("TOPICS", f'<<"{key}">>, <<"{key} forwarded">>'))
    for _ in range(KILLS):
        reload = threading.Thread(target=node.eval, args=["hornbeam:reload()", 60])
        reload.start()
        while reload.is_alive():
            node.eval(KILL.replace("FIND", PROCESSES[process]))
            reload.join(0.7)  # a supervisor bears ten deaths in ten seconds
        clients.append(Client(server, key))
    # What is published to a socket on its way may be lost.
    eventually(lambda: are_settled(server, len(clients)))
    number = node.eval(STOP) + 1
    assert published(node, key, number) == 2 * len(clients)
    eventually(lambda: all(client.has(number) for client in clients))
    for client in clients:
        for numbers in client.said.values():
            assert numbers == sorted(set(numbers))
    assert counted(node, key) == len(clients)
    for client in clients:
        client.close()
    eventually(lambda: counted(node, key) == 0)


def are_settled(server: Server, clients: int) -> bool:
    workers = server.workers()
    return [worker["state"] for worker in workers] == ["ready", "ready"] and sum(
        worker["streams"] for worker in workers
    ) == clients


def published(node: Node, key: str, number: int) -> int:
    return node.eval(
        f'lists:sum([hornbeam:publish(Topic, {number}) || Topic <- [<<"{key}">>,'
        f' <<"{key} forwarded">>]])'
    )
