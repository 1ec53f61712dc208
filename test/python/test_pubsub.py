"""Publish and subscribe in a worker: who hears what, and whom a message wakes."""

import json

import pytest
from beam import Beam
from hornbeam_erlang._wire.values import pack

# The guide's chat, and the name that it leaves to the reader.
CHAT = """
    from hornbeam_erlang import check_pubsub
    from hornbeam_erlang import publish, subscribe, unsubscribe
    import asyncio
    import json

    async def app(scope, receive, send):
        if scope['type'] == 'websocket':
            await send({'type': 'websocket.accept'})
            path = scope.get('path', '/chat/default')
            room = path.split('/')[-1] or 'default'
            topic = f'chat:{room}'
            subscribe(topic)
            try:
                await handle_chat(scope, receive, send, topic)
            finally:
                unsubscribe(topic)

    async def handle_chat(scope, receive, send, topic):
        while True:
            message = await receive()
            if message['type'] == 'websocket.disconnect':
                break
            if message['type'] == 'websocket.receive':
                text = message.get('text', '')
                data = json.loads(text)
                publish(topic, {
                    'type': 'message',
                    'user': data.get('user', 'anonymous'),
                    'text': data.get('text', '')
                })
            pubsub_msg = check_pubsub()
            if pubsub_msg:
                await send({
                    'type': 'websocket.send',
                    'text': json.dumps(pubsub_msg)
                })
"""


def in_room(beam: Beam, *numbers: int) -> None:
    for number in numbers:
        beam.accept(number, b"/chat/lobby")
        wait_until_subscribed(beam, "chat:lobby", number)


def wait_until_subscribed(beam: Beam, topic: str, number: int) -> None:
    """Read what the worker says until it has subscribed."""
    while number not in beam.node.memory._topics.get(topic, {}):
        beam.read()


def said(beam: Beam, count: int) -> list[tuple[int, str]]:
    sent = []
    while len(sent) < count:
        name, number, *fields = beam.next()
        if name == "send_text":
            sent.append((number, json.loads(fields[0])["text"]))
            beam.send("credit", number, len(fields[0]), 1)
        else:
            assert name == "credit", (name, number, fields)
    return sent


def test_guides_chat_reaches_those_who_only_listen(run):
    beam = run(CHAT, ops=True)
    in_room(beam, 1, 2, 3)
    for number in range(20):
        text = json.dumps({"user": "ada", "text": f"message {number}"})
        beam.send("receive_text", 1, text.encode())
    sent = said(beam, 60)
    for stream in (1, 2, 3):
        assert [text for to, text in sent if to == stream] == [f"message {n}" for n in range(20)]
    assert beam.node.events == 20  # one for each publish, not one for each member


def test_guides_chat_hears_erlang_too(run):
    beam = run(CHAT, ops=True)
    in_room(beam, 1, 2)
    assert beam.node.publish("chat:lobby", {"text": "from erlang"}) == 2
    assert sorted(said(beam, 2)) == [(1, "from erlang"), (2, "from erlang")]


def test_messages_that_wait_wake_receive_at_once(run):
    """All come while the handler is busy; each is sent without a word of the client."""
    beam = run(
        """
        import asyncio, json
        from hornbeam_erlang import check_pubsub, subscribe, state_get

        async def app(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            await receive()
            subscribe("news")
            while state_get("go on") is None:
                await asyncio.sleep(0)
            while (await receive())["type"] == "hornbeam.pubsub":
                await send({"type": "websocket.send", "text": json.dumps(check_pubsub())})
        """,
        ops=True,
    )
    beam.accept(1)
    wait_until_subscribed(beam, "news", 1)
    for number in range(50):
        beam.node.publish("news", {"text": number})
    beam.node.memory.answer(0, 2, ["go on", pack(1), None, False])
    assert said(beam, 50) == [(1, number) for number in range(50)]
    beam.send("disconnect", 1, 1000, b"")
    assert beam.expect("ended", 1)[2] is None


