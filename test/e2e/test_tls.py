"""TLS: certificates, those of clients, versions, ciphers, and a new certificate while it runs.

That the server does over TLS what it does without stands in test_http and test_websocket.
"""

from __future__ import annotations

import contextlib
import json
import select
import shutil
import signal
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import trustme
from clients import CLOSE, TEXT, RawHTTP, RawWebSocket, handshake_headers, release
from harness import DEADLINE, eventually
from http1 import GONE, Wire, request, says
from identities import encrypted
from terms import Atom

APP = "exchanges:application"


@pytest.fixture
def refused(shared):
    """Start what must be refused; return the error."""

    def refuse(**options):
        error = shared.refused(APP, **options)
        assert shared.node.eval("hornbeam:info()") == {}
        assert not shared.node.python_pids()
        return error

    return refuse


def handshake(server, context: ssl.SSLContext) -> ssl.SSLSocket:
    tcp = socket.create_connection((server.host, server.port), 10)
    return context.wrap_socket(tcp, server_hostname=server.host)


def shown(server) -> str:
    """Name the certificate that the server shows to a new connection."""
    with server.connect() as connection:
        return name_of(connection)


def name_of(connection: ssl.SSLSocket) -> str:
    (names,) = (rdn for rdn in connection.getpeercert()["subject"] if rdn[0][0] == "commonName")
    return names[0][1]


def says_hello(server, context: ssl.SSLContext) -> bool:
    """Ask over a new connection; say whether the server lets the client in."""
    try:
        with httpx.Client(verify=context) as client:
            return client.get(f"{server.http}/hello").text == "hello"
    except httpx.TransportError:
        return False


# Options


def test_a_file_that_is_not_there_is_refused_by_its_option(refused, identity):
    for key in ("certfile", "keyfile", "cacertfile"):
        given = {"certfile": identity.certfile, key: "/no/such/file"}
        assert refused(**given).reason[:2] == ("bad_option", key)


def test_options_of_tls_need_a_certificate(refused, identity):
    for key, value in (
        ("keyfile", identity.keyfile),
        ("cacertfile", identity.certfile),
        ("keyfile_password", "secret"),
        ("verify", Atom("required")),
    ):
        assert refused(**{key: value}).reason == ("bad_option", "certfile", "undefined")


def test_clients_are_verified_by_an_authority_and_only_then_is_one_needed(refused, authority, tls):
    error = refused(**tls, verify=Atom("required"))
    assert error.reason == ("bad_option", "cacertfile", "undefined")
    assert refused(**tls, cacertfile=authority.cafile).reason[:2] == ("bad_option", "cacertfile")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("verify", Atom("maybe")),
        ("verify", True),
        ("tls_versions", []),
        ("tls_versions", [Atom("tlsv1.1")]),
        ("tls_versions", [Atom("tlsv1.2"), Atom("tlsv1.2")]),
        ("tls_versions", Atom("tlsv1.2")),
        ("ciphers", ["ECDHE-ECDSA-AES128-GCM-SHA256", "NO-SUCH-CIPHER"]),
        ("ciphers", 7),
        ("keyfile_password", 7),
    ],
)
def test_a_bad_option_of_tls_is_refused(refused, tls, key, value):
    assert refused(**tls, **{key: value}).reason[:2] == ("bad_option", key)


def test_files_that_hold_nothing_of_use_are_refused_with_a_sentence(refused, identity, tmp_path):
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("no PEM at all")
    torn = tmp_path / "torn.pem"
    torn.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    for options, words in (
        ({"certfile": nothing}, "no certificate"),
        ({"certfile": torn}, "cannot be read"),
        ({"certfile": identity.certfile}, "no private key"),
        ({"certfile": identity.certfile, "keyfile": nothing}, "no private key"),
        (
            {
                "certfile": identity.certfile,
                "keyfile": identity.keyfile,
                "cacertfile": nothing,
                "verify": Atom("optional"),
            },
            "no certificate",
        ),
    ):
        error = refused(**options)
        assert error.reason[0] == "listen" and error.reason[1][0] == "tls"
        assert words in error.sentence


