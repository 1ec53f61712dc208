"""HTTP exchanges and the lifespan, sentence by sentence, against a real node."""

from __future__ import annotations

import ast

import httpx
import pytest
from clients import (
    RawHTTP,
    journal,
    no_traceback,
    push_until_stuck,
    quiet,
    release,
    still,
)
from harness import eventually
from terms import Atom

MIB = 1024 * 1024

SCHEMES = {"plain": "http", "tls": "https"}

WAYS = [*SCHEMES]


@pytest.fixture
def serve(reached):
    return reached


@pytest.fixture
def server(serve):
    return serve("exchanges:application")


@pytest.fixture
def raw(server):
    with RawHTTP(server) as client:
        yield client


def scope_of(server, target="/scope_of", **options):
    return ast.literal_eval(httpx.get(server.http + target, **options).text)


def raw_scope(raw, target, *headers):
    raw.request("GET", target, *headers)
    return ast.literal_eval(raw.response().body.decode())


# The scope


def test_the_scope_has_every_key_with_its_exact_type(server, way):
    with httpx.Client() as client:
        answer = client.get(f"{server.http}/scope_of?q")
        address = answer.extensions["network_stream"].get_extra_info("client_addr")
        scope = ast.literal_eval(answer.text)
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.3"}
    assert scope["http_version"] == "1.1"
    assert scope["method"] == "GET"
    assert scope["scheme"] == SCHEMES[way]
    assert scope["root_path"] == ""
    assert scope["client"] == tuple(address)
    assert scope["server"] == (server.host, server.port)
    assert "subprotocols" not in scope
    assert all(type(part) is bytes for header in scope["headers"] for part in header)


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        ("/scope_of", "/scope_of", b"/scope_of", b""),
        ("/scope_of/", "/scope_of/", b"/scope_of/", b""),
        ("/scope_of/caf%C3%A9", "/scope_of/café", b"/scope_of/caf%C3%A9", b""),
        ("/scope_of/a%2Fb%20c", "/scope_of/a/b c", b"/scope_of/a%2Fb%20c", b""),
        ("/scope_of/a+b", "/scope_of/a+b", b"/scope_of/a+b", b""),
        ("/scope_of//x/../y", "/scope_of//x/../y", b"/scope_of//x/../y", b""),
        ("/scope_of?", "/scope_of", b"/scope_of", b""),
        ("/scope_of?a=1&b=%20+x?", "/scope_of", b"/scope_of", b"a=1&b=%20+x?"),
        ("/scope_of?a=%C3%A9", "/scope_of", b"/scope_of", b"a=%C3%A9"),
    ],
)
def test_the_path_is_decoded_and_the_rest_is_left_as_it_came(raw, target, path, raw_path, query):
    scope = raw_scope(raw, target)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


def test_header_names_are_lower_case_and_values_are_untouched(raw):
    headers = raw_scope(raw, "/scope_of", "X-MiXed: MiXed Value", "X-Empty:", "X-Latin: caf\xe9")[
        "headers"
    ]
    assert (b"x-mixed", b"MiXed Value") in map(tuple, headers)
    assert (b"x-empty", b"") in map(tuple, headers)
    assert (b"host", b"test") in map(tuple, headers)


