"""The live page: who may see it, what it shows in a real browser, and what it has a server do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from clients import RawWebSocket
from harness import APPS, DEADLINE, PYTHON, Server, alive, eventually, written_address
from playwright.sync_api import Browser, Page, expect
from terms import text

APP = "sockets:application"
HERE = "127.0.0.1:0"
TOKEN = "a-token-of-the-user's"

HOSTILE = "<img src=x onerror=\"document.title='caught'\">"
"""What would be seen in the page's title if it were taken for HTML."""

expect.set_options(timeout=DEADLINE * 1000)


def at(server: Server) -> str:
    """Return where the listener of operations is, as a link."""
    ip, port = server.info()["operations"]
    return f"http://{written_address(ip)}:{port}"


def link(server: Server) -> str:
    """Return what the banner shows."""
    return at(server) + server.node.eval("unicode:characters_to_binary(hornbeam_dashboard:path())")


@contextlib.contextmanager
def client(server: Server) -> Iterator[httpx.Client]:
    """Give a client that has come by the link."""
    with httpx.Client(base_url=at(server), timeout=DEADLINE) as made:
        assert made.get(link(server)).status_code == 200
        yield made


@pytest.fixture
def shown(serve) -> Callable[..., Server]:
    """Serve with the page, at a port of the system's choice."""

    def start(app: str = APP, **options: Any) -> Server:
        return serve(app, **{"metrics": HERE, "dashboard": True} | options)

    return start


# Who may see it


PATHS = ["/dashboard", "/dashboard/page.js", "/dashboard/feed", "/dashboard/tables/sockets",
         "/dashboard/trace/1"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", "?token"])
def test_without_the_token_nothing_is_shown(shown, path, query):
    answer = httpx.get(f"{at(shown())}{path}{query}")
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("query", "header"),
    [
        (b"?token=%zz", b""),
        (b"?token=%ff%fe&%", b""),
        (b"", b'cookie: \x01\xff;;=;a=b;"\r\n'),
        (b"", b"cookie: hornbeam_dashboard_1\r\n"),
        (b"", b"host: \xff\xfe\r\n"),
    ],
)
def test_what_nobody_may_ask_crashes_nothing(shown, query, header):
    server = shown()
    before = server.node.log_file.stat().st_size
    for path in PATHS:
        ip, port = server.info()["operations"]
        with socket.create_connection((written_address(ip), port), DEADLINE) as raw:
            raw.sendall(b"GET %s%s HTTP/1.1\r\n" % (path.encode(), query) + header)
            raw.sendall(b"" if b"host" in header else b"host: localhost\r\n")
            raw.sendall(b"connection: close\r\n\r\n")
            assert raw.makefile("rb").readline().split()[1] in (b"400", b"403")
    assert server.node.log_file.stat().st_size == before


def test_the_token_becomes_a_cookie_and_leaves_the_address(shown):
    server = shown()
    answer = httpx.get(link(server))
    token = link(server).partition("token=")[2]
    assert len(token) == 48
    assert answer.headers["refresh"] == "0; url=/dashboard"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/dashboard" in cookie
    assert token not in cookie + answer.text
    with client(server) as admitted:
        page = admitted.get("/dashboard")
        assert page.status_code == 200
        assert token not in page.text


def test_each_server_has_another_token(shown):
    first = link(shown(fresh=True))
    assert httpx.get(first).status_code == 200
    second = shown(fresh=True)
    assert link(second).partition("?")[2] != first.partition("?")[2]
    assert httpx.get(f"{at(second)}/dashboard?{first.partition('?')[2]}").status_code == 403


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_kept_and_framed_by_nobody(shown, path):
    server = shown()
    with client(server) as admitted:
        for asked in (httpx, admitted):
            url = f"{at(server)}{path}"
            with asked.stream("GET", url) as answer:
                policy = answer.headers["content-security-policy"]
                assert "default-src 'none'" in policy
                assert "frame-ancestors 'none'" in policy
                assert "unsafe" not in policy
                assert answer.headers["cache-control"] == "no-store"
                assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:9464", 200),
        ("LOCALHOST", 200),
        ("a.localhost:1", 200),
        ("127.0.0.1", 200),
        ("127.9.9.9:80", 200),
        ("[::1]:9464", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("evillocalhost", 403),
        ("10.0.0.1", 403),
        ("[2001:db8::1]", 403),
    ],
)
def test_by_a_name_that_may_lead_elsewhere_it_is_not_shown(shown, host, status):
    server = shown()
    assert httpx.get(link(server), headers={"host": host}).status_code == status


