"""Who is present, as an app sees it: what changes tell, in the stand-in, and what a roster makes of
what is told twice, late, or not at all."""

import asyncio
import contextlib

import pytest
from hornbeam_erlang import ConnectionEnded, LimitExceeded, NotFound, aio, presence, testing
from hornbeam_erlang._ops.roster import Roster
from hypothesis import given
from hypothesis import strategies as st

TOPIC = "room"


def names(diff):
    return sorted(diff["joins"]), sorted(diff["leaves"])


def metas(*refs, **more):
    return {"metas": [{"phx_ref": ref, **more} for ref in refs]}


def told(joins=None, leaves=None):
    payload = {"joins": joins or {}, "leaves": leaves or {}}
    return {"topic": TOPIC, "event": "presence_diff", "payload": payload}


def state(members):
    return {"topic": TOPIC, "event": "presence_state", "payload": members}


# The stand-in


def test_who_is_present_ends_with_the_connection():
    with testing.Beam() as beam:
        with beam.connection():
            presence.track(TOPIC, "ada", {})
            with beam.connection():
                presence.track(TOPIC, "ada", {})
                presence.track(TOPIC, "bob", {})
                assert len(presence.list(TOPIC)["ada"]["metas"]) == 2
                assert presence.count(TOPIC) == 2
            assert [*presence.list(TOPIC)] == ["ada"]
        assert presence.list(TOPIC) == {}


def test_the_worker_may_be_present_too():
    with testing.Beam() as beam:
        presence.track(TOPIC, "clock", {"every": 60})
        with beam.connection():
            assert [*presence.list(TOPIC)] == ["clock"]
            with pytest.raises(NotFound):
                presence.update(TOPIC, "clock", {})


def test_changes_tell_who_is_there_and_who_comes_and_leaves():
    async def watch(beam):
        seen = []
        with beam.connection():
            presence.track(TOPIC, "ada", {})
        with beam.connection():
            presence.track(TOPIC, "bob", {})
            with beam.connection():
                diffs = presence.changes(TOPIC)
                seen.append(names(await anext(diffs)))
                with beam.connection():
                    presence.track(TOPIC, "cyd", {"n": 1})
                    presence.update(TOPIC, "cyd", {"n": 2})
                seen.extend([names(await anext(diffs)) for _ in range(3)])
                await diffs.aclose()
        return seen

    with testing.Beam() as beam:
        came, changed, left = (["cyd"], []), (["cyd"], ["cyd"]), ([], ["cyd"])
        assert asyncio.run(watch(beam)) == [(["bob"], []), came, changed, left]


def test_changes_that_were_lost_are_made_up_for():
    async def watch(beam):
        with beam.connection():
            diffs = aio.presence.changes(TOPIC)
            first = await anext(diffs)
            for n in range(20):
                presence.track(TOPIC, f"user{n}", {})
                presence.untrack(TOPIC, f"user{n - 1}")
            second = await anext(diffs)
            await diffs.aclose()
        return names(first), names(second)

    with testing.Beam(queue_messages=3) as beam:
        assert asyncio.run(watch(beam)) == (([], []), (["user19"], []))


def test_changes_end_with_the_connection():
    async def watch(beam):
        with contextlib.ExitStack() as stack:
            stack.enter_context(beam.connection())
            diffs = aio.presence.changes(TOPIC)
            await anext(diffs)
            stack.close()
            return [diff async for diff in diffs]

    with testing.Beam() as beam:
        assert asyncio.run(watch(beam)) == []


def test_a_client_is_told_the_state_first_and_then_changes():
    with testing.Beam() as beam, beam.connection() as client:
        ref = presence.track(TOPIC, "ada", {"n": 1})
        presence.subscribe(TOPIC, forward=True)
        presence.track(TOPIC, "bob", {})
        name = f"hornbeam:presence:{TOPIC}"
        (first, state_of), (second, diff) = client.forwarded
        assert (first, second) == (name, name)
        assert state_of == state({"ada": metas(ref, n=1)})
        assert (diff["event"], names(diff["payload"])) == ("presence_diff", (["bob"], []))
        presence.unsubscribe(TOPIC)
        presence.untrack(TOPIC, "bob")
        assert len(client.forwarded) == 2


