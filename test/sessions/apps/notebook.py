"""A notebook of marimo that counts in the memory of its session, and takes a file."""

import marimo

app = marimo.App()


@app.cell
def _():
    import os

    import marimo as mo

    return mo, os


@app.cell
def _(mo):
    number = mo.ui.number(start=0, stop=1000, value=1, label="number")
    upload = mo.ui.file(label="upload")
    mo.vstack([number, upload])
    return number, upload


@app.cell
def _(mo, number, os, upload):
    mo.md(f"worker {os.getpid()} doubles to {2 * number.value}, file {upload.name() or 'none'}")
    return


if __name__ == "__main__":
    app.run()
