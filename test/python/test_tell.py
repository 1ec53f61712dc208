"""Ops that are sent without waiting: what travels, in which order, and who hears of a failure."""

import ast
import contextlib
import copy
import gc
import json
import pickle
import sys
import threading
import weakref

import pytest
from beam import DEADLINE
from hornbeam_erlang import LimitExceeded, NotFound, Sent, aio, publish, state_set, testing
from hornbeam_erlang._ops.places import MOST, Places
from hornbeam_erlang._ops.sent import Answer

PUBLISH, SET, DELETE, CAST, DROPPED, RPC_CAST = 22, 2, 3, 41, 23, 31

# An app that runs some code for each request, and answers with what that leaves in `found`.
RUNNING = """
    import asyncio, threading, time
    from hornbeam_erlang import *
    from hornbeam_erlang import aio

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if scope["type"] == "websocket":
            await receive()
            await send({{"type": "websocket.accept"}})
        found = None
{code}
        if scope["type"] == "http":
            await send({{"type": "http.response.start", "status": 200}})
            await send({{"type": "http.response.body", "body": repr(found).encode()}})
"""


def running(run, code, **config):
    lines = "".join(f"        {line}\n" for line in code.strip("\n").splitlines())
    return run(RUNNING.format(code=lines), **config)


def line_of(code):
    """Return the line of the app on which such code stands."""
    return 13 + next(n for n, line in enumerate(code.strip("\n").splitlines()) if "#here" in line)


def fail(beam, tell, status, value):
    _, stream, ref, op, _ = tell
    beam.send("tell_failed", stream, ref, op, status, value)


def test_who_does_not_ask_waits_for_nothing_and_nothing_is_answered(run):
    beam = running(
        run,
        """
publish("t", 1)
state_set("k", 1)
state_delete("k")
state_set_multi({"a": 1})
cast("f", 1)
rpc_cast("n", "m", "f", [])
aio.publish("t", 2)
aio.rpc_cast("n", "m", "f", [])
""",
    )
    beam.open_http(5)
    told = [beam.expect("tell", 5) for _ in range(8)]
    whole = [PUBLISH, SET, DELETE, 6, CAST, RPC_CAST, PUBLISH, RPC_CAST]
    assert [message[3] for message in told] == whole
    beam.expect("response_start", 5)


def test_each_line_has_a_number_of_its_own(run):
    beam = running(run, "for _ in range(3): publish('t', 1)\npublish('t', 1)")
    beam.open_http(1)
    numbers = [beam.expect("tell", 1)[2] for _ in range(4)]
    assert numbers[0] == numbers[1] == numbers[2] != numbers[3]


@pytest.mark.parametrize(
    "code",
    [
        "found = await publish('t', 1)",
        "found = await aio.publish('t', 1)",
        "found = publish('t', 1).result()",
        "found = publish('t', 1) + 0",
        "count = publish('t', 1)\nawait asyncio.sleep(0)\nfound = int(count)",
        "count = publish('t', 1)\nawait asyncio.sleep(0.01)\nfound = await count",
        "found = await asyncio.create_task(publish('t', 1))",
        "found = await asyncio.wait_for(aio.publish('t', 1), 5)",
        "found = await asyncio.to_thread(lambda: publish('t', 1).result())",
        "async def ask(): return await publish('t', 1)\n"
        "found = await asyncio.to_thread(lambda: asyncio.run(ask()))",
    ],
)
def test_who_asks_has_the_answer(run, code):
    beam = running(run, code)
    beam.open_http(1)
    _, _, ref, op, _ = beam.expect("op", 1)
    assert op == PUBLISH
    beam.send("reply", 1, ref, 0, 7)
    assert beam.expect("response_start", 1)[4] == b"7"


def test_one_that_is_held_may_be_asked_again_and_again(run):
    beam = running(run, "sent = publish('t', 1)\nfound = [await sent, sent.result(), str(sent)]")
    beam.open_http(1)
    beam.send("reply", 1, beam.expect("op", 1)[2], 0, 7)
    assert beam.expect("response_start", 1)[4] == b"[7, 7, '7']"


