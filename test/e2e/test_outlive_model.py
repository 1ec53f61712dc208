"""Property: whatever becomes of the workers, each client sees what the guide promises.

Hypothesis makes up stories of connections, messages, subscriptions, publishes, state that belongs
to a connection, closes, and deaths of workers; `Peer` is the model of what one client must see:

- an echo for each message, once and in order (docs/guide/websocket.md, "A socket that outlives its
  worker"). One that does not fit into the window waits in the app for credit, and may be lost with
  its worker; it comes at most once all the same;
- what is published with forward=True, all of it and in order; to the app, in order and at most
  once, and all of it while the worker lives;
- a close only with the code that was asked for.

In the end nothing is left of anybody. HORNBEAM_STORIES sets how many stories there are,
HORNBEAM_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from crowds import BINARY, TEXT, Client
from harness import Node, Server, alive, eventually, kill_quietly
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from terms import text

STORIES = int(os.environ.get("HORNBEAM_STORIES", "8"))
SEED = int(os.environ.get("HORNBEAM_SEED", random.randrange(2**32)))
STEPS = 40
WORKERS = 3
PEERS = 6
KILLS = 5
"""In a story: the pool and each socket wait longer after each death."""

RECYCLING = {"max_requests": 40, "max_requests_jitter": 20}

KEPT = (100_000, 24)
"""Bytes and messages that one socket may say and be sure that their echoes wait for no credit: less
than half a window, since the other half may not have been given back yet."""

SIZES = [0, 1, 125, 126, 1000, 65_535, 65_536, 100_000, 300_000]

which = st.integers(0, PEERS * 4)
topics = st.sampled_from(["news", "sport"])


class Loop:
    """A loop in a thread of its own, for clients that must go on while a story waits."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(40)

    def soon(self, function: Any, *arguments: Any) -> None:
        self.loop.call_soon_threadsafe(function, *arguments)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Ear(Client):
    """The socket of a peer: remembers what comes."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.heard: list[tuple[int, bytes]] = []
        self.is_over = False

    def message(self, opcode: int, payload: bytes) -> None:
        self.heard.append((opcode, payload))

    def closed(self) -> None:
        self.is_over = True


@dataclass
class Due:
    """Something that a client is to see; what may be lost need not come."""

    payload: bytes
    opcode: int = TEXT
    fragile: bool = False
    may_be_lost: bool = False


@dataclass
class Peer:
    """One client: its socket, and the model of what it sees."""

    ear: Ear
    pid: int | None = None
    """The worker that serves it, while that is known."""
    moving: bool = False
    """Whether it is on its way to another worker for all we know."""
    spent: tuple[int, int] = (0, 0)
    """Bytes and messages said since all echoes had come."""
    ways: dict[str, str] = field(default_factory=dict)
    counted: int = 0
    answers: int = 0
    """Answers to commands that have come."""
    read: int = 0
    """How much of what it heard has been compared."""
    due: dict[str, list[Due]] = field(default_factory=lambda: {"e": [], "f": [], "p": []})

    def say(self, due: Due) -> None:
        bytes_, messages = self.spent[0] + len(due.payload), self.spent[1] + 1
        self.spent = bytes_, messages
        due.fragile = not self.is_sure_to_be_read()
        due.may_be_lost = due.fragile and self.moving
        self.due["e"].append(due)

    def is_sure_to_be_read(self) -> bool:
        """Tell whether the server reads on, whatever the app does."""
        return self.spent[0] <= KEPT[0] and self.spent[1] <= KEPT[1]

    def disturbed(self) -> None:
        """Note that the worker is gone, or will be."""
        self.compare()
        self.pid, self.moving = None, True
        for due in self.due["e"]:
            due.may_be_lost = due.fragile
        for due in self.due["p"]:
            due.may_be_lost = True

    def compare(self) -> None:
        """Hold what came against what was due."""
        while self.read < len(self.ear.heard):
            opcode, payload = self.ear.heard[self.read]
            self.read += 1
            kind = payload[:1].decode()
            if kind == "c":
                self.answers += 1
            else:
                assert kind in self.due, f"{shown(payload)} came"
                self.take(kind, opcode, payload)

    def take(self, kind: str, opcode: int, payload: bytes) -> None:
        for place, due in enumerate(self.due[kind]):
            if (due.opcode, due.payload) == (opcode, payload):
                del self.due[kind][: place + 1]
                return
            assert due.may_be_lost, f"{shown(payload)} came before {shown(due.payload)}"
        raise AssertionError(f"{shown(payload)} came, and was not due")

    def is_served(self) -> bool:
        """Compare, and tell whether all has come that must."""
        self.compare()
        assert not self.ear.is_over, f"closed with {self.ear.code} {self.ear.reason}"
        return not any(not due.may_be_lost for dues in self.due.values() for due in dues)


def shown(payload: bytes) -> str:
    return f"{payload[:24]!r} ({len(payload)} bytes)"


class Story(RuleBasedStateMachine):
    """One node with a fresh server, a few peers, and what happens to them."""

    def __init__(self, node: Node, told: list[str]) -> None:
        super().__init__()
        self.node, self.told = node, told
        self.loop = Loop()
        self.peers: list[Peer] = []
        self.stopped: int | None = None
        self.recycling = False
        self.workers = WORKERS
        self.kills = 0
        self.numbers = itertools.count()
        self.key = f"{random.getrandbits(64):x}"

    @initialize(recycling=st.booleans())
    def start(self, recycling: bool) -> None:
        """Start a server. With recycling, any worker may have done enough at any moment."""
        self.recycling = recycling
        self.server: Server = self.node.serve(
            "outliving:application",
            websocket_resume=True,
            websocket_resume_attempts=100,
            workers=WORKERS,
            **(RECYCLING if recycling else {}),
        )
        self.tell(f"start, {recycling=}")

    def tell(self, what: str) -> None:
        self.told.append(what)

    def peer(self, which: int) -> Peer:
        return self.peers[which % len(self.peers)]

    def topic(self, name: str) -> str:
        return f"{self.key} {name}"

    # Connections

    @precondition(lambda self: len(self.peers) < PEERS and self.stopped is None)
    @rule()
    def join(self) -> None:
        path = f"/modelled/{next(self.numbers)}"
        ear = self.loop.run(self.opened(path))
        self.peers.append(Peer(ear))
        self.tell(f"join {path}")
        self.look_up()

    async def opened(self, path: str) -> Ear:
        """Open a socket. A handshake with a worker that is just dying is refused with 502."""
        for _ in range(20):
            _, ear = await asyncio.get_running_loop().create_connection(
                lambda: Ear(path), self.server.host, self.server.port
            )
            try:
                await asyncio.wait_for(ear.opened, 20)
                return ear
            except ConnectionRefusedError as error:
                assert self.kills and "502" in str(error), error
        raise AssertionError("refused again and again")

    def look_up(self) -> None:
        """Learn which worker serves whom, as far as nobody is on his way to another."""
        pids = {w["name"]: w["os_pid"] for w in self.server.workers() if w["state"] == "ready"}
        served = eventually(self.served) if self.peers else {}
        for peer in self.peers:
            peer.moving = peer.moving or self.recycling
            peer.pid = None if peer.moving else pids.get(served[peer.ear.path])

    def served(self) -> dict[str, str]:
        """Name the worker of each connection, once all of them are known."""
        rows = self.node.eval("[maps:with([path, worker], C) || C <- hornbeam:connections()]")
        served = {row["path"]: row["worker"] for row in rows}
        return served if all(peer.ear.path in served for peer in self.peers) else {}

    @precondition(lambda self: self.peers)
    @rule(which=which, how=st.sampled_from(["close", "abort", "kick"]))
    def leave(self, which: int, how: str) -> None:
        if how == "close" and not self.peer(which).is_sure_to_be_read():
            self.settle()
        peer = self.peers.pop(which % len(self.peers))
        self.tell(f"{how} {peer.ear.path}")
        if how == "kick":
            code = 4000 + which
            id_ = self.node.eval(
                f"[#{{id := Id}}] = hornbeam:connections(#{{path => {text(peer.ear.path)}}}), Id"
            )
            assert self.node.eval(f'hornbeam:kick({id_}, {code}, "out")') == "ok"
        else:
            code = {"close": 1000, "abort": 1006}[how]
            self.loop.soon(peer.ear.leave if how == "close" else peer.ear.transport.abort)
        eventually(lambda: peer.ear.is_over)
        assert peer.ear.code == code
        peer.compare()

    # Messages

    @precondition(lambda self: self.peers)
    @rule(
        which=which,
        opcode=st.sampled_from([TEXT, BINARY]),
        sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=30),
    )
    def say(self, which: int, opcode: int, sizes: list[int]) -> None:
        peer = self.peer(which)
        self.tell(f"{peer.ear.path} says {sizes}")
        for size in sizes:
            self.say_to(peer, opcode, "x" * size)

    def say_to(self, peer: Peer, opcode: int, end: str) -> None:
        due = Due(f"e {next(self.numbers)} {end}".encode(), opcode)
        peer.say(due)
        self.loop.soon(peer.ear.write, opcode, due.payload)

    def command(self, peer: Peer, name: str, argument: str = "") -> str:
        """Have a command carried out by a worker that lives.

        The answer of one that is recycled meanwhile may be lost: then it is asked again.
        """
        answers = peer.answers

        def answered() -> bool:
            peer.compare()
            return peer.answers > answers

        for _ in range(5 if self.recycling else 1):
            self.loop.soon(peer.ear.write, TEXT, f"c {name} {argument}".encode())
            with contextlib.suppress(TimeoutError):
                eventually(answered, 5 if self.recycling else 20)
                return [p for _, p in peer.ear.heard if p.startswith(b"c ")][-1].decode()[2:]
        raise AssertionError(f"no answer to {name}")

    @precondition(lambda self: self.peers)
    @rule(which=which, topic=topics, how=st.sampled_from(["forward", "subscribe", "unsubscribe"]))
    def listen(self, which: int, topic: str, how: str) -> None:
        self.settle()
        peer = self.peer(which)
        self.tell(f"{peer.ear.path} {how} {topic}")
        self.command(peer, how, self.topic(topic))
        peer.ways[topic] = how

    @precondition(lambda self: self.peers and not self.recycling)
    @rule(which=which)
    def count(self, which: int) -> None:
        self.settle()
        peer = self.peer(which)
        self.tell(f"{peer.ear.path} counts")
        peer.counted += 1
        assert self.command(peer, "count", self.key) == str(peer.counted)

    @precondition(lambda self: self.peers)
    @rule(topic=topics, count=st.integers(1, 20))
    def publish(self, topic: str, count: int) -> None:
        numbers = [next(self.numbers) for _ in range(count)]
        for peer in self.peers:
            for number in numbers:
                match peer.ways.get(topic):
                    case "forward":
                        peer.due["f"].append(Due(b"f %d" % number))
                    case "subscribe":
                        peer.due["p"].append(Due(b"p f %d" % number, may_be_lost=peer.moving))
        self.tell(f"publish {count} on {topic}")
        self.node.eval(
            f'[hornbeam:publish({text(self.topic(topic))}, <<"f ", (integer_to_binary(N))/binary>>)'
            f" || N <- {numbers}]"
        )

    # Workers

    @precondition(lambda self: self.peers and self.stopped is None and self.may_kill())
    @rule(which=which)
    def stop_worker(self, which: int) -> None:
        """Let a worker stand still; it is killed later."""
        if pid := self.worker_of(which):
            self.tell(f"stop {pid}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
            self.stopped = pid

    @precondition(lambda self: self.peers and self.may_kill())
    @rule(which=which)
    def kill_worker(self, which: int) -> None:
        if pid := self.stopped or self.worker_of(which):
            self.kill(pid)

    def worker_of(self, which: int) -> int | None:
        """Name the worker of a peer, or some worker where that is not known."""
        pids = [w["os_pid"] for w in self.server.workers() if w["os_pid"]]
        return self.peer(which).pid or (pids[which % len(pids)] if pids else None)

    def may_kill(self) -> bool:
        return self.kills < KILLS

    def kill(self, pid: int) -> None:
        self.tell(f"kill {pid}")
        kill_quietly(pid)
        self.died(pid)

    def died(self, pid: int) -> None:
        """Wait until a worker is dead, and note whom that concerns."""
        eventually(lambda: not alive(pid))
        self.kills += 1
        self.stopped = None if self.stopped == pid else self.stopped
        for peer in self.peers:
            if peer.pid in (pid, None):
                peer.disturbed()

    @precondition(lambda self: self.peers and self.may_kill() and not self.recycling)
    @rule(which=which, now=st.booleans())
    def exit_in_handler(self, which: int, now: bool) -> None:
        """Let a handler end its process: in the turn in which it got the message, or later."""
        self.settle()
        peer = self.peer(which)
        pid = peer.pid
        assert pid is not None
        attempt = self.command(peer, "who")
        self.tell(f"{peer.ear.path} ends {pid}, {now=}")
        if now:
            self.say_to(peer, TEXT, f"dies {attempt}")
        else:
            self.loop.soon(peer.ear.write, TEXT, b"c exit")
        self.died(pid)

    @precondition(lambda self: self.peers)
    @rule()
    def reload(self) -> None:
        self.tell("reload")
        assert self.node.eval("hornbeam:reload()", 60) == "ok"
        self.move_all()

    @precondition(lambda self: self.peers)
    @rule(workers=st.integers(1, WORKERS + 1))
    def resize(self, workers: int) -> None:
        self.tell(f"set_workers({workers})")
        assert self.node.eval(f"hornbeam:set_workers({workers})") == "ok"
        self.workers = workers
        self.move_all()

    def move_all(self) -> None:
        """Note that anybody may be on the way to another worker."""
        for peer in self.peers:
            peer.disturbed()

    # What holds

    @rule()
    def settle(self) -> None:
        """Let everybody come to rest, and see that all has come that must."""
        if self.stopped is not None:
            self.kill(self.stopped)
        for peer in self.peers:
            self.say_to(peer, TEXT, "fence")
            peer.due["e"][-1].fragile = peer.due["e"][-1].may_be_lost = False
        eventually(lambda: all(peer.is_served() for peer in self.peers), 60)
        self.wait_until_complete()
        for peer in self.peers:
            peer.due = {kind: [] for kind in peer.due}
            peer.moving, peer.spent = False, (0, 0)
        self.look_up()
        counted = sum(peer.counted for peer in self.peers)
        eventually(lambda: self.value() == counted)

    def wait_until_complete(self) -> None:
        try:
            eventually(self.is_complete)
        except TimeoutError:
            raise AssertionError(
                f"{self.workers} workers should be ready, but there are {self.server.workers()}; "
                f"the log ends:\n{self.node.log[-4000:]}"
            ) from None

    def is_complete(self) -> bool:
        """Tell whether as many workers are ready as should be, and none is on its way out."""
        states = [worker["state"] for worker in self.server.workers()]
        return states.count("ready") == self.workers and (
            self.recycling or len(states) == self.workers
        )

    def value(self) -> int:
        return self.node.eval(f"hornbeam_state:get({text(self.key)}, 0)")

    def teardown(self) -> None:
        try:
            if hasattr(self, "server"):
                self.end()
        finally:
            self.loop.close()
            self.node.eval("hornbeam:stop()")

    def end(self) -> None:
        self.settle()
        for peer in self.peers:
            self.loop.soon(peer.ear.leave)
        eventually(lambda: all(peer.ear.is_over for peer in self.peers))
        eventually(lambda: self.node.eval("hornbeam:connections()") == [])
        eventually(lambda: not any(worker["streams"] for worker in self.server.workers()))
        eventually(lambda: self.value() == 0)
        eventually(lambda: self.node.eval(LEFT) == 0)


LEFT = """
    lists:sum([ets:info(Table, size)
               || Table <- [hornbeam_subscriptions, hornbeam_outboxes, hornbeam_outbox,
                            hornbeam_connection_registry, hornbeam_connection_state,
                            hornbeam_scoped_state]])
"""


def test_each_client_sees_what_is_promised_whatever_becomes_of_the_workers(node):
    told: list[str] = []

    def story() -> Story:
        told.clear()
        return Story(node, told)

    try:
        run_state_machine_as_test(
            seed(SEED)(story),
            settings=settings(
                max_examples=STORIES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except BaseException as failure:
        failure.add_note("\n  ".join([f"HORNBEAM_SEED={SEED}; the last story:", *told]))
        raise
