"""Consumers of Django Channels over two workers, by WebSocket clients, past the ends of workers."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal

import httpx
import pytest
import websockets
from harness import DEADLINE, eventually
from terms import Atom
from test_mounts import at, started

KINDS = ["async", "sync"]


class Client:
    """One WebSocket in a room, and what it has heard: texts, and where its consumers run."""

    def __init__(self, socket) -> None:
        self.socket = socket
        self.texts: list[str] = []
        self.places: list[tuple[int, str]] = []
        self.news = asyncio.Event()
        self.task = asyncio.create_task(self._hear())

    async def _hear(self) -> None:
        async for text in self.socket:
            if text[0].isdigit() and " " in text:
                pid, _, channel = text.partition(" ")
                self.places.append((int(pid), channel))
            else:
                self.texts.append(text)
            self.news.set()

    async def until(self, condition) -> None:
        async with asyncio.timeout(2 * DEADLINE):  # a worker may have to import Django anew
            while not condition():
                self.news.clear()
                await self.news.wait()

    @property
    def pid(self) -> int:
        return self.places[-1][0]


class Room:
    """Clients in one room of a server, in two workers."""

    def __init__(self, server, kind: str, name: str) -> None:
        self.server, self.kind, self.name = server, kind, name
        self.clients: list[Client] = []

    async def __aenter__(self) -> Room:
        # The test before may have ended a worker: all clients would come to the other one.
        await asyncio.to_thread(eventually, self._are_workers_ready, 2 * DEADLINE)
        while len({client.pid for client in self.clients}) < 2:
            await self.enter()
        return self

    async def __aexit__(self, *error) -> None:
        for client in self.clients:
            await client.socket.close()
            await client.task

    def _are_workers_ready(self) -> bool:
        states = [worker["state"] for worker in self.server.workers()]
        return len(states) >= 2 and {*states} == {"ready"}

    async def enter(self) -> None:
        socket = await websockets.connect(f"{self.server.ws}/{self.kind}/{self.name}")
        self.clients.append(Client(socket))
        await self.clients[-1].until(lambda: self.clients[-1].places)

    async def say(self, *texts: str, path: str = "", statuses=(204,)) -> list[int]:
        """Send texts from as many requests at once; return the statuses of the answers."""
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(base_url=self.server.http, limits=limits) as http:
            address = f"{path}/say/{self.name}"
            answers = [http.get(address, params={"text": text}, timeout=60) for text in texts]
            said = [answer.status_code for answer in await asyncio.gather(*answers)]
        assert set(said) <= set(statuses)
        return said

    async def heard_by_all(self, texts: set[str]) -> None:
        for client in self.clients:
            await client.until(lambda client=client: texts <= set(client.texts))


@pytest.fixture(params=["hornbeam", "cowboy"])
def server(serve, request):
    engine = Atom(request.param)
    return serve("consuming:application", workers=2, websocket_resume=True, http_engine=engine)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_thousand_sends_of_synchronous_views_reach_all(server, kind, key):
    async with Room(server, kind, key) as room:
        texts = [f"text{n}" for n in range(1000)]
        for first in range(0, 1000, 50):
            await room.say(*texts[first : first + 50])
            await room.heard_by_all(set(texts[: first + 50]))
        for client in room.clients:
            assert sorted(client.texts) == sorted(texts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["kill -9", "reload"])
async def test_what_is_said_beside_the_end_of_a_worker_is_lost_to_nobody_else(
    server, kind, end, key
):
    """A member misses at most what was said between its worker's end and its consumer's connect."""
    async with Room(server, kind, key) as room:
        is_over = False
        unanswered = []  # their requests ended with the worker: they may be said, or not

        async def talk() -> None:
            for n in itertools.count():
                if is_over:
                    return
                if await room.say(f"text{n}", statuses=(204, 502)) == [502]:
                    unanswered.append(n)

        before = {client: client.pid for client in room.clients}
        victim = room.clients[0].pid
        ended = [client for client in room.clients if end == "reload" or client.pid == victim]
        async with asyncio.TaskGroup() as talking:
            talking.create_task(talk())
            await room.clients[0].until(lambda: len(room.clients[0].texts) > 3)
            if end == "reload":
                assert await asyncio.to_thread(server.node.eval, "hornbeam:reload()") == "ok"
            else:
                os.kill(victim, signal.SIGKILL)
            for client in ended:
                await client.until(lambda client=client: client.pid != before[client])
            for client in room.clients:
                more = len(client.texts) + 3
                await client.until(lambda client=client, more=more: len(client.texts) > more)
            is_over = True
        await room.say("last")
        await room.heard_by_all({"last"})
        for client in room.clients:
            numbers = [int(text.removeprefix("text")) for text in client.texts[:-1]]
            assert numbers == sorted(set(numbers))
            gaps = [
                missed
                for one, after in itertools.pairwise([-1, *numbers])
                if (missed := {*range(one + 1, after)} - {*unanswered})
            ]
            assert len(gaps) <= (client in ended)
        assert len(unanswered) <= (end == "kill -9")


async def test_a_channel_is_spoken_to_by_a_view_in_another_worker(server, key):
    async with Room(server, "async", key) as room:
        for client in room.clients:
            for _ in range(6):  # in either worker
                params = {"channel": client.places[-1][1], "text": "for you"}
                async with httpx.AsyncClient(base_url=server.http) as http:
                    assert (await http.get("/tell", params=params)).status_code == 204
            await client.until(lambda client=client: client.texts == ["for you"] * 6)


async def test_views_of_a_wsgi_app_at_another_path_speak_to_the_consumers(own_node, key):
    wsgi = at("/wsgi", "consuming:wsgi", worker_class=Atom("wsgi"))
    server = started(own_node, at("/", "consuming:application"), wsgi, workers=2)
    async with Room(server, "sync", key) as room:
        texts = {f"text{n}" for n in range(100)}
        await room.say(*texts, path="/wsgi")
        await room.heard_by_all(texts)
