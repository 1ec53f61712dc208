"""Ops: calls of an app into Erlang, from every place from which they may come."""

import hornbeam_erlang
import pytest
from hornbeam_erlang import HornbeamError, NotConnected, _bridge

NAMES = {
    "state_get": ("k",),
    "state_set": ("k", 1),
    "state_delete": ("k",),
    "state_incr": ("k",),
    "publish": ("t", 1),
    "subscribe": ("t",),
    "unsubscribe": ("t",),
    "rpc_call": ("n", "m", "f", []),
    "call": ("f", 1),
}

# An app that calls op 7 in the handler and answers with what came back.
CALLING = """
    import asyncio, threading
    from hornbeam_erlang import _bridge

    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        try:
            value = {call}
        except Exception as error:
            value = type(error).__name__ + ": " + str(error)
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body", "body": repr(value).encode()}})

    async def in_another_loop():
        return await _bridge.call_async(7, ["a", 1])

    async def in_a_plain_thread():
        found = []
        thread = threading.Thread(target=lambda: found.append(_bridge.call(7, ["a", 1])))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.001)
        return found[0]
"""
CALLS = {
    "handler": ("_bridge.call(7, ['a', 1])", 5),
    "coroutine": ("await _bridge.call_async(7, ['a', 1])", 5),
    "task": ("await asyncio.create_task(_bridge.call_async(7, ['a', 1]))", 5),
    "to_thread": ("await asyncio.to_thread(_bridge.call, 7, ['a', 1])", 5),
    "thread": ("await in_a_plain_thread()", 0),
    "another loop": ("await asyncio.to_thread(asyncio.run, in_another_loop())", 5),
}


def test_every_name_of_the_package_is_tried_here():
    exceptions = {"ClientDisconnected", "HornbeamError", "NotConnected"}
    assert set(hornbeam_erlang.__all__) == set(NAMES) | exceptions


@pytest.mark.parametrize("name", NAMES)
def test_outside_of_a_worker_nothing_is_connected(name):
    with pytest.raises(NotConnected, match="not a Hornbeam worker"):
        getattr(hornbeam_erlang, name)(*NAMES[name])
    assert issubclass(NotConnected, HornbeamError)


def test_outside_of_a_worker_the_bridge_is_not_connected():
    with pytest.raises(NotConnected):
        _bridge.call(1, [])


@pytest.mark.parametrize("name", NAMES)
def test_in_a_worker_a_name_says_that_it_does_not_exist_yet(run, name):
    beam = run(f"""
        import hornbeam_erlang
        async def app(scope, receive, send):
            if scope["type"] == "http":
                hornbeam_erlang.{name}(*{NAMES[name]!r})
    """)
    beam.open_http(1)
    class_, message, _ = beam.expect("ended", 1)[2:]
    assert class_ == "NotImplementedError"
    assert message == f"{name} is not part of this version of Hornbeam"


@pytest.mark.parametrize("place", CALLS)
def test_op_returns_what_erlang_answers(run, place):
    call, stream = CALLS[place]
    beam = run(CALLING.format(call=call))
    beam.open_http(5)
    _, asked_on, ref, op, args = beam.expect("op", stream)
    assert (op, args) == (7, ["a", 1])
    beam.send("reply", asked_on, ref, 0, {"n": [1, 2]})
    assert beam.expect("response_start", 5)[4] == b"{'n': [1, 2]}"


# A plain thread keeps its exceptions to itself.
@pytest.mark.parametrize("place", [place for place in CALLS if place != "thread"])
@pytest.mark.parametrize(
    ("status", "raised"),
    [(1, "NotImplementedError: no such op"), (99, "HornbeamError: no such op")],
)
def test_op_raises_what_the_status_names(run, place, status, raised):
    call, stream = CALLS[place]
    beam = run(CALLING.format(call=call))
    beam.open_http(5)
    ref = beam.expect("op", stream)[2]
    beam.send("reply", stream, ref, status, "no such op")
    assert beam.expect("response_start", 5)[4].decode().strip("'") == raised


def test_op_may_be_called_while_the_app_is_imported(start):
    beam = start("""
        import threading
        from hornbeam_erlang import _bridge
        print("main got", _bridge.call(7, []))
        thread = threading.Thread(target=lambda: print("thread got", _bridge.call(8, [])))
        thread.start()
        thread.join()
        async def app(scope, receive, send): ...
    """)
    for op in (7, 8):
        _, _, ref, number, _ = beam.expect("op")
        assert number == op
        beam.send("reply", 0, ref, 0, op * 10)
    beam.expect_log("main got 70")
    beam.expect_log("thread got 80")
    beam.expect("ready")