def test_what_a_connection_may_keep_bounds_how_often_it_is_present():
    with testing.Beam(connection_state_max_rows=2) as beam, beam.connection():
        presence.track(TOPIC, "1", {})
        presence.track(TOPIC, "2", {})
        with pytest.raises(LimitExceeded, match="connection_state_max_rows"):
            presence.track(TOPIC, "3", {})
        presence.untrack(TOPIC, "1")
        presence.track(TOPIC, "3", {})
        assert [*presence.list(TOPIC)] == ["2", "3"]


def test_who_is_gone_cannot_become_present():
    async def late(gone):
        await gone.wait()
        await aio.presence.track(TOPIC, "late", {})

    async def outlive(beam):
        gone = asyncio.Event()
        with beam.connection():
            task = asyncio.create_task(late(gone))
            await asyncio.sleep(0)
        gone.set()
        with pytest.raises(ConnectionEnded):
            await task

    with testing.Beam() as beam:
        asyncio.run(outlive(beam))
        assert presence.list(TOPIC) == {}


# The roster


def test_what_is_told_twice_is_new_once():
    roster = Roster()
    assert roster.replace({"ada": metas("1")}) == {"joins": {"ada": metas("1")}, "leaves": {}}
    assert roster.hear(told({"ada": metas("1")})) == {"joins": {}, "leaves": {}}
    assert roster.hear(told({}, {"ada": metas("1")})) == {
        "joins": {},
        "leaves": {"ada": metas("1")},
    }
    assert roster.hear(told({}, {"ada": metas("1")})) == {"joins": {}, "leaves": {}}


def test_a_state_stands_for_all_that_was_missed():
    roster = Roster()
    roster.replace({"ada": metas("1", "2"), "bob": metas("3")})
    now = {"ada": metas("2"), "cyd": metas("4")}
    assert roster.hear(state(now)) == {
        "joins": {"cyd": metas("4")},
        "leaves": {"ada": metas("1"), "bob": metas("3")},
    }


def test_a_ref_with_another_meta_is_news():
    roster = Roster()
    roster.replace({"ada": metas("1", n=1)})
    assert roster.hear(told({"ada": metas("1", n=2)}))["joins"] == {"ada": metas("1", n=2)}
    assert roster.hear(told({}, {"ada": metas("1")}))["leaves"] == {"ada": metas("1", n=2)}


ROWS = st.sets(st.tuples(st.sampled_from("abc"), st.integers(1, 9)))


def members(rows):
    found = {}
    for key, number in sorted(rows):
        found.setdefault(key, {"metas": []})["metas"].append({"phx_ref": f"{key}{number}"})
    return found


def refs(found):
    return {(key, meta["phx_ref"]) for key, each in found.items() for meta in each["metas"]}


@given(st.lists(ROWS, min_size=1), st.data())
def test_whoever_applies_what_a_roster_says_knows_who_is_there(history, data):
    """However late the first list was, and whatever was told again or not at all."""
    roster, view = Roster(), set()

    def apply(diff):
        nonlocal view
        joins, leaves = refs(diff["joins"]), refs(diff["leaves"])
        assert not joins & view
        assert leaves <= view | joins
        view = (view | joins) - leaves

    before = set()
    start = data.draw(st.integers(0, len(history) - 1))
    apply(roster.replace(members(history[start])))
    for at, now in enumerate(history):
        match data.draw(st.sampled_from(["told", "told twice", "lost"])):
            case "lost":
                apply(roster.replace(members(now)) if at >= start else roster.hear(told()))
            case how:
                for _ in range(len(how.split())):
                    message = told(members(now - before), members(before - now))
                    apply(roster.hear(message))
        before = now
    apply(roster.hear(state(members(before))))
    assert view == refs(members(before))
