"""An app of Shiny for Python that counts, and takes a file."""

import os

from shiny import App, render, ui

app_ui = ui.page_fluid(
    ui.input_action_button("count", "Count"),
    ui.input_file("file", "File"),
    ui.output_text("told"),
    ui.output_text("file_told"),
)


def server(input, output, session):
    @render.text
    def told():
        return f"worker {os.getpid()} count {input.count()}"

    @render.text
    def file_told():
        files = input.file()
        return f"file {files[0]['name']} {files[0]['size']}" if files else "no file"


application = App(app_ui, server)
