"""The layers of frameworks over two workers: Socket.IO and Litestar's channels, by real clients."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import httpx
import pytest
import socketio
import websockets
from harness import DEADLINE, PATIENCE, eventually
from visitors import Visitor, at, environment, run


@pytest.fixture
def chat(serve):
    return serve("rooms:application", workers=2)


class Client:
    """A client of Socket.IO by WebSocket, and what it has heard."""

    def __init__(self) -> None:
        self.socket = socketio.AsyncClient(reconnection=False)
        self.heard: asyncio.Queue = asyncio.Queue()
        self.worker = 0
        self.sid = ""

    async def connect(self, server) -> Client:
        welcomed = asyncio.get_running_loop().create_future()
        self.socket.on("welcome", welcomed.set_result)
        self.socket.on("said", self.heard.put_nowait)
        self.socket.on("disconnect", lambda *_: self.heard.put_nowait("disconnected"))
        await self.socket.connect(f"http://127.0.0.1:{server.port}", transports=["websocket"])
        told = await asyncio.wait_for(welcomed, PATIENCE)
        self.worker, self.sid = told["worker"], told["sid"]
        return self

    async def next(self):
        return await asyncio.wait_for(self.heard.get(), PATIENCE)


async def in_two_workers(server) -> tuple[Client, Client, list[Client]]:
    """Connect until there are clients in two workers."""
    clients = [await Client().connect(server)]
    while len({client.worker for client in clients}) < 2:
        clients.append(await Client().connect(server))
    return clients[0], clients[-1], clients


async def with_two(server, talk) -> None:
    one, other, clients = await in_two_workers(server)
    try:
        await talk(one, other)
    finally:
        for client in clients:
            await client.socket.disconnect()


def test_a_room_of_socketio_reaches_members_in_all_workers(chat):
    async def talk(one: Client, other: Client) -> None:
        for client in (one, other):
            await client.socket.call("join", "lobby")
        await one.socket.emit("say", ("lobby", "größe"))
        for client in (one, other):
            assert await client.next() == {"text": "größe", "data": b"\x00\xff"}

    asyncio.run(with_two(chat, talk))


def test_one_worker_of_socketio_moves_and_ends_the_clients_of_another(chat):
    async def talk(one: Client, other: Client) -> None:
        await one.socket.emit("bring", (other.sid, "cellar"))
        await one.socket.emit("say", ("cellar", "hello"))
        assert (await other.next())["text"] == "hello"
        await one.socket.emit("expel", other.sid)
        assert await other.next() == "disconnected"

    asyncio.run(with_two(chat, talk))


def test_a_burst_reaches_the_clients_of_all_workers_as_a_whole(chat):
    number = 5000

    async def talk(one: Client, other: Client) -> None:
        for client in (one, other):
            await client.socket.call("join", "lobby")
        await one.socket.emit("count", ("lobby", number))
        for client in (one, other):
            assert [await client.next() for _ in range(number)] == list(range(number))

    asyncio.run(with_two(chat, talk))


def test_a_manager_outside_hears_the_next_server_and_says_once_that_there_is_none(
    own_node, tmp_path
):
    path = str(tmp_path / "local")
    listener = Visitor(environment(HORNBEAM_SOCKET=path))
    listener("""
        import queue
        from hornbeam_erlang.socketio import HornbeamSyncManager
        heard, said = queue.Queue(), []
        logger = logging.getLogger("manager")
        logger.addFilter(lambda record: said.append(record.getMessage()))
        manager = HornbeamSyncManager(logger=logger)
        def listen():
            for message in manager._listen():
                heard.put(message)
        threading.Thread(target=listen, daemon=True).start()
    """)
    eventually(lambda: listener("said"))
    heard = "length(hornbeam_pubsub_fanout:all_subscribers())"
    for number, word in enumerate(("one", "two"), start=2):
        server = own_node.serve("rooms:application", workers=1, local_socket=path)
        eventually(lambda: own_node.eval(heard) > 0)
        source = """
            from hornbeam_erlang.socketio import HornbeamSyncManager
            HornbeamSyncManager(write_only=True).emit(word, {})
            result = None
        """
        run(source, environment(HORNBEAM_SOCKET=path), word=word)
        assert f'"event": "{word}"' in listener(f"heard.get(timeout={DEADLINE})")
        server.stop()
        eventually(lambda number=number: len(listener("said")) == number)
    listener.kill()


def test_a_script_outside_emits_to_the_clients_of_all_workers(chat):
    source = """
        import socketio
        from hornbeam_erlang.socketio import HornbeamManager, HornbeamSyncManager
        HornbeamSyncManager(write_only=True).emit("said", {"text": "one"}, room="lobby")
        async def emit():
            await HornbeamManager(write_only=True).emit("said", {"text": "two"}, room="lobby")
        asyncio.run(emit())
        result = None
    """

    async def talk(one: Client, other: Client) -> None:
        for client in (one, other):
            await client.socket.call("join", "lobby")
        await asyncio.to_thread(run, source, at(chat))
        for client in (one, other):
            assert [(await client.next())["text"] for _ in range(2)] == ["one", "two"]

    asyncio.run(with_two(chat, talk))


def test_a_worker_that_is_killed_leaves_the_others_their_rooms(chat):
    async def talk(one: Client, other: Client) -> None:
        for client in (one, other):
            await client.socket.call("join", "lobby")
        os.kill(one.worker, signal.SIGKILL)
        assert await one.next() == "disconnected"
        third = await Client().connect(chat)
        await third.socket.call("join", "lobby")
        await third.socket.emit("say", ("lobby", "still here"))
        assert (await other.next())["text"] == "still here"
        await third.socket.disconnect()

    asyncio.run(with_two(chat, talk))


def test_channels_of_litestar_reach_the_sockets_of_all_workers(serve):
    server = serve("channelled:application", workers=2)
    url = f"ws://127.0.0.1:{server.port}"

    async def talk() -> None:
        async with (
            websockets.connect(f"{url}/hear/news") as one,
            websockets.connect(f"{url}/hear/news") as two,
            websockets.connect(f"{url}/hear/other") as other,
        ):
            workers = set()
            count = 0
            while len(workers) < 2:
                async with websockets.connect(f"{url}/say/news") as sayer:
                    await sayer.send(f"{count}")
                    workers.add(await sayer.recv())
                count += 1
            for reader in (one, two):
                heard = [await asyncio.wait_for(reader.recv(), PATIENCE) for _ in range(count)]
                assert [str(json.loads(text)) for text in map(_text, heard)] == [
                    str(n) for n in range(count)
                ]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(other.recv(), 0.2)

    asyncio.run(talk())
    assert httpx.get(f"http://127.0.0.1:{server.port}/worker").status_code == 200


def _text(data: str | bytes) -> str:
    return data if isinstance(data, str) else data.decode()
