"""Words of others that an option does not take, and what to do instead."""

from collections.abc import Mapping

_WSGI = "is not served yet: wrap the app in an adapter to ASGI, such as a2wsgi.WSGIMiddleware"
_THREADS = "is a class of gunicorn's for WSGI, which is not served yet; say asgi"
_OWN = "is a class of gunicorn's that brings a server of its own; say asgi"

INSTEAD: Mapping[tuple[str, str], str] = {
    ("worker_class", "wsgi"): _WSGI,
    ("worker_class", "asgi2"): "is not served: wrap the app in "
    "asgiref.compatibility.guarantee_single_callable",
    **{
        ("worker_class", name): _THREADS
        for name in ("sync", "gthread", "gevent", "eventlet", "tornado")
    },
    **{
        ("worker_class", name): _OWN
        for name in (
            "uvicorn.workers.UvicornWorker",
            "uvicorn.workers.UvicornH11Worker",
            "uvicorn_worker.UvicornWorker",
        )
    },
}
"""By the option and the word."""
