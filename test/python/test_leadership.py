"""Who leads, as the stand-in says it: blocks, functions of which one runs, and what ends them."""

import asyncio
import threading
import time

import pytest
from hornbeam_erlang import (
    LeadershipLost,
    NotConnected,
    OpTimeout,
    Unavailable,
    aio,
    cluster,
    leader,
    leadership,
    only_one,
)
from hornbeam_erlang._ops.leader_requests import Standing
from hornbeam_erlang._wire import ops
from hornbeam_erlang.testing import Beam

DEADLINE = 10


@pytest.fixture
def beam():
    with Beam() as beam:
        yield beam


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, DEADLINE))


async def eventually(holds):
    async with asyncio.timeout(DEADLINE):
        while not holds():
            await asyncio.sleep(0.001)


# Blocks


def test_one_leads_after_the_other_first_come_first_served(beam):
    order = []

    async def lead(n):
        async with leader("name") as token:
            order.append((n, token))
            await asyncio.sleep(0)

    async def all_of_them():
        await asyncio.gather(*map(lead, range(5)))

    run(all_of_them())
    tokens = [token for _, token in order]
    assert [n for n, _ in order] == [0, 1, 2, 3, 4]
    assert tokens == sorted(set(tokens))


def test_names_are_apart(beam):
    async def two():
        async with leader("one"), leader("other"):
            return True

    assert run(two())


def test_who_has_lost_is_cancelled_and_is_told_why(beam):
    async def lead():
        lead = leader("name")
        with pytest.raises(LeadershipLost):
            async with lead:
                beam.depose("name")
                await asyncio.sleep(DEADLINE)
        return lead.is_lost

    assert run(lead())


def test_a_cancellation_from_elsewhere_stays_one(beam):
    async def lead():
        async with leader("name"):
            await asyncio.sleep(DEADLINE)

    async def cancelled():
        task = asyncio.create_task(lead())
        await eventually(lambda: beam._memory.leaders._candidates)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with leader("name"):  # which the other has given back
            return True

    assert run(cancelled())


def test_who_gives_up_waiting_stands_no_more(beam):
    async def give_up():
        async with leader("name"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), leader("name"):
                    pass
            assert len(beam._memory.leaders._candidates) == 1
        async with leader("name"):
            return True

    assert run(give_up())


@pytest.mark.parametrize("turns", range(5))
def test_who_is_cancelled_at_any_moment_of_its_beginning_stands_no_more(beam, turns):
    async def lead():
        async with leader("name"):
            await asyncio.sleep(DEADLINE)

    async def cancelled():
        task = asyncio.create_task(lead())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return beam._memory.leaders._candidates

    assert run(cancelled()) == {}


def test_a_thread_whose_stand_has_no_answer_stands_no_more(beam, monkeypatch):
    answer = beam._answer

    def unheard(op, args):
        done = answer(op, args)
        if op == ops.LEADER_STAND:
            raise OpTimeout("no answer came in time")
        return done

    monkeypatch.setattr(beam, "_answer", unheard)
    with pytest.raises(OpTimeout), leader("name"):
        pass
    assert beam._memory.leaders._candidates == {}


def test_a_timeout_raises_and_is_no_stand_any_more(beam):
    async def wait():
        async with leader("name"):
            with pytest.raises(OpTimeout, match=r"'name' within 0\.01 s"):
                async with leader("name", timeout=0.01):
                    pass
        return beam._memory.leaders._candidates

    assert run(wait()) == {}


def test_an_error_of_the_block_is_its_own(beam):
    async def fail():
        async with leader("name"):
            raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        run(fail())
    assert beam._memory.leaders._candidates == {}


def test_a_lead_is_for_one_block(beam):
    async def twice():
        lead = leader("name")
        async with lead:
            pass
        async with lead:
            pass

    with pytest.raises(RuntimeError, match="one block"):
        run(twice())


@pytest.mark.parametrize("name", [1, None, b"name"])
def test_a_name_is_a_text(name):
    with pytest.raises(TypeError, match="name: is a str"):
        leader(name)
    with pytest.raises(TypeError, match="name: is a str"):
        only_one(name)


def test_nobody_leads_where_there_is_no_node():
    async def lead():
        async with leader("name"):
            pass

    with pytest.raises(NotConnected):
        run(lead())


class Silent:
    """A node that answers once, with a lease, and then never again."""

    def __init__(self, monkeypatch):
        self.asked = 0
        monkeypatch.setattr(leadership, "perform_async", self.perform)
        monkeypatch.setattr(leadership, "follow_async", self.follow)

    async def perform(self, request):
        if request.op != leadership.leader_requests.ops.LEADER_AWAIT:
            return None
        self.asked += 1
        if self.asked > 1:
            await asyncio.get_running_loop().create_future()
        return Standing(7, 0.05)

    async def follow(self, plan):
        for _request in plan:
            pass


def test_a_lease_that_nobody_renews_is_a_loss(monkeypatch):
    node = Silent(monkeypatch)

    async def lead():
        began = time.monotonic()
        with pytest.raises(LeadershipLost):
            async with leader("name") as token:
                assert token == 7
                await asyncio.sleep(DEADLINE)
        return time.monotonic() - began

    assert run(lead()) < DEADLINE
    assert node.asked == 2


