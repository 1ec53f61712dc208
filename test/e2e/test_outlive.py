"""A crowd of sockets that outlive their workers, and what becomes of it without that.

Every socket counts aloud and hears an echo of an app that does not wait between a message and its
answer; for those, docs/guide/websocket.md promises every answer once and in order. HORNBEAM_CROWD
sets the number of sockets, HORNBEAM_CROWD_PERIOD (s) how often each speaks:

    HORNBEAM_CROWD=2000 HORNBEAM_CROWD_PERIOD=1 pytest -c python/pyproject.toml -s \\
        test/e2e/test_outlive.py

How long anybody waited for an echo is printed after each event and is no part of the verdict.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable
from typing import Any

from consoles import ready
from crowds import TEXT, Client, Crowd
from harness import Server, eventually

SOCKETS = int(os.environ.get("HORNBEAM_CROWD", "300"))
PERIOD = float(os.environ.get("HORNBEAM_CROWD_PERIOD", "0.5"))
WORKERS = 2
HANG_TIMEOUT = 3000
"""Milliseconds. Nobody else is to be taken for hung on a machine that has much to do."""


async def killed(server: Server, pid: int) -> None:
    """Kill a worker as `kill -9` does, and wait until another is ready in its place."""
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(replaced, server, pid)


async def reloaded(server: Server) -> None:
    """Load the app anew, and wait until no worker is left of the old ones."""
    pids = server.worker_pids()
    assert await asyncio.to_thread(server.node.eval, "hornbeam:reload()", 60) == "ok"
    await asyncio.to_thread(replaced, server, *pids)


async def hung(server: Server) -> None:
    """Have a handler block its worker's loop, and wait until the worker is replaced."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Client("/hangs"), server.host, server.port)
    await client.opened
    query = '[maps:with([worker], C) || C <- hornbeam:connections(#{path => <<"/hangs">>})]'
    # A client has its 101 a moment before its connection is listed.
    [row] = await asyncio.to_thread(eventually, lambda: server.node.eval(query))
    [pid] = [w["os_pid"] for w in server.workers() if w["name"] == row["worker"]]
    client.write(TEXT, b"1")
    await asyncio.to_thread(replaced, server, pid)
    assert client.code is None
    client.leave()


async def resized(server: Server, count: int) -> None:
    """Run another number of workers, and wait until it is that."""
    assert server.node.eval(f"hornbeam:set_workers({count})") == "ok"
    await asyncio.to_thread(ready, server, count)


def replaced(server: Server, *pids: int) -> None:
    """Wait until as many workers as before are ready and none of these is left."""
    eventually(lambda: not set(pids) & set(ready(server, WORKERS)), 60)


async def happened(crowd: Crowd, what: str, event: Awaitable[Any]) -> None:
    """Let something happen, wait until all have heard of the app again, and tell of it."""
    await crowd.all_heard()
    crowd.longest()
    await event
    await crowd.all_heard()
    tell(f"{what}: the longest wait for an echo was {crowd.longest():.2f} s")


def tell(what: object) -> None:
    """Tell whoever runs the tests with -s."""
    print(f"\n{what}", end="")  # noqa: T201


def test_nobody_is_closed_and_nothing_is_lost_whatever_becomes_of_the_workers(serve):
    server = serve(
        "resuming:application",
        websocket_resume=True,
        worker_hang_timeout=HANG_TIMEOUT,
        workers=WORKERS,
        fresh=True,
    )

    async def story() -> dict[str, object]:
        crowd = Crowd(server.host, server.port, "/echo", period=PERIOD)
        await crowd.open(SOCKETS)
        for number, pid in enumerate(server.worker_pids()):
            await happened(crowd, f"kill -9 of worker {number + 1}", killed(server, pid))
        for number in range(2):
            await happened(crowd, f"reload {number + 1}", reloaded(server))
        await happened(crowd, f"a hang ({HANG_TIMEOUT} ms)", hung(server))
        for count in (1, WORKERS):
            await happened(crowd, f"set_workers({count})", resized(server, count))
        return await ended(crowd)

    assert asyncio.run(story()) == unharmed()
    assert server.info()["counters"]["resumes"] >= SOCKETS * 3
    nothing_is_left(server)


async def ended(crowd: Crowd) -> dict[str, object]:
    """Let all that was said come back; close the sockets; return what they say."""
    await crowd.fall_silent()
    told = crowd.told()
    await crowd.leave()
    tell(told)
    return {name: told[name] for name in ("sockets", "lost", "doubled", "strange", "closes")}


def unharmed(sockets: int = SOCKETS) -> dict[str, object]:
    return {"sockets": sockets, "lost": 0, "doubled": 0, "strange": [], "closes": {}}


def nothing_is_left(server: Server) -> None:
    eventually(lambda: server.node.eval("hornbeam:connections()") == [])
    eventually(lambda: not any(worker["streams"] for worker in server.workers()))


def test_without_resume_exactly_the_dead_workers_sockets_get_1012(serve):
    server = serve("sockets:application", workers=WORKERS, fresh=True)

    async def story() -> dict[str, object]:
        crowd = Crowd(server.host, server.port, "/who", period=PERIOD)
        crowd.greeting = True
        await crowd.open(SOCKETS)
        for number, pid in enumerate(server.worker_pids()):
            own = {socket for socket in crowd.living() if socket.greeting == b"%d" % pid}
            before = len(crowd.closes)
            await happened(crowd, f"kill -9 of worker {number + 1}", killed(server, pid))
            assert own
            assert set(crowd.closes[before:]) == own
        return crowd.told()

    told = asyncio.run(story())
    assert (told["closes"], told["lost"], told["doubled"]) == ({1012: SOCKETS}, 0, 0)
    nothing_is_left(server)
