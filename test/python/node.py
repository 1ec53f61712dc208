"""The node's side of ops for the tests: a `Beam` with it answers what its worker asks.

State, topics and functions are those of the stand-in that users get, so that one table of cases
holds both. Hooks go the long way, by messages to the worker and back.
"""

import itertools
import time
from typing import Any

from hornbeam_erlang._local.memory import Memory
from hornbeam_erlang._local.quota import Limits
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import pack, unpack

UNKNOWN = "this id is unknown: its result was taken, closed or given up"


class Node:
    """What answers the ops of one worker."""

    def __init__(self, beam: Any) -> None:
        self.beam = beam
        self.memory = Memory(time.monotonic, self._event, self._forward, Limits())
        self.forwarded: list[tuple[int, str, Any]] = []
        self.events = 0
        self._refs = itertools.count(1000)
        self._ids = map(str, itertools.count(1))
        self._hooks: set[str] = set()
        # By the number of a call: where its result goes.
        self._calls: dict[int, Any] = {}
        self._results: dict[str, Any] = {}
        self._awaited: dict[str, tuple[int, int]] = {}
        self._streams: dict[str, Stream] = {}

    def _event(self, topic: str, packed: bytes) -> None:
        self.events += 1
        self.beam.send("event", 0, topic, packed)

    def _forward(self, number: int, topic: str, packed: bytes) -> None:
        self.forwarded.append((number, topic, unpack(packed)))

    def publish(self, topic: str, value: Any) -> int:
        """Publish as Erlang code would."""
        return self.memory.answer(0, ops.PUBSUB_PUBLISH, [topic, pack(value)])[1]

    def call(self, target: str, function: str, *args: Any, **kwargs: Any) -> int:
        """Call a function of the worker as Erlang code would; return its number."""
        return self._call(0, target, function, pack(list(args)), pack(kwargs))

    def _call(self, mode: int, target: str, function: str, args: bytes, kwargs: bytes) -> int:
        ref = next(self._refs)
        self.beam.send("call", 0, ref, mode, target, function, args, kwargs)
        return ref

    # From the worker

    def op(self, stream: int, ref: int, op: int, args: list[Any]) -> None:
        if op not in ops.HOOKS:
            self._reply(stream, ref, *self.memory.answer(stream, op, args))
            return
        match op:
            case ops.HOOKS_REGISTER:
                self._hooks.add(args[0])
                self._reply(stream, ref, 0, None)
            case ops.HOOKS_UNREGISTER:
                self._hooks.discard(args[0])
                self._reply(stream, ref, 0, None)
            case _ if op in CALLS and args[0] not in self._hooks:
                self._reply(stream, ref, 9, "no handler is registered for this hook")
            case ops.HOOKS_EXECUTE:
                call = self._call(1, *args[:4])
                self._calls[call] = lambda *answer: self._reply(stream, ref, *answer)
            case ops.HOOKS_EXECUTE_ASYNC:
                id = next(self._ids)
                self._results[id] = None
                self._calls[self._call(1, *args)] = lambda *answer: self._done(id, answer)
                self._reply(stream, ref, 0, id)
            case ops.HOOKS_AWAIT_RESULT:
                self._await(stream, ref, args[0])
            case ops.HOOKS_STREAM:
                id = next(self._ids)
                call = self._call(2, *args)
                self._streams[id] = self._calls[call] = Stream(self, call)
                self._reply(stream, ref, 0, id)
            case ops.HOOKS_NEXT if args[0] in self._streams:
                self._streams[args[0]].next(stream, ref)
            case ops.HOOKS_CLOSE:
                if (items := self._streams.pop(args[0], None)) and not items.over:
                    self.beam.send("cancel", 0, items.call)
                self._reply(stream, ref, 0, None)
            case _:
                self._reply(stream, ref, 9, UNKNOWN)

    def tell(self, stream: int, ref: int, op: int, args: list[Any]) -> None:
        status, value = self.memory.answer(stream, op, args)
        if status:
            self.beam.send_bytes(pack([20, stream, ref, op, status, value]))
        self._done_telling()

    def _done_telling(self) -> None:
        self.beam.send("credit", 0, 0, 1)

    def result(self, ref: int, status: int, value: Any) -> bool:
        """Take a result; tell whether it was one of a hook."""
        if (done := self._calls.pop(ref, None)) is None:
            return False
        done(status, value)
        return True

    def item(self, ref: int, packed: bytes) -> bool:
        if ref not in self._calls:
            return False
        self._calls[ref].item(packed)
        return True

    def _reply(self, stream: int, ref: int, status: int, value: Any) -> None:
        self.beam.send_bytes(pack([10, stream, ref, status, value]))

    def _done(self, id: str, answer: tuple[int, Any]) -> None:
        self._results[id] = answer
        if (waiting := self._awaited.pop(id, None)) is not None:
            self._await(*waiting, id)

    def _await(self, stream: int, ref: int, id: str) -> None:
        if id not in self._results:
            self._reply(stream, ref, 9, UNKNOWN)
        elif self._results[id] is None:
            self._awaited[id] = (stream, ref)
        else:
            self._reply(stream, ref, *self._results.pop(id))


CALLS = (ops.HOOKS_EXECUTE, ops.HOOKS_EXECUTE_ASYNC, ops.HOOKS_STREAM)


class Stream:
    """A hook's stream: two items ahead, and whoever waits for the next."""

    AHEAD = 2

    def __init__(self, node: Node, call: int) -> None:
        self.node = node
        self.call = call
        self.items: list[bytes] = []
        self.asked = 0
        self.over: tuple[int, Any] | None = None
        self.reader: tuple[int, int] | None = None

    def next(self, stream: int, ref: int) -> None:
        self.reader = (stream, ref)
        if not self.items and not self.asked and not self.over:
            self.asked = self.AHEAD
            self.node.beam.send("more", 0, self.call, self.AHEAD)
        self.serve()

    def item(self, packed: bytes) -> None:
        assert self.asked > 0, "an item that was not asked for"
        self.asked -= 1
        self.items.append(packed)
        self.serve()

    def __call__(self, status: int, value: Any) -> None:
        self.over = (status, value)
        self.serve()

    def serve(self) -> None:
        if self.reader is None:
            return
        if self.items:
            answer: tuple[int, Any] = (0, self.items)
            self.items = []
        elif self.over is None:
            return
        else:
            answer = (0, []) if self.over[0] == 2 else self.over
        stream, ref = self.reader
        self.reader = None
        self.node._reply(stream, ref, *answer)