# In threads


def test_a_thread_waits_for_its_turn(beam):
    order = []

    def lead(n):
        with leader("name") as token:
            order.append((n, token))

    with leader("name") as first:
        thread = threading.Thread(target=in_worker(beam, lead), args=(1,))
        thread.start()
        wait_until(lambda: len(beam._memory.leaders._candidates) == 2)
        order.append((0, first))
    thread.join(DEADLINE)
    assert [n for n, _ in order] == [0, 1]
    assert order[0][1] < order[1][1]


def in_worker(beam, function):
    from contextvars import copy_context

    context = copy_context()
    return lambda *args: context.run(function, *args)


def wait_until(holds):
    end = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_thread_asks_whether_it_still_leads(beam):
    lead = leader("name")
    with lead:
        assert lead.is_held()
        beam.depose("name")
        assert not lead.is_held()


def test_a_thread_gives_up_in_time(beam):
    with leader("name"), pytest.raises(OpTimeout), leader("name", timeout=0.01):
        pass
    with leader("name", timeout=0.01) as token:
        assert token


def test_a_loop_is_not_stopped_by_a_block_for_threads(beam):
    async def lead():
        with leader("name"):
            pass

    with pytest.raises(TypeError, match="async with"):
        run(lead())


# Functions of which one runs


def test_a_function_runs_when_its_turn_has_come(beam):
    @only_one("name")
    async def tell(n):
        return n, tell.token

    async def both():
        return await asyncio.gather(tell(1), tell(2))

    (one, first), (other, second) = run(both())
    assert (one, other, tell.token) == (1, 2, None)
    assert first < second


def test_a_function_that_has_lost_runs_again(beam):
    tokens = []

    @only_one("name")
    async def stay():
        tokens.append(stay.token)
        if len(tokens) == 1:
            beam.depose("name")
            await asyncio.sleep(DEADLINE)
        return "done"

    assert run(stay()) == "done"
    assert tokens == [1, 2]


def test_a_function_runs_beside_a_block_and_is_waited_for(beam):
    events = []

    @only_one("name")
    async def stay():
        events.append("begins")
        try:
            await asyncio.sleep(DEADLINE)
        finally:
            await asyncio.sleep(0)
            events.append("ends")

    async def lifespan():
        async with stay.running():
            await eventually(lambda: events)
        events.append("after")

    run(lifespan())
    assert events == ["begins", "ends", "after"]
    assert beam._memory.leaders._candidates == {}


def test_what_has_returned_does_not_run_elsewhere_as_long_as_its_block_lasts(beam):
    runs = []

    @only_one("name")
    async def once(n):
        runs.append(n)

    async def lifespans():
        async with once.running(1):
            await eventually(lambda: runs)
            async with once.running(2):
                await eventually(lambda: len(beam._memory.leaders._candidates) == 2)
                for _ in range(10):
                    await asyncio.sleep(0)
        async with once.running(3):
            await eventually(lambda: len(runs) == 2)

    run(lifespans())
    assert runs == [1, 3]


def test_what_has_raised_is_logged_and_the_next_one_has_its_turn(beam, caplog, monkeypatch):
    monkeypatch.setattr(leadership, "_FIRST_REST", 0.001)
    runs = []

    @only_one("name")
    async def fail():
        runs.append(fail.token)
        if len(runs) < 3:
            raise ValueError("asked for")

    async def lifespan():
        async with fail.running():
            await eventually(lambda: len(runs) == 3)

    run(lifespan())
    assert runs == [1, 2, 3]
    assert [r.exc_info[0] for r in caplog.records if r.exc_info] == [ValueError, ValueError]


# Consistent state


def test_a_lock_of_the_cluster_is_apart_from_who_leads(beam):
    async def both():
        async with leader("name"), aio.cluster.lock("name") as token:
            return token

    assert run(both()) > 0


def test_the_consistent_state_keeps_what_python_gives(beam):
    cluster.set("k", {"a": [1, None, b"x"]})
    assert cluster.get("k") == {"a": [1, None, b"x"]}
    assert (cluster.get("none"), cluster.get("none", 7)) == (None, 7)
    assert (cluster.add("k", 1), cluster.add("new", 1)) == (False, True)
    assert (cluster.cas("new", 1.0, 2), cluster.cas("new", 1, 2)) == (False, True)
    assert (cluster.incr("new", 0.5), cluster.incr("n")) == (2.5, 1)
    assert (cluster.delete("n"), cluster.delete("n")) == (True, False)
    with pytest.raises(TypeError, match="not a number"):
        cluster.incr("k")


def test_the_same_as_coroutines(beam):
    async def all_of_them():
        await aio.cluster.set("k", 1)
        return [
            await aio.cluster.get("k"),
            await aio.cluster.add("k", 2),
            await aio.cluster.cas("k", 1, 2),
            await aio.cluster.incr("k"),
            await aio.cluster.delete("k"),
        ]

    assert run(all_of_them()) == [1, False, True, 3, True]


def test_what_cannot_be_had_is_no_timeout():
    assert not issubclass(Unavailable, TimeoutError)