def test_it_is_done_before_what_is_sent_then_and_before_the_next_op(run):
    beam = running(
        run,
        """
await send({"type": "websocket.send", "text": "before"})
publish("t", 1)
await send({"type": "websocket.send", "text": "between"})
state_set("k", 1)
state_get("k")
publish("t", 2)
await send({"type": "websocket.send", "text": "after"})
""",
    )
    beam.accept(1)
    assert beam.expect("send_text", 1)[2] == b"before"
    assert beam.expect("tell", 1)[3] == PUBLISH
    assert beam.expect("send_text", 1)[2] == b"between"
    assert beam.expect("tell", 1)[3] == SET
    beam.send("reply", 1, beam.expect("op", 1)[2], 0, None)
    assert beam.expect("tell", 1)[3] == PUBLISH
    assert beam.expect("send_text", 1)[2] == b"after"


def test_what_fails_and_nobody_has_asked_is_in_the_log_with_its_line(run):
    code = """
publish("t", 1)
state_set(  #here
    "k", 1)
"""
    beam = running(run, code)
    beam.open_http(1)
    beam.expect("tell", 1)
    fail(beam, beam.expect("tell", 1), 10, "the node allows no more")
    level, logger, text = beam.expect_log("state.set has failed")
    assert (level, logger) == (40, "hornbeam.ops")
    assert f":{line_of(code)}: " in text
    assert text.endswith("LimitExceeded: the node allows no more")


def test_what_fails_for_one_who_asks_is_raised_and_not_logged(run):
    beam = running(
        run,
        """
try:
    await cast("nobody")
except NotFound as error:
    found = str(error)
""",
    )
    beam.open_http(1)
    beam.send("reply", 1, beam.expect("op", 1)[2], 9, "no such function")
    assert beam.expect("response_start", 1)[4] == b"'no such function'"
    beam.expect("ended", 1)
    assert not [line for line in beam.logs if line[1] == "hornbeam.ops"]


@pytest.mark.parametrize(
    "code",
    [
        "sent = cast('nobody')  #here\nstate_get('k')\nawait asyncio.sleep(0)\ndel sent",
        "task = asyncio.create_task(aio.cast('nobody'))  #here\n"
        "await asyncio.sleep(0)\ntask.cancel()\ndel task\nstate_get('k')",
    ],
)
def test_what_fails_and_was_not_asked_in_the_end_is_logged(run, code):
    beam = running(run, code)
    beam.open_http(1)
    ref = beam.expect("op", 1)[2]
    beam.send("reply", 1, ref, 9, "no such function")
    beam.send("reply", 1, beam.expect("op", 1)[2], 0, None)
    assert f":{line_of(code)}: functions.cast" in beam.expect_log("has failed")[2]


def test_what_is_wrong_with_arguments_is_raised_at_the_line(run):
    beam = running(
        run,
        """
found = []
for call in (
    lambda: publish(1, 1),
    lambda: publish("t", {1}),
    lambda: publish("t" * 4097, 1),
    lambda: state_set(1.5, 1),
    lambda: state_set("k" * 65533, 1),
    lambda: state_set(("k",) * 40000, 1),
    lambda: state_set("k", 1, ttl=0),
    lambda: state_delete(None),
    lambda: state_set_multi([1]),
    lambda: cast("n" * 4097),
    lambda: aio.cast(1),
):
    try:
        call()
    except Exception as error:
        found.append(type(error).__name__)
    else:
        found.append(None)
""",
    )
    beam.open_http(1)
    found = beam.expect("response_start", 1)[4].decode()
    wrong = ["TypeError", "TypeError", "ValueError", "TypeError", "ValueError", "ValueError"]
    assert found == repr([*wrong, "ValueError", *["TypeError"] * 2, "ValueError", "TypeError"])


# Room


def test_a_loop_of_them_waits_for_room(run):
    code = "for n in range(12): publish('t', n)"
    beam = running(run, code, tell_window=4, automatic_credit=False)
    beam.open_http(1)
    for _ in range(2):
        for _ in range(4):
            beam.expect("tell", 1)
        with pytest.raises(TimeoutError):
            beam.next(0.05)
        beam.send("credit", 0, 0, 4)
    for _ in range(4):
        beam.expect("tell", 1)
    beam.expect("response_start", 1)


