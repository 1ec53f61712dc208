"""X-Request-ID: made or taken from a trusted proxy, in scope, answer, log and events."""

from __future__ import annotations

import ast
import json
import re
import ssl
import uuid

import httpx
import pytest
from harness import DEADLINE, Server, eventually
from terms import Atom
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

APP = "exchanges:application"
WITH = {"request_id": True}
HEADER = "x-request-id"

GOOD = ["a", "x" * 128, "0190163d-8694-739b-aea5-966c26f8ad91", "Root=1-67891233-abcdef", "a+b/c==",
        "a.b:c_d~e@f"]  # fmt: skip
BAD = ["", "x" * 129, "a b", 'a"b', "a,b", "a;b", "a\\b", "ü".encode(), "<a>", "a\tb"]


def seen(response: httpx.Response) -> list[str]:
    """Return the ids that the app has found in its scope."""
    scope = ast.literal_eval(response.text)
    return [value.decode() for name, value in scope["headers"] if name == HEADER.encode()]


def is_uuid4(text: str) -> bool:
    return str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4


@pytest.fixture(params=["hornbeam", "cowboy"])
def engine(request) -> dict:
    return {"http_engine": Atom(request.param), **WITH}


def test_each_request_has_an_id_of_its_own(serve, engine):
    server = serve(APP, **engine)
    with httpx.Client() as client:
        answers = [client.get(f"{server.http}/scope_of") for _ in range(4)]
    ids = [answer.headers[HEADER] for answer in answers]
    assert [seen(answer) for answer in answers] == [[each] for each in ids]
    assert len(set(ids)) == 4
    assert all(map(is_uuid4, ids))


