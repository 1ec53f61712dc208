"""A WSGI app without a framework: requests that hold their threads, and what becomes of them.

What is remembered is this process's: `/notes?KEY` says what was noted under a key. SIGUSR1 opens
all gates of a process, also of one that is given no more requests.
"""

import hashlib
import json
import os
import signal
import threading
import time

from hornbeam_erlang import publish, state_get, state_set

gates: dict[str, threading.Event] = {}
told: dict[str, list[str]] = {}


def application(environ, start_response):
    name = environ["PATH_INFO"].removeprefix("/")
    return globals()[name](environ, start_response, environ["QUERY_STRING"])


def text(start_response, body, status="200 OK", *headers):
    start_response(status, [("Content-Type", "text/plain"), *headers])
    return [str(body).encode()]


def note(key, what):
    told.setdefault(key, []).append(what)


def gate(key):
    return gates.setdefault(key, threading.Event())


# Who, and what


def who(environ, start_response, _query):
    return text(start_response, os.getpid())


def seen(environ, start_response, _query):
    shown = {key: value for key, value in environ.items() if isinstance(value, str | int | bool)}
    return text(start_response, json.dumps(shown))


def notes(environ, start_response, key):
    return text(start_response, json.dumps(told.get(key, [])))


# Threads that wait


def open_gates(*_):
    for each in gates.values():
        each.set()


signal.signal(signal.SIGUSR1, open_gates)


def hold(environ, start_response, key):
    """Answer when somebody opens the gate."""
    gate(key).wait()
    return text(start_response, f"held by {os.getpid()}")


def begun(environ, start_response, key):
    """Answer with a part, and with the rest when somebody opens the gate."""
    start_response("200 OK", [("Content-Length", "12")])
    yield b"first "
    gate(key).wait()
    yield b"second"


def stuck(environ, start_response, key):
    time.sleep(3600)


def sleeps(environ, start_response, seconds):
    time.sleep(float(seconds))
    return text(start_response, "awake")


# Answers that are left


class Endless:
    def __init__(self, key):
        self.key = key

    def __iter__(self):
        while True:
            yield bytes(16384)

    def close(self):
        note(self.key, "closed")


def endless(environ, start_response, key):
    start_response("200 OK", [])
    return Endless(key)


def breaks(environ, start_response, _query):
    start_response("200 OK", [])
    yield b"a part"
    raise KeyError("in the middle")


def fails(environ, start_response, _query):
    raise KeyError("at the begin")


def short(environ, start_response, _query):
    return text(start_response, "five", "200 OK", ("Content-Length", "5"))


def empty(environ, start_response, status):
    start_response(f"{status} Whatever", [])
    return []


# Bodies


def digest(environ, start_response, _query):
    """Answer with a body's length and hash, of which a block at a time is in memory."""
    found, size = hashlib.sha256(), 0
    while block := environ["wsgi.input"].read(65536):
        found.update(block)
        size += len(block)
    return text(start_response, f"{size} {found.hexdigest()}")


def ignores(environ, start_response, _query):
    return text(start_response, "not read", "413 Too Large")


# Erlang


def remembers(environ, start_response, query):
    key, _, value = query.partition("=")
    before = state_get(key)
    state_set(key, value)
    return text(start_response, f"{before} {publish(key, value)}")
