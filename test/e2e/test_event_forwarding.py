"""What is published reaches the clients of event streams, and Python does not wake for it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from browsers import node_command, npm_install
from clients import RawHTTP, journal
from harness import DEADLINE, Server, eventually
from http2 import Http2
from httpx_sse import ServerSentEvent, connect_sse
from playwright.sync_api import Page
from sources import EVENTS, Source, listed, streams
from terms import Atom


@pytest.fixture(params=["hornbeam", "cowboy"])
def engine(request: pytest.FixtureRequest) -> Atom:
    return Atom(request.param)


@pytest.fixture
def server(serve, engine) -> Server:
    return serve("eventful:application", workers=1, http_engine=engine)


def published(server: Server, topic: str, term: str) -> int:
    """Publish a term of Erlang, and return to how many."""
    return server.node.eval(f'hornbeam:publish(<<"{topic}">>, {term})')


def says(server: Server, key: str, data: bytes) -> None:
    """Let the app say something in the open stream of the key."""
    httpx.post(f"{server.http}/says?{key}", content=data, timeout=DEADLINE).raise_for_status()


def forwarding(server: Server, key: str, how: str = "late") -> Source:
    source = Source(server, f"/forwards/{how}?{key}")
    assert journal(server, key, 1) == ["forwards"]
    return source


# What the client gets


def test_str_is_data_and_all_else_is_json(server, key):
    with forwarding(server, key) as source:
        for term in ('<<"text">>', '#{<<"n">> => [1, null]}', "1.5", '<<"größe"/utf8>>'):
            assert published(server, key, term) == 1
        got = [source.event() for _ in range(4)]
    assert got == [{"data": text} for text in ("text", '{"n":[1,null]}', "1.5", "größe")]


def test_every_line_of_a_text_is_a_line_of_data(server, key):
    with forwarding(server, key) as source:
        published(server, key, '<<"a\\nb\\r\\n\\rc\\n">>')
        assert source.lines() == ["data: a", "data: b", "data: ", "data: c", "data: "]


def test_event_id_and_retry_are_said_with_it(server, key):
    with forwarding(server, key) as source:
        published(server, key, '{sse, #{event => tick, id => 17, retry => 5000}, <<"down">>}')
        assert source.event() == {"event": "tick", "id": "17", "retry": "5000", "data": "down"}
        answer = httpx.get(f"{server.http}/publishes?topic={key}&data=up&event=tick&id=18")
        assert answer.text == "1"
        assert source.event() == {"event": "tick", "id": "18", "data": "up"}


def test_bytes_are_refused_where_an_event_stream_would_get_them(server, key):
    with forwarding(server, key) as source:
        error = server.node.eval(f'catch hornbeam:publish(<<"{key}">>, <<255>>)')
        assert error[1][0] == (Atom("no_event"), "bytes")
        published(server, key, "1")
        assert source.event() == {"data": "1"}


def test_python_does_not_wake_for_it(server, key):
    with forwarding(server, key) as source:
        (before,) = server.workers()
        for n in range(100):
            published(server, key, str(n))
        assert [source.event()["data"] for _ in range(100)] == [str(n) for n in range(100)]
        (after,) = server.workers()
        (stream,) = listed(server, 1)
    assert (after["messages"], after["requests"]) == (before["messages"], before["requests"])
    assert stream["subscriptions"] == [key]
    assert (stream["messages_out"], stream["worker"]) == (100, "worker-1")


def test_what_comes_before_the_response_begins_is_not_lost(server, key):
    with forwarding(server, key, "early") as source:
        assert published(server, key, "1") == 1
        assert source.event() == {"data": "1"}


def test_a_stream_that_is_over_is_no_subscriber(server, key):
    with forwarding(server, key):
        assert published(server, key, "1") == 1
    eventually(lambda: published(server, key, "2") == 0)
    with forwarding(server, key + "b") as source:
        says(server, key + "b", b"")
        assert source.rest() == ""
        eventually(lambda: published(server, key + "b", "2") == 0)


def test_two_streams_of_one_connection_of_http2_have_each_their_own(server, key):
    with Http2(server) as http2:
        one, two = (http2.request("GET", f"/forwards/late?{key}{n}", *EVENTS.items()) for n in "ab")
        for n in "ab":
            journal(server, key + n, 1)
            assert published(server, key + n, f'<<"for {n}">>') == 1
        assert [stream.read() for stream in (one, two)] == [
            b"data: for a\n\n",
            b"data: for b\n\n",
        ]
        one.reset()
        eventually(lambda: published(server, key + "a", "1") == 0)
        assert published(server, key + "b", "2") == 1
        assert two.read() == b"data: 2\n\n"


def test_a_client_of_http_1_0_gets_it_too(server, key):
    with RawHTTP(server) as raw:
        raw.send(f"GET /forwards/late?{key} HTTP/1.0\r\naccept: text/event-stream\r\n\r\n".encode())
        raw.head()
        journal(server, key, 1)
        published(server, key, "1")
        assert raw.take(9) == b"data: 1\n\n"


# Beside what the app says


def test_what_is_forwarded_goes_between_events_of_the_app(server, key):
    with forwarding(server, key) as source:
        says(server, key, b"data: a\n")
        assert published(server, key, "1") == published(server, key, "2") == 1
        says(server, key, b"data: b\n")
        says(server, key, b"\ndata: c\n\ndata: d")
        assert [source.lines() for _ in range(4)] == [
            ["data: a", "data: b"],
            ["data: 1"],
            ["data: 2"],
            ["data: c"],
        ]
        published(server, key, "3")
        says(server, key, b"\r\n\r\n: a comment\n\n")
        assert source.raw_events(3) == "data: d\r\n\r\ndata: 3\n\n: a comment\n\n"
        published(server, key, "4")
        assert source.event() == {"data": "4"}


def test_what_waits_for_the_end_of_an_event_is_bounded(serve, engine, key):
    server = serve("eventful:application", workers=1, http_engine=engine, pubsub_queue_messages=100)
    lost = server.info()["pubsub_losses"].get("slow", 0)
    with forwarding(server, key) as source:
        says(server, key, b"data: a\n")
        server.node.eval(f'[hornbeam:publish(<<"{key}">>, N) || N <- lists:seq(1, 1000)]')
        says(server, key, b"\n")
        assert source.lines() == ["data: a"]
        # 64 were on their way; of the others the last hundred have waited.
        numbers = [int(source.event()["data"]) for _ in range(164)]
        published(server, key, "1001")
        assert source.event() == {"data": "1001"}
    assert numbers == [*range(1, 65), *range(901, 1001)]
    assert server.info()["pubsub_losses"]["slow"] == lost + 836


# Who is too slow


def slow_client(server: Server, key: str, how: str) -> RawHTTP:
    """Open a stream whose client reads nothing."""
    raw = RawHTTP(server)
    raw.request("GET", f"/forwards/{how}?{key}", "accept: text/event-stream")
    raw.head()
    journal(server, key, 1)
    return raw


FLOOD = (
    '[hornbeam:publish(<<"{key}">>, <<(integer_to_binary(N))/binary, 32, 0:8000/unit:8>>)'
    " || N <- lists:seq(1, {count})]"
)


def numbers(raw: RawHTTP, last: int) -> list[int]:
    """Read the numbers of a flood, up to the last."""
    found: list[int] = []
    rest = b""
    while not found or found[-1] != last:
        size = int(raw.line(), 16)
        rest += raw.take(size)
        raw.line()
        *events, rest = rest.split(b"\n\n")
        found += [int(event.split()[1]) for event in events if event]
    return found


def test_of_what_waits_for_a_slow_client_the_oldest_is_dropped(serve, engine, key):
    server = serve("eventful:application", workers=1, http_engine=engine, pubsub_queue_messages=50)
    with slow_client(server, key, "late") as raw:
        server.node.eval(FLOOD.format(key=key, count=3000))
        got = numbers(raw, 3000)
        assert got == sorted(set(got))
        assert got[0] == 1
        assert got[-50:] == list(range(2951, 3001))
        assert len(got) < 2900


def test_a_slow_client_is_ended_where_that_is_asked_for(serve, engine, key):
    server = serve("eventful:application", workers=1, http_engine=engine, pubsub_queue_messages=50)
    before = server.info()["counters"]["slow_clients_closed"]
    with slow_client(server, key, "close") as raw:
        server.node.eval(FLOOD.format(key=key, count=3000))
        eventually(lambda: server.info()["counters"]["slow_clients_closed"] == before + 1)
        raw.socket.shutdown(socket.SHUT_WR)
    eventually(lambda: streams(server) == [])
    assert published(server, key, "1") == 0


def test_a_client_that_reads_gets_all_of_a_flood(server, key):
    with RawHTTP(server) as raw:
        raw.request("GET", f"/forwards/late?{key}", "accept: text/event-stream")
        raw.head()
        journal(server, key, 1)
        server.node.eval(
            f'[hornbeam:publish(<<"{key}">>, <<(integer_to_binary(N))/binary, " x">>)'
            " || N <- lists:seq(1, 900)]"
        )
        assert numbers(raw, 900) == list(range(1, 901))
    with Http2(server) as http2:
        stream = http2.request("GET", f"/forwards/late?{key}b", *EVENTS.items())
        stream.head()
        journal(server, key + "b", 1)
        server.node.eval(f'[hornbeam:publish(<<"{key}b">>, N) || N <- lists:seq(1, 900)]')
        data = b""
        while not data.endswith(b"data: 900\n\n"):
            data += stream.read()
    assert data == b"".join(b"data: %d\n\n" % n for n in range(1, 901))


# Where it makes no sense


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("plain", "forward=True needs a WebSocket that has been accepted, or a response of"),
        ("gzip", "forward=True cannot add to a response with a content-encoding: leave"),
    ],
)
def test_other_responses_forward_nothing_and_say_why(server, how, said, key):
    with httpx.stream("GET", f"{server.http}/refused/{how}?{key}") as response:
        assert b"".join(response.iter_raw()) == b"begun"
    assert journal(server, key, 1)[0].startswith(said)


def test_who_subscribes_before_another_response_is_told_in_the_log(server, key):
    since = len(server.node.log)
    assert httpx.get(f"{server.http}/refused/early?{key}").text == "begun"
    said = f"forward=True for '{key}' has no effect"
    assert eventually(lambda: said in server.node.log[since:])
    eventually(lambda: published(server, key, "1") == 0)


# Frameworks and clients as they are

FRAMEWORKS = ["fastapi", "sse_starlette", "starlette", "asgi_of_django", "flask"]


def of(app: str) -> dict:
    return {"worker_class": Atom("wsgi")} if app == "flask" else {}


def next_event(events: Iterator[ServerSentEvent]) -> ServerSentEvent:
    """Take the next event that is no comment."""
    return next(event for event in events if event.data)


@pytest.mark.parametrize("app", FRAMEWORKS)
def test_apps_of_frameworks_forward_to_a_client_of_python(serve, app, key):
    server = serve(f"sourced:{app}", workers=2, **of(app))
    target = f"{server.http}/events?key={key}"
    with (
        httpx.Client(timeout=DEADLINE) as client,
        connect_sse(client, "GET", target, headers={"last-event-id": "16"}) as source,
    ):
        events = source.iter_sse()
        hello = next_event(events)
        assert (hello.event, hello.data) == ("hello", "16")
        assert int(hello.id) in server.worker_pids()
        assert published(server, key, "{sse, #{event => tick, id => 17}, #{n => 1}}") == 1
        tick = next_event(events)
        assert (tick.event, tick.id, tick.json()) == ("tick", "17", {"n": 1})
        os.kill(int(hello.id), signal.SIGKILL)
        assert [event.data for event in events if event.data] == []
    eventually(lambda: published(server, key, "1") == 0)
    eventually(lambda: len(server.worker_pids()) == 2)
    assert "[error]" not in server.node.log.replace("worker_down", "")


LISTEN = """
window.heard = [];
window.source = new EventSource(TARGET);
source.onerror = () => heard.push('error');
for (const name of ['hello', 'tick', 'message'])
    source.addEventListener(name, (event) => heard.push([name, event.lastEventId, event.data]));