def test_a_token_of_the_users_opens_it_by_the_names_that_are_allowed(shown):
    server = shown(dashboard_token=TOKEN, allowed_hosts=["ops.example"])
    address = f"{at(server)}/dashboard"

    def status(host: str) -> int:
        given = {"params": {"token": TOKEN}, "headers": {"host": host}}
        return httpx.get(address, **given).status_code

    hosts = ("ops.example", "10.0.0.1:80", "localhost", "evil.example")
    assert [status(host) for host in hosts] == [200, 200, 200, 403]


def test_a_token_of_the_users_stands_in_no_link_log_or_info(shown):
    server = shown(dashboard_token=TOKEN, fresh=True)
    assert link(server).endswith("/dashboard")
    assert httpx.get(link(server), params={"token": TOKEN}).status_code == 200
    names = ("hornbeam_operations_listener", "hornbeam_dashboard_history")
    for name in names:
        server.node.eval(
            f"Ref = monitor(process, {name}), exit(whereis({name}), kill), "
            "receive {'DOWN', Ref, process, _, killed} -> true end"
        )
        eventually(lambda: "operations" in server.info())
        for one in names:
            eventually(lambda one=one: server.node.eval(f"is_pid(whereis({one}))") is True)
    known = server.node.log + repr(server.info())
    known += repr(server.node.eval("sys:get_state(hornbeam_operations_listener)"))
    assert TOKEN not in known


@pytest.mark.parametrize("token", ["short", "", "x" * 257, "sixteen or more chars", 7])
def test_a_token_that_can_be_guessed_is_refused(shared, token):
    refusal = shared.refused(APP, dashboard=True, dashboard_token=token)
    assert "dashboard_token" in refusal.sentence
    assert "hidden" in refusal.sentence


def test_metrics_are_not_served_for_the_page_alone(serve, free_port_of_metrics):
    server = serve(APP, dashboard=True, fresh=True)
    assert at(server) == "http://127.0.0.1:9464"
    assert httpx.get(f"{at(server)}/metrics").status_code == 404
    assert httpx.get(link(server)).status_code == 200


@pytest.fixture
def free_port_of_metrics() -> None:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", 9464))
        except OSError:
            pytest.skip("another program of this machine has the port")


def test_without_the_option_there_is_no_page(serve):
    server = serve(APP, metrics=HERE)
    assert httpx.get(f"{at(server)}/dashboard").status_code == 404
    assert server.node.eval("whereis(hornbeam_dashboard_history)") == "undefined"


# Actions


def action_token(admitted: httpx.Client) -> str:
    with admitted.stream("GET", "/dashboard/feed") as feed:
        for line in feed.iter_lines():
            if line.startswith("data: "):
                return json.loads(line.removeprefix("data: "))["action_token"]
    raise AssertionError("the feed has said nothing")


def own(server: Server, admitted: httpx.Client, **others: str) -> dict[str, str]:
    """Return the fields that the page sends with an action."""
    return {"origin": at(server), "x-hornbeam-action": action_token(admitted)} | others


FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"x-hornbeam-action": ""},
    {"x-hornbeam-action": "0" * 64},
]


