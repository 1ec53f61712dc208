"""Event streams (server-sent events) as connections: listed, left, ended, and come back to."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator

import httpx
import pytest
from clients import RawHTTP, journal
from harness import DEADLINE, Server, eventually
from http2 import Http2
from sources import EVENTS, Source, listed, streams, worker_of
from terms import Atom

END = "retry: 1000\n\n"


@pytest.fixture(params=["hornbeam", "cowboy"])
def engine(request: pytest.FixtureRequest) -> Atom:
    return Atom(request.param)


@pytest.fixture
def server(serve, engine) -> Server:
    return serve("eventful:application", workers=1, http_engine=engine)


# Known


def test_an_event_stream_is_listed_while_it_is_open(server, key):
    with Source(server, f"/waits/said?{key}") as source:
        assert worker_of(source.event()) in server.worker_pids()
        (stream,) = listed(server, 1)
        assert stream["kind"] == Atom("event_stream")
        assert (stream["path"], stream["mount"], stream["worker"]) == (
            "/waits/said",
            "/",
            "worker-1",
        )
        assert stream["peer"][0] == "127.0.0.1"
        assert (stream["messages_out"], stream["state"]) == (1, Atom("open"))
        assert stream["bytes_out"] > 0
        assert stream["subscriptions"] == []
        assert server.info()["counters"]["event_streams"] > 0
    eventually(lambda: streams(server) == [])


def test_the_head_of_an_event_stream_is_there_before_its_first_event(server, key):
    with Source(server, f"/waits/silent?{key}") as source:
        assert source.response.headers["content-type"] == "text/event-stream"
        listed(server, 1)


def test_an_event_stream_outlives_the_time_for_an_answer(serve, engine, key):
    server = serve("eventful:application", workers=1, http_engine=engine, timeout=300)
    with Source(server, f"/waits/said?{key}") as source:
        source.event()
        eventually(lambda: streams(server)[0]["seconds"] >= 1)
        source.client.get(f"{server.http}/hello")
    assert journal(server, key, 2) == ["waits", "http.disconnect"]


def test_a_stream_that_the_app_ends_is_whole_and_none_any_more(server):
    with Source(server, "/counts") as source:
        assert [source.event()["data"] for _ in range(3)] == ["0", "1", "2"]
        assert source.rest() == ""
    assert streams(server) == []


def test_a_stream_whose_app_fails_is_broken_off(server, key):
    with Source(server, f"/fails?{key}") as source, pytest.raises(httpx.RemoteProtocolError):
        source.rest()
    assert streams(server) == []


def test_head_of_an_event_stream_has_no_body_and_no_connection(server, key):
    with RawHTTP(server) as raw:
        raw.request("HEAD", f"/waits/silent?{key}")
        head = raw.head()
        assert (head.status, head.all("content-type")) == (200, ["text/event-stream"])
        assert head.all("content-length") == []
        raw.request("GET", "/hello")
        assert raw.response().body == b"hello"
    assert streams(server) == []
    assert journal(server, key, 2) == ["waits", "http.disconnect"]


def test_a_client_of_http_1_0_has_a_stream_that_ends_with_its_connection(server, key):
    with RawHTTP(server) as raw:
        raw.send(b"GET /waits/said?%b HTTP/1.0\r\naccept: text/event-stream\r\n\r\n" % key.encode())
        assert raw.head().all("transfer-encoding") == []
        assert raw.take(4) == b"id: "
        (stream,) = listed(server, 1)
        kicked(server, stream)
        while raw.read_more():
            pass
        assert raw.buffer.endswith(b"data: \n\n" + END.encode())


def test_a_stream_that_has_been_open_for_a_while_takes_little_memory(serve, key):
    server = serve("eventful:application", workers=1)
    heap = (
        "[#{pid := Pid}] = hornbeam:connections(), element(2, process_info(Pid, total_heap_size))"
    )
    with Source(server, f"/waits/said?{key}") as source:
        source.event()
        listed(server, 1)
        assert server.node.eval(heap) > 2500  # words: room for several requests
        eventually(lambda: server.node.eval(heap) < 1500)


# Left


def test_an_app_that_only_waits_hears_at_once_that_its_client_has_left(server, key):
    source = Source(server, f"/waits/said?{key}")
    assert journal(server, key, 1) == ["waits"]
    source.client.close()
    assert journal(server, key, 2) == ["waits", "http.disconnect"]
    eventually(lambda: streams(server) == [] and server.info()["streams"] == 0)


def test_over_http2_too(server, key):
    with Http2(server) as http2:
        stream = http2.request("GET", f"/waits/said?{key}", *EVENTS.items())
        assert stream.head()[0] == 200
        (found,) = listed(server, 1)
        stream.reset()
        assert journal(server, key, 2) == ["waits", "http.disconnect"]
        eventually(lambda: streams(server) == [])
        stream = http2.request("GET", f"/waits/said?{key}", *EVENTS.items())
        (found,) = listed(server, 1)
        kicked(server, found)
        assert stream.body().decode().endswith(END)


# Ended by the node


def kicked(server: Server, stream: dict) -> None:
    assert server.node.eval(f"hornbeam:kick({stream['id']}, 1000, <<>>)") == Atom("ok")


def test_a_kicked_stream_ends_whole_and_its_connection_goes_on(server, key):
    with Source(server, f"/waits/said?{key}") as source:
        source.event()
        kicked(server, *listed(server, 1))
        assert source.rest() == END
        assert source.client.get(f"{server.http}/hello").text == "hello"
    assert journal(server, key, 2) == ["waits", "http.disconnect"]


@pytest.mark.parametrize("how", ["said", "silent", "torn"])
def test_streams_of_a_killed_worker_end_whole_and_their_clients_come_back(serve, engine, how, key):
    server = serve("eventful:application", workers=2, http_engine=engine)
    with Source(server, f"/waits/{how}?{key}") as source:
        (before,) = [worker["os_pid"] for worker in server.workers() if worker["streams"]]
        os.kill(before, signal.SIGKILL)
        rest = source.rest()
    eventually(lambda: before not in server.worker_pids())
    assert rest.endswith("never whole\n") if how == "torn" else is_end_of_a_dead_worker(rest)
    with Source(server, f"/waits/said?{key}", last_event_id="17") as again:
        event = again.event()
        assert worker_of(event) != before
        assert event["data"] == "17"


def is_end_of_a_dead_worker(rest: str) -> bool:
    """Tell whether a client is told to come back, at a time of its own."""
    told = re.search(r"retry: (\d+)\n\n\Z", rest)
    return told is not None and 1000 < int(told[1]) <= 3000


def test_what_does_not_come_back_by_itself_is_broken_off_with_its_worker(server, key):
    for method, accept in (("POST", "text/event-stream"), ("GET", "*/*")):
        with Source(server, f"/waits/said?{key}", method, accept=accept) as source:
            os.kill(worker_of(source.event()), signal.SIGKILL)
            with pytest.raises(httpx.RemoteProtocolError):
                source.rest()


def test_a_reload_ends_the_streams_that_come_back_and_waits_for_the_others(serve, engine, key):
    server = serve("eventful:application", workers=1, http_engine=engine, fresh=True)
    with (
        Source(server, f"/waits/said?{key}") as source,
        Source(server, f"/waits/said?{key}", "POST") as answer,
    ):
        before = worker_of(source.event())
        assert worker_of(answer.event()) == before
        assert server.node.eval("hornbeam:reload()") == Atom("ok")
        assert source.rest() == END
        with Source(server, f"/waits/said?{key}") as again:
            assert worker_of(again.event()) != before
            states = {worker["os_pid"]: worker["state"] for worker in server.workers()}
            assert before not in states or states[before] == Atom("retiring")
            assert len(listed(server, 2)) == 2
    eventually(lambda: before not in server.worker_pids())


def ends(sources: list[Source]) -> Iterator[float]:
    """Wait for the ends of streams; tell when each was there."""
    for source in sources:
        assert source.rest().endswith(END)
        yield time.monotonic()


def test_streams_that_come_back_at_a_reload_do_so_in_batches(serve, key):
    server = serve("eventful:application", workers=1, fresh=True)
    sources = [Source(server, f"/waits/said?{key}") for _ in range(250)]
    listed(server, 250)
    began = time.monotonic()
    assert server.node.eval("hornbeam:reload()") == Atom("ok")
    # A hundred every 50 ms: the last ones are behind two pauses.
    assert max(ends(sources)) - began >= 0.1
    for source in sources:
        source.client.close()


def test_a_stop_does_not_wait_for_streams_that_come_back(serve, engine, key):
    server = serve("eventful:application", workers=1, http_engine=engine, fresh=True)
    with Source(server, f"/waits/said?{key}") as source:
        source.event()
        began = time.monotonic()
        server.stop()
        assert source.rest() == END
    assert time.monotonic() - began < DEADLINE / 2


LISTEN = """
spawn(fun() ->
    register({name}, self()),
    Me = self(),
    Handler = fun([_, _, What], Measured, About, _) -> Me ! {{What, Measured, About}} end,
    [ok = hornbeam_telemetry:attach({{{name}, What}}, [hornbeam, event_stream, What], Handler, none)
     || What <- [open, close]],
    Heard = [receive {{What, _, _}} = Event -> Event end || What <- [open, close]],
    [hornbeam_telemetry:detach({{{name}, What}}) || What <- [open, close]],
    receive {{ask, From}} -> From ! {{heard, Heard}} end
end), ok
"""
ASK = "{name} ! {{ask, self()}}, receive {{heard, Heard}} -> Heard after 20000 -> late end"


def test_the_life_of_a_stream_is_told_by_events(server, key):
    name = f"e{key}"
    server.node.eval(LISTEN.format(name=name))
    eventually(lambda: server.node.eval(f"whereis({name}) =/= undefined"))
    with Source(server, f"/waits/said?{key}") as source:
        source.event()
        (stream,) = listed(server, 1)
    (_, count, opened), (_, measured, closed) = server.node.eval(ASK.format(name=name))
    assert (count, opened) == (
        {"count": 1},
        {"id": stream["id"], "mount": "/", "path": "/waits/said"},
    )
    assert closed == opened | {"status": 200, "reason": Atom("client")}
    assert (measured["messages_out"], measured["bytes_out"]) == (1, stream["bytes_out"])
