"""The bounds of what the stand-in keeps: those of the node, at their ends and one past them."""

import asyncio
from pathlib import Path

import hornbeam_erlang as h
import pytest
from hornbeam_erlang import LimitExceeded, aio, cluster
from hornbeam_erlang._local.quota import Limits
from hornbeam_erlang.testing import Beam


def refuses(option, number):
    text = f"the option {option} of this node, which is {number}, allows no more"
    return pytest.raises(LimitExceeded, match=text)


def test_one_key_too_many_is_refused_and_changes_nothing():
    with Beam(state_max_rows=2):
        h.state_set("a", 1)
        h.state_incr("b")
        for add in (
            lambda: h.state_set("c", 1).result(),
            lambda: h.state_add("c", 1),
            lambda: h.state_incr("c"),
            lambda: h.state_set_multi({"a": 5, "c": 5}).result(),
            lambda: h.state_set("c", 1, scope="connection").result(),
            lambda: h.connection_state().__setitem__("c", 1),
        ):
            with refuses("state_max_rows", 2):
                add()
        assert h.state_items() == [("a", 1), ("b", 1)]
        assert h.state_incr("b") == 2
        assert h.state_cas("a", 1, "x")
        assert h.state_delete("a")
        h.state_set("c", 1)


def test_a_value_that_grows_too_large_is_refused():
    with Beam(state_max_bytes=1000):
        h.state_set("a", b"x" * 500)
        for grow in (
            lambda: h.state_set("a", b"x" * 1000).result(),
            lambda: h.state_cas("a", b"x" * 500, b"x" * 1000),
            lambda: h.state_set("b", b"x" * 500).result(),
            lambda: h.subscribe("a topic"),
        ):
            with refuses("state_max_bytes", 1000):
                grow()
        assert h.state_get("a") == b"x" * 500
        h.state_set("a", b"")
        h.state_set("b", b"x" * 500)
        assert h.state_take("b") == b"x" * 500
        h.state_set("n", 1 << 900)
        with refuses("state_max_bytes", 1000):
            h.state_incr("n", 1 << 9000)


def test_what_is_past_its_time_makes_room():
    with Beam(state_max_rows=1) as beam:
        h.state_set("a", 1, ttl=5)
        beam.advance(5)
        h.state_set("b", 1, ttl=5)
        beam.advance(5)
        h.state_set_multi({"c": 1})
        assert h.state_keys() == ["c"]


def test_a_connection_has_bounds_of_its_own_and_its_end_makes_room():
    with Beam(connection_state_max_rows=2, state_max_rows=4) as beam:
        for _ in range(3):
            with beam.connection():
                h.connection_state()["a"] = 1
                h.state_set("a", 1, scope="connection")
                h.state_set("a", 2, scope="connection")
                with refuses("connection_state_max_rows", 2):
                    h.state_incr("n", scope="connection")
                with refuses("connection_state_max_rows", 2):
                    h.connection_state()["b"] = 1
                del h.connection_state()["a"]
                h.state_incr("n", scope="connection")
        assert h.state_items() == [("n", 0)]


def test_a_refused_change_is_not_bound():
    with Beam(state_max_rows=1) as beam:
        h.state_set("a", 1)
        with beam.connection():
            for _ in range(3):
                with refuses("state_max_rows", 1):
                    h.state_set("a", 2, scope="connection").result()
        assert h.state_get("a") == 1


def test_a_connection_subscribes_to_a_number_of_topics():
    with Beam(connection_max_topics=2) as beam, beam.connection():
        h.subscribe("a")
        h.subscribe("b", forward=True)
        h.subscribe("a")
        with refuses("connection_max_topics", 2):
            h.subscribe("c")
        h.unsubscribe("a")
        h.subscribe("c")
        with beam.connection():
            h.subscribe("a")


def test_aio_is_refused_too():
    async def fill():
        await aio.state_set("a", 1)
        with refuses("state_max_rows", 1):
            await aio.state_set("b", 1)

    with Beam(state_max_rows=1):
        asyncio.run(fill())


def test_the_defaults_are_those_of_the_node():
    guide = Path(__file__).parents[2] / "docs" / "guide" / "configuration.md"
    for option, default in Limits()._asdict().items():
        assert f"| `{option}` | `{default}` |" in guide.read_text()


def test_the_consistent_state_has_64_mib():
    half = "x" * (1 << 19)
    with Beam():
        for n in range(127):
            cluster.set(n, half)
        for add in (
            lambda: cluster.set(127, half),
            lambda: cluster.add(127, half),
            lambda: cluster.cas(0, half, half + half[:-10]),
        ):
            with pytest.raises(LimitExceeded, match="64 MiB"):
                add()
        assert cluster.get(127) is None
        cluster.delete(0)
        assert cluster.add(127, half)
