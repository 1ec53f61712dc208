"""The streams of one worker: opened by the BEAM, run by the app, ended by either.

Knows which message belongs to which stream; must not know descriptors or what an event looks
like. `dispatch` is the hot path: what comes most often first, by comparison, the rest by one
table.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hornbeam_erlang._asgi.headers import Limits
from hornbeam_erlang._asgi.http import Http, http_scope
from hornbeam_erlang._asgi.scope import App
from hornbeam_erlang._asgi.stream import Shared, Stream
from hornbeam_erlang._asgi.websocket import WebSocket, websocket_scope
from hornbeam_erlang._ops import identity
from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.packets import Packet
from hornbeam_erlang._wire.text import quote_line
from hornbeam_erlang._worker.calls import Calls
from hornbeam_erlang._worker.carrier import WorkerCarrier
from hornbeam_erlang._worker.config import Config
from hornbeam_erlang._worker.failure import Failure, describe
from hornbeam_erlang._worker.logs import Log
from hornbeam_erlang._worker.pipes import Pipes
from hornbeam_erlang._worker.tasks import begin, first_turn
from hornbeam_erlang.exceptions import ProtocolError

# What a client is told of an exception while nothing is known of it.
_UNKNOWN = Failure("Exception", "what the app has raised could not be described", "")

# What an exception is called that says that the client has gone: by us, by Starlette and FastAPI,
# Litestar, Falcon, BlackSheep. Starlette raises some with none of ours behind them.
_DISCONNECTS = frozenset(
    {
        *("ConnectionEnded", "ClientDisconnected", "ClientDisconnect", "WebSocketDisconnect"),
        *("WebSocketDisconnected", "WebSocketDisconnectError"),
    }
)

# How often it is looked whether threads that stand still go on (seconds).
LOOK = 0.05

_log = Log("hornbeam.app")


class Server:
    """All streams of this worker."""

    def __init__(
        self,
        app: App,
        pipes: Pipes,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        carrier: WorkerCarrier,
        is_stuck: Callable[[], bool] = lambda: False,
    ) -> None:
        self._app = app
        self._pipes = pipes
        self._write = pipes.write
        self._loop = loop
        self._shared = Shared(
            loop,
            pipes.write,
            pipes.write_payload,
            config.stream_window,
            Limits(config.limit_response_head, config.limit_response_fields),
            config.resume,
        )
        self._root_path = config.root_path
        self._streams = carrier.streams
        self._ended_early = carrier.ended
        self._topics = carrier.topics
        self._topics.serve(loop)
        carrier.handlers.keep_context()
        self._calls = Calls(loop, pipes.write, carrier.handlers)
        self._is_stuck = is_stuck
        self._state: dict[str, Any] | None = None
        self.stopping: asyncio.Future[float] = loop.create_future()
        self._table: dict[int, Callable[[Packet], None]] = {
            packets.OPEN_WEBSOCKET: self._open_websocket,
            packets.REOPEN_WEBSOCKET: self._reopen_websocket,
            packets.REQUEST_BODY: self._request_body,
            packets.DISCONNECT: self._disconnect,
            packets.MOVE: self._move,
            packets.FLUSH: self._flush,
            packets.ACCEPTED: self._accepted,
            packets.REPLY: carrier.reply,
            packets.TELL_FAILED: carrier.tell_failed,
            packets.STOP: self._stop,
            packets.EVENT: carrier.take_event,
            packets.CALL: self._calls.call,
            packets.MORE: self._calls.more,
            packets.CANCEL: self._calls.cancel,
            packets.HEARTBEAT: self._heartbeat,
        }

    def share(self, state: dict[str, Any] | None) -> None:
        """Give each scope from now on a copy of the lifespan's state."""
        self._state = state

    def dispatch(self, messages: Iterable[Packet]) -> None:
        """Give each message to its stream; those of a stream that has ended are dropped."""
        streams = self._streams
        for message in messages:
            code = message[0]
            if code == packets.RECEIVE_TEXT:
                if (stream := streams.get(message[1])) is not None:
                    stream.receive_text(message[2])
            elif code == packets.RECEIVE_BYTES:
                if (stream := streams.get(message[1])) is not None:
                    stream.receive_bytes(message[2])
            elif code == packets.CREDIT:
                self._credit(message)
            elif code == packets.OPEN_HTTP:
                packets.check(message)
                self._open_http(message)
            else:
                self._dispatch_rare(message)

    def _dispatch_rare(self, message: Packet) -> None:
        packets.check(message)
        handler = self._table.get(message[0])
        if handler is None:
            raise ProtocolError(f"message {message[0]} is not one for a worker that runs")
        handler(message)

    def _credit(self, message: Packet) -> None:
        _, number, size, messages = message
        if number == 0:
            self._pipes.credit(size, messages)
        elif (stream := self._streams.get(number)) is not None:
            stream.credit(size, messages)

    def _request_body(self, message: Packet) -> None:
        if (stream := self._streams.get(message[1])) is not None:
            stream.request_body(message[2], message[3])

    def _disconnect(self, message: Packet) -> None:
        if (stream := self._streams.get(message[1])) is not None:
            self._topics.leave(message[1])
            stream.disconnect(message[2], message[3])

    def _move(self, message: Packet) -> None:
        if (stream := self._streams.get(message[1])) is not None:
            self._topics.leave(message[1])
            stream.move()

    def _flush(self, message: Packet) -> None:
        if (stream := self._streams.get(message[1])) is not None:
            stream.flush()

    def _accepted(self, message: Packet) -> None:
        if (stream := self._streams.get(message[1])) is not None:
            stream.accepted()

    def _stop(self, message: Packet) -> None:
        if not self.stopping.done():
            self.stopping.set_result(message[2] / 1000)

    def _heartbeat(self, message: Packet) -> None:
        """Answer, once the app's threads do something, if it has any: the loop turns anyway."""
        if self._is_stuck():
            self._loop.call_later(LOOK, self._heartbeat, message)
        else:
            self._pipes.answer(packets.encode_heartbeat(message[2]))

    def tasks(self) -> list[tuple[int, asyncio.Task[None]]]:
        """Return the streams that are open, each with the task of its handler."""
        return [
            (number, stream.task)
            for number, stream in self._streams.items()
            if stream.task is not None
        ]

    # The life of a stream

    def _open_http(self, message: Packet) -> None:
        _, number, fields, body, more = message
        scope = packets.decode_scope(fields)
        stream = Http(number, self._shared, scope.method, body, more)
        self._open(stream, http_scope(scope, self._root_path))

    def _open_websocket(self, message: Packet) -> None:
        _, number, fields = message
        scope = websocket_scope(packets.decode_scope(fields), self._root_path)
        self._open(WebSocket(number, self._shared, scope["subprotocols"]), scope)

    def _reopen_websocket(self, message: Packet) -> None:
        _, number, fields, attempt, reason, topics = message
        scope = websocket_scope(packets.decode_scope(fields), self._root_path)
        scope["extensions"]["hornbeam.resume"] = {"attempt": attempt, "reason": reason}
        self._open(WebSocket(number, self._shared, scope["subprotocols"]), scope, topics)

    def _open(self, stream: Stream, scope: dict[str, Any], topics: Sequence[str] = ()) -> None:
        if self._state is not None:
            scope["state"] = self._state.copy()
        self._streams[stream.number] = stream
        if topics:
            self._topics.inherit(stream.number, topics)
        stream.task = begin(self._loop, self._run(stream, scope))

    async def _run(self, stream: Any, scope: dict[str, Any]) -> None:
        """Call the app. Here is its outermost edge: nothing that it raises goes further."""
        failure = None
        try:
            await first_turn(self._loop)
            # Its ops name it, so that the BEAM knows for whom they are.
            identity.current.set(stream.number)
            await self._app(scope, stream.receive, stream.send)
        except BaseException as error:  # also SystemExit: it is one handler's, not the worker's
            failure = _UNKNOWN
            disconnected = self._is_disconnected(stream)
            stream.end()
            failure = self._failed(scope, error, disconnected)
        else:
            disconnected = stream.disconnected
            if (undone := stream.end()) is not None and not disconnected:
                failure = self._undone(scope, stream, undone)
        finally:
            self._ended(stream, failure)

    def _is_disconnected(self, stream: Any) -> bool:
        """Tell whether the handler may know that its client has gone, from an op too."""
        return stream.disconnected or stream.number in self._ended_early

    def _ended(self, stream: Any, failure: Failure | None) -> None:
        number = stream.number
        stream.task = None  # or the two would hold each other until a garbage collection
        del self._streams[number]
        self._ended_early.discard(number)
        self._topics.forget(number)
        if failure is not None:
            self._write(packets.encode_ended(number, *failure))
        elif type(stream) is Http:
            self._pipes.write_ended(number)
        else:
            self._write(packets.encode_ended(number, None, "", ""))

    def _failed(
        self, scope: dict[str, Any], error: BaseException, disconnected: bool
    ) -> Failure | None:
        if disconnected and _is_disconnect(error):
            return None
        failure = describe(error)
        if not (isinstance(error, asyncio.CancelledError) and self.stopping.done()):
            _log.error(f"{_name(scope)} failed\n{failure.traceback}")
        return failure

    def _undone(self, scope: dict[str, Any], stream: Any, undone: str) -> Failure | None:
        if stream.number in self._ended_early:
            return None
        _log.error(f"{_name(scope)}: {undone}")
        return Failure("RuntimeError", undone, "")

    def _running(self) -> list[Any]:
        """Return what is done when the handlers that run now are."""
        return [*(stream.task for stream in self._streams.values()), *self._calls.ends()]

    async def finish(self, seconds: float, seconds_to_cancel: float) -> None:
        """Wait for the handlers that still run, then cancel them."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # What was called before others knew of the stop may come only now.
        while (running := self._running()) and (left := deadline - loop.time()) > 0:
            await asyncio.wait(running, timeout=left)
        late = self._running()
        for task in late:
            task.cancel()
        if late:
            _log.warning(f"{len(late)} handlers still ran at the stop and were cancelled")
            await asyncio.wait(late, timeout=seconds_to_cancel)


def _name(scope: dict[str, Any]) -> str:
    """Return what the log calls a stream; the path is the client's."""
    return f"{scope['type']} {quote_line(scope['path'])}"


def _is_disconnect(error: BaseException) -> bool:
    """Tell whether an exception says no more than that the client has gone.

    It does if it bears the name of that, ours or a framework's, if it was raised `from` one that
    does, or if it is a group, such as a TaskGroup's, of nothing else. What is raised on the way
    out, by a `finally` for instance, is an error of the app.
    """
    groups: set[int] = set()
    left = [error]
    while left:
        origin = _origin(left.pop())
        if isinstance(origin, BaseExceptionGroup) and id(origin) not in groups:
            groups.add(id(origin))
            left.extend(origin.exceptions)
        elif not _is_named_so(origin):
            return False
    return True


def _origin(error: BaseException) -> BaseException:
    """Follow an exception's causes to a disconnect, a group, or where they end.

    They may be a circle: `raise error from error` makes one.
    """
    seen: set[int] = set()
    while (
        (cause := error.__cause__) is not None
        and id(error) not in seen
        and not _is_named_so(error)
        and not isinstance(error, BaseExceptionGroup)
    ):
        seen.add(id(error))
        error = cause
    return error


def _is_named_so(error: BaseException) -> bool:
    return any(kind.__name__ in _DISCONNECTS for kind in type(error).__mro__)