def test_messages_that_come_during_an_op_keep_their_order(run):
    beam = run("""
        from hornbeam_erlang import _bridge
        async def app(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            await receive()
            while (event := await receive())["type"] == "websocket.receive":
                if event["text"] == "call":
                    event["text"] = _bridge.call(7, [])
                await send({"type": "websocket.send", "text": event["text"]})
    """)
    beam.accept(1)
    beam.send("receive_text", 1, b"a")
    beam.send("receive_text", 1, b"call")
    beam.send("receive_text", 1, b"b")
    assert beam.expect("send_text", 1)[2] == b"a"
    ref = beam.expect("op", 1)[2]
    beam.send("receive_text", 1, b"c")
    beam.send("credit", 0, 1, 0)
    beam.send("reply", 1, ref, 0, "answer")
    beam.send("receive_text", 1, b"d")
    sent = [beam.expect("send_text", 1)[2] for _ in range(4)]
    assert sent == [b"answer", b"b", b"c", b"d"]


def test_what_was_sent_before_an_op_is_written_before_it(run):
    beam = run("""
        from hornbeam_erlang import _bridge
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                await send({"type": "websocket.send", "text": "before"})
                _bridge.call(7, [])
                await send({"type": "websocket.send", "text": "after"})
    """)
    beam.accept(1)
    assert beam.expect("send_text", 1)[2] == b"before"
    beam.send("reply", 1, beam.expect("op", 1)[2], 0, None)
    assert beam.expect("send_text", 1)[2] == b"after"


def test_op_passes_when_the_worker_has_no_credit(run):
    beam = run(
        """
        from hornbeam_erlang import _bridge
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                for _ in range(100):
                    await send({"type": "websocket.send", "bytes": b"x" * 10_000})
                print(_bridge.call(7, []))
        """,
        automatic_credit=False,
        worker_window=70_000,
        stream_window=[1 << 30, 1 << 30],
    )
    beam.accept(1)
    before = 0
    while (message := beam.next())[0] == "send_bytes":
        before += 1
    assert message[0] == "op"
    assert before < 10
    beam.send("reply", 1, message[2], 0, "done")
    beam.send("credit", 0, 10 << 20, 0)
    for _ in range(100 - before):
        beam.expect("send_bytes", 1)
    beam.expect_log("done")


def test_ops_of_many_threads_get_their_own_answers(run):
    beam = run("""
        import asyncio
        from hornbeam_erlang import _bridge
        async def app(scope, receive, send):
            if scope["type"] == "http":
                calls = (asyncio.to_thread(_bridge.call, n, []) for n in range(20))
                assert await asyncio.gather(*calls) == list(range(20))
                await send({"type": "http.response.start", "status": 204})
                await send({"type": "http.response.body"})
    """)
    beam.open_http(1)
    ops = [beam.expect("op", 1) for _ in range(4)]  # no more threads than the pool has at least
    answered = 0
    while answered < 20:
        _, _, ref, number, _ = ops.pop()
        beam.send("reply", 1, ref, 0, number)
        answered += 1
        if answered + len(ops) < 20:
            ops.append(beam.expect("op", 1))
    beam.expect("response_start", 1)


def test_op_of_a_task_that_outlives_its_stream_names_no_stream(run):
    beam = run("""
        import asyncio
        from hornbeam_erlang import _bridge
        tasks = []
        async def later():
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            print("got", await _bridge.call_async(7, []))
        async def app(scope, receive, send):
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 204})
                await send({"type": "http.response.body"})
                tasks.append(asyncio.create_task(later()))
    """)
    beam.open_http(1)
    beam.expect("response_start", 1)
    messages = [beam.next(), beam.next()]
    assert sorted(message[0] for message in messages) == ["ended", "op"]
    (op,) = [message for message in messages if message[0] == "op"]
    assert op[1] == 0
    beam.send("reply", 0, op[2], 0, "it")
    beam.expect_log("got it")


def test_rubbish_during_an_op_ends_the_worker(run):
    beam = run(CALLING.format(call=CALLS["handler"][0]))
    beam.open_http(5)
    beam.expect("op", 5)
    beam.send_bytes(b"\xc1")
    assert beam.expect_end() == 70
