"""Whether the loop of a worker turns, and where its handlers and threads are."""

import os
import time
from pathlib import Path

from beam import DEADLINE, Beam
from hornbeam_erlang._wire.values import pack, unpack

WAITS = """
    import asyncio, time

    async def inner():
        yield await asyncio.Event().wait()

    async def waits_for_ever():
        async for _ in inner():
            pass

    async def app(scope, receive, send):
        if scope["path"] == "/blocks":
            time.sleep(3600)
        if scope["type"] == "http":
            await waits_for_ever()
    """


def test_heartbeat_is_answered_with_its_number(run):
    beam = run(WAITS)
    for number in (1, 2, 1 << 40):
        beam.send("heartbeat", 0, number)
        assert beam.expect("heartbeat") == ("heartbeat", 0, number)


def test_heartbeat_passes_what_waits_for_credit(run):
    beam = run(
        """
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
                while True:
                    await send({"type": "websocket.send", "bytes": bytes(1000)})
        """,
        automatic_credit=False,
        worker_window=20_000,
        stream_window=[1 << 30, 1 << 30],
    )
    beam.accept(1)
    while beam.written < 20_000:
        beam.expect("send_bytes", 1)
    beam.send("heartbeat", 0, 7)
    while (message := beam.next())[0] == "send_bytes":
        assert beam.written < 22_000
    assert message == ("heartbeat", 0, 7)


def test_report_shows_what_a_handler_waits_for(run):
    beam = run(WAITS)
    beam.open_http(5, b"/orders")
    beam.send("call", 0, 1, 0, "hornbeam_erlang._worker.stacks", "report", pack([]), pack({}))
    _, _, _, status, value = beam.expect("result")
    assert status == 0
    report = unpack(value)
    (stream,) = report["streams"]
    assert (stream["number"], stream["type"], stream["path"]) == (5, "http", "/orders")
    order = [stream["stack"].index(f"in {name}") for name in ("app", "waits_for_ever", "inner")]
    assert order == sorted(order)
    assert "in wait" in stream["stack"]
    threads = {thread["name"]: thread["stack"] for thread in report["threads"]}
    assert "in _watch" in threads["hornbeam-watch"]
    assert "MainThread" in threads


def test_stacks_are_written_at_the_signal_while_the_loop_stands_still(start):
    beam = start(WAITS)
    signal, fd = beam.expect("ready")[2]["stacks"]
    beam.open_http(1, b"/blocks")
    beam.send("heartbeat", 0, 1)
    path = Path(f"/proc/{beam.process.pid}/fd/{fd}")
    assert path.readlink().name.startswith("memfd:hornbeam-stacks")
    stacks = written(beam, signal, path)
    assert "small_app.py" in stacks
    assert stacks.rindex("small_app.py") < stacks.rindex("_worker/__main__.py")


def written(beam: Beam, signal: int, path: Path) -> str:
    """Ask again until the handler is there, whole: it may not have begun yet."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        os.kill(beam.process.pid, signal)
        # Below the app comes the outermost frame; it is written last.
        above, app, below = path.read_text().rpartition(" in app")
        if app and "_worker/__main__.py" in below:
            # What the next signal has begun to write behind that is not whole.
            whole, outermost, _ = below.partition("_worker/__main__.py")
            return above + app + whole + outermost
        time.sleep(0.01)
    raise TimeoutError(path.read_text())
