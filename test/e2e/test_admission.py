"""Who may connect: origins, hosts, proxies, and the node's own word, against a real node."""

from __future__ import annotations

import ast

import pytest
from clients import TEXT, RawHTTP, RawWebSocket, handshake_headers
from harness import eventually
from terms import Atom, Expression

SOCKETS = "sockets:application"
EXCHANGES = "exchanges:application"


def handshake(server, *headers, host="test", target="/echo"):
    """Ask for a WebSocket and return the answer."""
    with RawHTTP(server) as raw:
        lines = [f"GET {target} HTTP/1.1", f"host: {host}", *handshake_headers(), *headers, "", ""]
        raw.send("\r\n".join(lines).encode("latin-1"))
        return answer(raw)


def answer(raw):
    response = raw.head()
    if response.status != 101:
        response.body = raw.take(int(response.all("content-length")[0]))
    return response


def get(server, *headers, host="test", target="/scope_of"):
    with RawHTTP(server) as raw:
        lines = [f"GET {target} HTTP/1.1", f"host: {host}", *headers, "", ""]
        raw.send("\r\n".join(lines).encode("latin-1"))
        return answer(raw)


def http_scope(server, *headers, **options):
    return ast.literal_eval(get(server, *headers, **options).body.decode())


def websocket_scope(server, *headers):
    with RawWebSocket(server, "/scope_of", *headers) as ws:
        return ast.literal_eval(ws.read_message().decode())


def counter(server, name):
    return server.info()["counters"][name]


# Origins


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("test", "http://test"),
        ("test", "https://test"),
        ("TEST", "http://Test:80"),
        ("test:80", "http://test"),
        ("test:8443", "https://test:8443"),
    ],
)
def test_a_page_of_the_same_host_may_open_a_websocket(serve, host, origin):
    assert handshake(serve(SOCKETS), f"origin: {origin}", host=host).status == 101


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://test:8080", "null", "http://test.evil", "", "\xff"]
)
def test_a_page_of_another_host_is_refused_and_counted(serve, origin):
    server = serve(SOCKETS)
    before = counter(server, "origin_refused")
    refused = handshake(server, f"origin: {origin}")
    assert refused.status == 403
    assert b"origin" in refused.body
    assert counter(server, "origin_refused") == before + 1


def test_two_origins_are_none(serve):
    assert handshake(serve(SOCKETS), "origin: http://test", "origin: http://evil").status == 403


def test_a_client_that_is_no_browser_sends_no_origin_and_may_connect(serve):
    assert handshake(serve(SOCKETS)).status == 101


def test_http_requests_are_not_asked_for_their_origin(serve):
    assert get(serve(EXCHANGES), "origin: http://evil.example", target="/hello").status == 200


def test_any_origin_may_connect_where_it_is_said(serve):
    server = serve(SOCKETS, allowed_origins=Atom("any"))
    assert handshake(server, "origin: http://evil.example").status == 101
    assert handshake(server, "origin: null").status == 101


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://app.example", 101),
        ("https://a.pages.example", 101),
        ("https://pages.example", 403),
        ("http://app.example", 403),
        ("http://test", 403),
    ],
)
def test_listed_origins_may_connect(serve, origin, status):
    server = serve(SOCKETS, allowed_origins=["https://app.example", "https://*.pages.example"])
    assert handshake(server, f"origin: {origin}").status == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("chrome-extension://id", 101),
        ("chrome-extension://other", 403),
        ("file://", 101),
        ("null", 101),
        ("app://test", 403),
    ],
)
def test_pages_that_are_not_of_the_web_may_be_listed(serve, origin, status):
    server = serve(SOCKETS, allowed_origins=["chrome-extension://id", "file://", "null"])
    assert handshake(server, f"origin: {origin}").status == status