@pytest.mark.parametrize("where", ["here", "in a thread"])
def test_without_room_it_fails_loudly_when_the_time_is_over(run, where):
    code = """
def flood():
    try:
        for n in range(3000):
            publish("t", n)
    except OpTimeout as error:
        return n, str(error)
found = """
    code += "flood()" if where == "here" else "await asyncio.to_thread(flood)"
    beam = running(run, code, tell_window=4, op_timeout=2000, automatic_credit=False)
    beam.open_http(1)
    told = 0
    while (message := beam.next())[0] != "response_start":
        told += message[0] == "tell"
    assert told <= 4
    count, sentence = ast.literal_eval(message[4].decode())
    assert sentence.startswith("pubsub.publish was not sent")
    assert count == 4 if where == "here" else 4 <= count < 2000


def test_in_coroutines_it_is_the_await_that_waits(run):
    code = """
for n in range(4): publish("t", n)
task = asyncio.create_task(aio.publish("t", 4))
await asyncio.sleep(0)
import logging
logging.warning("is done: %s", task.done())
found = await task
"""
    beam = running(run, code, tell_window=4, automatic_credit=False)
    beam.open_http(1)
    for _ in range(4):
        beam.expect("tell", 1)
    ref = beam.expect("op", 1)[2]
    beam.expect_log("is done: False")
    beam.send("reply", 1, ref, 0, 3)
    assert beam.expect("response_start", 1)[4] == b"3"


def test_many_threads_keep_each_its_order_and_all_the_bound(run):
    code = """
def flood(name):
    for n in range(500):
        publish(name, n)
    return state_get(name)
async with asyncio.TaskGroup() as group:
    for name in "abcd":
        group.create_task(asyncio.to_thread(flood, name))
"""
    beam = running(run, code, tell_window=16, automatic_credit=False)
    beam.open_http(1)
    counts, room, asked = dict.fromkeys("abcd", 0), 16, 0
    while asked < 4:
        message = beam.next()
        if message[0] == "op" and message[3] != PUBLISH:
            assert counts[message[4][0]] == 500
            beam.send("reply", 1, message[2], 0, None)
            asked += 1
            continue
        topic, packed = message[4]
        assert packed == testing.pack(counts[topic])
        counts[topic] += 1
        if message[0] == "op":  # there was no room: who sends it does not know yet
            beam.send("reply", 1, message[2], 0, 0)
            continue
        room -= 1
        assert room >= 0
        if room == 0:
            beam.send("credit", 0, 0, 16)
            room = 16
    beam.expect("response_start", 1)


def test_long_ones_go_while_the_turn_goes_on(run):
    """What waits is bounded by its bytes as well: the handler never yields, and all come."""
    code = "for n in range(300): publish('t', b'x' * 65_536)"
    beam = running(run, code)
    beam.open_http(1)
    for _ in range(300):
        assert len(beam.expect("tell", 1)[4][1]) > 65_536
    beam.expect("response_start", 1)


def test_those_that_are_held_are_bounded_as_well(run):
    """Each is an op that waits for its reply, of which the node bears 65 536."""
    code = (
        "sent = [publish('t', 0) for _ in range(12_000)]\nfound = sum([await one for one in sent])"
    )
    beam = running(run, code)
    beam.open_http(1)
    refs = [beam.expect("op", 1)[2] for _ in range(8192)]
    with pytest.raises(TimeoutError):  # those that were not written yet may come too
        while True:
            refs.append(beam.next(0.2)[2])
    assert len(refs) < 10_000
    for ref in refs:
        beam.send("reply", 1, ref, 0, 1)
    for _ in range(12_000 - len(refs)):
        beam.send("reply", 1, beam.expect("op", 1)[2], 0, 1)
    assert beam.expect("response_start", 1)[4] == b"12000"


def test_what_a_thread_has_told_is_in_front_of_what_is_sent_when_it_is_done(run):
    """Also where there was no room for it."""
    code = """
for n in range(50):
    await asyncio.to_thread(lambda: [publish("t", n), publish("t", n)] and None)
    await send({"type": "websocket.send", "text": str(n)})
"""
    beam = running(run, code, tell_window=3)
    beam.accept(1)
    for n in range(50):
        for _ in range(2):
            name, _, ref, *rest = beam.next()
            assert (name in ("tell", "op"), rest[1][1]) == (True, testing.pack(n))
            if name == "op":
                beam.send("reply", 1, ref, 0, 0)
        assert beam.expect("send_text", 1)[2] == b"%d" % n


