"""A FastAPI app whose endpoints are functions, not coroutines: they run in threads."""

import threading

from fastapi import FastAPI
from hornbeam_erlang import state_get, state_incr

app = FastAPI()


@app.post("/count/{name}")
def count(name: str) -> int:
    return state_incr(name)


@app.get("/count/{name}")
def counted(name: str):
    in_thread = threading.current_thread() is not threading.main_thread()
    return {"count": state_get(name), "thread": in_thread}
