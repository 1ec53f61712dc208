"""Property: whatever handlers do and wherever they are cancelled, a worker keeps the wire's rules.

Hypothesis makes up programs for handlers (`programs`) and moves of the node (`puppet`): streams,
messages, credit a few bytes at a time, events, calls, answers to ops in any order, disconnects,
moves, and cancellations of any task between any two turns of the loop. The node judges each
message; here is what holds of the whole:

- what a client has said is received once and in its order, and what a handler's `send` has sent
  is on the wire once, whole and in order;
- all that credit allows is written without a heartbeat;
- a published message reaches each handler that is surely subscribed once, and nobody else; the
  node and Python agree on who subscribes;
- what `state_take` has taken out of the node is had once;
- every stream ends once, every call has a result, and nothing is left.

A short run, always the same, in every run of the tests; `make fuzz` runs longer, by chance.
FUZZ_SEED repeats that, and hypothesis prints the shortest story that fails.
"""

import asyncio
import gc
import importlib.util
import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from beam import DEADLINE
from hornbeam_erlang._asgi.response import BODILESS
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import pack, unpack
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from inside import Inside, StillLoop, use_tasks
from programs import BAG, BOARD, HOOK, App, Block, Record
from puppet import Conversation, Puppet, Reply

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 0)
SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(1 << 30))
STORIES = 200 if SECONDS else 40
STEPS = 40

WINDOW = (1000, 3)
WORKER_WINDOW = 3000
TELL_WINDOW = 3
MANY = 1 << 30

QUIET = 12
"""So many turns without anything new, and nothing more comes by itself."""

TURNS = 5000
"""More than any story needs to come to rest."""

TOPICS = ["news", "sport"]


# Programs

how = st.sampled_from(["aio", "aio", "sync", "credit"])
topics = st.sampled_from(TOPICS)
published = st.sampled_from([*TOPICS, BOARD])
seconds = st.sampled_from([0, 0.01, 1, 100])
sizes = st.sampled_from([0, 1, 10, 400, 1500, 5000])

ERRANDS = [
    st.tuples(st.just("set"), how, st.booleans()),
    st.tuples(st.just("take"), how),
    st.tuples(st.just("publish"), how, published),
    st.tuples(st.just("sleep"), st.integers(0, 3)),
    st.tuples(st.just("rest"), seconds),
    st.tuples(st.just("thread"), st.integers(0, 2)),
    st.tuples(st.just("fail"), st.sampled_from(["error", "return", "cancel"])),
    st.tuples(st.just("cancel_self")),
    st.tuples(st.just("cancel_child"), st.integers(0, 3)),
]
OF_CONNECTIONS = [
    st.tuples(st.just("receive")),
    st.tuples(st.just("receive")),
    st.tuples(st.just("keep"), how),
    st.tuples(st.just("subscribe"), how, topics, st.booleans()),
    st.tuples(st.just("subscribe"), how, topics, st.just(False)),
    st.tuples(st.just("unsubscribe"), how, topics),
    st.tuples(st.just("hear"), st.none() | seconds),
    st.tuples(st.just("hear_all"), st.integers(1, 3)),
    st.tuples(st.just("look")),
    st.tuples(st.just("register"), how),
    st.tuples(st.just("unregister"), how),
]
OF_WEBSOCKETS = [
    st.tuples(st.just("say"), sizes, st.booleans()),
    st.tuples(st.just("say"), sizes, st.booleans()),
    st.tuples(st.just("accept")),
    st.tuples(st.just("close")),
]
OF_HTTP = [
    st.tuples(st.just("start"), st.sampled_from([200, 204])),
    st.tuples(st.just("body"), sizes | st.just(70_000), st.booleans()),
    st.tuples(st.just("body"), sizes, st.just(True)),
]


def programs(steps: list[Any]) -> Any:
    """Return the programs of some steps, and of steps that contain programs."""
    return st.lists(st.recursive(st.one_of(steps), around, max_leaves=6), max_size=5)