def test_the_same_host_is_the_one_that_a_trusted_proxy_names(serve):
    server = serve(SOCKETS)
    told = ("origin: https://site.example", "x-forwarded-host: site.example")
    assert handshake(server, *told, host="inner:8000").status == 101
    untrusting = serve(SOCKETS, forwarded_allow_ips=[])
    assert handshake(untrusting, *told, host="inner:8000").status == 403


# Hosts


@pytest.mark.parametrize("serving", [SOCKETS, EXCHANGES])
@pytest.mark.parametrize(
    ("host", "let_in"),
    [("site.example", True), ("Site.Example:8000", True), ("a.b.example", True), ("evil", False)],
)
def test_only_listed_hosts_are_served(serve, serving, host, let_in):
    server = serve(serving, allowed_hosts=["site.example", "*.b.example"])
    before = counter(server, "host_refused")
    if serving == SOCKETS:
        assert handshake(server, host=host).status == (101 if let_in else 400)
    else:
        assert get(server, host=host, target="/hello").status == (200 if let_in else 400)
    assert counter(server, "host_refused") == before + (not let_in)


@pytest.mark.parametrize("hosts", ["", "host: a\r\nhost: b\r\n", "host: a, b\r\n"])
def test_a_missing_or_second_host_is_a_400(serve, hosts):
    with RawHTTP(serve(EXCHANGES)) as raw:
        raw.send(f"GET /hello HTTP/1.1\r\n{hosts}\r\n".encode())
        assert raw.head().status == 400


def test_http_1_0_may_lack_a_host_unless_hosts_are_listed(serve):
    for options, status in (({}, 200), ({"allowed_hosts": ["test"]}, 400)):
        with RawHTTP(serve(EXCHANGES, **options)) as raw:
            raw.send(b"GET /hello HTTP/1.0\r\n\r\n")
            assert raw.head().status == status


# Proxies


def test_a_trusted_proxy_tells_client_scheme_and_host(serve):
    told = (
        "x-forwarded-for: 198.51.100.1, 203.0.113.9",
        "x-forwarded-proto: https",
        "x-forwarded-host: site.example",
    )
    scope = http_scope(serve(EXCHANGES), *told)
    assert (scope["client"], scope["scheme"]) == (("203.0.113.9", 0), "https")
    assert (b"host", b"site.example") in scope["headers"]
    assert websocket_scope(serve(SOCKETS), *told)["scheme"] == "wss"


def test_the_standard_header_tells_the_same(serve):
    told = 'forwarded: for=198.51.100.1, for="[2001:db8::9]:4711";proto=https;host=site.example'
    scope = http_scope(serve(EXCHANGES), told)
    assert (scope["client"], scope["scheme"]) == (("2001:db8::9", 4711), "https")
    assert (b"host", b"site.example") in scope["headers"]


def test_the_second_request_of_a_connection_is_read_by_the_same_rules(serve):
    with RawHTTP(serve(EXCHANGES)) as raw:
        for client in ("203.0.113.9", "203.0.113.8"):
            raw.request("GET", "/scope_of", f"x-forwarded-for: {client}")
            assert ast.literal_eval(raw.response().body.decode())["client"] == (client, 0)


@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8"], ["unix"], ["::1"]])
def test_an_untrusted_peer_changes_nothing_and_is_counted(serve, trusted):
    server = serve(EXCHANGES, forwarded_allow_ips=trusted)
    before = counter(server, "forwarded_ignored")
    scope = http_scope(
        server,
        "x-forwarded-for: 203.0.113.9",
        "x-forwarded-proto: https",
        "x-forwarded-host: site.example",
        "forwarded: for=203.0.113.9;proto=https;host=site.example",
    )
    assert (scope["client"][0], scope["scheme"]) == ("127.0.0.1", "http")
    assert (b"host", b"test") in scope["headers"]
    assert counter(server, "forwarded_ignored") == before + 1