@pytest.mark.parametrize("foreign", FOREIGN, ids=str)
def test_an_action_that_is_not_the_pages_own_does_nothing(shown, foreign):
    server = shown()
    pids = server.worker_pids()
    with client(server) as admitted:
        fields = own(server, admitted, **foreign)
        answer = admitted.post("/dashboard/actions/reload", data={"path": "/"}, headers=fields)
        assert answer.status_code == 403
        del fields[next(iter(foreign))]
        if "sec-fetch-site" not in foreign:
            answer = admitted.post("/dashboard/actions/reload", data={"path": "/"}, headers=fields)
            assert answer.status_code == 403
    assert server.worker_pids() == pids


def test_an_action_without_the_cookie_does_nothing(shown):
    server = shown()
    with client(server) as admitted:
        fields = own(server, admitted)
    answer = httpx.post(f"{at(server)}/dashboard/actions/reload", data={"path": "/"},
                        headers=fields)  # fmt: skip
    assert answer.status_code == 403


def test_an_action_is_no_get(shown):
    with client(shown()) as admitted:
        answer = admitted.get("/dashboard/actions/reload", params={"path": "/"})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("action", "fields", "status"),
    [
        ("kick", {"id": "999999999"}, 409),
        ("kick", {"id": "x"}, 409),
        ("kick", {}, 400),
        ("reload", {"path": "/nothing"}, 409),
        ("workers", {"path": "/", "workers": "0"}, 409),
        ("workers", {"path": "/", "workers": "1001"}, 409),
        ("workers", {"path": "/", "workers": "many"}, 409),
        ("workers", {"path": "/"}, 400),
        ("drain", {}, 400),
        ("doctor", {}, 400),
    ],
)
def test_what_cannot_be_done_is_said(shown, action, fields, status):
    server = shown()
    with client(server) as admitted:
        answer = admitted.post(f"/dashboard/actions/{action}", data=fields,
                               headers=own(server, admitted))  # fmt: skip
        assert answer.status_code == status
        assert answer.json()["error"]


# Limits


@pytest.mark.parametrize("table", ["state?prefix=%ff", "state?prefix=%zz", "sockets?by=%ff", "%ff"])
def test_of_what_is_no_table_there_is_none(shown, table):
    with client(shown()) as admitted:
        assert admitted.get(f"/dashboard/tables/{table}").status_code in (200, 404)


@pytest.mark.parametrize("body", [b"id=%zz", b"\xff", b"", b"id=1&" + b"x" * 5000])
def test_an_action_whose_body_is_none_does_nothing(shown, body):
    server = shown()
    with client(server) as admitted, admitted.stream("GET", "/dashboard/feed") as feed:
        hello = next(line for line in feed.iter_lines() if line.startswith("data:"))
        token = json.loads(hello.removeprefix("data:"))["action_token"]
        headers = {"origin": at(server), "x-hornbeam-action": token}
        with httpx.Client(cookies=admitted.cookies, base_url=at(server)) as acting:
            answer = acting.post("/dashboard/actions/kick", content=body, headers=headers)
    assert answer.status_code == 400


def test_no_table_has_more_rows_than_a_page_shows(shown):
    server = shown(fresh=True)
    server.node.eval(
        "[hornbeam_state:set(integer_to_binary(N), N) || N <- lists:seq(1, 500)],"
        "Pid = spawn(fun() -> [hornbeam:subscribe(integer_to_binary(N)) || N <- lists:seq(1, 500)],"
        " receive never -> ok end end), register(subscriber_of_the_test, Pid)"
    )
    with client(server) as admitted:
        eventually(lambda: admitted.get("/dashboard/tables/topics").json()["topics"] == 500)
        topics = admitted.get("/dashboard/tables/topics").json()
        state = admitted.get("/dashboard/tables/state").json()
    server.node.eval("exit(whereis(subscriber_of_the_test), kill)")
    server.node.eval("[hornbeam_state:delete(integer_to_binary(N)) || N <- lists:seq(1, 500)]")
    assert (len(topics["rows"]), len(state["rows"])) == (200, 200)


