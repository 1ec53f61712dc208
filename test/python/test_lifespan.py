"""The lifespan protocol, in its three modes, without a process."""

import asyncio
import logging

import pytest
from hornbeam_erlang._worker.lifespan import Lifespan


async def obedient(scope, receive, send):
    assert scope["type"] == "lifespan"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    assert await receive() == {"type": "lifespan.startup"}
    scope["state"]["pool"] = "open"
    await send({"type": "lifespan.startup.complete"})
    assert await receive() == {"type": "lifespan.shutdown"}
    scope["state"]["pool"] = "closed"
    await send({"type": "lifespan.shutdown.complete"})


async def without(scope, receive, send):
    raise KeyError("no lifespan here")


async def failing(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def failing_loudly(scope, receive, send):
    await failing(scope, receive, send)
    raise RuntimeError("and more")


async def returning(scope, receive, send):
    await receive()


async def returning_after_startup(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def dying(scope, receive, send):
    await returning_after_startup(scope, receive, send)
    await asyncio.sleep(0)
    raise RuntimeError("died in between")


async def failing_at_the_end(scope, receive, send):
    await returning_after_startup(scope, receive, send)
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "stuck"})


async def raising_at_the_end(scope, receive, send):
    await returning_after_startup(scope, receive, send)
    await receive()
    raise RuntimeError("stuck")


async def confused(scope, receive, send):
    await receive()
    await send({"type": "http.response.start"})


def live(app, mode):
    """Start up, let the app go on for a while, and shut down."""

    async def main():
        lifespan = Lifespan(app, mode)
        failure = await lifespan.startup()
        supported = lifespan.supported
        state = None if lifespan.state is None else dict(lifespan.state)
        for _ in range(5):
            await asyncio.sleep(0)
        await asyncio.wait_for(lifespan.shutdown(), 20)
        return failure, supported, state, lifespan.state

    return asyncio.run(main())


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_app_with_lifespan_is_started_and_shut_down(mode):
    failure, supported, started, stopped = live(obedient, mode)
    assert (failure, supported) == (None, True)
    assert started == {"pool": "open"}
    assert stopped == {"pool": "closed"}


def test_off_asks_nothing():
    assert live(without, "off") == (None, False, None, None)


@pytest.mark.parametrize("app", [without, returning, confused])
def test_auto_takes_a_broken_lifespan_for_none(app):
    assert live(app, "auto") == (None, False, None, None)


@pytest.mark.parametrize(
    ("app", "class_", "part"),
    [
        (without, "KeyError", "no lifespan here"),
        (returning, "RuntimeError", "lifespan.startup.complete"),
        (confused, "ValueError", "http.response.start"),
    ],
)
def test_on_takes_a_broken_lifespan_for_a_failure(app, class_, part):
    failure, supported, *_ = live(app, "on")
    assert (failure.class_, supported) == (class_, False)
    assert part in failure.message


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("app", [failing, failing_loudly])
def test_startup_failed_is_a_failure_in_any_mode(app, mode):
    failure, supported, *_ = live(app, mode)
    assert (failure.class_, failure.message) == ("lifespan.startup.failed", "no database")
    assert not supported


def test_app_may_return_after_its_startup(caplog):
    assert live(returning_after_startup, "on")[:2] == (None, True)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("app", "part"),
    [(dying, "died in between"), (failing_at_the_end, "stuck"), (raising_at_the_end, "stuck")],
)
def test_failure_after_the_startup_is_logged(app, part, caplog):
    assert live(app, "auto")[:2] == (None, True)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert part in record.getMessage()


@pytest.mark.parametrize("kind", ["lifespan.startup.complete", "lifespan.shutdown.complete"])
def test_answer_that_was_not_asked_for_raises_in_the_app(kind, caplog):
    async def eager(scope, receive, send):
        await returning_after_startup(scope, receive, send)
        await send({"type": kind})

    live(eager, "auto")
    assert "was not asked for" in caplog.text
