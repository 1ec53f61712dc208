"""The ASGI app that marimo makes of a notebook."""

from pathlib import Path

import marimo

application = (
    marimo.create_asgi_app(quiet=True, include_code=True)
    .with_app(path="", root=str(Path(__file__).with_name("notebook.py")))
    .build()
)
