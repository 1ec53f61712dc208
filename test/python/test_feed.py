"""What a process hears for itself: bursts, losses, and the end of the connection."""

import asyncio
import queue
import threading
import time
from functools import partial

import pytest
from hornbeam_erlang import publish, testing
from hornbeam_erlang._ops import feed as feed_module
from hornbeam_erlang._ops.carrier import look_outside, uninstall
from hornbeam_erlang._ops.feed import Feed
from hornbeam_erlang._outside import visit
from hornbeam_erlang.exceptions import NotConnected

DEADLINE = 20.0


def run(work):
    return asyncio.run(asyncio.wait_for(work, DEADLINE))


async def take(messages, number):
    return [(await anext(messages)).value for _ in range(number)]


def test_feed_loses_nothing_of_a_burst():
    async def work():
        with testing.Beam():
            feed = Feed(pytest.fail)
            await feed.subscribe("t")
            messages = feed.messages()
            first = asyncio.create_task(anext(messages))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for n in range(20_000):
                publish("t", n)
            assert (await first).value == 0
            assert await take(messages, 19_999) == list(range(1, 20_000))

    run(work())


def test_feed_says_what_it_has_lost(monkeypatch):
    monkeypatch.setattr(feed_module, "MOST", 1000)
    said = []

    async def work():
        with testing.Beam():
            feed = Feed(said.append)
            feed.open()
            await feed.subscribe("t")
            for n in range(30):
                publish("t", bytes([n] * 98))
            messages = feed.messages()
            assert [value[0] for value in await take(messages, 10)] == list(range(20, 30))
            await feed.close()

    run(work())
    assert [text.partition(",")[0] for text in said] == ["20 messages were lost"]


class Outside:
    """What a process outside of all workers finds: a node, while there is one."""

    def __init__(self) -> None:
        self.node = None
        self.tries = 0

    def carrier(self):
        self.tries += 1
        if self.node is None:
            raise NotConnected("no server runs")
        return self.node

    def begin(self):
        self.node = testing.Beam()
        self.node.__enter__()
        uninstall()  # a node that is the process's own would end with it

    def end(self):
        node, self.node = self.node, None
        node.topics.leave(0)


@pytest.fixture
def outside(monkeypatch):
    monkeypatch.setattr(feed_module, "PAUSE", 0.001)
    monkeypatch.setattr(feed_module, "LONGEST_PAUSE", 0.002)
    outside = Outside()
    look_outside(outside.carrier)
    yield outside
    look_outside(visit)


def until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("is_async", [True, False])
def test_feed_of_a_process_outside_goes_on_with_the_next_node(outside, is_async):
    """And says once that none is there, however often it looks."""
    said, heard = [], queue.Queue()
    topic = f"of this feed alone, {is_async}"  # one of another case goes on, and finds the node too

    async def hear():
        feed = Feed(said.append)
        await feed.subscribe(topic)
        async for message in feed.messages():
            heard.put(message.value)

    def hear_here():
        for message in Feed(said.append).messages_here(topic):
            heard.put(message.value)

    listen = partial(asyncio.run, hear()) if is_async else hear_here
    threading.Thread(target=listen, daemon=True).start()
    for n in range(2):
        before = outside.tries
        until(lambda before=before: outside.tries > before + 5)
        assert len(said) == n + 1
        outside.begin()
        until(lambda n=n: publish(topic, n).result())
        assert heard.get(timeout=DEADLINE) == n
        outside.end()
    assert all("no server runs" in text or "is over" in text for text in said)


def test_feed_waits_longer_each_time():
    said = []
    feed = Feed(said.append)
    pauses = [feed._next_pause(NotConnected("none")) for _ in range(8)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert said == ["no messages come, and what is published now is lost: none"]


def test_feed_of_a_process_that_ends_says_nothing():
    async def work():
        said = []
        with testing.Beam() as beam:
            feed = Feed(said.append)
            await feed.subscribe("t")
            reader = asyncio.create_task(anext(feed.messages()))
            for end in (lambda: None, lambda: beam.topics.leave(0)):
                end()
                for _ in range(5):
                    await asyncio.sleep(0)
            assert not feed._is_open
            assert not reader.done()
            assert said == []
            reader.cancel()
            await asyncio.wait([reader])

    run(work())