def test_only_so_many_pages_are_fed(shown):
    server = shown(fresh=True)
    with client(server) as admitted, contextlib.ExitStack() as open_pages:
        streams = [
            open_pages.enter_context(admitted.stream("GET", "/dashboard/feed")) for _ in range(16)
        ]
        assert {stream.status_code for stream in streams} == {200}
        assert admitted.get("/dashboard/feed").status_code == 503


def test_nothing_is_made_for_a_page_that_nobody_has_open(shown):
    server = shown(fresh=True)
    calls = "erlang:trace_info({hornbeam_dashboard_server, described, 1}, call_count)"
    server.node.eval(
        "{module, Module} = code:ensure_loaded(hornbeam_dashboard_server),"
        "1 = erlang:trace_pattern({Module, described, 1}, true, [local, call_count])"
    )
    rows = "ets:info(hornbeam_dashboard_history, size)"
    before = server.node.eval(rows)
    eventually(lambda: server.node.eval(rows) >= before + 2)
    assert server.node.eval(calls)[1] == 0
    with client(server) as admitted, admitted.stream("GET", "/dashboard/feed") as feed:
        next(line for line in feed.iter_lines() if line == "event: now")
        assert server.node.eval(calls)[1] > 0


# In a browser


class Watched:
    """The page in a browser, and what went wrong there."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server = page, server
        self.errors: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(link(server))
        expect(page.locator("#connected")).to_have_text("live")

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def rows(self, table: str) -> Any:
        return self.page.locator(f"#{table} tbody tr")

    def confirm(self) -> None:
        self.page.get_by_role("button", name="Yes").click()


LOOKS = {
    "desk, light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "phone, dark": {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"},
}


@pytest.fixture
def watch(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Open the page of a server; in the end nothing has gone wrong, or came from elsewhere."""
    contexts, pages = [], []

    def watched(server: Server, look: str = "desk, light") -> Watched:
        contexts.append(browser.new_context(**LOOKS[look]))
        pages.append(Watched(contexts[-1].new_page(), server))
        return pages[-1]

    yield watched
    for watched_page in pages:
        here = at(watched_page.server)
        assert watched_page.errors == []
        assert [url for url in watched_page.asked if not url.startswith((here, "data:"))] == []
    for context in contexts:
        context.close()


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_shows_the_server_and_its_curves_move(shown, watch, look):
    server = shown(fresh=True)
    seen = watch(server, look)
    assert "token" not in seen.page.url
    worker = server.workers()[0]
    expect(seen.rows("workers")).to_have_count(1)
    expect(seen.rows("workers").first).to_contain_text(str(worker["os_pid"]))
    expect(seen.rows("workers").first).to_contain_text("ready")
    expect(seen.page.locator("#charts canvas")).to_have_count(8)
    points = "performance.now() && document.querySelector('#charts .key').textContent"
    eventually(lambda: httpx.get(server.http) and seen.page.evaluate(points) != "answered 0")
    ink = "[...document.querySelectorAll('#charts canvas')].map((c) => c.toDataURL()).join()"
    before = seen.page.evaluate(ink)
    eventually(lambda: httpx.get(server.http) and seen.page.evaluate(ink) != before)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert seen.page.evaluate(wide) <= 0
    color = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (color == "rgb(18, 23, 20)") == ("dark" in look)


def test_a_click_on_a_head_sorts(shown, watch):
    server = shown(fresh=True)
    with contextlib.ExitStack() as opened:
        for path in ("/echo?b", "/echo?a", "/echo?c"):
            opened.enter_context(RawWebSocket(server, path))
        seen = watch(server)
        expect(seen.rows("sockets")).to_have_count(3)
        head = seen.page.locator("#sockets").get_by_role("button", name="Id", exact=True)

        def ids() -> list[int]:
            cells = seen.page.locator("#sockets tbody tr td:first-child")
            return [int(each) for each in cells.all_text_contents()]

        head.click()
        eventually(lambda: ids() == sorted(ids(), reverse=True))
        head.click()
        eventually(lambda: ids() == sorted(ids()) and len(ids()) == 3)
        column = seen.page.get_by_role("columnheader", name="Id", exact=True)
        expect(column).to_have_attribute("aria-sort", "ascending")


