"""Which exceptions of a handler mean no more than that its client has gone."""

import pytest
from hornbeam_erlang import ClientDisconnected, ConnectionEnded
from hornbeam_erlang._worker.server import _is_disconnect

GONE = ClientDisconnected("gone")


def caused(error, cause):
    error.__cause__ = cause
    return error


def in_context(error, context):
    error.__context__ = context
    return error


class WebSocketDisconnect(Exception):
    """What Starlette and Litestar call it."""


class Left(WebSocketDisconnect):
    """An app's own, made of it."""


def circle():
    error = KeyError("a")
    return caused(error, caused(ValueError("b"), error))


def group_in_itself():
    child = KeyError("a")
    return caused(child, BaseExceptionGroup("g", [child]))


def nested(error, depth):
    for _ in range(depth):
        error = ExceptionGroup("g", [error])
    return error


class Falsy(Exception):
    """An exception that is false."""

    def __len__(self):
        return 0


@pytest.mark.parametrize(
    "error",
    [
        GONE,
        ConnectionEnded("an op's"),
        caused(RuntimeError(), GONE),
        WebSocketDisconnect(),
        in_context(WebSocketDisconnect(), GONE),
        in_context(WebSocketDisconnect(), KeyError()),
        caused(WebSocketDisconnect(), KeyError()),
        Left(),
        caused(KeyError(), WebSocketDisconnect()),
        caused(RuntimeError(), caused(Falsy(), GONE)),
        ExceptionGroup("g", [GONE]),
        ExceptionGroup("g", [GONE, ClientDisconnected("too"), caused(OSError(), GONE)]),
        ExceptionGroup("g", [ExceptionGroup("h", [GONE]), GONE]),
        caused(RuntimeError(), ExceptionGroup("g", [GONE])),
        nested(GONE, 2000),
    ],
)
def test_disconnect_and_what_was_made_of_it(error):
    assert _is_disconnect(error)


@pytest.mark.parametrize(
    "error",
    [
        KeyError(),
        in_context(KeyError(), GONE),
        in_context(KeyError(), in_context(WebSocketDisconnect(), GONE)),
        caused(KeyError(), in_context(OSError(), GONE)),
        ExceptionGroup("g", [GONE, in_context(KeyError(), GONE)]),
        OSError(),
        ConnectionError(),
        caused(caused(KeyError(), OSError()), None),
        circle(),
        caused(circle(), circle()),
        group_in_itself(),
        ExceptionGroup("g", [GONE, KeyError()]),
        ExceptionGroup("g", [circle(), GONE]),
        ExceptionGroup("g", [ExceptionGroup("h", [GONE, KeyError()]), GONE]),
        BaseExceptionGroup("g", [GONE, SystemExit(1)]),
        nested(KeyError(), 2000),
    ],
)
def test_anything_else_and_what_comes_beside_a_disconnect_is_an_error(error):
    assert not _is_disconnect(error)
