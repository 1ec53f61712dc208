"""A page of NiceGUI that counts, and takes a file."""

import os

from fastapi import FastAPI
from nicegui import ui

application = FastAPI()


@ui.page("/")
def page():
    state = {"count": 0}
    ui.label(f"worker {os.getpid()}")
    told = ui.label("count 0")

    def count():
        state["count"] += 1
        told.set_text(f"count {state['count']}")

    async def uploaded(event):
        content = await event.file.read()
        file.set_text(f"file {event.file.name} {len(content)}")

    ui.button("Count", on_click=count)
    ui.upload(on_upload=uploaded, auto_upload=True)
    file = ui.label("no file")


ui.run_with(application)
