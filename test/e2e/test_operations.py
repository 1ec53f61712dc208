"""The listener of those who operate a server: where it is, what it serves, and how long."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from clients import RawHTTP
from commands import Running, closing
from harness import DEADLINE, Server, eventually, written_address
from terms import Atom

APP = "settings:application"

HERE = "127.0.0.1:0"


def operations(server: Server) -> str:
    """Return where the listener of operations is, as a link."""
    ip, port = server.info()["operations"]
    return f"http://{written_address(ip)}:{port}"


def test_metrics_are_served_apart_from_the_app(serve):
    server = serve(APP, metrics=HERE)
    answer = httpx.get(f"{operations(server)}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "hornbeam_build_info" in answer.text
    assert httpx.get(f"{server.http}/metrics").json()["root_path"] == ""


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics/x", "/metricsx"])
def test_any_other_path_is_unknown(serve, path):
    server = serve(APP, metrics=HERE)
    assert httpx.get(f"{operations(server)}{path}").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "NONSENSE"])
def test_other_methods_are_refused(serve, method):
    server = serve(APP, metrics=HERE)
    answer = httpx.request(method, f"{operations(server)}/metrics")
    assert answer.status_code in (405, 501)
    if answer.status_code == 405:
        assert answer.headers["allow"] == "GET, HEAD"


def test_a_head_has_no_body(serve):
    server = serve(APP, metrics=HERE)
    answer = httpx.head(f"{operations(server)}/metrics")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


def test_nothing_listens_unless_it_is_asked_for(serve):
    assert "operations" not in serve(APP).info()


def test_it_listens_by_ipv6_too(serve):
    server = serve(APP, metrics="[::1]:0")
    assert httpx.get(f"{operations(server)}/metrics").status_code == 200


def test_it_is_gone_with_the_server(serve, shared):
    address = operations(serve(APP, fresh=True, metrics=HERE))
    shared.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/metrics")


@pytest.mark.parametrize(
    "value",
    ["", "9464", "0.0.0.0", "127.0.0.1:70000", "unix:/tmp/x", "fd:3", 9464, Atom("any"), "here:1"],
)
def test_what_is_no_address_is_refused(shared, value):
    error = shared.refused(APP, metrics=value)
    assert error.reason[:2] == ("bad_option", "metrics")
    assert '"ip:port"' in error.sentence


def test_an_address_in_use_is_refused_before_an_app_starts(shared):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = shared.refused(APP, metrics=f"127.0.0.1:{port}")
    assert error.reason == ("operations", ((127, 0, 0, 1), port), "eaddrinuse")
    assert error.sentence == (
        f"cannot listen for metrics: address already in use: http://127.0.0.1:{port}"
    )
    assert shared.node.eval("hornbeam:info()") == {}
    assert shared.node.eval("ranch:info()") in ({}, [])


def test_it_answers_while_the_server_drains(own_node, tmp_path):
    notes = tmp_path / "notes"
    notes.touch()
    server = own_node.serve("endings:application", metrics=HERE, env={"TRACE": str(notes)})
    address = operations(server)
    http = RawHTTP(server)
    http.request("GET", "/slow")
    eventually(lambda: "asked" in notes.read_text())
    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(own_node.eval, "hornbeam:stop()")
        with pytest.raises(OSError):
            eventually(lambda: server.connect().close())
        assert httpx.get(f"{address}/metrics").status_code == 200
        notes.with_suffix(".released").touch()
        assert stopped.result() == "ok"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/metrics")


def test_it_listens_anew_when_it_was_killed(serve):
    server = serve(APP, fresh=True, metrics=HERE)
    before = operations(server)
    server.node.eval("exit(whereis(hornbeam_operations_listener), kill)")

    def elsewhere() -> bool:
        with contextlib.suppress(KeyError, httpx.TransportError):
            now = operations(server)
            return now != before and httpx.get(f"{now}/metrics").status_code == 200
        return False

    eventually(elsewhere)
    assert httpx.get(server.http).status_code == 200


# The command


@pytest.fixture
def run(tmp_path) -> Iterator[Callable[..., Running]]:
    with contextlib.ExitStack() as stack:
        yield lambda *words, **how: stack.enter_context(
            closing(Running(tmp_path, *words, "--port", "0", "--lifespan", "off", **how))
        )


def test_the_banner_says_where_metrics_are(run):
    running = run(APP, "--metrics", HERE)
    running.address()

    def shown() -> str | None:
        lines = [line.split() for line in running.shown.splitlines()]
        return next((words[1] for words in lines if words[0] == "metrics"), None)

    assert httpx.get(eventually(shown), timeout=DEADLINE).status_code == 200
    running.signal(signal.SIGTERM)
    assert running.status() == 0


def test_an_address_in_use_is_named(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        running = run("--metrics", address, APP)
        assert running.status() == 3
    assert running.shown == (
        f"hornbeam does not start: cannot listen for metrics: address already in use: "
        f"http://{address} (--metrics); another process listens there: end it, or choose another "
        "address\n"
    )