@pytest.mark.parametrize("trusted", [["127.0.0.0/8"], ["127.0.0.1"], Atom("any")])
def test_addresses_ranges_and_any_are_trusted(serve, trusted):
    scope = http_scope(
        serve(EXCHANGES, forwarded_allow_ips=trusted), "x-forwarded-for: 203.0.113.9"
    )
    assert scope["client"] == ("203.0.113.9", 0)


@pytest.mark.parametrize("serving", [SOCKETS, EXCHANGES])
@pytest.mark.parametrize(
    "told",
    [
        ["x-forwarded-for: evil"],
        ["x-forwarded-for: \xff\xfe", "x-forwarded-host: \xff"],
        ['forwarded: for="203.0.113.9'],
        ["forwarded: ;;;=,"],
        ["x-forwarded-for: 999.0.0.1"],
        ['x-forwarded-for: "', "forwarded: for=203.0.113.9;proto=https;host=evil"],
        ["x-forwarded-for: 203.0.113.9", "x-forwarded-for: evil"],
        ["x-forwarded-for: evil, 127.0.0.1"],
    ],
)
def test_a_client_that_nobody_can_read_from_a_trusted_proxy_is_a_400(serve, serving, told):
    server = serve(serving)
    before = counter(server, "forwarded_refused")
    refused = handshake(server, *told) if serving == SOCKETS else get(server, *told)
    assert (refused.status, b"proxies" in refused.body) == (400, True)
    assert counter(server, "forwarded_refused") == before + 1


@pytest.mark.parametrize(
    "told",
    [
        ["x-forwarded-for: 203.0.113.9, _x", "x-forwarded-proto: javascript"],
        ["x-forwarded-for: unknown", 'x-forwarded-proto: "'],
        ["x-forwarded-for: ,,,", "x-forwarded-host: a b"],
        ['forwarded: for=unknown;host="a b"'],
    ],
)
def test_what_a_trusted_proxy_does_not_say_is_as_it_came(serve, told):
    scope = http_scope(serve(EXCHANGES), *told)
    assert (scope["client"][0], scope["scheme"]) == ("127.0.0.1", "http")
    assert (b"host", b"test") in scope["headers"]


# The node's own word


def asking(clauses, **options):
    return {"on_connect": Expression(f"fun {clauses} end"), **options}


def test_on_connect_is_told_of_the_client(serve, shared):
    shared.stop()
    shared.node.eval(
        "ets:new(asked, [named_table, public]), ets:give_away(asked, whereis(init), x)"
    )
    server = serve(
        SOCKETS,
        fresh=True,
        **asking("(R) -> ets:insert(asked, {maps:get(type, R), R}), ok"),
    )
    told = "x-forwarded-for: 203.0.113.9"
    websocket_scope(server, told)
    get(server, told, host="site:81", target="/journal/0?%20x")
    asked = dict(shared.node.eval("ets:tab2list(asked)"))
    assert set(asked) == {"websocket", "http"}
    http = asked["http"]
    assert http["headers"].pop("x-forwarded-for") == "203.0.113.9"
    assert http == {
        "type": "http",
        "method": "GET",
        "path": "/journal/0",
        "query": "%20x",
        "headers": {"host": "site:81"},
        "peer": ((203, 0, 113, 9), 0),
        "scheme": "http",
        "host": "site:81",
    }


def test_what_on_connect_adds_is_in_the_scope(serve):
    said = asking('(_) -> {ok, #{<<"user">> => 7, <<"roles">> => [<<"admin">>]}}')
    expected = {"user": 7, "roles": ["admin"]}
    assert http_scope(serve(EXCHANGES, **said))["extensions"]["hornbeam.connect"] == expected
    extensions = websocket_scope(serve(SOCKETS, **said))["extensions"]
    assert extensions["hornbeam.connect"] == expected
    assert "websocket.http.response" in extensions


def test_without_additions_there_is_no_extension(serve):
    assert (
        "hornbeam.connect" not in http_scope(serve(EXCHANGES, **asking("(_) -> ok")))["extensions"]
    )


