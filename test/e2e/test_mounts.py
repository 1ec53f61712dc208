"""Several apps on one server, each at a path: whose a request is, and whose a trouble."""

from __future__ import annotations

import ast
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from clients import CLOSE, TEXT, RawHTTP, RawWebSocket, close_payload, journal
from consoles import Console, posted
from harness import APPS, DEADLINE, PYTHON, Node, Server, StartError, eventually
from http2 import Http2
from sources import Source, listed
from terms import Atom, text

ENGINES = ["hornbeam", "cowboy"]


def at(path: str, app: str, **options: Any) -> dict[str, Any]:
    """Say a mount."""
    return {"path": path, "app": app} | options


def keyed(options: dict[str, Any]) -> dict[Atom, Any]:
    return {Atom(key): value for key, value in options.items()}


def started(node: Node, *mounts: dict[str, Any], **options: Any) -> Server:
    given = {"bind": "127.0.0.1:0", "workers": 1, "python": PYTHON, "pythonpath": [APPS]} | options
    call = text(keyed(given) | {Atom("mounts"): [keyed(mount) for mount in mounts]})
    return node.start(f"hornbeam:start({call})", tls="certfile" in options)


@pytest.fixture
def mount(node) -> Iterator[Callable[..., Server]]:
    """Start a server with mounts in the module's node; it is stopped after the test."""
    yield lambda *mounts, **options: started(node, *mounts, **options)
    node.eval("hornbeam:stop()")


ROOT = at("/", "exchanges:application")
API = at("/api", "rooted:fastapi")
LIVE = at("/live", "resuming:application", websocket_resume=True)
CONSOLES = (at("/a", "console:application"), at("/b", "console:application"))


def pids(server: Server) -> dict[str, list[int]]:
    """Return the processes that serve, by the mount."""
    found: dict[str, list[int]] = {}
    for worker in server.workers():
        if worker["state"] == "ready":
            found.setdefault(worker["pool"], []).append(worker["os_pid"])
    return found


def scope_at(server: Server, path: str) -> dict[str, Any]:
    return ast.literal_eval(httpx.get(f"{server.http}{path}").raise_for_status().text)


# Whose a path is


@pytest.mark.parametrize("engine", ENGINES)
def test_each_path_is_its_apps_over_http_and_websockets(mount, engine):
    deeper = at("/api/v2", "exchanges:application")
    server = mount(ROOT, API, LIVE, deeper, http_engine=Atom(engine))
    assert httpx.get(f"{server.http}/hello").text == "hello"
    assert httpx.get(f"{server.http}/api/items/one").text == "one /api/items/one"
    assert httpx.get(f"{server.http}/api/v2/hello").text == "hello"
    assert httpx.get(f"{server.http}/api").status_code == 404  # FastAPI's own
    ws = RawWebSocket(server, "/live/numbers")
    ws.frame(TEXT, b"one")
    assert ws.read_message() == b"one"


@pytest.mark.parametrize("engine", ENGINES)
def test_root_path_is_the_mounts_and_the_path_is_whole(mount, engine):
    server = mount(ROOT, at("/api", "exchanges:application"), http_engine=Atom(engine))
    for path, root_path in (("/scope_of", ""), ("/api/scope_of", "/api")):
        scope = scope_at(server, path + "?x=y")
        assert (scope["root_path"], scope["path"]) == (root_path, path)
        assert (scope["raw_path"], scope["query_string"]) == (path.encode(), b"x=y")


def test_a_proxys_path_stands_in_front_of_the_mounts(mount):
    server = mount(ROOT, at("/api", "exchanges:application"), root_path="/proxy")
    assert scope_at(server, "/scope_of")["root_path"] == "/proxy"
    scope = scope_at(server, "/api/scope_of")
    assert (scope["root_path"], scope["path"]) == ("/proxy/api", "/proxy/api/scope_of")


def test_a_path_of_letters_that_urls_have_not_is_found(mount):
    server = mount(at("/größe", "exchanges:application"))
    scope = scope_at(server, "/gr%C3%B6%C3%9Fe/scope_of")
    assert (scope["root_path"], scope["path"]) == ("/größe", "/größe/scope_of")
    assert scope["raw_path"] == b"/gr%C3%B6%C3%9Fe/scope_of"