def test_request_headers_keep_their_order_and_duplicates(raw):
    headers = raw_scope(
        raw, "/scope_of", "x-b: 1", "x-a: 2", "x-b: 3", "cookie: a=1", "cookie: b=2"
    )["headers"]
    sent = [(name, value) for name, value in headers if name in (b"x-a", b"x-b", b"cookie")]
    assert sent == [
        (b"x-b", b"1"),
        (b"x-a", b"2"),
        (b"x-b", b"3"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
    ]


def test_http_1_0_is_named_and_answered_without_chunks(server):
    with RawHTTP(server) as raw:
        raw.send(b"GET /scope_of HTTP/1.0\r\n\r\n")
        response = raw.response()
    assert ast.literal_eval(response.body.decode())["http_version"] == "1.0"
    assert not response.all("transfer-encoding")


def test_root_path_is_in_the_scope_and_in_front_of_the_path(serve):
    scope = scope_of(serve("exchanges:application", root_path="/api"))
    assert (scope["root_path"], scope["path"]) == ("/api", "/api/scope_of")
    assert scope["raw_path"] == b"/api/scope_of"


# Bodies


def test_a_request_body_of_known_length_arrives(server):
    body = bytes(range(256)) * 4096
    assert httpx.post(f"{server.http}/echo", content=body).content == body


def test_a_chunked_request_body_arrives(server):
    parts = [b"one", b"two " * 50000, b"three"]
    answer = httpx.post(f"{server.http}/echo", content=iter(parts))
    assert answer.content == b"".join(parts)


def test_an_empty_body_is_one_event(server):
    assert httpx.post(f"{server.http}/echo").content == b""
    assert httpx.get(f"{server.http}/echo").content == b""


def test_an_app_that_does_not_receive_stops_the_client(raw, server, key):
    size = 64 * MIB
    part = bytes(65536)
    raw.request("POST", f"/counts?{key}", f"content-length: {size}")
    sent = push_until_stuck(raw.socket, part, size // 2)
    (first,) = journal(server, key)
    assert first <= sent
    release(server, key)
    while sent < size:
        sent += raw.socket.send(part[: size - sent])
    assert raw.response().body == str(size).encode()


def test_an_app_may_answer_before_it_has_read_the_body(raw):
    raw.request("POST", "/hello", "content-length: 5", body=b"abcde")
    assert raw.response().body == b"hello"
    raw.request("GET", "/hello")
    assert raw.response().body == b"hello"


def test_a_response_without_length_is_chunked_and_comes_as_it_is_sent(raw, server, key):
    raw.request("GET", f"/parts?{key}")
    response = raw.head()
    assert response.all("transfer-encoding") == ["chunked"]
    assert raw.take(len(b"4\r\none \r\n4\r\ntwo \r\n")) == b"4\r\none \r\n4\r\ntwo \r\n"
    assert quiet(raw.socket)
    release(server, key)
    raw.chunks(response)
    assert response.whole and response.body == b"three"


@pytest.mark.parametrize(("handler", "body"), [("sized", b"hello"), ("sized_parts", b"one two")])
def test_a_response_of_known_length_is_not_chunked(raw, handler, body):
    raw.request("GET", f"/{handler}")
    response = raw.response()
    assert response.all("content-length") == [str(len(body))]
    assert not response.all("transfer-encoding")
    assert response.body == body
    raw.request("GET", "/hello")
    assert raw.response().body == b"hello"


@pytest.mark.parametrize("handler", ["hello", "sized", "big"])
def test_head_has_the_headers_and_no_body(raw, handler):
    raw.request("HEAD", f"/{handler}")
    assert raw.response("HEAD").status == 200
    raw.request("GET", "/hello")
    assert raw.response().body == b"hello"


def test_head_keeps_the_apps_content_length(raw):
    raw.request("HEAD", "/sized")
    assert raw.response("HEAD").all("content-length") == ["5"]


def test_a_response_of_many_megabytes_is_whole(server):
    assert httpx.get(f"{server.http}/big").content == bytes(16 * MIB)


def test_send_waits_for_a_client_that_does_not_read_and_memory_stays_bounded(raw, server, key):
    raw.request("GET", f"/floods?{key}")
    journal(server, key)
    sent = still(lambda: journal(server, key)[0])
    assert sent * 65536 < 32 * MIB
    assert server.node.eval("erlang:memory(total)") < 200 * MIB
    raw.head()
    raw.take((sent + 100) * 65536)
    assert journal(server, key)[0] > sent


def test_several_set_cookies_and_other_duplicates_stay_apart(raw):
    raw.request("GET", "/cookies")
    response = raw.response()
    assert response.all("set-cookie") == ["a=1; Path=/", "b=2; Path=/"]
    assert ", ".join(response.all("vary")) == "accept, origin"
    assert response.all("x-other") == ["between"]
    assert response.all("x-empty") == [""]


# Expect: 100-continue


def test_100_is_sent_only_when_the_app_asks_for_the_body(raw, server, key):
    raw.request("POST", f"/asks_late?{key}", "expect: 100-continue", "content-length: 4")
    journal(server, key)
    assert quiet(raw.socket)
    release(server, key)
    assert raw.head().status == 100
    raw.send(b"body")
    assert raw.response().body == b"body"


def test_no_100_is_sent_when_the_app_never_asks_for_the_body(raw):
    raw.request("POST", "/never_asks", "expect: 100-continue", "content-length: 4")
    assert raw.response().status == 417


def test_no_100_is_sent_without_being_expected(raw):
    raw.request("POST", "/echo", "content-length: 4", body=b"body")
    response = raw.response()
    assert (response.status, response.body) == (200, b"body")


# Connections


def test_a_connection_is_kept_for_the_next_request(raw):
    for _ in range(3):
        raw.request("GET", "/hello")
        assert raw.response().body == b"hello"


def test_a_connection_is_kept_after_a_chunked_response(raw):
    raw.request("GET", "/big")
    assert len(raw.response().body) == 16 * MIB
    raw.request("GET", "/hello")
    assert raw.response().body == b"hello"


def test_each_request_of_a_connection_has_its_own_head(raw):
    """Also where fields are those of the request before, or nearly."""
    requests = [
        ("/scope_of", "x-a: 1"),
        ("/scope_of/2", "x-a: 1"),
        ("/scope_of/3?q", "x-a: 1"),
        ("/scope_of/3?q", "x-a: 2"),
        ("/scope_of", "x-b: 2"),
        ("/scope_of", "x-b: 2", "x-a: 1"),
        ("/scope_of", "x-a: 1"),
    ]
    for target, *fields in requests:
        scope = raw_scope(raw, target, *fields)
        path, _, query = target.partition("?")
        assert (scope["path"], scope["query_string"]) == (path, query.encode())
        headers = sorted((*(f"{name}" for name in fields), "host: test"))
        assert sorted(f"{n.decode()}: {v.decode()}" for n, v in scope["headers"]) == headers
        assert scope["client"] == raw.socket.getsockname()


def test_fields_that_were_sound_once_do_not_let_others_pass(raw):
    for _ in range(2):
        raw.request("GET", "/hello", "x-a: 1")
        assert raw.response().status == 200
    raw.request("GET", "/hello", "x-a: 1", "x-b: \x01")
    assert raw.response().status == 400


HEAPS = """
    list_to_tuple([element(2, process_info(Pid, total_heap_size))
                   || Pid <- ranch:procs(hornbeam, connections)])
"""


def test_a_connection_whose_client_is_silent_gives_its_memory_back(serve):
    server = serve("exchanges:application", fresh=True)
    with RawHTTP(server) as raw:
        for _ in range(20):
            raw.request("GET", "/hello")
            assert raw.response().body == b"hello"
        (busy,) = server.node.eval(HEAPS)
        eventually(lambda: server.node.eval(HEAPS)[0] < busy / 2)
        raw.request("GET", "/hello")
        assert raw.response().body == b"hello"


def test_pipelined_requests_are_answered_in_order(raw):
    for number in range(20):
        body = f"number {number}".encode()
        raw.request("POST", "/echo", f"content-length: {len(body)}", body=body)
    assert [raw.response().body for _ in range(20)] == [b"number %d" % n for n in range(20)]


def test_connection_close_is_respected(raw):
    raw.request("GET", "/hello", "connection: close")
    assert raw.response().body == b"hello"
    assert raw.ended()


def test_a_request_that_is_not_http_is_a_400(server):
    with RawHTTP(server) as raw:
        raw.send(b"nonsense\r\n\r\n")
        assert raw.head().status == 400


def test_a_disconnect_is_told_to_an_app_that_waits(server, key):
    with RawHTTP(server) as raw:
        raw.request("GET", f"/waits?{key}")
        journal(server, key)
    assert journal(server, key, 2) == ["waiting", "http.disconnect"]


@pytest.mark.parametrize("handler", ["waits", "floods"])
def test_a_connection_that_is_killed_in_the_node_is_told_to_the_app(serve, key, handler):
    """Whether the app has begun its response or not."""
    server = serve("exchanges:application", fresh=True)
    with RawHTTP(server) as raw:
        raw.request("GET", f"/{handler}?{key}")
        if handler == "waits":
            eventually(lambda: server.workers()[0]["streams"] == 1)
        else:
            raw.head()
        server.node.eval("[exit(Pid, kill) || Pid <- ranch:procs(hornbeam, connections)]")
    eventually(lambda: journal(server, key)[-1] == "http.disconnect")


def test_a_disconnect_follows_the_end_of_the_response(raw, server, key):
    raw.request("GET", f"/after_the_end?{key}")
    assert raw.response().body == b"done"
    assert journal(server, key) == ["http.disconnect"]


def test_a_response_that_can_have_no_body_is_over_with_its_head(raw, server, key):
    raw.request("GET", f"/bodiless_parts?{key}")
    assert raw.response().status == 204
    assert journal(server, key, 2) == ["http.request", "http.disconnect"]
    raw.request("GET", "/hello")
    assert raw.response().body == b"hello"


@pytest.mark.parametrize("parts", [0, 5])
@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_body_that_such_a_response_is_given_is_dropped(raw, server, status, parts):
    raw.request("GET", f"/bodiless_with_body?{status}&{parts}")
    head = raw.head()
    assert head.status == status
    if status == 204:
        assert not head.all("content-length") + head.all("transfer-encoding")
    if status == 205:
        assert head.all("content-length") == ["0"]
    raw.request("GET", "/hello")
    assert raw.response().body == b"hello"
    eventually(lambda: server.info()["streams"] == 0)
    assert "failed" not in server.node.log.partition("bodiless_with_body")[2]


def test_send_raises_oserror_when_the_client_is_gone(server, key):
    with RawHTTP(server) as raw:
        raw.request("GET", f"/floods?{key}")
        raw.head()
        raw.take(MIB)
    assert journal(server, key, 3)[1:] == ["OSError", "http.disconnect"]


# Failures


@pytest.mark.parametrize("handler", ["raises", "returns", "no_such_handler"])
def test_an_app_that_ends_before_its_response_is_a_500_without_its_secrets(raw, handler):
    raw.request("GET", f"/{handler}")
    response = raw.response()
    assert response.status == 500
    assert no_traceback(response.body)
    raw.request("GET", "/hello")
    assert raw.response().body == b"hello"


@pytest.mark.parametrize("handler", ["breaks_chunked", "breaks_sized", "forgets_the_end"])
def test_a_body_cut_short_is_a_broken_response(raw, server, key, handler):
    raw.request("GET", f"/{handler}?{key}")
    release(server, key)
    response = raw.response()
    assert response.status == 200
    assert not response.whole
    assert b"the beginning".startswith(response.body)
    assert raw.ended()


def test_a_worker_that_dies_midway_breaks_the_response(serve):
    server = serve("exchanges:application", fresh=True)
    with RawHTTP(server) as raw:
        raw.request("POST", "/dies_midway", "content-length: 4")
        response = raw.head()
        raw.send(b"body")
        raw.chunks(response)
    assert response.status == 200
    assert response.body == b"the beginning"
    assert not response.whole


def test_a_worker_that_dies_before_the_response_is_a_502(serve, key):
    server = serve("failures:application", fresh=True)
    with RawHTTP(server) as raw:
        raw.request("GET", f"/exits?{key}")
        assert raw.response().status in (502, 503)


@pytest.mark.parametrize("reason", ["kill", "shutdown"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_request_hears_of_its_worker_however_that_ends(serve, key, reason, begun):
    server = serve("exchanges:application", fresh=True)
    with RawHTTP(server) as raw:
        raw.request("GET", f"/parts?{key}" if begun else f"/waits?{key}")
        response = raw.head() if begun else None
        if not begun:
            journal(server, key)
        server.node.eval(f"[exit(Pid, {reason}) || Pid <- maps:keys(hornbeam_pool:names())]")
        if response is None:
            assert raw.response().status == 502
        else:
            raw.chunks(response)
            assert not response.whole
            assert raw.ended()


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        ("content-length: 6", (b"wh", b"ole ")),
        ("transfer-encoding: chunked", (b"2\r\nwh\r\n", b"4\r\nole \r\n0\r\n\r\n")),
    ],
)
def test_a_request_that_waits_for_a_place_has_its_body_too(serve, key, field, parts):
    server = serve("exchanges:application", fresh=True, worker_connections=1)
    with RawHTTP(server) as first, RawHTTP(server) as second:
        first.request("GET", f"/waits?{key}")
        eventually(lambda: server.workers()[0]["streams"] == 1)
        second.request("POST", "/echo", field, body=parts[0])
        assert quiet(second.socket)
        first.socket.close()
        second.send(parts[1])
        assert second.response().body == b"whole "


def test_an_app_that_does_not_answer_is_a_504_at_the_timeout(serve, key):
    server = serve("exchanges:application", timeout=300)
    with RawHTTP(server) as raw:
        raw.request("GET", f"/slow?{key}")
        assert raw.response().status == 504
        assert journal(server, key) == ["http.disconnect"]


def test_the_timeout_is_for_the_first_byte_only(serve, key):
    server = serve("exchanges:application", timeout=300)
    with RawHTTP(server) as raw:
        raw.request("GET", f"/slow_later?{key}")
        response = raw.head()
        assert raw.take(len(b"5\r\nfirst\r\n")) == b"5\r\nfirst\r\n"
        assert quiet(raw.socket, 1.0)
        release(server, key)
        raw.chunks(response)
        assert response.whole and response.body == b" second"


def test_a_response_that_has_begun_is_finished_at_the_stop(serve):
    server = serve("exchanges:application", fresh=True)
    with RawHTTP(server) as raw:
        raw.request("GET", "/pauses")
        response = raw.head()
        server.stop()
        raw.chunks(response)
        assert response.whole and response.body == b"before and after"
        assert raw.ended()


# Where it listens


def test_a_unix_socket_is_served(serve, way, tmp_path):
    path = tmp_path / "web.sock"
    serve("exchanges:application", fresh=True, bind=f"unix:{path}")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        scope = ast.literal_eval(client.get(f"{SCHEMES[way]}://localhost/scope_of").text)
    assert scope["server"] == (str(path), None)
    assert scope["client"] is None


def test_a_unix_socket_is_gone_after_the_stop_and_can_be_bound_again(serve, tmp_path):
    path = tmp_path / "web.sock"
    for _ in range(2):
        server = serve("exchanges:application", fresh=True, bind=f"unix:{path}")
        assert path.is_socket()
        server.stop()
        assert not path.exists()


def test_ipv6_is_served(serve):
    server = serve("exchanges:application", bind="[::1]:0")
    scope = scope_of(server)
    assert scope["server"] == ("::1", server.port)
    assert scope["client"][0] == "::1"


# The lifespan


def test_lifespan_starts_before_the_first_request_and_ends_at_the_stop(serve, tmp_path):
    trace = tmp_path / "trace"
    server = serve("lifespans:traced", fresh=True, env={"TRACE": str(trace)})
    assert trace.read_text().split() == ["startup"]
    httpx.get(server.http)
    server.stop()
    assert trace.read_text().split() == ["startup", "http", "shutdown"]


def test_each_worker_has_its_own_lifespan(serve, tmp_path):
    trace = tmp_path / "trace"
    server = serve("lifespans:traced", fresh=True, workers=2, env={"TRACE": str(trace)})
    server.stop()
    assert sorted(trace.read_text().split()) == ["shutdown", "shutdown", "startup", "startup"]


def test_every_scope_has_a_copy_of_the_lifespans_state(serve):
    server = serve("lifespans:stateful")
    answers = [httpx.get(server.http).json() for _ in range(2)]
    assert answers == [{"shared": [1], "own": None}, {"shared": [1, 1], "own": None}]


@pytest.mark.parametrize("lifespan", ["auto", "off"])
def test_an_app_without_lifespan_is_served(serve, lifespan):
    server = serve("lifespans:without", lifespan=Atom(lifespan))
    assert httpx.get(server.http).text == "no state"


def test_an_app_that_ignores_the_lifespan_is_served(serve):
    assert httpx.get(serve("lifespans:ignores").http).text == "no state"


def test_lifespan_off_never_calls_the_app_with_it(serve, tmp_path):
    trace = tmp_path / "trace"
    server = serve("lifespans:traced", fresh=True, lifespan=Atom("off"), env={"TRACE": str(trace)})
    httpx.get(server.http)
    server.stop()
    assert trace.read_text().split() == ["http"]


def test_lifespan_on_refuses_an_app_without_it(shared):
    refusal = shared.refused("lifespans:without", lifespan=Atom("on"))
    kind, error = refusal.reason
    assert kind == "python" and error["stage"] == "lifespan"


def test_an_app_that_hangs_in_its_shutdown_does_not_hold_up_the_stop(serve):
    server = serve("lifespans:hangs_at_the_end", fresh=True, shutdown_timeout=500)
    pids = server.worker_pids()
    server.stop()
    eventually(lambda: not set(pids) & set(server.node.python_pids()))