def test_a_kick_kicks_once_it_is_confirmed(shown, watch):
    server = shown(fresh=True)
    with RawWebSocket(server, "/echo"):
        seen = watch(server)
        expect(seen.rows("sockets")).to_have_count(1)
        kick = seen.page.get_by_role("button", name="Kick")
        kick.click()
        seen.page.get_by_role("button", name="Cancel").click()
        assert server.node.eval("length(hornbeam:connections())") == 1
        kick.click()
        seen.confirm()
        eventually(lambda: server.node.eval("length(hornbeam:connections())") == 0)
        expect(seen.rows("sockets")).to_have_count(0)


def test_a_reload_reloads_and_workers_are_set(shown, watch):
    server = shown(fresh=True)
    pids = server.worker_pids()
    seen = watch(server)
    seen.page.get_by_role("button", name="Reload").click()
    seen.confirm()
    expect(seen.page.get_by_role("alert")).to_have_text("the code was loaded anew")
    eventually(lambda: not set(server.worker_pids()) & set(pids))
    seen.page.get_by_role("button", name="Set workers").click()
    seen.page.get_by_label("Workers").and_(seen.page.locator("#amount")).fill("2")
    seen.confirm()
    expect(seen.page.get_by_role("alert")).to_have_text("the workers are started or ended")
    expect(seen.rows("workers")).to_have_count(2)


@pytest.fixture
def mounted(shared) -> Iterator[Server]:
    """Serve two apps, one of them of WSGI and both below a path, with two workers and one."""
    shared.stop()
    yield shared.node.start(
        'hornbeam:start(#{bind => "127.0.0.1:0", metrics => "127.0.0.1:0", dashboard => true,'
        f' python => "{PYTHON}", pythonpath => ["{APPS}"], workers => 1,'
        ' mounts => [#{path => "/live", app => "sockets:application", workers => 2},'
        ' #{path => "/shop", app => "threaded:application", worker_class => wsgi}]})'
    )
    shared.stop()


def test_each_app_has_its_buttons_and_its_workers(mounted, watch):
    def pids() -> dict[str, set[int]]:
        """Of those that serve, by their apps."""
        ready = [worker for worker in mounted.workers() if worker["state"] == "ready"]
        return {
            path: {worker["os_pid"] for worker in ready if worker["pool"] == path}
            for path in ("/live", "/shop")
        }

    before = pids()
    seen = watch(mounted)
    bar = seen.page.locator("#apps > .bar")
    expect(bar).to_have_count(2)
    expect(bar.nth(0)).to_contain_text("/live: sockets:application")
    expect(bar.nth(1)).to_contain_text("/shop: threaded:application")
    expect(seen.rows("workers")).to_have_count(3)
    expect(seen.rows("workers").filter(has_text="worker-1@/shop")).to_contain_text("ready")
    bar.nth(1).get_by_role("button", name="Reload").click()
    expect(seen.page.locator("#question")).to_contain_text("/shop")
    seen.confirm()
    expect(seen.page.get_by_role("alert")).to_have_text("the code was loaded anew")
    eventually(lambda: len(pids()["/shop"]) == 1 and pids()["/shop"] != before["/shop"])
    assert pids()["/live"] == before["/live"]
    bar.nth(0).get_by_role("button", name="Set workers").click()
    expect(seen.page.locator("#amount")).to_have_value("2")
    seen.page.locator("#amount").fill("3")
    seen.confirm()
    eventually(lambda: {path: len(of) for path, of in pids().items()} == {"/live": 3, "/shop": 1})
    assert before["/live"] < pids()["/live"]
    expect(seen.rows("workers")).to_have_count(4)