def test_over_http2_each_path_is_its_apps(mount, tls):
    server = mount(API, LIVE, ROOT, **tls)
    with Http2(server) as http2:
        streams = [http2.request("GET", path) for path in ("/hello", "/api/items/one", "/live")]
        assert [(s.head()[0], s.body()) for s in streams[:2]] == [
            (200, b"hello"),
            (200, b"one /api/items/one"),
        ]
        socket = http2.websocket("/live/numbers")
        assert socket.head()[0] == 200


@pytest.mark.parametrize("engine", ENGINES)
def test_a_path_of_no_mount_is_404_and_reaches_no_app(mount, engine, tls):
    server = mount(API, LIVE, http_engine=Atom(engine), **tls)
    for path in ("/", "/apix", "/other", "/liv"):
        assert httpx.get(f"{server.http}{path}").status_code == 404
        with pytest.raises(AssertionError, match="refused with 404"):
            RawWebSocket(server, path)
    assert httpx.post(f"{server.http}/other", content=b"x" * 70_000).status_code == 404
    with Http2(server) as http2:
        assert http2.request("GET", "/other").head()[0] == 404
        assert http2.websocket("/other").head()[0] == 404
    info = server.info()
    assert info["counters"]["no_mount"] == 11
    assert sum(worker["requests"] for worker in info["workers"]) == 0


