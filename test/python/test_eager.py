"""Apps that take the first step of a task while it is made (`asyncio.eager_task_factory`)."""

import pytest

# Python has it from 3.12 on. Before, asyncio's own tasks can be led there by hand.
EAGER = """
    import asyncio

    def by_hand(loop, coroutine, **options):
        task = asyncio.Task(coroutine, loop=loop, **options)
        handle = loop._ready.pop()
        if not loop.is_running():
            loop._ready.append(handle)
            return task
        current = asyncio.current_task(loop)
        if current is not None:
            asyncio.tasks._leave_task(loop, current)
        try:
            handle._run()
        finally:
            if current is not None:
                asyncio.tasks._enter_task(loop, current)
        return task

    eager = getattr(asyncio, "eager_task_factory", by_hand)
    loop = asyncio.get_event_loop_policy().get_event_loop()
"""

AT_IMPORT = EAGER + "    loop.set_task_factory(eager)\n"


@pytest.fixture
def serve(run):
    def serve(source, **config):
        return run(source, loop="asyncio", **config)

    return serve


def test_lifespan_that_raises_at_once_is_told(serve):
    beam = serve(
        AT_IMPORT
        + """
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise KeyError("no lifespan here")
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"served"})
    """
    )
    beam.open_http(1)
    assert beam.expect("response_start", 1)[4] == b"served"
    beam.expect("ended", 1)


def test_lifespan_that_answers_at_once_is_started_and_shut_down(serve):
    beam = serve(
        AT_IMPORT
        + """
    async def app(scope, receive, send):
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        print("shut down")
        await send({"type": "lifespan.shutdown.complete"})
    """
    )
    beam.send("stop", 0, 20_000)
    beam.expect("stopped")
    assert beam.expect_end() == 0
    beam.expect_log("shut down")


@pytest.mark.parametrize(
    "set_factory",
    ["loop.set_task_factory(eager)", "asyncio.get_running_loop().set_task_factory(eager)"],
    ids=["import", "lifespan"],
)
def test_handler_may_use_ops_before_its_first_await(serve, set_factory):
    at_import = set_factory if set_factory.startswith("loop") else ""
    at_start = "" if at_import else set_factory
    beam = serve(
        f"""{EAGER}
    {at_import}
    import hornbeam_erlang.aio
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            {at_start}
            await receive()
            await send({{"type": "lifespan.startup.complete"}})
            await receive()
            return
        hornbeam_erlang.state_set("k", "v")
        found = [hornbeam_erlang.state_get("k")]
        found.append(await asyncio.create_task(hornbeam_erlang.aio.state_get("k")))
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body", "body": repr(found).encode()}})
    """,
        ops=True,
    )
    for stream in (1, 2):
        beam.open_http(stream)
        assert beam.expect("response_start", stream)[4] == b"['v', 'v']"
        assert beam.expect("ended", stream)[2] is None
    assert not [line for line in beam.logs if line[0] >= 40]


def test_handler_that_ends_at_once_leaves_no_stream_behind(serve):
    beam = serve(
        AT_IMPORT
        + """
    from hornbeam_erlang._worker import stacks
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        open_streams = len((await stacks.report())["streams"])
        await send({"type": "http.response.body", "body": b"%d" % open_streams})
    """
    )
    for stream in (1, 2, 3):
        beam.open_http(stream)
        assert beam.expect("response_start", stream)[4] == b"1"
        beam.expect("ended", stream)


def test_hooks_may_use_ops_before_their_first_await(serve):
    beam = serve(
        AT_IMPORT
        + """
    import hornbeam_erlang.aio
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
    async def called():
        hornbeam_erlang.state_incr("calls")
        return hornbeam_erlang.state_get("calls")
    """,
        ops=True,
    )
    for count in (1, 2, 3):  # the first time in a thread, then in the loop
        ref = beam.node.call("small_app", "called")
        assert beam.expect("result")[2:] == (ref, 0, bytes([count]))


def test_tasks_of_a_handler_belong_to_its_stream(serve):
    beam = serve(
        AT_IMPORT
        + """
    from hornbeam_erlang._ops.carrier import connected
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        task = asyncio.create_task(connected().call_async(7, []))
        await task
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
    """
    )
    for stream in (1, 2):
        beam.open_http(stream)
        beam.send("reply", stream, beam.expect("op", stream)[2], 0, None)
        beam.expect("response_start", stream)
        beam.expect("ended", stream)