def test_what_on_connect_refuses_never_reaches_the_app(serve, key):
    server = serve(
        SOCKETS,
        **asking(
            '(#{path := <<"/silent">>}) -> {refuse, 401, #{<<"www-authenticate">> => <<"Basic">>},'
            ' <<"who are you">>}; (#{path := <<"/echo">>}) -> {refuse, 429}; (_) -> ok'
        ),
    )
    refused = handshake(server, target=f"/silent?{key}")
    assert (refused.status, refused.body) == (401, b"who are you")
    assert refused.all("www-authenticate") == ["Basic"]
    assert handshake(server).status == 429
    assert counter(server, "connect_refused") == 2
    assert get(server, target=f"/journal/0?{key}").body == b"[]"


@pytest.mark.parametrize(
    "clauses",
    [
        "(_) -> error(a_crash)",
        "(_) -> throw(a_crash)",
        "(_) -> exit(a_crash)",
        "(_) -> a_crash",
        "(_) -> {ok, a_crash}",
        "(_) -> {ok, #{a_crash => <<1:1>>}}",
        "(_) -> {refuse, 200, a_crash}",
        "(_) -> {refuse, 999, #{}, <<97, 95, 99, 114, 97, 115, 104>>}",
        "(_) -> {refuse, 401, #{<<97>> => <<10>>}, [a_crash]}",
        "(_) -> receive a_crash -> ok end",
        "(_) -> exit(self(), kill), receive a_crash -> ok end",
    ],
)
def test_an_on_connect_that_fails_lets_nobody_in_and_is_logged(serve, shared, clauses):
    server = serve(EXCHANGES, fresh=True, **asking(clauses, on_connect_timeout=300))
    before = shared.node.log.count("on_connect_failed")
    assert get(server, target="/hello").status == 500
    assert counter(server, "connect_failed") == 1
    assert counter(server, "http_requests") == 0
    eventually(lambda: shared.node.log.count("on_connect_failed") == before + 1)


def test_on_connect_may_be_an_exported_function(serve):
    server = serve(EXCHANGES, on_connect=(Atom("maps"), Atom("size")))
    assert get(server, target="/hello").status == 500


# What the log says of it

REFUSED = {
    "allowed_origins": ["GET /echo HTTP/1.1", "host: here", *handshake_headers(),
                        "origin: https://elsewhere.example"],
    "allowed_hosts": ["GET / HTTP/1.1", "host: nowhere.example"],
    "max_body_size": ["POST / HTTP/1.1", "host: here", "content-length: 11"],
    "limit_request_line": [f"GET /{'x' * 100} HTTP/1.1", "host: here"],
    "limit_request_fields": ["GET / HTTP/1.1", "host: here", *["x: y"] * 20],
}  # fmt: skip


def test_a_refusal_names_its_option_and_does_not_repeat_it(own_node):
    server = own_node.serve(
        SOCKETS, allowed_hosts=["here", "test"], max_body_size=10, limit_request_line=100,
        limit_request_fields=15, websocket_max_frame_size=20,
    )  # fmt: skip
    for option, lines in REFUSED.items():
        for _ in range(3):
            with RawHTTP(server) as raw:
                raw.send("\r\n".join([*lines, "", ""]).encode())
                assert 400 <= raw.head().status < 500
        own_node.wait_log(rf"\[notice\] .*because: [^\n]*option: {option}\b")
    for _ in range(2):
        with RawWebSocket(server, "/echo") as ws:
            ws.frame(TEXT, b"x" * 21)
            ws.read_close()
    own_node.wait_log(r"because: a client sent a larger message: 1009")
    for option in [*REFUSED, "websocket_max_frame_size"]:
        assert own_node.log.count(f"option: {option}") == 1
    assert "add it if it is yours: --allowed-origins same_host,https://elsewhere.example" in (
        own_node.log
    )
    assert "a page of https://elsewhere.example opens a WebSocket: 403" in own_node.log
    assert "a request names the host nowhere.example: 400" in own_node.log