def test_requests_of_one_connection_go_to_their_apps_in_order(mount):
    server = mount(ROOT, at("/b", "exchanges:application"), at("/a", "exchanges:application"))
    paths = ["/scope_of", "/a/scope_of", "/nowhere", "/b/scope_of", "/a/scope_of"]
    with RawHTTP(server) as raw:
        requests = [f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n" for path in paths]
        raw.send("".join(requests).encode())
        answers = [raw.response() for _ in paths]
    assert [answer.status for answer in answers] == [200, 200, 500, 200, 200]
    found = [ast.literal_eval(a.body.decode())["path"] for a in answers if a.status == 200]
    assert found == [path for path in paths if path != "/nowhere"]


def test_fastapi_below_a_path_shows_its_documentation_there(mount):
    server = mount(ROOT, API)
    page = httpx.get(f"{server.http}/api/docs").text
    assert "url: '/api/openapi.json'" in page
    described = httpx.get(f"{server.http}/api/openapi.json").json()
    assert described["servers"] == [{"url": "/api"}]
    assert httpx.get(f"{server.http}/docs").status_code == 500  # the other app's KeyError


def test_starlette_below_a_path_links_to_itself(mount):
    server = mount(at("/shop", "rooted:starlette"))
    assert httpx.get(f"{server.http}/shop/items/one").text == "one /shop/items/one"
    assert RawWebSocket(server, "/shop/items/one/socket").read_message() == (
        b"one /shop/items/one/socket"
    )


# Options of its own


def test_a_mount_has_its_own_limits_and_times(mount):
    server = mount(
        at("/short", "exchanges:application", timeout=200, max_body_size=10),
        at("/long", "exchanges:application", workers=2),
        max_body_size=20,
    )
    assert httpx.post(f"{server.http}/short/echo", content=b"x" * 11).status_code == 413
    assert httpx.post(f"{server.http}/long/echo", content=b"x" * 20).status_code == 200
    assert httpx.post(f"{server.http}/long/echo", content=b"x" * 21).status_code == 413
    assert {name: len(found) for name, found in pids(server).items()} == {"/short": 1, "/long": 2}


def test_a_mount_has_its_own_folder_environment_and_path(mount, tmp_path):
    server = mount(
        at("/a", "settings:application", env={"WHO": "a"}, chdir=tmp_path),
        at("/b", "settings:application"),
        env={"WHO": "all"},
    )
    a, b = (httpx.get(f"{server.http}/{name}/").json() for name in "ab")
    assert (a["env"]["WHO"], a["cwd"], a["root_path"]) == ("a", str(tmp_path), "/a")
    assert (b["env"]["WHO"], b["root_path"]) == ("all", "/b")
    assert b["cwd"] != str(tmp_path)


def test_streams_of_all_mounts_count_for_the_limit_of_the_server(mount):
    server = mount(at("/a", "sockets:application"), at("/b", "sockets:application"),
                   max_connections=2)  # fmt: skip
    first, second = RawWebSocket(server, "/a/echo"), RawWebSocket(server, "/b/echo")
    with pytest.raises(AssertionError, match="refused with 503"):
        RawWebSocket(server, "/a/echo")
    for ws in (first, second):
        ws.frame(CLOSE, close_payload(1000))
        ws.read_close()


def test_streams_of_one_http2_connection_to_all_mounts_are_counted(mount, tls):
    server = mount(at("/a", "sockets:application"), at("/b", "sockets:application"),
                   max_connections=2, **tls)  # fmt: skip
    with Http2(server) as http2:
        opened = [http2.websocket(f"/{name}/echo").head()[0] for name in "ab"]
        assert opened == [200, 200]
        assert http2.websocket("/b/echo").head()[0] == 503


def test_a_mount_may_have_an_interface_of_its_own(mount):
    # What only the other interface knows is no mistake where it is said of all.
    wsgi = at("/old", "flasked:app", worker_class=Atom("wsgi"))
    asgi = at("/", "rooted:fastapi", lifespan=Atom("on"))
    server = mount(asgi, wsgi, threads=3, lifespan=Atom("on"))
    assert httpx.get(f"{server.http}/items/one").text == "one /items/one"
    assert httpx.get(f"{server.http}/old/items/one").text == "one /old/items/one "
    with pytest.raises(AssertionError, match="refused with "):
        RawWebSocket(server, "/old/items/one")


# What is told of it


def test_info_connections_and_names_know_the_mount(mount):
    server = mount(*CONSOLES)
    consoles = [Console(server, "/a/console"), Console(server, "/b/console")]
    info = server.info()
    assert info["apps"] == {"/a": "console:application", "/b": "console:application"}
    assert info["streams"] == 2
    names = {worker["pool"]: worker["name"] for worker in info["workers"]}
    assert names == {"/a": "worker-1@/a", "/b": "worker-1@/b"}
    found = server.node.eval("hornbeam:connections()")
    assert [(c["mount"], c["path"], c["worker"]) for c in found] == [
        ("/a", "/a/console", "worker-1@/a"),
        ("/b", "/b/console", "worker-1@/b"),
    ]
    (only,) = server.node.eval('hornbeam:connections(#{mount => <<"/b">>})')
    assert only["path"] == "/b/console"
    stacks = server.node.eval('hornbeam:stacks(<<"worker-1@/b">>)')
    assert stacks[1]["streams"][0]["path"] == "/b/console"
    for console in consoles:
        console.leave()


def test_one_app_alone_has_plain_names(serve):
    server = serve("console:application", fresh=True)
    assert [worker["name"] for worker in server.workers()] == ["worker-1"]


def test_events_know_the_mount(mount):
    server = mount(ROOT, LIVE)
    events = "[[hornbeam, http, stop], [hornbeam, websocket, open], [hornbeam, websocket, close]]"
    server.node.eval(f"""
        Self = spawn(fun() ->
            (fun Keep(Heard) ->
                receive
                    {{heard, Event}} -> Keep([Event | Heard]);
                    {{ask, From}} -> From ! lists:reverse(Heard), Keep(Heard)
                end
            end)([])
        end),
        true = register(heard_of_mounts, Self),
        [ok = hornbeam_telemetry:attach({{mounts, E}}, E, fun([_ | Name], _, #{{mount := M}}, _) ->
            heard_of_mounts ! {{heard, {{lists:last(Name), M}}}}
        end, none) || E <- {events}], ok
    """)
    httpx.get(f"{server.http}/hello")
    ws = RawWebSocket(server, "/live/numbers")
    ws.frame(CLOSE, close_payload(1000))
    ws.read_close()
    heard = "heard_of_mounts ! {ask, self()}, receive Heard when is_list(Heard) -> Heard end"
    expected = [("stop", "/"), ("open", "/live"), ("close", "/live")]
    eventually(lambda: server.node.eval(heard) == expected)


def test_calls_from_erlang_say_which_mount_they_mean(mount):
    node = mount(*CONSOLES).node
    assert node.eval("hornbeam:call(os, getpid, [])") == ("error", "several_apps")
    answered = [node.eval(f'hornbeam:call(os, getpid, [], #{{pool => <<"/{n}">>}})') for n in "ab"]
    assert [answer[0] for answer in answered] == ["ok", "ok"]
    assert len({answer[1] for answer in answered}) == 2


# What apps share, and what they do not


def test_state_and_topics_are_shared_between_mounts(mount, key):
    server = mount(*CONSOLES)
    a, b = Console(server, "/a/console"), Console(server, "/b/console")
    assert a.pid != b.pid
    a("state_set(key, 7)", key=key)
    assert b("state_get(key)", key=key) == 7
    b("subscribe(key)", key=key)
    assert a("publish(key, 'hello')", key=key) == 1
    assert b("await aio.receive_pubsub()") == (key, "hello")


# Whose trouble it is


async def test_a_worker_that_is_killed_touches_no_other_mount(mount):
    server = mount(*CONSOLES)
    a, b = Console(server, "/a/console"), Console(server, "/b/console")
    before = pids(server)
    os.kill(a.pid, signal.SIGKILL)
    assert a.read_close()[0] == 1012
    eventually(lambda: len(pids(server).get("/a", [])) == 1)
    after = pids(server)
    assert after["/b"] == before["/b"]
    assert after["/a"] != before["/a"]
    assert b("os.getpid()") == b.pid
    assert posted(server, "os.getpid()", "/a/console") == after["/a"][0]
    b.leave()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_socket_goes_on_in_its_own_mount(mount, engine):
    other = at("/other", "resuming:application", websocket_resume=True)
    server = mount(LIVE, other, http_engine=Atom(engine))
    ws = RawWebSocket(server, "/live/names")
    first = json.loads(ws.read_message())
    os.kill(first["pid"], signal.SIGKILL)
    again = json.loads(ws.read_message())
    assert again["resume"]["attempt"] == 1
    assert [again["pid"]] == pids(server)["/live"]
    ws.frame(TEXT, b"one")
    assert ws.read_message() == f"{again['pid']} one".encode()
    (connection,) = server.node.eval("hornbeam:connections()")
    assert (connection["mount"], connection["path"]) == ("/live", "/live/names")


def test_a_crash_of_who_keeps_the_workers_touches_none_and_keeps_their_names(mount):
    server = mount(*CONSOLES)
    a, b = Console(server, "/a/console"), Console(server, "/b/console")
    server.node.eval('{ok, P} = hornbeam_pool:lookup(<<"/a">>), exit(P, kill)')
    server.node.wait_log("workers_adopted")
    assert (a("1"), b("1")) == (1, 1)
    a.kill_worker()
    assert {w["name"] for w in server.workers()} == {"worker-1@/a", "worker-1@/b"}
    assert b("os.getpid()") == b.pid


def test_reload_is_of_all_mounts_or_of_one(mount):
    server = mount(*CONSOLES)
    before = pids(server)
    assert server.node.eval("hornbeam:reload()") == "ok"
    both = eventually(lambda: len(found := pids(server)) == 2 and found)
    assert not set(before["/a"] + before["/b"]) & set(both["/a"] + both["/b"])
    assert server.node.eval('hornbeam:reload("/b")') == "ok"
    one = eventually(lambda: len(found := pids(server)) == 2 and found)
    assert (one["/a"], one["/b"] != both["/b"]) == (both["/a"], True)
    nowhere = ("error", ("mount", "/c", "not_serving"))
    assert server.node.eval('hornbeam:reload(<<"/c">>)') == nowhere


def test_reload_that_fails_in_one_mount_names_it_and_the_others_are_loaded(mount, tmp_path):
    (tmp_path / "good.py").write_text("from exchanges import application\n")
    (tmp_path / "bad.py").write_text("from exchanges import application\n")
    server = mount(at("/bad", "bad:application", pythonpath=[tmp_path, APPS]),
                   at("/good", "good:application", pythonpath=[tmp_path, APPS]))  # fmt: skip
    before = pids(server)
    (tmp_path / "bad.py").write_text("import no_such_module\n")
    error, (_, path, (kind, told)) = server.node.eval("hornbeam:reload()")
    assert (error, path, kind) == ("error", "/bad", "python")
    assert told["class"].endswith("ModuleNotFoundError")
    after = eventually(lambda: len(found := pids(server)) == 2 and found)
    assert (after["/bad"], after["/good"] != before["/good"]) == (before["/bad"], True)
    assert httpx.get(f"{server.http}/bad/hello").text == "hello"


def test_the_number_of_workers_is_changed_by_the_mount(mount):
    server = mount(*CONSOLES)
    assert server.node.eval("hornbeam:set_workers(2)") == ("error", "several_apps")
    assert server.node.eval('hornbeam:set_workers("/a", 2)') == "ok"
    eventually(lambda: {k: len(v) for k, v in pids(server).items()} == {"/a": 2, "/b": 1})


def test_a_saved_file_reloads_its_mount_alone(mount, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text("from exchanges import application\n")
    server = mount(
        at("/one", "one:application", chdir=tmp_path / "one", reload=True),
        at("/two", "two:application", chdir=tmp_path / "two", reload=True),
    )
    before = pids(server)
    (tmp_path / "two" / "two.py").write_text("from exchanges import application  # saved\n")
    after = eventually(
        lambda: (found := pids(server)).get("/two", before["/two"]) != before["/two"] and found
    )
    assert after["/one"] == before["/one"]


# Begin and end


def traces(tmp_path, *names: str) -> dict[str, list[str]]:
    return {name: (tmp_path / name).read_text().split() for name in names}


def traced(tmp_path, name: str, **options: Any) -> dict[str, Any]:
    return at(f"/{name}", "lifespans:traced", env={"TRACE": str(tmp_path / name)}, **options)


def test_each_mount_has_a_lifespan(mount, tmp_path):
    server = mount(traced(tmp_path, "a"), traced(tmp_path, "b"))
    assert httpx.get(f"{server.http}/a").status_code == 200
    assert traces(tmp_path, "a", "b") == {"a": ["startup", "http"], "b": ["startup"]}
    server.stop()
    assert traces(tmp_path, "a", "b") == {
        "a": ["startup", "http", "shutdown"],
        "b": ["startup", "shutdown"],
    }
    assert server.node.python_pids() == []


def test_one_mount_that_fails_fails_the_start_and_leaves_nothing(mount, node, tmp_path):
    node.eval("hornbeam:stop()")
    with pytest.raises(StartError) as refusal:
        mount(traced(tmp_path, "good"), at("/bad", "broken_import:application"))
    kind, path, (python, told) = refusal.value.reason
    assert (kind, path, python, told["stage"]) == ("mount", "/bad", "python", "import")
    assert refusal.value.sentence.startswith("mount /bad: the app failed (import) with ")
    eventually(lambda: node.python_pids() == [])
    assert node.eval("hornbeam:info()") == {}
    assert node.eval("[Id || {Id, _, _, _} <- supervisor:which_children(hornbeam_sup)]") == [
        "hornbeam_api_sup", "hornbeam_links_sup",
    ]  # fmt: skip
    told = node.wait_log(r"hornbeam does not start: (.*)\n")[1]
    assert "mount        /bad" in told
    assert "importing    broken_import:application" in told
    # What had started is stopped in order.
    if (tmp_path / "good").exists():
        assert traces(tmp_path, "good")["good"] == ["startup", "shutdown"]
    server = mount(traced(tmp_path, "good"))
    assert httpx.get(f"{server.http}/good").status_code == 200


def test_the_first_failure_is_told_while_another_mount_still_starts(mount, node):
    node.eval("hornbeam:stop()")
    began = time.monotonic()
    with pytest.raises(StartError) as refusal:
        mount(at("/slow", "lifespans:hangs_in_startup"), at("/bad", "lifespans:fails"),
              shutdown_timeout=500)  # fmt: skip
    assert refusal.value.reason[1] == "/bad"
    assert time.monotonic() - began < DEADLINE
    assert node.python_pids() == []


def test_all_mounts_end_at_once_when_none_ends_by_itself(mount):
    mounts = [at(f"/{number}", "lifespans:hangs_at_the_end") for number in range(4)]
    server = mount(*mounts, shutdown_timeout=3000)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 3 * 3  # one after the other it would be twelve
    assert server.node.python_pids() == []


def test_a_stop_during_the_start_ends_it(mount, node):
    node.eval("hornbeam:stop()")
    mounts = [keyed(at(f"/{name}", "lifespans:hangs_in_startup")) for name in "ab"]
    options = {"python": PYTHON, "pythonpath": [APPS], "shutdown_timeout": 300}
    call = text(keyed(options | {"mounts": mounts}))
    node.eval(f"spawn(fun() -> register(starting, self()), hornbeam:start({call}) end)")
    eventually(lambda: len(node.python_pids()) >= 2)
    node.eval("hornbeam:stop()")
    eventually(lambda: node.python_pids() == [])
    eventually(lambda: node.eval("whereis(starting)") == "undefined")


def test_requests_of_all_mounts_are_finished_at_the_stop(mount, tmp_path):
    mounts = [at(f"/{n}", "endings:application", env={"TRACE": str(tmp_path / n)}) for n in "ab"]
    server = mount(*mounts)
    with RawHTTP(server) as a, RawHTTP(server) as b:
        for raw, name in ((a, "a"), (b, "b")):
            raw.request("GET", f"/{name}/slow")
            eventually(lambda name=name: (tmp_path / name).exists())
        server.node.eval("spawn(fun() -> hornbeam:stop() end)")
        eventually(lambda: server.node.eval("hornbeam_listener:info()") == {} or refuses(server))
        for raw, name in ((a, "a"), (b, "b")):
            (tmp_path / f"{name}.released").touch()
            assert raw.response().body == b"slow but whole"
    eventually(lambda: server.node.python_pids() == [])
    for name in "ab":
        assert (tmp_path / name).read_text().split()[:2] == ["asked", "shutdown"]


def refuses(server: Server) -> bool:
    try:
        server.connect().close()
    except OSError:
        return True
    return False


def test_a_node_with_mounts_in_its_configuration_serves_them(tmp_path):
    path = f'pythonpath, ["{APPS}"]'
    config = (
        f'{{bind, "127.0.0.1:0"}}, {{workers, 1}}, {{python, "{PYTHON}"}}, {{{path}}},'
        '{app, "exchanges:application"},'
        '{mounts, [#{path => "/api", app => "rooted:fastapi"}]}'
    )
    node = Node(tmp_path, config)
    try:
        server = node.running()
        assert httpx.get(f"{server.http}/hello").text == "hello"
        assert httpx.get(f"{server.http}/api/items/one").text == "one /api/items/one"
    finally:
        assert not node.close()


HOOK = """
def whose(action):
    return name
register_hook("whose", whose)
"""


def test_a_hook_of_ones_own_comes_before_that_of_another_mount(mount):
    server = mount(*CONSOLES)
    a, b = Console(server, "/a/console"), Console(server, "/b/console")
    b(HOOK, name="b")
    asked = [
        'await aio.execute("whose", "x")',
        'await (await aio.execute_async("whose", "x"))',
    ]
    assert [a(source) for source in asked] == ["b", "b"]
    a(HOOK, name="a")
    for _ in range(5):
        assert [[c(source) for source in asked] for c in (a, b)] == [["a", "a"], ["b", "b"]]
    a('unregister_hook("whose")')
    assert [a(source) for source in asked] == ["b", "b"]


# Event streams


@pytest.mark.parametrize("engine", ENGINES)
def test_the_event_streams_of_mounts_are_told_apart(mount, engine, key):
    server = mount(
        at("/", "eventful:application"), at("/api", "sourced:starlette"), http_engine=Atom(engine)
    )
    with (
        Source(server, f"/forwards/late?{key}") as one,
        Source(server, f"/api/events?key={key}") as two,
    ):
        journal(server, key, 1)
        assert two.event()["event"] == "hello"
        assert sorted(stream["mount"] for stream in listed(server, 2)) == ["/", "/api"]
        assert server.node.eval(f'hornbeam:publish(<<"{key}">>, 1)') == 2
        assert one.event() == two.event() == {"data": "1"}
