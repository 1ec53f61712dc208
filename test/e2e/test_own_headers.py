"""Headers that the server adds to what apps answer, and which of them it leaves out."""

from __future__ import annotations

import json

import httpx
import pytest
from clients import RawHTTP, RawWebSocket, handshake_headers
from terms import Atom

APP = """
import json
from urllib.parse import unquote

async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        end = "accept" if scope["path"] == "/accept" else "close"
        await send({"type": f"websocket.{end}"})
        await receive()
    elif scope["path"] == "/fails":
        raise ValueError
    else:
        given = json.loads(unquote(scope["query_string"].decode()))
        headers = [[part.encode() for part in pair] for pair in given]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"own"})
"""

OWN = ["X-Frame-Options: DENY", "link: </a>, </b>", "x-empty:"]

ADDED = {"x-frame-options": "DENY", "link": "</a>, </b>", "x-empty": ""}


@pytest.fixture(params=["hornbeam", "cowboy", "http2"])
def answers(serve, request, tmp_path_factory):
    """Serve with options; return how to ask for a path there."""
    (folder := tmp_path_factory.mktemp("own")).joinpath("own.py").write_text(APP)
    engine = "cowboy" if request.param == "cowboy" else "hornbeam"

    def start(**options):
        server = serve("own:application", fresh=True, chdir=folder, lifespan=Atom("off"),
                       http_engine=Atom(engine), workers=1, **options)  # fmt: skip
        start.server = server
        is_http2 = request.param == "http2"
        client = httpx.Client(base_url=server.http, http1=not is_http2, http2=is_http2)

        def ask(path="/", *given):
            return dict(client.get(f"{path}?{json.dumps(given)}").headers)

        return ask

    return start


def test_each_answer_has_the_servers_name_and_the_date(answers):
    headers = answers()()
    assert headers["server"] == "hornbeam"
    assert headers["date"].endswith(" GMT")


def test_headers_are_added_to_each_answer(answers):
    ask = answers(headers=OWN)
    for path in ("/", "/fails"):
        headers = ask(path)
        assert {name: headers.get(name) for name in ADDED} == ADDED
        assert headers["server"] == "hornbeam"


def test_what_the_app_says_stands_in_their_place(answers):
    ask = answers(headers=[*OWN, "server: mine"])
    headers = ask("/", ("x-frame-options", "SAMEORIGIN"), ("date", "today"))
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["link"] == "</a>, </b>"
    assert (headers["date"], headers["server"]) == ("today", "mine")
    assert ask("/", ("server", "the app's"))["server"] == "the app's"


def test_name_and_date_may_be_left_out(answers):
    ask = answers(server_header=False, date_header=False)
    for path in ("/", "/fails"):
        assert not {"server", "date"} & ask(path).keys()
    headers = ask("/", ("server", "the app's"), ("date", "today"))
    assert (headers["server"], headers["date"]) == ("the app's", "today")


@pytest.mark.parametrize("answers", ["hornbeam", "cowboy"], indirect=True)
@pytest.mark.parametrize("is_named", [True, False])
def test_handshakes_have_them_too(answers, is_named):
    answers(headers=OWN, server_header=is_named, date_header=is_named)
    server = answers.server
    with RawWebSocket(server, "/accept") as ws:
        heads = [ws.opening]
    with RawHTTP(server) as raw:
        raw.request("GET", "/close", *handshake_headers())
        heads.append(raw.head())
    assert [head.status for head in heads] == [101, 403]
    for head in heads:
        assert {name: head.all(name) for name in ADDED} == {
            name: [value] for name, value in ADDED.items()
        }
        assert head.all("server") == (["hornbeam"] if is_named else [])
        assert len(head.all("date")) == is_named


@pytest.mark.parametrize("answers", ["hornbeam"], indirect=True)
def test_what_is_no_request_is_refused_with_them(answers):
    answers(headers=OWN, server_header=False)
    with RawHTTP(answers.server) as raw:
        raw.send(b"nonsense\r\n\r\n")
        head = raw.head()
    assert head.status == 400
    assert head.all("x-frame-options") == ["DENY"]
    assert head.all("server") == []