def test_receive_is_not_woken_for_code_that_reads_otherwise(run):
    beam = run(
        """
        import asyncio
        from hornbeam_erlang import aio, check_pubsub, subscribe

        async def app(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            await receive()
            subscribe("news")
            reading = asyncio.create_task(read(send))
            event = await receive()
            reading.cancel()
            await send({"type": "websocket.send", "text": event["type"]})

        async def read(send):
            async for topic, message in aio.messages():
                await send({"type": "websocket.send", "text": f"{topic} {message}"})
        """,
        ops=True,
    )
    beam.accept(1)
    wait_until_subscribed(beam, "news", 1)
    for number in range(3):
        beam.node.publish("news", number)
    assert [beam.expect("send_text", 1)[2] for _ in range(3)] == [b"news 0", b"news 1", b"news 2"]
    beam.send("receive_text", 1, b"x")
    assert beam.expect("send_text", 1)[2] == b"websocket.receive"


def test_receive_is_not_woken_for_a_function_that_does_not_name_check_pubsub(run):
    """Nothing tells that it would know the event."""
    beam = run(
        """
        from hornbeam_erlang import aio, subscribe

        async def app(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            await receive()
            subscribe("news")
            await send({"type": "websocket.send", "text": (await receive())["type"]})
            print(await aio.receive_pubsub())
        """,
        ops=True,
    )
    beam.accept(1)
    wait_until_subscribed(beam, "news", 1)
    beam.node.publish("news", "extra!")
    beam.send("receive_text", 1, b"x")
    assert beam.expect("send_text", 1)[2] == b"websocket.receive"
    beam.expect_log("Message(topic='news', value='extra!')")


STARLETTE = """
    from hornbeam_erlang import aio, check_pubsub, subscribe
    from starlette.applications import Starlette
    from starlette.routing import Mount, WebSocketRoute

    async def endpoint(websocket):
        subscribe("news")
        check_pubsub()
        await websocket.accept()
        text = await websocket.receive_text()
        await websocket.send_text(f"{text} {check_pubsub()} {check_pubsub()}")

    class Middleware:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def wrapped():
                return await receive()
            await self.app(scope, wrapped, send)

    async def raw(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        subscribe("news")
        event = await receive()
        await send({"type": "websocket.send", "text": event["type"] + " " + check_pubsub()})

    app = Starlette(routes=[WebSocketRoute("/plain", endpoint), Mount("/raw", raw)])
    wrapped = Middleware(app)
"""


@pytest.mark.parametrize("app", ["app", "wrapped"])
def test_frameworks_never_see_the_event_that_wakes(run, app):
    beam = run(STARLETTE, ops=True, app=f"small_app:{app}", lifespan="off")
    beam.open_websocket(1, b"/plain")
    beam.expect("accept", 1)
    beam.send("accepted", 1)
    wait_until_subscribed(beam, "news", 1)
    beam.node.publish("news", "extra!")
    beam.node.publish("news", "more!")
    beam.send("receive_text", 1, b"said")
    assert beam.expect("send_text", 1)[2] == b"said extra! more!"


def test_raw_app_inside_of_a_framework_is_woken(run):
    beam = run(STARLETTE, ops=True, lifespan="off")
    beam.accept(1, b"/raw/path")
    wait_until_subscribed(beam, "news", 1)
    beam.node.publish("news", "extra!")
    assert beam.expect("send_text", 1)[2] == b"hornbeam.pubsub extra!"


def test_one_who_never_reads_does_not_stop_the_loop(run):
    """`receive` wakes it once; then it is only the client's event that it gets."""
    beam = run(
        """
        from hornbeam_erlang import check_pubsub, subscribe

        async def app(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            subscribe("news")
            while (event := await receive())["type"] != "websocket.disconnect":
                print(event["type"])
            check_pubsub()
        """,
        ops=True,
    )
    beam.accept(1)
    wait_until_subscribed(beam, "news", 1)
    beam.node.publish("news", 1)
    beam.expect_log("hornbeam.pubsub")
    beam.send("receive_text", 1, b"x")
    beam.expect_log("websocket.receive")
    assert [text for _, _, text in beam.logs].count("hornbeam.pubsub") == 1