# For a connection


def test_what_is_bound_to_a_connection_is_done_before_what_follows(run):
    code = """
state_set("k", 1, scope="connection")
publish("t", 1)
await send({"type": "websocket.send", "text": "after"})
await asyncio.sleep(0)
await aio.state_get("k")
"""
    beam = running(run, code)
    beam.accept(1)
    _, _, ref, op, args = beam.expect("op", 1)
    assert (op, args[3]) == (SET, True)
    with pytest.raises(TimeoutError):
        beam.next(0.05)
    beam.send("reply", 1, ref, 0, None)
    assert beam.expect("tell", 1)[3] == PUBLISH
    assert {beam.next()[0], beam.next()[0]} == {"send_text", "op"}


def test_others_do_not_wait_for_what_is_bound_to_a_connection(run):
    beam = running(run, "if scope['path'] == '/a': state_set('k', 1, scope='connection')")
    beam.open_http(1, b"/a")
    ref = beam.expect("op", 1)[2]
    beam.open_http(2, b"/b")
    beam.expect("response_start", 2)
    beam.expect("ended", 2)
    beam.send("reply", 1, ref, 0, None)
    beam.expect("response_start", 1)


def test_a_loop_of_those_waits_for_them(run):
    code = "for n in range(200): state_set('k', n, scope='connection')"
    beam = running(run, code)
    beam.open_http(1)
    for _ in range(200):
        _, _, ref, op, _ = beam.expect("op", 1)
        assert op == SET
        beam.send("reply", 1, ref, 0, None)
    beam.expect("response_start", 1)


def test_one_that_is_never_answered_keeps_its_stream_for_a_while(run):
    code = """
state_set("k", 1, scope="connection")
await send({"type": "websocket.send", "text": "after"})
"""
    beam = running(run, code, op_timeout=300)
    beam.accept(1)
    assert beam.expect("op", 1)[3] == SET
    assert beam.expect("send_text", 1)[2] == b"after"


# The end of a worker

TELLING = """
    import asyncio, threading
    from hornbeam_erlang import publish

    def tell():
        for n in range(20_000):
            publish("t", n)

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if "%s" == "thread":
            threading.Thread(target=tell).start()
        else:
            tell()
        await send({"type": "lifespan.shutdown.complete"})
"""


@pytest.mark.parametrize("who", ["loop", "thread"])
def test_what_is_told_as_the_worker_stops_is_not_lost(run, who):
    """Also what a thread tells while the loop ends, and afterwards."""
    beam = run(TELLING % who, lifespan="on")
    beam.send("stop", 0, 60_000)
    numbers = []
    while len(numbers) < 20_000:
        message = beam.next()
        if message[0] in ("tell", "op"):
            numbers.append(message[4][1])
            if message[0] == "op":  # without a loop each is written while it is still held
                with contextlib.suppress(BrokenPipeError):  # it has ended after the last
                    beam.send("reply", 0, message[2], 0, 0)
    assert numbers == [testing.pack(n) for n in range(20_000)]


def test_what_a_thread_tells_in_the_last_turn_of_the_loop_is_not_lost(run):
    """In each turn, so in the last too, the thread tells one more; then the main one how many."""
    beam = run(
        """
        import asyncio, atexit, threading
        from hornbeam_erlang import publish

        turn, told = threading.Semaphore(0), threading.Semaphore(0)
        count = 0

        def tell():
            global count
            while True:
                turn.acquire()
                count += 1
                publish("t", count)
                told.release()

        def each_turn():
            turn.release()
            told.acquire()
            asyncio.get_running_loop().call_soon(each_turn)

        async def app(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            threading.Thread(target=tell, daemon=True).start()
            each_turn()
            atexit.register(lambda: publish("count", count).result())
            await send({"type": "lifespan.shutdown.complete"})
        """,
        lifespan="on",
    )
    beam.send("stop", 0, 60_000)
    numbers = []
    while not numbers or numbers[-1][0] == "t":
        message = beam.next()
        if message[0] in ("tell", "op"):
            numbers.append(message[4])
    assert numbers.pop() == ["count", testing.pack(len(numbers))]
    assert numbers == [["t", testing.pack(n + 1)] for n in range(len(numbers))]


# What one has published


