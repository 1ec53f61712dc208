"""Hooks of Python and functions of Erlang that only another node has."""

from __future__ import annotations

import pytest
from calling import Calling
from harness import eventually
from hornbeam_erlang import NodeDown, NotFound, OpTimeout

HOOK = """
class Far:
    def where(self):
        return node()
    async def count(self, limit):
        for number in range(limit):
            yield number
    async def wait(self, seconds):
        await asyncio.sleep(seconds)
    def fail(self):
        raise ValueError("far away")
register_hook(name, Far())
"""


def found(member, name):
    """Wait until a node has heard of a hook; return where it runs."""

    def where():
        try:
            return member("await aio.execute(n, 'where')", n=name)
        except NotFound:
            return None

    return eventually(where)


def test_a_hook_of_another_node_is_executed_there(cluster):
    one, two, _ = cluster.members
    two(HOOK, name="far")
    assert found(one, "far") == two.name
    assert one("[n async for n in aio.stream('far', 'count', 1000)]") == list(range(1000))
    assert one("await (await aio.execute_async('far', 'where'))") == two.name
    with pytest.raises(Exception, match="far away"):
        one("await aio.execute('far', 'fail')")
    with pytest.raises(OpTimeout):
        one("await aio.execute('far', 'wait', 60, timeout=0.1)")


def test_a_hook_of_ones_own_is_preferred_and_others_are_spread(cluster):
    one, two, three = cluster.members
    two(HOOK, name="spread")
    three(HOOK, name="spread")
    eventually(lambda: {found(one, "spread") for _ in range(20)} == {two.name, three.name})
    one(HOOK, name="spread")
    assert {found(one, "spread") for _ in range(20)} == {one.name}


def test_a_function_of_another_node_is_called(cluster):
    one, two, _ = cluster.members
    two.erlang("hornbeam", "register_function", "far_node", two("terms.Atom('erlang')"),
               two("terms.Atom('node')"))  # fmt: skip

    def called():
        try:
            return one("await aio.call('far_node')")
        except NotFound:
            return None

    assert eventually(called) == two.name


def test_who_dies_meanwhile_is_told_and_another_one_is_asked_next(cluster):
    one, two, three = cluster.members
    two(HOOK, name="mortal")
    assert found(one, "mortal") == two.name
    with one.console() as waiting:
        waiting.ask("await aio.execute('mortal', 'wait', 60, timeout=50)")
        eventually(lambda: two.erlang("hornbeam_link_calls", "serving", two("terms.Atom('calls')")))
        three(HOOK, name="mortal")
        two.kill()
        with pytest.raises(NodeDown, match=two.name):
            waiting.answer()
    assert eventually(lambda: found(one, "mortal") == three.name)


def test_a_node_that_stands_still_costs_the_timeout(cluster):
    one, two, _ = cluster.members
    two(HOOK, name="still")
    assert found(one, "still") == two.name
    two.stall()
    try:
        with pytest.raises(OpTimeout):
            one("await aio.execute('still', 'where', timeout=0.2)")
    finally:
        two.resume()


def test_calls_go_on_while_nodes_are_stopped_and_started_one_after_the_other(cluster):
    """Who is stopped answers what it has begun, and is asked for nothing more."""
    for turn, member in enumerate(cluster.members):
        caller, stays = (other for other in cluster.members if other is not member)
        with Calling(caller, [member, stays], f"service{turn}") as calling:
            assert member.stop() == 0
            member.restart()
            cluster.joined()
            calling.serve(member)
            calling.reaches(member)
            assert calling.failed() == []