def test_tasks_and_threads_of_a_handler_subscribe_its_connection(run):
    beam = run(
        """
        import asyncio
        from hornbeam_erlang import aio, receive_pubsub, subscribe

        async def app(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            await asyncio.create_task(aio.subscribe("task"))
            await asyncio.to_thread(subscribe, "thread")
            subscribe("handler")
            for _ in range(3):
                topic, message = await asyncio.to_thread(receive_pubsub, 20)
                await send({"type": "websocket.send", "text": topic + message})
        """,
        ops=True,
    )
    beam.accept(1)
    wait_until_subscribed(beam, "handler", 1)
    for topic in ("task", "thread", "handler"):
        assert beam.node.publish(topic, "!") == 1
    sent = [beam.expect("send_text", 1)[2] for _ in range(3)]
    assert sent == [b"task!", b"thread!", b"handler!"]


def test_worker_subscribes_while_it_is_imported_and_in_its_lifespan(run):
    beam = run(
        """
        import asyncio
        from hornbeam_erlang import aio, subscribe

        subscribe("import")

        async def listen():
            async for topic, message in aio.messages():
                print(topic, message)

        async def app(scope, receive, send):
            if scope["type"] != "lifespan":
                raise NotImplementedError
            await receive()
            subscribe("lifespan")
            listening = asyncio.create_task(listen())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        """,
        ops=True,
    )
    for topic in ("import", "lifespan"):
        assert beam.node.publish(topic, "heard") == 1
        beam.expect_log(f"{topic} heard")


def test_message_is_not_lost_that_comes_before_the_answer_to_subscribe(run):
    beam = run(
        """
        from hornbeam_erlang import check_pubsub, subscribe
        async def app(scope, receive, send):
            if scope["type"] == "http":
                subscribe("news")
                body = check_pubsub().encode()
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": body})
        """
    )
    beam.open_http(1)
    _, _, ref, op, args = beam.expect("op", 1)
    assert (op, args) == (20, ["news", False, None])
    beam.send("event", 0, "news", pack("early"))
    beam.send("reply", 1, ref, 0, None)
    assert beam.expect("response_start", 1)[4] == b"early"


def test_subscription_that_is_refused_leaves_nothing_behind(run):
    beam = run(
        """
        from hornbeam_erlang import check_pubsub, subscribe
        async def app(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            try:
                subscribe("news")
            except ConnectionError as error:
                await send({"type": "websocket.send", "text": str(error)})
            await receive()
            await receive()
            await send({"type": "websocket.send", "text": repr(check_pubsub())})
        """
    )
    beam.accept(1)
    ref = beam.expect("op", 1)[2]
    beam.send("reply", 1, ref, 7, "the connection is closed")
    assert beam.expect("send_text", 1)[2] == b"the connection is closed"
    beam.send("event", 0, "news", pack("late"))
    beam.send("receive_text", 1, b"?")
    assert beam.expect("send_text", 1)[2] == b"None"


def test_subscriptions_end_with_the_connection_whatever_its_handler_does(run):
    beam = run(
        """
        from hornbeam_erlang import aio, subscribe
        async def app(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            subscribe("news")
            async for topic, message in aio.messages():
                print("heard", message)
            print("over")
        """,
        ops=True,
    )
    beam.accept(1)
    wait_until_subscribed(beam, "news", 1)
    beam.node.publish("news", 1)
    beam.expect_log("heard 1")
    beam.send("disconnect", 1, 1006, b"")
    beam.send("event", 0, "news", pack(2))
    beam.expect_log("over")
    assert beam.expect("ended", 1)[2] is None
    assert not [text for _, _, text in beam.logs if text == "heard 2"]


def test_events_are_acknowledged_once_they_are_in_the_queues(run):
    beam = run(CHAT, ops=True)
    in_room(beam, 1)
    value = pack({"text": "x" * 100_000})
    for _ in range(12):
        beam.send("event", 0, "nobody here", value)
    while beam.acknowledged == 0:
        beam.read()
    assert beam.acknowledged % (6 * len(value)) == 0
    while beam.acknowledged < 12 * len(value):
        beam.read()