def test_sockets_of_an_app_below_a_path_and_requests_of_wsgi_are_seen(mounted, watch):
    seen = watch(mounted)
    with RawWebSocket(mounted, "/live/echo") as ws:
        ws.frame(1, b"hello")
        assert ws.read_message() == b"hello"
        expect(seen.rows("sockets")).to_have_count(1)
        expect(seen.rows("sockets").first).to_contain_text("/live/echo")
        expect(seen.rows("sockets").first).to_contain_text("@/live")
        requests = seen.rows("workers").filter(has_text="worker-1@/shop").locator("td").nth(6)
        assert httpx.get(f"{mounted.http}/shop/who").status_code == 200
        expect(requests).to_have_text("1")
        seen.rows("sockets").first.get_by_role("button", name="Kick").click()
        seen.confirm()
        assert ws.read_close()[0] == 1008


def test_a_worker_that_is_killed_is_seen_to_have_been(shown, watch):
    server = shown(fresh=True)
    seen = watch(server)
    (pid,) = server.worker_pids()
    expect(seen.rows("workers").first).to_contain_text(str(pid))
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid))
    expect(seen.rows("workers").first).not_to_contain_text(str(pid))
    expect(seen.page.locator("#log")).to_contain_text("worker_ended")


def test_the_messages_of_one_socket_are_traced(shown, watch):
    server = shown(fresh=True)
    with RawWebSocket(server, "/echo") as ws:
        seen = watch(server)
        seen.page.get_by_role("button", name="Trace").click()
        seen.page.get_by_label("Show what the messages say").check()

        def said() -> str:
            ws.frame(1, HOSTILE.encode())
            return seen.page.locator("#trace").text_content() or ""

        eventually(lambda: HOSTILE in said())
        assert seen.page.title() == "Hornbeam"
        seen.page.get_by_role("button", name="Close").click()
        expect(seen.page.locator("#trace-panel")).to_be_hidden()


def test_what_clients_and_apps_say_is_text(shown, watch):
    server = shown(fresh=True)
    name = text(HOSTILE)
    server.node.eval(
        f"ok = hornbeam_state:set({name}, 1),"
        f"spawn(fun() -> hornbeam:subscribe({name}), receive after 60000 -> ok end end),"
        f'logger:notice("~ts", [{name}], #{{domain => [hornbeam]}})'
    )
    with RawWebSocket(server, "/echo/%3Cimg%20src=x%20onerror=1%3E"):
        seen = watch(server)
        expect(seen.page.locator("#topics")).to_contain_text(HOSTILE)
        expect(seen.page.locator("#state")).to_contain_text("<img src=x onerror=")
        expect(seen.page.locator("#log")).to_contain_text(HOSTILE)
        expect(seen.page.locator("#sockets")).to_contain_text("%3Cimg")
        assert seen.page.locator("img").count() == 0
        assert seen.page.title() == "Hornbeam"
    server.node.eval(f"hornbeam_state:delete({name})")


def test_keys_are_looked_into_by_their_prefixes(shown, watch):
    server = shown(fresh=True)
    keys = ["room:1:name", "room:1:size", "room:2:name", "visits"]
    server.node.eval(", ".join(f"ok = hornbeam_state:set({text(k)}, 1)" for k in keys))
    seen = watch(server)
    expect(seen.rows("state")).to_have_count(2)
    seen.page.get_by_role("button", name="room:", exact=True).click()
    expect(seen.page.locator("#state")).to_contain_text("room:2:")
    seen.page.get_by_role("button", name="all keys").click()
    expect(seen.page.locator("#state")).to_contain_text("visits")
    for key in keys:
        server.node.eval(f"hornbeam_state:delete({text(key)})")


def test_the_page_goes_on_after_a_crash_of_what_feeds_it(shown, watch):
    server = shown(fresh=True)
    seen = watch(server)
    expect(seen.rows("workers")).to_have_count(1)
    server.node.eval("exit(whereis(hornbeam_dashboard_history), kill)")
    expect(seen.page.locator("#connected")).not_to_have_text("live")
    eventually(lambda: server.node.eval("is_pid(whereis(hornbeam_dashboard_history))"))
    expect(seen.page.locator("#connected")).to_have_text("live")
    expect(seen.rows("workers")).to_have_count(1)
