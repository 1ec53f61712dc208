"""`aio.subscribed`: a block of a connection that has a topic and a queue of its own."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from beam import Beam
from hornbeam_erlang import (
    ConnectionEnded,
    LimitExceeded,
    Message,
    OpTimeout,
    aio,
    pubsub_dropped,
    testing,
)
from hornbeam_erlang._ops import requests
from hornbeam_erlang._ops.mailbox import QUEUED, Way
from hornbeam_erlang._ops.topics import Topics
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import pack
from test_pubsub import wait_until_subscribed

DEADLINE = 20.0

CONNECTIONS = range(10)


def in_connection(
    scenario: Callable[[], Coroutine[Any, Any, Any]], **bounds: int
) -> tuple[Any, testing.Beam]:
    """Run a scenario as the handler of a connection; return its result."""
    with testing.Beam(**bounds) as beam:
        with beam.connection():
            result = asyncio.run(asyncio.wait_for(scenario(), DEADLINE))
        return result, beam


def test_block_gets_the_messages_of_its_topic_and_no_others():
    async def scenario():
        await aio.subscribe("other")
        async with aio.subscribed("news") as news:
            for topic in ("other", "news", "other", "news"):
                await aio.publish(topic, topic)
            heard = [await anext(news), await news.receive(timeout=1)]
        return heard, [await aio.check_pubsub() for _ in range(3)]

    heard, others = in_connection(scenario)[0]
    assert heard == [Message("news", "news")] * 2
    assert others == ["other", "other", None]


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
def test_subscription_ends_with_its_block_whatever_ends_that(error):
    async def scenario():
        with pytest.raises(error):
            async with aio.subscribed("news"):
                assert await aio.publish("news", 1) == 1
                raise error
        return await aio.publish("news", 2)

    assert in_connection(scenario)[0] == 0


def test_subscription_ends_with_a_task_that_is_cancelled_in_it():
    async def scenario():
        async def listen():
            async with aio.subscribed("news") as news:
                begun.set()
                async for _ in news:
                    pass

        begun = asyncio.Event()
        task = asyncio.create_task(listen())
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), await aio.publish("news", 1)

    assert in_connection(scenario)[0] == (True, 0)


def test_task_that_is_cancelled_while_it_subscribes_leaves_nothing_behind():
    async def scenario():
        task = asyncio.create_task(aio.subscribed("news").__aenter__())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), await aio.publish("news", 1)

    result, beam = in_connection(scenario)
    assert result == (True, 0)
    assert beam.topics._topics == {}


def test_nested_blocks_of_one_topic_hear_all_and_end_each_for_itself():
    async def scenario():
        async with aio.subscribed("news") as outer:
            async with aio.subscribed("news") as inner:
                counts = [await aio.publish("news", 1)]
                heard = [(await inner.receive()).value, (await outer.receive()).value]
            counts.append(await aio.publish("news", 2))
            heard.append((await outer.receive()).value)
        counts.append(await aio.publish("news", 3))
        return heard, counts

    assert in_connection(scenario)[0] == ([1, 1, 2], [1, 1, 0])


def test_block_and_subscribe_do_not_end_each_other():
    async def scenario():
        await aio.subscribe("news")
        async with aio.subscribed("news") as news:
            await aio.unsubscribe("news")
            counts = [await aio.publish("news", 1)]
            heard = [(await news.receive()).value, await aio.check_pubsub()]
            await aio.subscribe("news")
        counts.append(await aio.publish("news", 2))
        heard.append(await aio.check_pubsub())
        await aio.unsubscribe("news")
        counts.append(await aio.publish("news", 3))
        return heard, counts

    assert in_connection(scenario)[0] == ([1, None, 2], [1, 1, 0])


def test_reader_stops_when_its_block_or_its_connection_is_over():
    async def scenario():
        async def all_of(messages):
            return [value async for _, value in messages]

        async with aio.subscribed("news") as news:
            reader = asyncio.create_task(all_of(news))
            await aio.publish("news", 1)
            await asyncio.sleep(0)
        with pytest.raises(ConnectionEnded):
            await news.receive()
        with pytest.raises(StopAsyncIteration):
            await anext(news)
        return await reader

    assert in_connection(scenario)[0] == [1]


def test_block_waits_no_longer_than_it_is_told():
    async def scenario():
        async with aio.subscribed("news") as news:
            with pytest.raises(OpTimeout, match=r"within 0\.01 s"):
                await news.receive(timeout=0.01)
            with pytest.raises(ValueError, match="timeout"):
                await news.receive(timeout=-1)
            await aio.publish("news", 1)
            return await news.receive(timeout=0)

    assert in_connection(scenario)[0] == ("news", 1)


def test_what_a_block_has_lost_is_counted_also_after_it():
    async def scenario():
        async with aio.subscribed("news") as news:
            for number in range(5):
                await aio.publish("news", number)
            counts = [pubsub_dropped()]
            last = (await news.receive()).value
        return last, [*counts, await aio.pubsub_dropped()]

    assert in_connection(scenario, queue_messages=1)[0] == (4, [4, 4])


def test_topic_comes_to_a_connection_in_one_way_only():
    async def scenario():
        await aio.subscribe("forwarded", forward=True)
        with pytest.raises(ValueError, match="'forwarded' is forwarded"):
            await aio.subscribed("forwarded").__aenter__()
        async with aio.subscribed("news"):
            with pytest.raises(ValueError, match="'news' is read by"):
                await aio.subscribe("news", forward=True)
            await aio.subscribe("other", forward=True)

    in_connection(scenario)


def test_subscription_is_for_one_block():
    async def scenario():
        subscription = aio.subscribed("news")
        with pytest.raises(RuntimeError, match="async with"):
            await subscription.receive()
        async with subscription:
            with pytest.raises(RuntimeError, match="one block"):
                await subscription.__aenter__()

    in_connection(scenario)


def test_block_that_ends_in_another_connection_ends_nothing_of_that():
    async def main():
        with testing.Beam() as beam, beam.connection():
            subscription = await aio.subscribed("news").__aenter__()
            with beam.connection():
                await aio.subscribe("news")
                await subscription.__aexit__(None, None, None)
                await aio.publish("news", 1)
                return await aio.check_pubsub()

    assert asyncio.run(main()) == 1


def test_who_begins_while_another_part_of_the_connection_ends_stays_subscribed():
    """The node may hear of the end last."""
    topics = Topics(10, 1000, CONNECTIONS)
    plan = requests.leave(topics, 1, "news")
    assert next(plan).op == ops.PUBSUB_UNSUBSCRIBE
    topics.open_queue(1, "news")
    assert plan.send(None)[:2] == (ops.PUBSUB_SUBSCRIBE, ["news", False, None])
    with pytest.raises(StopIteration):
        plan.send(None)


def test_who_unsubscribes_while_another_task_subscribes_is_unsubscribed():
    """The node may hear of the subscription last."""
    topics = Topics(10, 1000, CONNECTIONS)
    plan = requests.subscribe(topics, 1, "news", False, None)
    assert next(plan).op == ops.PUBSUB_SUBSCRIBE
    topics.unsubscribe(1, "news")
    assert plan.send(None)[:2] == (ops.PUBSUB_UNSUBSCRIBE, ["news"])
    with pytest.raises(StopIteration):
        plan.send(None)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), LimitExceeded()])
def test_subscription_that_fails_beside_a_block_ends_nothing_of_that(error):
    topics = Topics(10, 1000, CONNECTIONS)
    topics.open_queue(1, "news")
    plan = requests.subscribe(topics, 1, "news", False, None)
    assert next(plan).op == ops.PUBSUB_SUBSCRIBE
    with pytest.raises(type(error)):
        plan.throw(error)
    assert (topics.way(1, "news"), topics.wanted(1, "news")) == (None, QUEUED)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), LimitExceeded()])
def test_block_that_fails_to_begin_beside_a_subscription_ends_nothing_of_that(error):
    topics = Topics(10, 1000, CONNECTIONS)
    topics.subscribe(1, "news")
    plan = requests.open_queue(topics, 1, "news")
    assert next(plan).op == ops.PUBSUB_SUBSCRIBE
    with pytest.raises(type(error)):
        plan.throw(error)
    assert topics.deliver("news", pack(1)) == 1


@pytest.mark.parametrize(("error", "asks"), [(asyncio.CancelledError(), 1), (LimitExceeded(), 0)])
def test_block_that_fails_to_begin_is_taken_back_if_the_node_may_have_heard_of_it(error, asks):
    topics = Topics(10, 1000, CONNECTIONS)
    plan = requests.open_queue(topics, 1, "news")
    next(plan)
    asked = []
    with pytest.raises(type(error)):
        asked.append(plan.throw(error))
        plan.send(None)
    assert [request.op for request in asked] == [ops.PUBSUB_UNSUBSCRIBE] * asks
    assert topics._topics == {}


def test_forwarding_whose_end_cannot_be_followed_by_a_subscription_goes_on():
    topics = Topics(10, 1000, CONNECTIONS)
    forwarded = Way(True, "close")
    topics.subscribe(1, "news", forwarded)
    plan = requests.subscribe(topics, 1, "news", False, None)
    assert next(plan).op == ops.PUBSUB_UNSUBSCRIBE
    assert plan.send(None)[:2] == (ops.PUBSUB_SUBSCRIBE, ["news", False, None])
    assert plan.throw(LimitExceeded())[:2] == (ops.PUBSUB_SUBSCRIBE, ["news", *forwarded])
    with pytest.raises(LimitExceeded):
        plan.send(None)
    assert topics.way(1, "news") == forwarded
    assert topics._topics == {}


def test_plan_that_is_dropped_asks_for_nothing_more():
    topics = Topics(10, 1000, CONNECTIONS)
    for plan in (
        requests.subscribe(topics, 1, "news", False, None),
        requests.open_queue(topics, 1, "news"),
    ):
        next(plan)
        plan.close()
        assert topics._topics == {}


def test_topic_is_a_text():
    async def scenario():
        with pytest.raises(TypeError, match="topic"):
            await aio.subscribed(b"news").__aenter__()

    in_connection(scenario)


# Where another worker was before


def test_block_takes_over_what_came_for_its_topic_to_the_connection_that_goes_on():
    topics = Topics(1000, 1 << 20, CONNECTIONS)
    topics.inherit(1, ["news", "other"])
    for topic, value in (("news", 1), ("other", 2), ("news", 3)):
        topics.deliver(topic, pack(value))
    scope = topics.open_queue(1, "news")
    assert [scope.receive(0).value for _ in range(2)] == [1, 3]
    assert topics.mailbox(1).ways.keys() == {"other"}
    assert topics.mailbox(1).receive(0).value == 2
    assert topics.deliver("news", pack(4)) == 1
    topics.close_queue(1, "news", scope)
    assert topics.wanted(1, "news") is None


def test_block_takes_nothing_over_of_what_the_app_has_subscribed_to_again():
    topics = Topics(1000, 1 << 20, CONNECTIONS)
    topics.inherit(1, ["news"])
    topics.subscribe(1, "news")
    topics.deliver("news", pack(1))
    topics.open_queue(1, "news")
    assert topics.mailbox(1).receive(0).value == 1
    assert topics.deliver("news", pack(2)) == 2


@pytest.mark.parametrize("before", [True, False])
def test_block_that_begins_when_the_client_has_left_ends_at_once(before):
    opened = None if before else lambda number, mailbox: mailbox.close()
    topics = Topics(10, 1000, CONNECTIONS, opened)
    if before:
        topics.subscribe(1, "other")
        topics.leave(1)
    scope = topics.open_queue(1, "news")
    with pytest.raises(ConnectionEnded):
        scope.receive(0)


def test_no_queue_of_a_block_outlives_its_connection():
    topics = Topics(1000, 1 << 20, CONNECTIONS)
    scope = topics.open_queue(1, "news")
    topics.forget(1)
    assert topics._topics == {}
    assert topics._mailboxes == {}
    with pytest.raises(ConnectionEnded):
        scope.receive(0)
    topics.close_queue(1, "news", scope)


# In a worker


LISTENING = """
    from hornbeam_erlang import aio

    async def app(scope, receive, send):
        if scope["type"] != "websocket":
            raise NotImplementedError
        await send({"type": "websocket.accept"})
        try:
            async with aio.subscribed("news") as news:
                async for topic, value in news:
                    await send({"type": "websocket.send", "text": f"{topic}: {value}"})
                    if value == "last":
                        break
        finally:
            print("left")
        await receive()
"""


def test_worker_subscribes_and_unsubscribes_with_the_block(run: Any) -> None:
    beam: Beam = run(LISTENING, ops=True)
    beam.accept(1)
    wait_until_subscribed(beam, "news", 1)
    for value in ("first", "last"):
        beam.node.publish("news", value)
        assert beam.expect("send_text", 1)[2] == f"news: {value}".encode()
    beam.expect_log("left")
    assert beam.node.memory._topics == {}


def test_block_ends_quietly_when_its_connection_is_over(run: Any) -> None:
    beam: Beam = run(LISTENING, ops=True)
    beam.accept(1)
    wait_until_subscribed(beam, "news", 1)
    beam.send("disconnect", 1, 1006, b"")
    beam.expect_log("left")
    assert beam.expect("ended", 1)[2] is None
