"""The lifespan of an app (ASGI's lifespan protocol 2.0): start-up, shared state, shutdown.

Knows the events and one task; must not know the wire or other streams.
"""

import asyncio
from typing import Any

from hornbeam_erlang._asgi.scope import App, Event
from hornbeam_erlang._wire.text import quote_line
from hornbeam_erlang._worker.failure import Failure, declared, describe
from hornbeam_erlang._worker.logs import Log
from hornbeam_erlang._worker.tasks import begin, first_turn

_ANSWERS = frozenset(
    f"lifespan.{phase}.{outcome}"
    for phase in ("startup", "shutdown")
    for outcome in ("complete", "failed")
)

_log = Log("hornbeam.lifespan")


class Lifespan:
    """One run of the app with scope type "lifespan".

    `mode` is "auto" (an app that raises is one without lifespan), "on" (it is a failure) or
    "off" (the app is not asked).
    """

    def __init__(self, app: App, mode: str) -> None:
        self._app = app
        self._mode = mode
        self._state: dict[str, Any] = {}
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._asked = ""
        self._answer: asyncio.Future[Failure | None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.supported = False

    @property
    def state(self) -> dict[str, Any] | None:
        """Return what the app stored at start-up, or None if it has no lifespan."""
        return self._state if self.supported else None

    async def startup(self) -> Failure | None:
        """Start the app; return what failed, if anything did."""
        if self._mode == "off":
            return None
        answer = self._ask("lifespan.startup")
        self._task = begin(asyncio.get_running_loop(), self._run())
        failure = await answer
        if failure is None or self._mode == "on" or failure.class_ == "lifespan.startup.failed":
            return failure
        name, message = failure.class_, quote_line(failure.message)
        _log.info(f"the app takes no part in the lifespan: {name}: {message}")
        return None

    async def shutdown(self) -> None:
        """Ask the app to shut down, and wait until its lifespan is over."""
        if self._task is None or self._task.done():
            return
        failure = await self._ask("lifespan.shutdown")
        if failure:
            _log.error(f"shutdown failed: {_described(failure)}")
        await asyncio.wait([self._task])

    def _ask(self, kind: str) -> asyncio.Future[Failure | None]:
        """Ask the app; return what brings its answer."""
        self._asked = kind
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": kind})
        return self._answer

    def _answered(self, failure: Failure | None) -> bool:
        """Pass on the app's answer; tell whether it had been asked for."""
        if self._answer is None or self._answer.done():
            return False
        if failure is None:
            self.supported = True
        self._answer.set_result(failure)
        return True

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        try:
            await first_turn(asyncio.get_running_loop())
            await self._app(scope, self._events.get, self._send)
        except asyncio.CancelledError as error:
            self._answered(describe(error))
            raise
        except BaseException as error:  # the outermost edge of the app
            self._raised(describe(error))
        else:
            self._returned()

    def _raised(self, failure: Failure) -> None:
        if not self._answered(failure) and self.supported:
            _log.error(f"the lifespan of the app failed: {_described(failure)}")

    def _returned(self) -> None:
        early = Failure("RuntimeError", "the app returned before lifespan.startup.complete", "")
        self._answered(None if self.supported else early)

    async def _send(self, event: Event) -> None:
        kind = event["type"]
        if kind not in _ANSWERS:
            raise ValueError(f"a lifespan app cannot send {kind!r}")
        failure = None
        if kind.endswith(".failed"):
            failure = declared(kind, str(event.get("message", "")))
        if not (kind.startswith(self._asked) and self._answered(failure)):
            raise RuntimeError(f"{kind} was not asked for")


def _described(failure: Failure) -> str:
    return f"{failure.class_}: {quote_line(failure.message)}\n{failure.traceback}"