def test_pipelined_requests_have_ids_of_their_own(serve):
    with serve(APP, **WITH).connect() as client:
        last = b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        client.sendall(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n" * 5 + last)
        said = b""
        while part := client.recv(65536):
            said += part
    ids = re.findall(rb"x-request-id: (\S+)", said)
    assert len(set(ids)) == len(ids) == 6


@pytest.mark.parametrize("given", GOOD + BAD)
def test_a_trusted_proxys_is_taken_if_it_is_one(serve, engine, given):
    server = serve(APP, **engine)
    answer = httpx.get(f"{server.http}/scope_of", headers={HEADER: given})
    (found,) = seen(answer)
    assert answer.headers[HEADER] == found
    assert found == given if given in GOOD else is_uuid4(found)


def test_nobody_elses_is_taken_nor_one_of_several(serve, engine):
    server = serve(APP, **engine)
    several = [(HEADER, "a"), (HEADER, "b")]
    (found,) = seen(httpx.get(f"{server.http}/scope_of", headers=several))
    assert is_uuid4(found)
    stranger = serve(APP, forwarded_allow_ips=["192.0.2.1"], **engine)
    (found,) = seen(httpx.get(f"{stranger.http}/scope_of", headers={HEADER: "a"}))
    assert is_uuid4(found)


def test_without_the_option_nothing_is_touched(serve):
    answer = httpx.get(f"{serve(APP).http}/scope_of", headers={HEADER: "a b"})
    assert (seen(answer), HEADER in answer.headers) == (["a b"], False)


def test_an_apps_own_stands_in_its_place(serve, engine):
    server = serve("identified:application", fresh=True, **engine)
    assert httpx.get(server.http).headers.get_list(HEADER) == ["of-the-app"]


def test_http2_has_it_too(serve, tls, authority):
    server = serve(APP, **WITH, **tls)
    with httpx.Client(http2=True, verify=ssl.create_default_context()) as client:
        answer = client.get(f"{server.http}/scope_of")
    assert answer.http_version == "HTTP/2"
    assert seen(answer) == [answer.headers[HEADER]]


def test_a_websockets_handshake_has_it(serve, engine):
    server = serve("sockets:application", **engine)
    headers = {HEADER: "of-a-proxy"}
    with connect(f"{server.ws}/echo", additional_headers=headers) as opened:
        assert opened.response.headers[HEADER] == "of-a-proxy"
    for path in ("/refused", "/denied", "/no_such"):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{server.ws}{path}", additional_headers=headers)
        assert refused.value.response.headers.get_all(HEADER) == ["of-a-proxy"]


def test_answers_that_python_never_saw_have_it(serve, engine):
    hosts = ["a.example"]
    server = serve(APP, fresh=True, allowed_hosts=hosts, max_body_size=10, **engine)
    refused = httpx.get(server.http, headers={"host": "b.example", HEADER: "of-a-proxy"})
    assert (refused.status_code, refused.headers[HEADER]) == (400, "of-a-proxy")
    with server.connect() as client:
        client.sendall(b"what is this?\r\n\r\n")
        said = b""
        while part := client.recv(65536):
            said += part
    assert said.startswith(b"HTTP/1.1 400")
    assert is_uuid4(re.search(rb"x-request-id: (\S+)", said)[1].decode())


def test_a_wsgi_app_finds_it_in_its_environ(serve):
    server = serve("identified:wsgi", fresh=True, worker_class=Atom("wsgi"), **WITH)
    answer = httpx.get(server.http)
    assert answer.text == answer.headers[HEADER]


# The access log, of which standard output is the node's log here


@pytest.mark.parametrize("form", ["json", "%{x-request-id}o %s", "%{X-Request-Id}i %s"])
def test_the_access_log_has_it(own_node, form):
    form = Atom(form) if form == "json" else form
    server = own_node.serve(APP, access_log=True, access_log_format=form, **WITH)
    found = httpx.get(f"{server.http}/hello").headers[HEADER]
    if form == "json":
        line = own_node.wait_log(r"^({.*})$".replace("^", "(?m)^"))[1]
        assert json.loads(line)["x_request_id"] == found
    else:
        own_node.wait_log(f"(?m)^{found} 200$")


def test_the_lines_of_a_websocket_have_that_of_its_handshake(own_node, engine):
    form = "%{x-request-id}o %s"
    server = own_node.serve(
        "sockets:application", access_log=True, access_log_format=form, **engine
    )
    with connect(f"{server.ws}/echo") as opened:
        found = opened.response.headers[HEADER]
    own_node.wait_log(f"(?m)^{found} 101$")
    own_node.wait_log(f"(?m)^{found} 1000$")


# Events


@pytest.fixture
def told(node):
    """Return what events say from now on."""
    node.eval("ets:new(told, [named_table, public, ordered_set, {heir, whereis(init), none}])")
    node.eval(
        "[hornbeam_telemetry:attach({told, E}, E, fun(Event, Measured, Metadata, _) -> "
        "ets:insert(told, {erlang:unique_integer([monotonic]), lists:last(Event), Measured, "
        "Metadata}) end, none) || E <- [[hornbeam, http, stop], [hornbeam, websocket, open], "
        "[hornbeam, websocket, close]]]"
    )
    yield lambda: node.eval("ets:tab2list(told)")
    node.eval("[hornbeam_telemetry:detach({told, E}) || E <- hornbeam_telemetry:events()]")
    node.eval("ets:delete(told)")


TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
         "tracestate": "a=1,b=2"}  # fmt: skip


def test_events_have_what_makes_a_span(serve, told):
    server = serve("sockets:application", fresh=True, **WITH)
    httpx.get(f"{server.http}/nowhere", headers=TRACE | {HEADER: "r"})
    with connect(f"{server.ws}/echo", additional_headers=TRACE | {HEADER: "s"}):
        pass
    events = eventually(lambda: len(found := told()) == 3 and found)
    for (_, _, measured, metadata), name in zip(events, "rss", strict=True):
        assert {key: metadata[key] for key in TRACE} == TRACE
        assert metadata["request_id"] == name
        assert metadata["client"][0] == "127.0.0.1"
        assert measured
    assert [event[1] for event in events] == ["stop", "open", "close"]
    _, _, measured, _ = events[0]
    now = server.node.eval("erlang:system_time(microsecond)")
    assert 0 < now - measured["began"] - measured["microseconds"] < DEADLINE * 1e6


def test_the_trace_of_a_request_reaches_the_app_untouched(serve, engine, tls):
    for options in ({}, tls):
        server: Server = serve(APP, **engine, **options)
        with httpx.Client(http2=bool(options), verify=ssl.create_default_context()) as client:
            scope = ast.literal_eval(client.get(f"{server.http}/scope_of", headers=TRACE).text)
        headers = dict(scope["headers"])
        for name, value in TRACE.items():
            assert headers[name.encode()] == value.encode()
