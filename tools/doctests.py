"""Shows the examples of docstrings as code on the site: Markdown would take `>>>` for quotes."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
"""From its first line to the next empty one, as doctest reads it."""


class Doctests(griffe.Extension):
    """Fence the examples of each docstring."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """Return a docstring with its examples between fences."""
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", text)
