"""An app that calls Erlang before, during and after the time when requests come."""

import json
import os

from hornbeam_erlang import state_get, state_incr

from gallery import respond

KEY = os.environ["KEY"]

state_incr((KEY, "import"))


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            state_incr((KEY, step))
            await send({"type": f"lifespan.{step}.complete"})
    else:
        state_incr((KEY, "request"))
        steps = ("import", "startup", "shutdown", "request")
        await respond(send, json.dumps({step: state_get((KEY, step)) for step in steps}).encode())
