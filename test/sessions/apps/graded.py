"""Blocks of Gradio with a queue and a state of the session, in FastAPI."""

import os
import time

import gradio as gr
from fastapi import FastAPI


def greet(name, seen):
    time.sleep(0.05)
    seen = [*seen, name]
    return f"worker {os.getpid()} knows {' '.join(seen)}", seen


with gr.Blocks() as blocks:
    seen = gr.State([])
    name = gr.Textbox(label="Name")
    told = gr.Textbox(label="Told")
    button = gr.Button("Greet")
    button.click(greet, [name, seen], [told, seen], api_name="greet")

application = gr.mount_gradio_app(FastAPI(), blocks.queue(default_concurrency_limit=8), path="/")