def test_queue_of_a_connection_has_the_bounds_of_the_config(run):
    beam = run(
        """
        from hornbeam_erlang import check_pubsub, pubsub_dropped, subscribe
        async def app(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            subscribe("news")
            await receive()
            while (event := await receive())["type"] != "websocket.receive":
                pass
            found = [check_pubsub() for _ in range(5)]
            await send({"type": "websocket.send", "text": f"{pubsub_dropped()} {found}"})
        """,
        ops=True,
        pubsub_queue_messages=3,
        pubsub_queue_bytes=1000,
    )
    beam.accept(1)
    wait_until_subscribed(beam, "news", 1)
    for number in range(10):
        beam.node.publish("news", number)
    beam.send("receive_text", 1, b"now")
    assert beam.expect("send_text", 1)[2] == b"7 [7, 8, 9, None, None]"


def test_receive_pubsub_does_not_stop_the_loop(run):
    beam = run(
        """
        from hornbeam_erlang import receive_pubsub, subscribe
        async def app(scope, receive, send):
            if scope["type"] == "http":
                subscribe("news")
                receive_pubsub()
        """,
        ops=True,
    )
    beam.open_http(1)
    class_, message, _ = beam.expect("ended", 1)[2:]
    assert class_ == "RuntimeError"
    assert "aio.receive_pubsub" in message


def test_message_that_python_cannot_hold_is_an_error_of_its_reader(run):
    beam = run(
        """
        from hornbeam_erlang import aio, subscribe
        async def app(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await send({"type": "websocket.accept"})
            subscribe("news")
            for _ in range(2):
                try:
                    print("heard", await aio.receive_pubsub())
                except TypeError as error:
                    print("refused", error)
        """,
        ops=True,
    )
    beam.accept(1)
    wait_until_subscribed(beam, "news", 1)
    beam.send("event", 0, "news", b"\x81\x91\x01\x02")
    beam.send("event", 0, "news", pack("fine"))
    beam.expect_log("refused an Erlang map has a key")
    beam.expect_log("heard Message(topic='news', value='fine')")


def test_thread_that_waits_for_a_message_does_not_hold_up_the_end(run):
    beam = run(
        """
        import asyncio
        from hornbeam_erlang import receive_pubsub, subscribe

        def listen():
            try:
                print("waits")
                receive_pubsub()
            except ConnectionError as error:
                print("ended:", error)

        async def app(scope, receive, send):
            if scope["type"] != "lifespan":
                raise NotImplementedError
            await receive()
            subscribe("news")
            listening = asyncio.create_task(asyncio.to_thread(listen))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        """,
        ops=True,
    )
    beam.expect_log("waits")
    beam.send("stop", 0, 20_000)
    beam.expect_log("ended: the connection that subscribed is over")
    assert beam.expect_end() == 0


# Who is woken, however it waits

WAITS = {
    "wait_for": "message = await asyncio.wait_for(receive(), 60)",
    "a task": "message = await asyncio.create_task(receive())",
    "wait": "message = (await asyncio.wait([asyncio.ensure_future(receive())]))[0].pop().result()",
    "timeout": "async with asyncio.timeout(60): message = await receive()",
    "anyio": "with anyio.fail_after(60): message = await receive()",
    "shield": "message = await asyncio.shield(receive())",
}


@pytest.mark.parametrize("wait", WAITS)
def test_guides_chat_is_woken_however_it_waits(run, wait):
    chat = CHAT.replace("message = await receive()", WAITS[wait])
    assert chat != CHAT
    beam = run(chat.replace("import asyncio", "import anyio, asyncio"), ops=True)
    in_room(beam, 1, 2)
    beam.node.publish("chat:lobby", {"text": "from erlang"})
    assert sorted(said(beam, 2)) == [(1, "from erlang"), (2, "from erlang")]


def test_receive_that_was_given_up_does_not_keep_the_next_from_being_woken(run):
    chat = CHAT.replace(
        "message = await receive()",
        """
            for seconds in (0, 0.001, 60):
                try:
                    message = await asyncio.wait_for(receive(), seconds)
                    break
                except TimeoutError:
                    print("gave up")
        """.strip(),
    )
    beam = run(chat, ops=True)
    in_room(beam, 1)
    beam.node.publish("chat:lobby", {"text": "first"})
    assert said(beam, 1) == [(1, "first")]
    beam.expect_log("gave up")
    beam.node.publish("chat:lobby", {"text": "second"})
    assert said(beam, 1) == [(1, "second")]