def around(step: Any) -> Any:
    inner = st.lists(step, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("attempt"), inner),
        st.tuples(st.just("insist"), inner),
        st.tuples(st.just("finally_"), inner, inner),
        st.tuples(st.just("wait_for"), seconds, inner),
        st.tuples(st.just("timeout"), seconds, inner),
        st.tuples(st.just("gather"), inner, inner),
        st.tuples(st.just("group"), inner, inner),
        st.tuples(st.just("task"), inner),
        st.tuples(st.just("task"), inner),
        st.tuples(st.just("shield"), inner),
        st.tuples(st.just("chain"), inner),
        st.tuples(st.just("watch"), inner, st.integers(0, 3)),
    )


errands = st.lists(st.one_of(ERRANDS), max_size=3)
calling = [
    st.tuples(st.just("execute"), errands),
    st.tuples(st.just("stream"), errands, st.integers(0, 3)),
]
http_programs = programs(ERRANDS + OF_CONNECTIONS + OF_HTTP + calling)
http_programs = http_programs | http_programs.map(lambda steps: [("start", 200), *steps])
websocket_programs = programs(ERRANDS + OF_CONNECTIONS + OF_WEBSOCKETS + calling)
websocket_programs = websocket_programs.map(lambda steps: [("accept",), *steps]) | (
    websocket_programs
)

which = st.integers(0, 7)
turns = st.integers(0, 4)


