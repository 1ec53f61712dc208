"""What is told at the last moment: of a handler, once its client is gone, and of a worker.

Each of `MANY` numbers is set in the state under ("told", the process, by whom, the number).
"""

import asyncio
import os
import threading

from hornbeam_erlang import state_set

MANY = 1000


def tell(who):
    for number in range(MANY):
        state_set(("told", os.getpid(), who, number), number)


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        tell("lifespan")
        await asyncio.to_thread(tell, "executor")
        threading.Thread(target=tell, args=["thread"]).start()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] != "websocket.disconnect":
            tell("handler")
            await send({"type": "websocket.send", "text": event["text"]})
        tell("leaving")