@pytest.mark.parametrize("subscribing", ["aio.subscribe", "asyncio.to_thread(subscribe, ", "_now("])
def test_receive_that_waits_already_is_woken_by_what_is_subscribed_meanwhile(run, subscribing):
    call = f'{subscribing}("news")' if "(" not in subscribing else f'{subscribing}"news")'
    beam = run(
        f"""
        import asyncio
        from hornbeam_erlang import aio, check_pubsub, subscribe

        async def _now(topic):
            subscribe(topic)

        async def app(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await send({{"type": "websocket.accept"}})
            await receive()
            subscribing = asyncio.ensure_future({call})
            event = await receive()
            text = event["type"] + " " + check_pubsub()
            await send({{"type": "websocket.send", "text": text}})
        """,
        ops=True,
    )
    beam.accept(1)
    wait_until_subscribed(beam, "news", 1)
    beam.node.publish("news", "extra!")
    assert beam.expect("send_text", 1)[2] == b"hornbeam.pubsub extra!"


# What a cancelled change leaves: the test answers Erlang's part by hand

CHANGING = """
    import asyncio
    from hornbeam_erlang import aio, check_pubsub, publish, subscribe

    async def show():
        print("found", check_pubsub())

    async def app(scope, receive, send):
        if scope["type"] != "websocket":
            raise NotImplementedError
        await send({"type": "websocket.accept"})
        await receive()
        while "text" in (event := await receive()):
            verb, _, source = event["text"].partition(" ")
            if verb == "do":
                await eval(source)
                print("done")
            elif verb == "begin":
                begun = asyncio.create_task(eval(source))
            else:
                for _ in range(int(source)):
                    begun.cancel()
                    await asyncio.sleep(0)
                print("cancelling")
                await asyncio.wait([begun])
                print("cancelled", begun.cancelled())
"""

SUBSCRIBE, UNSUBSCRIBE, REGISTER, UNREGISTER = 20, 21, 50, 51
QUEUED, FORWARDED = ["news", False, None], ["news", True, "close"]


def do(beam: Beam, command: str) -> None:
    beam.send("receive_text", 1, command.encode())


def answered(beam: Beam, until: str) -> list[tuple[int, list]]:
    """Answer what Erlang is asked for until there is such a line in the log; return it."""
    asks = []
    while not any(until in text for _, _, text in beam.logs):
        beam.read()
        while beam._messages:
            _, _, ref, op, args = beam.next()
            beam.send("reply", 1, ref, 0, None)
            asks.append((op, args))
    beam.logs.clear()
    return asks


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    ("before", "vain", "asks"),
    [
        ("", "subscribe('news')", [(SUBSCRIBE, QUEUED), (UNSUBSCRIBE, ["news"])]),
        ("", "subscribe('news', True, 'close')", [(SUBSCRIBE, FORWARDED), (UNSUBSCRIBE, ["news"])]),
        ("subscribe('news')", "subscribe('news')", [(SUBSCRIBE, QUEUED)]),
        (
            "subscribe('news')",
            "subscribe('news', True, 'close')",
            [(SUBSCRIBE, FORWARDED), (SUBSCRIBE, QUEUED)],
        ),
        (
            "subscribe('news', True, 'close')",
            "subscribe('news')",
            [(UNSUBSCRIBE, ["news"]), (SUBSCRIBE, FORWARDED)],
        ),
        (
            "subscribe('news', True, 'close')",
            "subscribe('news', True)",
            [(SUBSCRIBE, ["news", True, None]), (SUBSCRIBE, FORWARDED)],
        ),
        ("subscribe('news')", "unsubscribe('news')", [(UNSUBSCRIBE, ["news"])]),
        ("", "register_hook('h', print)", [(REGISTER, ["h"]), (UNREGISTER, ["h"])]),
        ("register_hook('h', print)", "unregister_hook('h')", [(UNREGISTER, ["h"])]),
    ],
    ids=str,
)
def test_change_that_is_cancelled_leaves_both_sides_alike(run, before, vain, asks, times):
    beam = run(CHANGING)
    beam.accept(1)
    if before:
        do(beam, f"do aio.{before}")
        answered(beam, "done")
    do(beam, f"begin aio.{vain}")
    _, _, ref, op, args = beam.expect("op", 1)
    do(beam, f"cancel {times}")
    beam.expect_log("cancelling")
    beam.send("reply", 1, ref, 0, None)
    assert [(op, args), *answered(beam, "cancelled True")] == asks
    beam.send("event", 0, "news", pack("heard"))
    do(beam, "do show()")
    line = beam.expect_log("found")[2]
    assert line == f"found {'heard' if asks[-1] == (SUBSCRIBE, QUEUED) else None}"


