"""The WSGI apps of the benchmark: a greeting without a framework, and a Flask app's object.

A greeting names who is in the path, if anybody is: so a response to another request is noticed.
"""

from collections.abc import Callable, Iterable
from typing import Any

from a2wsgi import WSGIMiddleware
from flask import Flask

THREADS = 10

flask = Flask(__name__)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Greet."""
    path = environ["PATH_INFO"]
    body = b"Hello, World!" if path == "/" else f"Hello, {path[1:]}!".encode()
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


@flask.get("/items/<int:number>")
def item(number: int) -> dict[str, int | str]:
    """Return the item of this number."""
    return {"id": number, "name": f"item {number}"}


# The same behind the usual adapter, as ASGI apps.
adapted_application = WSGIMiddleware(application, workers=THREADS)
adapted_flask = WSGIMiddleware(flask, workers=THREADS)