class Story(RuleBasedStateMachine):
    """One worker and its node.

    No rule has a precondition: which rules there are must not hang on what a thread has done.
    """

    new_loop: Callable[[], asyncio.AbstractEventLoop]
    eager = False
    # What a program's second takes, in seconds of its loop: one that is not still has short ones.
    second = 1.0

    def __init__(self) -> None:
        super().__init__()
        gc.disable()
        gc.freeze()  # leaves to this story only its own objects to look through
        self.problems: list[str] = []
        self.numbers = iter(range(1, MANY))
        # The order in which the node has sent what was published.
        self.order: dict[int, int] = {}
        self.due: dict[int, list[int]] = {}
        self.forbidden: set[tuple[int, int]] = set()
        self.values = 0
        self.is_deaf = False

    @initialize(resume=st.booleans())
    def begin(self, resume: bool) -> None:
        self.loop = self.new_loop()
        self.loop.set_exception_handler(self._problem)
        use_tasks(self.loop, eager=self.eager)
        self.worker = Inside(
            self.loop,
            self._call_app,
            stream_window=list(WINDOW),
            worker_window=WORKER_WINDOW,
            tell_window=TELL_WINDOW,
            op_timeout=10_000,
            resume=resume,
        )
        ends = self.worker.to_worker, self.worker.from_worker
        self.puppet = Puppet(*ends, WINDOW, WORKER_WINDOW, TELL_WINDOW)
        self.app = App(self.puppet, self.second, has_threads=not self.worker.is_still)
        self.puppet.replied = self._replied
        self.puppet.is_over = self._is_over
        self.worker.turn()

    async def _call_app(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def _is_over(self, number: int) -> bool:
        return number in self.app.records and self.app.records[number].over

    def _replied(self, reply: Reply) -> None:
        self.app.threads.answered(reply.first)
        self.app.calls.answered(reply.first)

    def _problem(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take note of what comes out of a callback; a program's tasks may fail."""
        task = context.get("task") or context.get("future")
        if not (task in self.app.tasks and "never retrieved" in context["message"]):
            self.problems.append(f"{context['message']}: {context.get('exception')!r} of {task}")

    # Streams

    @rule(steps=http_programs, body=st.binary(max_size=9), more=st.booleans(), turns=turns)
    def open_http(self, steps: list[Any], body: bytes, more: bool, turns: int) -> None:
        number = self._prepare(steps)
        self.puppet.open_http(number, body, more, "GET")
        self._turn(turns)

    @rule(steps=websocket_programs, turns=turns)
    def open_websocket(self, steps: list[Any], turns: int) -> None:
        self.puppet.open_websocket(self._prepare(steps))
        self._turn(turns)

    @rule(steps=websocket_programs, topics=st.lists(topics, unique=True), turns=turns)
    def reopen_websocket(self, steps: list[Any], topics: list[str], turns: int) -> None:
        number = self._prepare(steps)
        for topic in topics:  # the worker may have to read more before it has read this
            self.app.records[number].subscription(topic).is_subscribed = None
        self.puppet.open_websocket(number, topics)
        self._turn(turns)

    def _prepare(self, steps: list[Any]) -> int:
        number = next(self.numbers)
        self.app.programs[number] = steps
        self.app.records[number] = Record(number)
        return number

    def _streams(self, fits: Callable[[Conversation], bool]) -> list[Conversation]:
        return [stream for stream in self.puppet.streams.values() if fits(stream)]

    def _some(self, n: int, fits: Callable[[Conversation], bool]) -> Iterator[Conversation]:
        """Yield one of the streams that fit, if there are any."""
        if found := self._streams(fits):
            yield found[n % len(found)]

    @rule(n=which, turns=turns)
    def accepted(self, n: int, turns: int) -> None:
        for stream in self._some(n, _is_to_be_accepted):
            self.puppet.accepted(stream)
        self._turn(turns)

    @rule(n=which, size=sizes, more=st.booleans(), is_text=st.booleans(), turns=turns)
    def tell(self, n: int, size: int, more: bool, is_text: bool, turns: int) -> None:
        for stream in self._some(n, Conversation.may_tell):
            mark = b"%d." % next(self.app.numbers)
            payload = (mark * (size + 1))[: max(size, len(mark))]
            self.puppet.tell(stream, payload, more=more, is_text=is_text)
        self._turn(turns)

    @rule(n=which, size=st.integers(0, 600), messages=st.integers(0, 2), turns=turns)
    def give(self, n: int, size: int, messages: int, turns: int) -> None:
        for stream in self._some(n, _is_alive):
            self.puppet.give(stream, size, messages)
        self._turn(turns)

    @rule(n=which)
    def ask_to_flush(self, n: int) -> None:
        for stream in self._some(n, _may_be_flushed):
            self.puppet.ask_to_flush(stream)

    @rule(n=which, turns=turns)
    def disconnect(self, n: int, turns: int) -> None:
        for stream in self._some(n, _is_alive):
            self.puppet.disconnect(stream)
        self._turn(turns)

    @rule(n=which, turns=turns)
    def move(self, n: int, turns: int) -> None:
        for stream in self._some(n, _is_websocket):
            self.puppet.move(stream)
            self._deliver()
            record = self.app.records[stream.number]
            stream.is_to_move = record.begun and not record.over  # else the two have crossed
        self._turn(turns)

    # The worker as a whole

    @rule(size=st.integers(0, 2000), turns=turns)
    def give_to_worker(self, size: int, turns: int) -> None:
        self.puppet.give_to_worker(size)
        self._turn(turns)

    @rule()
    def beat(self) -> None:
        self.puppet.beat()

    @rule(is_deaf=st.booleans())
    def listen(self, is_deaf: bool) -> None:
        """Leave what the worker writes in the pipe for a while, or not any longer."""
        self.is_deaf = is_deaf

    @rule(turns=st.integers(1, 6))
    def run(self, turns: int) -> None:
        self._turn(turns)

    @rule(seconds=st.sampled_from([0.01, 1, 5, 100]), turns=turns)
    def wait(self, seconds: float, turns: int) -> None:
        self._wait(seconds)
        self._turn(turns)

    @rule(n=st.integers(0, 15), turns=turns)
    def cancel(self, n: int, turns: int) -> None:
        """Cancel a task where it is."""
        tasks = {*self.worker.tasks(), *self.app.tasks}
        if found := sorted((task for task in tasks if not task.done()), key=_age):
            found[n % len(found)].cancel()
        self._turn(turns)

    # Ops, events and calls

    @rule(n=which, with_credit=st.booleans(), turns=turns)
    def reply(self, n: int, with_credit: bool, turns: int) -> None:
        if replies := self.puppet.replies:
            self.puppet.reply(replies[n % len(replies)], with_credit=with_credit)
        self._turn(turns)

    @rule()
    def fill(self) -> None:
        """Put something there that can be taken, when all that was there before has been had."""
        if self.values == len(self.app.taken):
            self.values += 1
            self._state(ops.STATE_SET, BAG, pack(self.values), None, False)

    def _state(self, op: int, *args: Any) -> Any:
        """Ask the node's state as Erlang code would."""
        return self.puppet.node.memory.answer(0, op, list(args))[1]

    @rule(topic=published)
    def publish(self, topic: str) -> None:
        self.puppet.node.publish(topic, next(self.app.numbers))

    @rule(turns=turns)
    def event(self, turns: int) -> None:
        if self.puppet.events:
            self._event()
        self._turn(turns)

    @rule(mode=st.sampled_from([1, 2]), steps=errands, count=st.integers(0, 3), turns=turns)
    def call(self, mode: int, steps: list[Any], count: int, turns: int) -> None:
        name, args = ("run_async", [steps]) if mode == 1 else ("items_async", [steps, count])
        self.puppet.node._call(mode, HOOK, name, pack(args), pack({}))
        self._turn(turns)

    @rule(mode=st.sampled_from([1, 2]), count=st.integers(0, 2))
    def call_in_a_thread(self, mode: int, count: int) -> None:
        if self.worker.is_still:
            return
        name, args = ("run_sync", [count]) if mode == 1 else ("items_sync", [2, count])
        self.puppet.node._call(mode, HOOK, name, pack(args), pack({}))
        self._turn(1)

    @rule(n=which, items=st.integers(1, 2), turns=turns)
    def more(self, n: int, items: int, turns: int) -> None:
        if refs := self._items_wanted():
            self.puppet.send("more", 0, refs[n % len(refs)], items)
        self._turn(turns)

    @rule(n=which, turns=turns)
    def cancel_call(self, n: int, turns: int) -> None:
        if refs := self._calls_of_ours():
            self.puppet.send("cancel", 0, refs[n % len(refs)])
        self._turn(turns)

    def _calls_of_ours(self) -> list[int]:
        return [
            ref
            for ref, call in self.puppet.calls.items()
            if not (call.results or call.is_cancelled or ref in self.puppet.node._calls)
        ]

    def _items_wanted(self) -> list[int]:
        return [ref for ref in self._calls_of_ours() if self.puppet.calls[ref].mode == 2]

    # Time

    def _turn(self, turns: int = 1) -> None:
        for _ in range(turns):
            self.puppet.flush()
            self.worker.turn()
            if not self.is_deaf:
                self.puppet.take()
            self._wait_for_threads()

    def _wait_for_threads(self) -> None:
        """Turn until no thread runs: each waits for an answer that we have not given."""
        self._turn_until(lambda: not self._thread_runs())

    def _thread_runs(self) -> bool:
        arrived = self.puppet.arrived
        return self.app.threads.are_busy(arrived) or (
            self.worker.runs_in_threads(self.app.calls.waiting(arrived))
        )

    def _turn_until(self, holds: Callable[[], bool]) -> None:
        """Turn until something holds that waits for a thread."""
        end = time.monotonic() + DEADLINE
        while not holds():
            assert time.monotonic() < end, "it does not come to that"
            time.sleep(0.0002)
            self.puppet.flush()
            self.worker.turn()
            self.puppet.take()

    def _wait(self, seconds: float) -> None:
        if self.worker.is_still:
            self.loop.now += seconds
        else:
            time.sleep(max(seconds * self.second, 0.0015))  # its clock has milliseconds

    def _deliver(self) -> None:
        """Turn until the worker has read what it has been sent."""
        while self.puppet.has_unsent:
            self._turn()
        self._turn()

    def _event(self) -> None:
        """Let an event go, and note who is to have it."""
        before = {
            (record.number, topic): (subscription.changes, subscription.is_subscribed)
            for record in self._hearing()
            for topic, subscription in record.subscriptions.items()
        }
        open_blocks = [block for record in self._hearing() for block in record.blocks]
        open_blocks = [block for block in open_blocks if block.is_open]
        topic, value = self.puppet.event()
        self.order[value] = len(self.order)
        self._deliver()
        if topic == BOARD:
            self._note_in_blocks(value, open_blocks)
            return
        for record in self._hearing():
            subscription = record.subscription(topic)
            state = subscription.changes, subscription.is_subscribed
            if state == before.get((record.number, topic), (0, False)):
                if subscription.is_subscribed:
                    self.due.setdefault(record.number, []).append(value)
                elif subscription.is_subscribed is False:
                    self.forbidden.add((record.number, value))

    def _note_in_blocks(self, value: int, before: list[Block]) -> None:
        for record in self._hearing():
            for block in record.blocks:
                if block.is_open and any(block is other for other in before):
                    block.due.append(value)

    def _hearing(self) -> list[Record]:
        streams = self.puppet.streams
        return [
            record
            for record in self.app.records.values()
            if record.begun and not record.over and streams[record.number].is_alive
        ]

    def _settle(self) -> None:
        """Turn until nothing more comes by itself."""
        quiet = 0
        for _ in range(TURNS):
            before = self.app.progress
            self.puppet.flush()
            self.worker.turn()
            news = self.puppet.take()
            self._wait_for_threads()
            quiet = 0 if news or self.app.progress != before else quiet + 1
            if quiet == QUIET:
                return
        raise AssertionError("the worker does not come to rest")

    # What holds

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert not self.puppet.failures, self.puppet.failures
        assert not self.problems, self.problems

    @rule()
    def nothing_waits_for_a_heartbeat(self) -> None:
        if not self.worker.is_still:
            return  # what a timer does meanwhile could not be told from what has waited
        self._settle()
        before = self.puppet.heard
        self.puppet.beat()
        self._settle()
        heard = self.puppet.heard - before
        assert heard == 1, f"{heard - 1} messages waited for a heartbeat"

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._end()
        finally:
            if hasattr(self, "worker"):
                self._give_up()
                self.app.executor.shutdown(wait=False)
                self.worker.close()
                self.puppet.close()
            gc.enable()

    def _give_up(self) -> None:
        """Leave nothing of a story that has failed which would be heard of in the next one."""
        for _ in range(QUIET):
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.worker.turn()

    def _end(self) -> None:
        self.nothing_is_wrong()
        self._serve_all()
        self._check_blocks()
        self._check_subscriptions()
        self._check_hooks()
        for stream in self._streams(_is_alive):
            self.puppet.disconnect(stream)
        self._serve_all()
        self.nothing_is_wrong()
        self._check_streams()
        self._check_values()
        self._stop()
        self._check_what_is_left()

    def _serve_all(self) -> None:
        """Answer and give whatever is waited for, until nothing is."""
        for _ in range(TURNS):
            self._settle()
            idle = not self.puppet.replies and not self.puppet.events
            for stream in self._streams(_is_to_be_accepted):
                self.puppet.accepted(stream)
                idle = False
            for stream in self._streams(_is_alive):
                if min(stream.bytes, stream.messages) < MANY // 2:
                    self.puppet.give(stream, MANY, MANY)
                    idle = False
            if self.puppet.credit < MANY // 2:
                self.puppet.owed = MANY
                self.puppet.give_to_worker()
                idle = False
            while self.puppet.events:
                self._event()
            for reply in list(self.puppet.replies):
                self.puppet.reply(reply)
            if idle and self._time_is_over() and not self._cancel_streams():
                return
            self._wait(200)
        raise AssertionError("there is no end of what the worker wants")

    def _time_is_over(self) -> bool:
        """Tell whether nothing more happens when time goes by."""
        before = self.app.progress
        self._wait(200)
        self._settle()
        return before == self.app.progress and not self.puppet.replies

    def _cancel_streams(self) -> bool:
        """Give up the streams of items that nobody reads to their end; tell whether there are."""
        left = [
            ref
            for ref, call in self.puppet.calls.items()
            if call.mode == 2 and not (call.results or call.is_cancelled)
        ]
        for ref in left:
            self.puppet.send("cancel", 0, ref)
        return bool(left)

    def _check_blocks(self) -> None:
        """See that the node sends what blocks read, and nothing when no block is left."""
        subscribers = self.puppet.node.memory._topics.get(BOARD, {})
        for record in self._hearing():
            is_read = any(block.is_open for block in record.blocks)
            assert is_read == (record.number in subscribers), f"{BOARD} of {record.number}"

    def _check_subscriptions(self) -> None:
        """Publish to all who subscribe by the node's account: they are to have it, the others
        not."""
        for topic in TOPICS:
            value = next(self.app.numbers)
            subscribers = self.puppet.node.memory._topics.get(topic, {})
            heard = {number for number, forward in subscribers.items() if not forward}
            self.puppet.tell_all(topic, pack(value))
            self.order[value] = len(self.order)
            self._settle()
            for record in self._hearing():
                if record.number in heard:
                    self.due.setdefault(record.number, []).append(value)
                else:
                    self.forbidden.add((record.number, value))

    def _check_hooks(self) -> None:
        """See that a hook that the node calls is there."""
        if HOOK in self.puppet.node._hooks:
            ref = self.puppet.node._call(1, HOOK, "run_async", pack([[]]), pack({}))
            self._serve_all()
            assert [status for status, _ in self.puppet.calls[ref].results] == [0]

    def _check_streams(self) -> None:
        for number, stream in self.puppet.streams.items():
            assert stream.has_ended, f"stream {number} has not ended"
            assert stream.has_moved or not stream.is_to_move, f"stream {number} has not moved"
            record = self.app.records[number]
            _check_received(record, stream)
            _check_sent(record, stream)
            self._check_heard(record)
        assert not self.puppet.unfinished_calls(), "a call without a result"

    def _check_heard(self, record: Record) -> None:
        heard = record.heard
        assert len(heard) == len(set(heard)), f"a message twice: {heard}"
        missing = set(self.due.get(record.number, ())) - set(heard)
        assert not missing, f"stream {record.number} has not had {missing}"
        others = [value for value in heard if (record.number, value) in self.forbidden]
        assert not others, f"stream {record.number} has had {others}"
        for block in record.blocks:
            known = [value for value in block.heard if value in block.due]
            assert known == block.due[: len(known)], f"a block has heard {block.heard}"
        if record.most_readers < 2:
            assert heard == sorted(heard, key=lambda value: self.order[value]), f"disorder: {heard}"

    def _check_values(self) -> None:
        """See that each value that was there to be taken was had once, or is still there."""
        left = self._state(ops.STATE_GET, BAG)
        had = [*self.app.taken, *([] if left is None else [unpack(left)])]
        assert sorted(had) == list(range(1, self.values + 1)), f"of {self.values} values: {had}"

    def _stop(self) -> None:
        self.puppet.send("stop", 0, 1000)
        self._settle()
        assert self.worker.server.stopping.done()
        self.worker.finish(self._settle)
        self.nothing_is_wrong()

    def _check_what_is_left(self) -> None:
        left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        assert not left, f"tasks are left: {left}"
        if not self.worker.is_still or self.eager:
            return  # threads let go when they come to it, Python 3.12 of no eager task that fails
        if self.app.is_tangled:
            gc.collect()
        kept = [it for it in gc.get_objects() if type(it).__name__ in OURS]
        assert not kept, f"there are left: {kept}"


OURS = ("Http", "WebSocket", "Mailbox", "Running", "Run")


def _is_alive(stream: Conversation) -> bool:
    return stream.is_alive


def _is_websocket(stream: Conversation) -> bool:
    return stream.is_alive and stream.kind == "websocket"


def _is_to_be_accepted(stream: Conversation) -> bool:
    return stream.is_alive and stream.state == "accepting"


def _may_be_flushed(stream: Conversation) -> bool:
    return _is_websocket(stream) and stream.state == "open" and stream.flush == "due"


def _age(task: asyncio.Task[Any]) -> tuple[int, str]:
    """Return what sorts tasks as they were made: "Task-9" comes before "Task-10"."""
    return len(task.get_name()), task.get_name()


def _check_received(record: Record, stream: Conversation) -> None:
    """See that the app has received what the client has said, each once and in order."""
    told = stream.told[: len(record.received)]
    assert record.received == told, f"stream {record.number} received {record.received}"


def _check_sent(record: Record, stream: Conversation) -> None:
    """See that what was sent is on the wire whole, in order; what has not returned may lack."""
    if stream.status in BODILESS:
        return
    said = b"".join(stream.said)
    for send in record.sends:
        if said.startswith(send.payload):
            said = said.removeprefix(send.payload)
        elif said and send.payload.startswith(said) and not send.is_sent:
            said = b""
        else:
            assert not send.is_sent, f"{send.payload[:20]!r} of {stream.number} is not there"
    assert not said, f"stream {record.number} has said what was not sent so: {said[:20]!r}"


def _loops() -> Iterator[Any]:
    new_loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "still": StillLoop,
        "asyncio": asyncio.new_event_loop,
    }
    if importlib.util.find_spec("uvloop") is not None:
        new_loops["uvloop"] = importlib.import_module("uvloop").new_event_loop
    for name, new_loop in new_loops.items():
        for eager in (False, True):
            yield pytest.param(new_loop, eager, id=f"{name}-eager" if eager else name)


@pytest.fixture
def unfrozen() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.fixture
def story(unfrozen) -> Iterator[Story]:
    """Give a story that is told by hand; what holds of all stories is looked at in its end."""
    story = StillStory()
    story.begin(resume=False)
    yield story
    story.teardown()


class StillStory(Story):
    new_loop = StillLoop


def test_op_whose_answer_is_late_leaves_nothing_behind(story):
    story.open_websocket([("accept",), ("set", "aio", False)], turns=4)
    story.accepted(0, turns=4)
    story.wait(100, turns=4)


def test_hook_whose_registration_is_late_leaves_nothing_behind(story):
    story.open_websocket([("register", "aio")], turns=4)
    story.wait(100, turns=4)


def test_subscription_that_is_cancelled_leaves_nothing_behind(story):
    story.open_websocket([("subscribe", "aio", "news", False)], turns=4)
    story.cancel(0, turns=4)


def test_stream_of_a_hook_that_is_not_there_leaves_nothing_behind(story):
    story.call(2, [], 0, turns=4)


@pytest.mark.parametrize("turns", range(1, 9))
def test_value_is_put_back_whenever_its_taker_is_cancelled(story, turns):
    story.fill()
    taking = [("task", [("take", "aio")]), ("sleep", 5), ("cancel_child", 0), ("rest", 1)]
    story.open_websocket(taking, turns=turns)
    story.reply(0, with_credit=False, turns=4)


def test_of_two_tasks_that_change_a_hook_the_last_one_counts(story):
    both = [("task", [("register", "aio")]), ("sleep", 1), ("unregister", "sync")]
    story.open_websocket([*both, ("rest", 1)], turns=8)


@pytest.mark.parametrize(("new_loop", "eager"), list(_loops()))
def test_worker_keeps_the_rules_whatever_its_handlers_do(new_loop, eager, unfrozen):
    if eager and sys.version_info < (3, 12):
        pytest.skip("asyncio has eager tasks from Python 3.12 on")

    class LoopsStory(Story):
        pass

    LoopsStory.new_loop = staticmethod(new_loop)
    LoopsStory.eager = eager
    LoopsStory.second = 1.0 if new_loop is StillLoop else 1e-5
    for run in _runs():
        run(LoopsStory)


def _runs() -> Iterator[Callable[[type[Story]], None]]:
    """Yield one run, always the same, or with FUZZ_SECONDS others until the time is over."""
    usual = settings(
        max_examples=STORIES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    if not SECONDS:
        always = settings(usual, derandomize=True)
        yield lambda story: run_state_machine_as_test(story, settings=always)
    end = time.monotonic() + SECONDS
    for number in itertools.count(SEED):
        if time.monotonic() >= end:
            return
        yield lambda story, n=number: _run_with_seed(story, n, usual)


def _run_with_seed(story: type[Story], number: int, usual: settings) -> None:
    try:
        run_state_machine_as_test(seed(number)(story), settings=usual)
    except BaseException as failure:
        failure.add_note(f"FUZZ_SEED={number}")
        raise
