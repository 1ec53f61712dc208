"""Words of others that an option does not take, and what to do instead."""

from collections.abc import Mapping

_ONE = "is a class of gunicorn's; say wsgi --threads 1"
_THREADS = "is a class of gunicorn's; say wsgi, and how many requests at once by --threads"
_OWN = "is a class of gunicorn's that brings a server of its own; say asgi"

INSTEAD: Mapping[tuple[str, str], str] = {
    ("worker_class", "sync"): _ONE,
    **{("worker_class", name): _THREADS for name in ("gthread", "gevent", "eventlet", "tornado")},
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
