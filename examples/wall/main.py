"""A wall that everybody writes on, by FastAPI, server-sent events and htmx.

`npm install` brings htmx and its extension; then `hornbeam` in this folder serves it by two
workers.
"""

import asyncio
import html
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import hornbeam_erlang as beam
from fastapi import FastAPI, Form, Header
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from hornbeam_erlang import aio

HERE = Path(__file__).parent
MODULES = Path(os.environ.get("NODE_MODULES", HERE / "node_modules"))

WALL = "wall"
KEPT = 3600
"""Seconds for which a note can be seen by those who come later."""

app = FastAPI(title="Wall")


@app.get("/")
async def page() -> FileResponse:
    """Return the page."""
    return FileResponse(HERE / "index.html")


@app.get("/{name}.js")
async def script(name: str) -> FileResponse:
    """Return htmx or its extension, as npm has installed them."""
    scripts = {"htmx": "htmx.org/dist/htmx.min.js", "sse": "htmx-ext-sse/dist/sse.min.js"}
    return FileResponse(MODULES / scripts[name], media_type="text/javascript")


@app.post("/notes", status_code=204)
async def write(text: Annotated[str, Form(min_length=1, max_length=200)]) -> None:
    """Put a note on the wall of all pages, whichever worker they are in."""
    number = await aio.state_incr("notes")
    await aio.state_set(("note", number), text, ttl=KEPT)
    beam.publish(WALL, beam.ServerSentEvent(note(number, text), event="note", id=number))


@app.get("/events", response_class=EventSourceResponse)
async def events(last_event_id: Annotated[int, Header()] = 0) -> AsyncIterator[ServerSentEvent]:
    """Give a page what it has not seen. What comes then the node writes by itself."""
    beam.subscribe(WALL, forward=True)
    yield ServerSentEvent(event="worker", raw_data=str(os.getpid()))
    for (_, number), text in await aio.state_items(("note",)):
        if number > last_event_id:
            yield ServerSentEvent(event="note", id=str(number), raw_data=note(number, text))
    await asyncio.Event().wait()  # until the page is closed


def note(number: int, text: str) -> str:
    """Return a note as a piece of the page."""
    return f'<li id="note-{number}">{html.escape(text)}</li>'