def test_a_key_of_another_certificate_is_refused(refused, authority, identity):
    for other in (authority.server("other"), authority.server("rsa", trustme.KeyType.RSA)):
        error = refused(certfile=identity.certfile, keyfile=other.keyfile)
        assert error.reason[0] == "listen"
        assert "is not that of the certificate" in error.sentence


def test_an_encrypted_key_needs_its_password(refused, serve, identity):
    files = {"certfile": identity.certfile, "keyfile": encrypted(identity, "pass ☃")}
    assert "keyfile_password is needed" in refused(**files).sentence
    assert "keyfile_password is wrong" in refused(**files, keyfile_password="no").sentence
    server = serve(APP, **files, keyfile_password="pass ☃")
    assert httpx.get(f"{server.http}/hello").text == "hello"


def test_no_state_that_may_be_logged_shows_key_or_password(serve, identity):
    key = encrypted(identity, "open sesame")
    server = serve(APP, certfile=identity.certfile, keyfile=key, keyfile_password="open sesame")
    printed = server.node.eval(
        'unicode:characters_to_binary(io_lib:format(<<"~p">>,'
        " [[sys:get_state(hornbeam_listener), supervisor:get_childspec(hornbeam_server_sup,"
        " hornbeam_listener), supervisor:which_children(ranch_sup), ets:tab2list(ranch_server)]]))"
    )
    assert "hornbeam_transport" in printed
    assert "sesame" not in printed and "PrivateKey" not in printed


@pytest.mark.parametrize("key_type", trustme.KeyType)
def test_certificate_and_key_may_stand_in_one_file(serve, authority, tmp_path, key_type):
    issued = authority.server(f"one-{key_type.name}", key_type)
    both = tmp_path / "both.pem"
    both.write_bytes(issued.keyfile.read_bytes() + issued.certfile.read_bytes())
    server = serve(APP, fresh=True, certfile=both)
    assert shown(server) == f"one-{key_type.name}"


# Handshakes


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_the_protocol_is_chosen_in_the_handshake(serve, tls, protocol):
    with serve(APP, **tls).connect(alpn=protocol) as connection:
        assert connection.selected_alpn_protocol() == protocol


def test_a_client_that_offers_http2_and_http1_gets_http2(serve, tls):
    with httpx.Client(http2=True) as client:
        answer = client.get(f"{serve(APP, **tls).http}/scope_of")
    assert answer.http_version == "HTTP/2"
    assert "'http_version': '2'" in answer.text and "'scheme': 'https'" in answer.text


