"""ASGI's extension `tls`: certificates, version and cipher of the connection, for every engine."""

from __future__ import annotations

import ast
import json
import ssl

import httpx
import pytest
from harness import DEADLINE, Server
from terms import Atom
from websockets.sync.client import connect

APP = "exchanges:application"

CIPHERS = {"TLSv1.2": 0xC02B, "TLSv1.3": 0x1301}
"""ECDHE-ECDSA-AES128-GCM-SHA256 and TLS_AES_128_GCM_SHA256 (RFC 8446, B.4; RFC 5289, 3.2)."""

NAMES = ["ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"]


@pytest.fixture
def mutual(tls, authority) -> dict:
    return tls | {"cacertfile": authority.cafile, "verify": Atom("optional"), "ciphers": NAMES}


def scopes(server: Server, context: ssl.SSLContext, http2: bool = False) -> list[dict]:
    """Return the scopes of two requests on one connection."""
    with httpx.Client(http2=http2, verify=context, timeout=DEADLINE) as client:
        answers = [client.get(f"{server.http}/scope_of") for _ in range(2)]
    assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}
    return [ast.literal_eval(answer.text) for answer in answers]


def shown(pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem)


def leaf(identity) -> bytes:
    text = identity.certfile.read_text()
    end = "-----END CERTIFICATE-----"
    return shown(text[: text.index(end) + len(end)])


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy", "http2"])
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_request_says_what_its_connection_is(serve, mutual, authority, identity, engine, version):
    options = {} if engine == "http2" else {"http_engine": Atom(engine)}
    server = serve(APP, **mutual, **options)
    someone = authority.client("someone")
    for client in (None, someone):
        context = authority.trusting(client)
        chosen = ssl.TLSVersion[version.replace(".", "_")]
        context.minimum_version = context.maximum_version = chosen
        for scope in scopes(server, context, engine == "http2"):
            extension = scope["extensions"]["tls"]
            assert shown(extension["server_cert"]) == leaf(identity)
            chain = [shown(pem) for pem in extension["client_cert_chain"]]
            assert chain == ([leaf(client)] if client else [])
            assert extension["client_cert_error"] is None
            assert extension["tls_version"] == {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}[version]
            assert extension["cipher_suite"] == CIPHERS[version]
            name = extension["client_cert_name"]
            assert name.startswith("OU=Testing cert #") if client else name is None


@pytest.mark.parametrize("engine", ["hornbeam", "cowboy"])
def test_a_websocket_has_it(serve, mutual, authority, engine):
    someone = authority.client("someone")
    server = serve("sockets:application", http_engine=Atom(engine), **mutual)
    with connect(f"{server.ws}/scope_of", ssl=authority.trusting(someone)) as opened:
        extension = ast.literal_eval(opened.recv())["extensions"]["tls"]
    assert [shown(pem) for pem in extension["client_cert_chain"]] == [leaf(someone)]


def test_a_connection_without_tls_has_none(serve):
    (scope, _) = scopes(serve(APP), ssl.create_default_context())
    assert "tls" not in scope["extensions"]


def test_a_wsgi_app_has_it_by_the_names_of_mod_ssl(serve, mutual, authority):
    server = serve("identified:secured", fresh=True, worker_class=Atom("wsgi"), **mutual)
    someone = authority.client("someone")
    forged = {"ssl-client-verify": "SUCCESS", "SSL_CLIENT_VERIFY": "SUCCESS"}
    with httpx.Client(verify=authority.trusting(), headers=forged) as client:
        assert client.get(server.http).json() == {
            "SSL_PROTOCOL": "TLSv1.3", "SSL_CLIENT_VERIFY": "NONE",
        }  # fmt: skip
    with httpx.Client(verify=authority.trusting(someone)) as client:
        told = client.get(server.http).json()
    assert (told["SSL_CLIENT_VERIFY"], shown(told["SSL_CLIENT_CERT"])) == ("SUCCESS", leaf(someone))
    assert "OU=Testing cert #" in told["SSL_CLIENT_S_DN"]
    assert json.dumps(told)
