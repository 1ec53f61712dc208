"""What a handler's code elsewhere sees of its client: threads, tasks, frameworks' workers.

`swap` tells what is kept in the connection's state and keeps a name there, so that whoever is
shown another client's state answers with its name. `/raw/WAY/NAME` does it over HTTP and
`/socket/WAY` for each message of a WebSocket; `/begin/NAME` leaves a task behind that does it
later, `/late` tells what came of that; `/worker/NAME` lets a task of the lifespan do it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextvars import copy_context

from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from hornbeam_erlang import aio, connection_state
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from gallery import respond, segments


def swap(name: str) -> dict:
    """Return what is kept, or what is wrong, and keep a name."""
    try:
        state = connection_state()
        before = dict(state)
        state["name"] = name
    except Exception as error:
        return told(error)
    return before


def told(error: Exception) -> dict:
    return {"raised": [base.__name__ for base in type(error).__mro__], "text": str(error)}


# Ways to run it


async def here(name):
    return swap(name)


async def aio_here(name):
    state = aio.connection_state()
    try:
        before = dict(await state.items())
        await state.set("name", name)
    except Exception as error:
        return told(error)
    return before


async def task(name):
    return await asyncio.create_task(aio_here(name))


async def to_thread(name):
    return await asyncio.to_thread(swap, name)


async def executor(name):
    return await asyncio.get_running_loop().run_in_executor(None, swap, name)


async def thread(name):
    return await in_thread(swap, name)


async def thread_with_context(name):
    return await in_thread(copy_context().run, swap, name)


async def in_thread(function, *args):
    done = asyncio.get_running_loop().create_future()

    def run():
        done.get_loop().call_soon_threadsafe(done.set_result, function(*args))

    threading.Thread(target=run).start()
    return await done


WAYS = {
    way.__name__: way
    for way in (here, aio_here, task, to_thread, executor, thread, thread_with_context)
}


# Apps


async def raw(scope, receive, send):
    _, way, name = segments(scope)
    await answer(send, await WAYS[way](name))


async def socket(scope, receive, send):
    way = WAYS[segments(scope)[1]]
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] != "websocket.disconnect":
        if "text" in event:
            found = await way(event["text"])
            await send({"type": "websocket.send", "text": json.dumps(found)})


left_behind: list[asyncio.Task] = []
over = asyncio.Event()


async def begin(scope, receive, send):
    async def outlive():
        await over.wait()
        return [await way(segments(scope)[1]) for way in (here, aio_here, to_thread)]

    left_behind.append(asyncio.create_task(outlive()))
    await answer(send, await here(segments(scope)[1]))


async def tell_late(scope, receive, send):
    over.set()
    await answer(send, await left_behind.pop())


asked: asyncio.Queue = asyncio.Queue()


async def work():
    """Do in the lifespan's name what others ask for."""
    while True:
        way, name, answered = await asked.get()
        answered.set_result(await way(name))


async def worker(scope, receive, send):
    answered = asyncio.get_running_loop().create_future()
    asked.put_nowait((to_thread, segments(scope)[1], answered))
    await answer(send, await answered)


async def answer(send, found) -> None:
    await respond(send, json.dumps(found).encode())


fastapi = FastAPI()


@fastapi.get("/{name}")
def endpoint(name: str) -> dict:
    return swap(name)


async def pooled(request):
    return JSONResponse(await run_in_threadpool(swap, request.path_params["name"]))


def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps(swap(environ["PATH_INFO"])).encode()]


HANDLERS = {
    "raw": raw,
    "socket": socket,
    "begin": begin,
    "late": tell_late,
    "worker": worker,
    "fastapi": Starlette(routes=[Mount("/fastapi", fastapi)]),
    "starlette": Starlette(routes=[Route("/starlette/{name}", pooled)]),
    "wsgi": WSGIMiddleware(wsgi, workers=1),
}


async def application(scope, receive, send):
    if scope["type"] != "lifespan":
        await HANDLERS[segments(scope)[0]](scope, receive, send)
        return
    await receive()
    working = asyncio.create_task(work())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    working.cancel()
    await send({"type": "lifespan.shutdown.complete"})