"""


def heard(page: Page, count: int) -> list:
    """Wait until the page has heard so much."""
    page.wait_for_function(f"heard.length >= {count}", timeout=DEADLINE * 1000)
    return page.evaluate("heard")


def test_an_event_source_of_a_browser_comes_back_with_the_last_id_that_it_had(
    serve, engine, browser, key
):
    server = serve("sourced:starlette", workers=2, http_engine=engine, fresh=True)
    page = browser.new_page()
    page.goto(f"{server.http}/nothing")
    page.evaluate(LISTEN.replace("TARGET", f"'/events?key={key}'"))
    (hello,) = heard(page, 1)
    published(server, key, "{sse, #{event => tick, id => 17}, 1}")
    published(server, key, "2")
    assert heard(page, 3)[1:] == [["tick", "17", "1"], ["message", "17", "2"]]

    os.kill(int(hello[1]), signal.SIGKILL)
    assert heard(page, 5)[3] == "error"
    again = heard(page, 5)[4]
    assert again[0] == "hello" and again[2] == "17" and again[1] != hello[1]

    assert server.node.eval("hornbeam:reload()") == Atom("ok")
    reloaded = heard(page, 7)[6]
    assert reloaded[:1] + reloaded[2:] == ["hello", again[1]]
    published(server, key, '<<"still here">>')
    assert heard(page, 8)[7] == ["message", reloaded[1], "still here"]
    page.close()
    eventually(lambda: streams(server) == [])


LISTENER = """
import {EventSource} from "eventsource";
const source = new EventSource(process.argv[2]);
for (const name of ["hello", "tick"])
    source.addEventListener(name, (event) =>
        console.log(JSON.stringify([name, event.lastEventId, event.data])));
"""


def test_the_event_source_of_node_comes_back_with_the_last_id_that_it_had(serve, tmp_path, key):
    server = serve("sourced:fastapi", workers=2, fresh=True)
    npm_install(tmp_path, "eventsource@4")
    (tmp_path / "listener.mjs").write_text(LISTENER)
    with subprocess.Popen(
        node_command("node", str(tmp_path / "listener.mjs"), f"{server.http}/events?key={key}"),
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as listener:  # fmt: skip
        try:
            hello = json.loads(listener.stdout.readline())
            published(server, key, "{sse, #{event => tick, id => 17}, 1}")
            assert json.loads(listener.stdout.readline()) == ["tick", "17", "1"]
            os.kill(int(hello[1]), signal.SIGKILL)
            again = json.loads(listener.stdout.readline())
            assert again[0] == "hello" and again[2] == "17" and again[1] != hello[1]
        finally:
            os.killpg(listener.pid, signal.SIGKILL)  # Python, and what it runs