@pytest.mark.parametrize(
    ("versions", "taken", "refused"),
    [
        (["tlsv1.2", "tlsv1.3"], ["TLSv1_2", "TLSv1_3"], ["TLSv1_1"]),
        (["tlsv1.3"], ["TLSv1_3"], ["TLSv1_2"]),
        (["tlsv1.2"], ["TLSv1_2"], ["TLSv1_3"]),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_only_the_versions_that_were_named_are_spoken(
    serve, authority, tls, versions, taken, refused
):
    server = serve(APP, **tls, tls_versions=[Atom(version) for version in versions])
    for name in [*taken, *refused]:
        context = authority.trusting()
        context.minimum_version = context.maximum_version = ssl.TLSVersion[name]
        assert says_hello(server, context) == (name in taken), name


def test_ciphers_are_those_that_were_named(serve, authority, tls):
    name = "ECDHE-ECDSA-CHACHA20-POLY1305"
    server = serve(APP, **tls, ciphers=[name])
    old = authority.trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with handshake(server, old) as connection:
        assert connection.cipher()[0] == name
    # Of the other version none was named: it has what Erlang gives it.
    with handshake(server, authority.trusting()) as connection:
        assert connection.version() == "TLSv1.3"


def test_a_client_that_speaks_no_tls_is_turned_away_and_counted(serve, tls):
    server = serve(APP, fresh=True, **tls)
    before = server.info()["counters"]["tls_refused"]
    with socket.create_connection((server.host, server.port), 10) as plain:
        plain.sendall(b"GET /hello HTTP/1.1\r\nhost: test\r\n\r\n")
        while plain.recv(65536):
            pass
    eventually(lambda: server.info()["counters"]["tls_refused"] == before + 1)
    assert httpx.get(f"{server.http}/hello").text == "hello"


# Clients' certificates


@pytest.mark.parametrize(
    ("verify", "without", "with_another"),
    [("none", True, True), ("optional", True, False), ("required", False, False)],
)
def test_clients_are_verified_as_the_option_says(
    serve, authority, identity, tls, tmp_path, verify, without, with_another
):
    # A client that is not asked for a certificate does not send one.
    trusted = {} if verify == "none" else {"cacertfile": authority.cafile}
    server = serve(APP, **tls, **trusted, verify=Atom(verify))
    stranger = type(authority)(tmp_path).client("stranger")
    assert says_hello(server, authority.trusting(authority.client("friend")))
    assert says_hello(server, authority.trusting()) == without
    assert says_hello(server, authority.trusting(stranger)) == with_another


# Another certificate


@pytest.fixture
def renewed(authority, tmp_path):
    """Give the files of a server, and a way to put another certificate into them."""
    files = {"certfile": tmp_path / "live.pem", "keyfile": tmp_path / "live.key"}

    def renew(name):
        issued = authority.server(name)
        shutil.copy(issued.certfile, files["certfile"])
        shutil.copy(issued.keyfile, files["keyfile"])
        return files

    return renew


def reload(server):
    return server.node.eval("hornbeam:reload_certificate()")


def test_a_reload_shows_the_new_certificate_and_leaves_open_sockets_alone(serve, renewed):
    server = serve("sockets:application", fresh=True, **renewed("old"))
    with RawWebSocket(server, "/echo") as ws:
        assert name_of(ws.socket) == "old"
        renewed("new")
        assert shown(server) == "old"
        assert reload(server) == "ok"
        assert shown(server) == "new"
        ws.frame(TEXT, b"still here")
        assert ws.read_message() == b"still here"


def test_a_sighup_reloads_the_certificate_too(serve, renewed):
    server = serve("sockets:application", fresh=True, **renewed("old"))
    renewed("new")
    server.node.process.send_signal(signal.SIGHUP)
    eventually(lambda: shown(server) == "new")


def test_a_reload_of_a_broken_file_is_an_error_and_changes_nothing(serve, authority, renewed):
    files = renewed("whole")
    server = serve(APP, fresh=True, **files)
    files["certfile"].write_bytes(b"torn")
    kind, (tls, sentence) = reload(server)
    assert (kind, tls) == ("error", "tls") and "no certificate" in sentence
    shutil.copy(authority.server("others").certfile, files["certfile"])
    assert "is not that of the certificate" in reload(server)[1][1]
    files["certfile"].unlink()
    assert "no such file" in reload(server)[1][1]
    assert shown(server) == "whole"


def test_a_reload_without_tls_says_so(serve, shared):
    assert reload(serve(APP)) == ("error", "no_tls")
    node = shared.node
    shared.stop()
    assert node.eval("hornbeam:reload_certificate()") == ("error", "not_serving")


def test_a_kept_connection_goes_on_after_a_reload(serve, renewed):
    server = serve(APP, fresh=True, **renewed("before"))
    with RawHTTP(server) as raw:
        raw.request("GET", "/hello")
        assert raw.response().body == b"hello"
        renewed("after")
        assert reload(server) == "ok"
        raw.request("GET", "/hello")
        assert raw.response().body == b"hello"


# The end

VERSIONS = ["tlsv1.2", "tlsv1.3"]


@pytest.fixture(params=VERSIONS)
def sockets(request, serve, tls):
    """Serve WebSockets by one version of TLS."""
    return serve("sockets:application", **tls, tls_versions=[Atom(request.param)])


@pytest.fixture(params=VERSIONS)
def mirrors(request, serve, tls):
    """Serve what a request asks for by one version of TLS."""
    return serve("mirrors:application", **tls, tls_versions=[Atom(request.param)])


def ends_cleanly(ws: RawWebSocket) -> bool:
    """Wait for the end; say whether TLS has told it and nothing came before it."""
    ws.socket.suppress_ragged_eofs = False
    return ws.buffer == b"" and ws.socket.recv(65536) == b""


def closed_by_the_app(server, key: str) -> RawWebSocket:
    ws = RawWebSocket(server, f"/closes?{key}")
    ws.frame(TEXT, json.dumps({"code": 4001, "reason": "done"}).encode())
    return ws


def was_reset(connection: socket.socket) -> bool:
    """Wait for the end of TCP; say whether it is a reset, which Python's TLS does not."""
    ends = select.poll()
    ends.register(connection, select.POLLRDHUP)
    ((_, end),) = ends.poll(DEADLINE * 1000)
    return bool(end & select.POLLERR)


def tls_connections(server) -> int:
    """Count the connections for which ssl keeps processes."""
    return server.node.eval(
        "proplists:get_value(active, supervisor:count_children(tls_connection_sup))"
    )


@pytest.mark.parametrize("answers", [True, False])
def test_a_websocket_that_the_app_closes_has_a_clean_end(sockets, key, answers):
    with closed_by_the_app(sockets, key) as ws:
        assert ws.read_close() == (4001, "done")
        if answers:
            ws.frame(CLOSE, b"\x0f\xa1")
        assert ends_cleanly(ws)


def test_a_websocket_that_the_client_closes_has_a_clean_end(sockets):
    with RawWebSocket(sockets, "/echo") as ws:
        ws.frame(CLOSE, b"\x03\xe8")
        assert ws.read_close()[0] == 1000
        assert ends_cleanly(ws)


def test_a_client_that_ends_tls_is_answered_in_tls(sockets):
    with RawWebSocket(sockets, "/echo") as ws:
        ws.frame(CLOSE, b"\x03\xe8")
        assert ws.read_close()[0] == 1000
        ws.socket.unwrap()  # raises where the server's closure alert is missing


def test_websockets_that_the_server_sends_away_have_a_clean_end(sockets):
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        opened = [stack.enter_context(RawWebSocket(sockets, "/echo")) for _ in range(3)]
        stopped = pool.submit(sockets.stop)
        for ws in opened:
            assert ws.read_close()[0] == 1001
        opened[0].frame(CLOSE, b"\x03\xe9")
        assert [ends_cleanly(ws) for ws in opened] == [True] * 3
        stopped.result()


@pytest.mark.parametrize("target", ["/refused", "/denied", "/fails_before_accept"])
def test_a_refused_handshake_has_a_clean_end(sockets, key, target):
    with Wire(sockets) as wire:
        response = wire.ask(request(f"{target}?{key}", *handshake_headers()))
        assert response.status in (401, 403, 500)
        wire.end()


def test_the_end_reaches_a_client_that_is_still_sending(sockets, key):
    with closed_by_the_app(sockets, key) as ws:
        for _ in range(60):
            ws.frame(TEXT, bytes(16384))
        assert ws.read_close() == (4001, "done")
        assert ends_cleanly(ws)


def test_a_last_response_is_whole_however_slowly_it_is_read(serve, tls):
    size = 8_000_000
    with Wire(serve("mirrors:application", **tls)) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        fields = [("connection", "close"), ("content-length", str(size))]
        wire.send(request(says(200, fields, [size])))
        end = time.monotonic() + 3  # longer than the server waits for one who takes nothing
        while time.monotonic() < end:
            time.sleep(0.1)
            wire.more()
        assert len(wire.read().body) == size
        wire.end()


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
def test_a_response_until_the_end_that_breaks_off_is_reset_without_an_alert(
    serve, tls, key, engine
):
    server = serve("mirrors:application", **tls, http_engine=Atom(engine))
    with Wire(server) as wire:
        wire.send(request(f"/breaks?{key}", version="HTTP/1.0"))
        release(server, key)
        assert was_reset(wire.socket)
        with pytest.raises(GONE):
            wire.read(version="1.0")


def test_a_client_that_never_closes_keeps_nothing_of_the_server(mirrors):
    with Wire(mirrors) as wire:
        assert wire.ask(request("/a", "connection: close")).closes()
        wire.end()
        assert tls_connections(mirrors) == 1
        eventually(lambda: tls_connections(mirrors) == 0)


def test_a_client_that_sends_for_ever_is_cut_off(serve, tls):
    begun = time.monotonic()
    with Wire(serve("mirrors:application", **tls)) as wire:
        assert wire.ask(request("/a", "connection: close")).closes()
        with pytest.raises(GONE):
            while time.monotonic() < begun + 20:
                wire.socket.sendall(b"more")
                time.sleep(0.1)
    assert 4 < time.monotonic() - begun < 8