def test_who_looks_for_what_he_has_published_finds_it(run):
    beam = running(run, "subscribe('t')\npublish('t', 1)\nfound = check_pubsub(), check_pubsub()")
    beam.open_http(1)
    beam.send("reply", 1, beam.expect("op", 1)[2], 0, None)
    beam.expect("tell", 1)
    _, _, ref, op, _ = beam.expect("op", 1)
    assert op == DROPPED
    beam.send("event", 0, "t", b"\x07")
    beam.send("reply", 1, ref, 0, 0)
    assert beam.expect("response_start", 1)[4] == b"(7, None)"


def test_a_finalizer_may_ask_while_somebody_asks():
    """Finalizers run in the middle of anything, also of making an answer."""
    asked = []

    class Sender:
        def answer(self, op, place):
            if not asked:
                asked.append(Sent(self, op, int, place))
                asked[0].answer()
            return Answer(op, place, print)

    asking = threading.Thread(target=Sent(Sender(), PUBLISH, int, 0).answer, daemon=True)
    asking.start()
    asking.join(DEADLINE)
    assert not asking.is_alive()


# Places


def placing(places, source):
    """Run some code that asks for the numbers of its places."""
    numbers = []

    def tell():
        numbers.append(places.number(sys._getframe(1)))

    exec(compile(source, "<made>", "exec"), {"tell": tell})
    return numbers


def test_a_place_has_one_number_and_is_told_after_its_code_is_gone():
    places = Places()
    first, second, third = placing(places, "for _ in range(2): tell()\ntell()")
    assert first == second != third
    gc.collect()
    assert [places.text(n) for n in (first, third)] == ["<made>:1", "<made>:2"]


def test_places_keep_no_code():
    places = Places()
    made = [compile(f"tell()  # {n}", "<made>", "exec") for n in range(100)]
    for code in made:
        exec(code, {"tell": lambda: places.number(sys._getframe(1))})
    codes = [weakref.ref(code) for code in made]
    del made, code
    gc.collect()
    assert [code() for code in codes] == [None] * 100


def test_code_in_the_place_of_code_that_is_gone_has_numbers_of_its_own():
    places = Places()
    found = [placing(places, "\n" * n + "tell()")[0] for n in range(1000)]
    assert [places.text(number) for number in found] == [f"<made>:{n + 1}" for n in range(1000)]


def test_of_too_many_places_the_oldest_are_told_no_more_unless_they_are_used_again():
    places = Places()
    old = compile("tell()", "<old>", "exec")
    numbers = []

    def tell():
        numbers.append(places.number(sys._getframe(1)))

    exec(old, {"tell": tell})
    placing(places, "tell()\n" * MOST)
    assert places.text(numbers[0]) == "an op"
    exec(old, {"tell": tell})
    assert places.text(numbers[1]) == "<old>:1"


# In the stand-in


def test_the_stand_in_does_it_at_once_and_logs_what_nobody_has_asked(caplog):
    with testing.Beam(state_max_rows=1) as beam, beam.connection():
        state_set("a", 1)
        assert publish("t", 1) == 0
        state_set("b", 1)
        assert "test_tell.py" in caplog.text
        assert "state.set has failed: LimitExceeded" in caplog.text
        caplog.clear()
        with pytest.raises(LimitExceeded):
            state_set("b", 1).result()
        with pytest.raises(NotFound):
            aio.cast("nobody").result()
        assert not caplog.text


def test_what_is_returned_is_as_its_answer_where_one_is_expected():
    with testing.Beam():
        sent = publish("t", 1)
        assert isinstance(sent, Sent)
        assert (sent == 0, sent != 0, sent < 1, sent >= 0) == (True, False, True, True)
        assert (int(sent), float(sent), bool(sent), [5][sent]) == (0, 0.0, False, 5)
        assert (str(sent), f"{sent:02}") == ("0", "00")
        assert pickle.loads(pickle.dumps([sent])) == copy.deepcopy([sent]) == [0]
        assert (sent + 1, 1 + sent, 3 - sent, sent * 2, sum([sent, sent])) == (1, 1, 3, 0, 0)
        assert repr(sent) == "<pubsub.publish: 0>"
        assert len({sent, publish("t", 1)}) == 2
        with pytest.raises(TypeError, match="not JSON serializable"):
            json.dumps(sent)
        assert json.dumps(sent.result()) == "0"