def test_what_is_subscribed_anew_is_not_taken_back_with_what_was_cancelled(run):
    beam = run(CHANGING)
    beam.accept(1)
    do(beam, "begin aio.subscribe('news')")
    first = beam.expect("op", 1)[2]
    do(beam, "do asyncio.to_thread(subscribe, 'news')")
    second = beam.expect("op", 1)[2]
    beam.send("reply", 1, second, 0, None)
    beam.expect_log("done")
    do(beam, "cancel 1")
    beam.expect_log("cancelling")
    beam.send("reply", 1, first, 0, None)
    assert answered(beam, "cancelled True") == []
    beam.send("event", 0, "news", pack("heard"))
    do(beam, "do show()")
    assert beam.expect_log("found")[2] == "found heard"


def test_subscription_whose_answer_is_late_is_taken_back(run):
    beam = run(CHANGING, op_timeout=50)
    beam.accept(1)
    do(beam, "begin aio.subscribe('news')")
    assert beam.expect("op", 1)[3:] == (SUBSCRIBE, QUEUED)
    assert beam.expect("op", 1)[3:] == (UNSUBSCRIBE, ["news"])


# What a connection leaves

ENDING = """
    import asyncio, gc, weakref
    from hornbeam_erlang import ConnectionEnded, aio, check_pubsub, subscribe
    from hornbeam_erlang._ops.carrier import connected
    from hornbeam_erlang._asgi.websocket import WebSocket

    class Stream(WebSocket):
        __slots__ = ("__weakref__",)

    late = set()
    gone = []

    def watch(receive):
        gone.append(weakref.ref(receive.__self__))

    async def subscribe_late(topic):
        await asyncio.sleep(0)
        try:
            await aio.subscribe(topic)
            print("subscribed late")
        except ConnectionEnded:
            print("too late")

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            import hornbeam_erlang._worker.server as server
            server.WebSocket = Stream
            await receive()
            gc.collect()
            gc.disable()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        elif scope["type"] == "http":
            await asyncio.gather(*late)
            topics = connected().topics
            body = repr((
                sum(ref() is not None for ref in gone), len(topics._mailboxes), len(topics._topics)
            ))
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": body.encode()})
        else:
            watch(receive)
            await send({"type": "websocket.accept"})
            await receive()
            await SOURCE
            await receive()
"""


@pytest.mark.parametrize(
    "source",
    [
        "aio.subscribe('news')",
        "aio.subscribed('news').__aenter__()",
        "asyncio.to_thread(check_pubsub)",
        "asyncio.sleep(0, late.add(asyncio.create_task(subscribe_late('news'))))",
        "asyncio.wait([asyncio.create_task(aio.receive_pubsub(0))])",
        "asyncio.sleep(0, subscribe('news') or check_pubsub())",
    ],
)
def test_connection_that_is_over_leaves_neither_mailbox_nor_cycle(run, source):
    beam = run(ENDING.replace("SOURCE", source), ops=True)
    for number in range(1, 11):
        beam.accept(number)
        beam.send("disconnect", number, 1000, b"")
        assert beam.expect("ended", number)[2] is None
    beam.open_http(11)
    assert beam.expect("response_start", 11)[4] == b"(0, 0, 0)"
