"""Processes outside of all workers call the node as an app does, by its local socket."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from harness import APPS, PYTHON, Node, eventually
from terms import Atom, text
from visitors import Raised, Visitor, at, environment, run, socket_of


@pytest.fixture
def server(serve):
    return serve("console:application", workers=2)


@pytest.fixture
def console(server, consoles):
    return consoles(server)[0]


@pytest.fixture
def visitor(server):
    """A process that lives as long as the test."""
    opened = Visitor(at(server))
    yield opened
    if opened.process.poll() is None:
        assert opened.close() == 0


def test_script_reads_what_a_worker_has_set_and_sets_what_it_reads(server, console, key):
    console("state_set(k, {'by': 'worker'})", k=key)
    source = """
        result = state_get(k)
        state_set(k, {"by": "script"})
    """
    assert run(source, at(server), k=key) == {"by": "worker"}
    assert console("state_get(k)", k=key) == {"by": "script"}


def test_script_publishes_to_the_clients_of_the_node(server, console, key):
    console("subscribe(k, forward=True)", k=key)
    assert run("result = publish(k, 'extra!').result()", at(server), k=key) == 1
    assert console.next_pushed() == "extra!"


def test_what_a_script_publishes_last_is_not_lost_with_its_end(server, console, key):
    console("subscribe(k, forward=True)", k=key)
    run("for n in range(500): publish(k, str(n))\nresult = None", at(server), k=key)
    assert [console.next_pushed() for _ in range(500)] == [str(n) for n in range(500)]


def test_script_subscribes_and_hears_in_a_thread_and_in_a_loop(visitor, console, key):
    visitor("subscribe(k)", k=key)
    console("publish(k, 1); publish(k, 2); publish(k, 3)", k=key)
    assert visitor("receive_pubsub(10).value") == 1
    assert visitor("asyncio.run(aio.receive_pubsub(10)).value") == 2
    assert visitor("check_pubsub()") == 3
    assert visitor("publish(k, 4).result(), check_pubsub()") == (1, 4)


def test_script_calls_erlang(server, visitor, key):
    server.node.eval('hornbeam:register_function("add", fun(A, B) -> A + B end)')
    assert visitor("call('add', 1, 2)") == 3
    assert visitor("asyncio.run(aio.call('add', 3, 4))") == 7
    assert visitor("node() in nodes() + [node()]") is True
    with pytest.raises(Raised, match="PermissionDenied: the option rpc_allow"):
        visitor("rpc_call(node(), 'lists', 'reverse', [[1, 2]])")


def test_script_executes_the_hook_of_a_worker_and_serves_none(visitor, console, key):
    console("register_hook(k, lambda action, *args: [action, *args])", k=key)
    assert visitor("execute(k, 'a', 1)", k=key) == ["a", 1]
    assert visitor("list(stream(k, 'a', 2))", k=key) == ["a", 2]
    with pytest.raises(Raised, match="PermissionDenied: hooks are served by workers"):
        visitor("register_hook(k, print)", k=key)


def test_what_is_bound_to_a_process_is_undone_with_its_end(visitor, console, key):
    visitor("state_incr(k, 2, scope='connection')", k=key)
    visitor("connection_state()['seen'] = 1; subscribe(k)", k=key)
    assert console("state_get(k), publish(k, 1).result()", k=key) == (2, 1)
    assert visitor("dict(connection_state())") == {"seen": 1}
    visitor.kill()
    eventually(lambda: console("state_get(k)", k=key) == 0)
    eventually(lambda: console("publish(k, 1).result()", k=key) == 0)


def test_thousand_messages_of_threads_and_of_processes_all_arrive(server, console, key):
    """The published failure of others: channels_redis#332."""
    console("subscribe(k)", k=key)
    source = """
        def work(name):
            for n in range(100):
                publish(k, [name, n])
        threads = [threading.Thread(target=work, args=(f"{me}-{n}",)) for n in range(5)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        result = None
    """

    async def both():
        scripts = [asyncio.to_thread(run, source, at(server), k=key, me=n) for n in range(2)]
        await asyncio.gather(*scripts)

    asyncio.run(both())
    heard = console("[(await aio.receive_pubsub(10)).value for _ in range(1000)]")
    assert sorted(heard) == sorted(
        [f"{me}-{n}", m] for me in range(2) for n in range(5) for m in range(100)
    )
    by_thread: dict[str, list[int]] = {}
    for name, number in heard:
        by_thread.setdefault(name, []).append(number)
    assert all(numbers == list(range(100)) for numbers in by_thread.values())


def test_killed_process_leaves_no_visitor(server, visitor, key):
    assert visitor("state_get(k) is None", k=key)
    before = server.info()["visitors"]
    os.kill(visitor.process.pid, signal.SIGKILL)
    visitor.process.wait()
    eventually(lambda: server.info()["visitors"] == before - 1)


def test_worker_that_is_reloaded_or_dies_changes_nothing_outside(server, visitor, console, key):
    visitor("subscribe(k)", k=key)
    assert server.node.eval("hornbeam:reload()") == "ok"
    assert visitor("publish(k, 'still there').result(), receive_pubsub(10).value", k=key) == (
        1,
        "still there",
    )


def test_many_coroutines_call_at_once_and_one_that_gives_up_takes_nothing_along(visitor, key):
    source = """
        async def main():
            async with asyncio.TaskGroup() as group:
                for n in range(500):
                    group.create_task(aio.state_incr(k))
            waiting = asyncio.create_task(aio.receive_pubsub(10))
            await asyncio.sleep(0)
            waiting.cancel()
            return await aio.state_get(k)
        asyncio.run(main())
    """
    assert visitor(source, k=key) == 500


def test_what_fails_unasked_is_logged_with_its_line(server):
    source = """
        import io, logging
        said = io.StringIO()
        logging.basicConfig(stream=said)
        cast("there is none of this name")
        state_get("x")
        result = said.getvalue()
    """
    assert "functions.cast has failed: NotFound" in run(source, at(server))
    assert "<string>:" in run(source, at(server))


# Forks

FORKED = """
    def child(send):
        subscribe(k)
        publish(k, "of the child").result()
        send.send((receive_pubsub(10).value, state_incr(k)))

    state_incr(k)
    subscribe(k)
    context = multiprocessing.get_context(how)
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(send,))
    process.start()
    answer = receive.recv()
    process.join()
    result = answer, receive_pubsub(10).value, state_incr(k), process.exitcode
"""


def test_child_that_was_forked_visits_by_itself(server, key):
    found = run(FORKED, at(server), k=key, how="fork")
    assert found == (("of the child", 2), "of the child", 3, 0)


def test_child_of_multiprocessing_loses_nothing_that_it_publishes_last(server, console, key):
    source = """
        def child():
            for n in range(200):
                publish(k, str(n))
        state_get(k)
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        result = process.exitcode
    """
    console("subscribe(k, forward=True)", k=key)
    assert run(source, at(server), k=key) == 0
    assert [console.next_pushed() for _ in range(200)] == [str(n) for n in range(200)]


def test_what_a_worker_starts_finds_its_node(server, console, key):
    source = """
        import subprocess, sys
        script = f"from hornbeam_erlang import state_incr; print(state_incr({k!r}))"
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
    """
    assert console(source, k=key) == "1\n"
    forked = """
        import multiprocessing
        queue = multiprocessing.get_context("fork").SimpleQueue()
        child = lambda: queue.put(state_incr(k))
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start(); process.join()
        queue.get()
    """
    assert console(forked, k=key) == 2


# The server's end


@pytest.fixture
def place():
    """A path for a socket that others may see."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder, "local.sock")


def test_server_that_is_restarted_is_found_again(own_node, place, key):
    server = own_node.serve("console:application", local_socket=str(place))
    visitor = Visitor(at(server))
    visitor("state_set(k, 1).result(); subscribe(k)", k=key)
    visitor.ask("receive_pubsub()")
    server.stop()
    with pytest.raises(Raised, match="ConnectionEnded"):
        visitor.answer()
    with pytest.raises(Raised, match=r"NotConnected: .*no server answers at"):
        visitor("state_get(k)", k=key)
    assert not place.exists()
    own_node.serve("console:application", local_socket=str(place))
    assert visitor("subscribe(k); publish(k, 2).result(), receive_pubsub(10).value", k=key) == (
        1,
        2,
    )
    assert visitor.close() == 0


def test_op_that_is_under_way_fails_with_the_server(own_node):
    wait = "fun() -> register(waits, self()), receive never -> ok end end"
    own_node.eval(f'hornbeam:register_function("wait", {wait})')
    server = own_node.serve("console:application")
    visitor = Visitor(at(server))
    visitor.ask("call('wait', timeout=60)")
    eventually(lambda: own_node.eval("whereis(waits) =/= undefined"))
    own_node.kill()
    with pytest.raises(Raised, match="NotConnected: the connection to the Hornbeam server at"):
        visitor.answer()
    assert visitor.close() == 0


def test_process_ends_soon_though_its_node_stands_still(own_node, key):
    visitor = Visitor(at(own_node.serve("console:application")))
    visitor("state_get(k)", k=key)
    os.kill(own_node.process.pid, signal.SIGSTOP)
    try:
        visitor("for n in range(100): publish(k, n)", k=key)
        assert visitor.close() == 0
    finally:
        os.kill(own_node.process.pid, signal.SIGCONT)


def test_visitor_that_does_not_read_keeps_nobody_from_stopping(own_node, key):
    server = own_node.serve("console:application")
    visitor = Visitor(at(server))
    visitor("subscribe(k)", k=key)
    os.kill(visitor.process.pid, signal.SIGSTOP)
    try:
        publish = f"hornbeam:publish(<<{key!r}>>, binary:copy(<<1>>, 65536))".replace("'", '"')
        own_node.eval(f"[{publish} || _ <- lists:seq(1, 1000)]")
        own_node.eval("spawn(fun() -> init:stop() end)")
        assert own_node.process.wait(30) == 0
    finally:
        visitor.kill()


# Which server, and who may reach it


def test_socket_is_its_users_alone_and_goes_with_the_server(own_node, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    node = Node(tmp_path)
    path = Path(socket_of(node.serve("console:application")))
    assert path.parent == tmp_path / "hornbeam"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    node.kill()
    assert path.exists()
    os.utime(path, (0, 0))
    other = Node(tmp_path)
    server = other.serve("console:application")
    assert sorted(path.parent.iterdir()) == [Path(socket_of(server))]
    server.stop()
    assert list(path.parent.iterdir()) == []
    assert not other.close()
    assert not node.close()


@pytest.mark.skipif(os.getuid() != 0, reason="another user can be played by root alone")
def test_other_user_is_not_let_in(own_node, place):
    server = own_node.serve("console:application", local_socket=str(place))
    script = f"""
        import socket
        one = socket.socket(socket.AF_UNIX)
        one.connect({str(place)!r})
        print(one.recv(1))
    """

    def strangers() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/usr/bin/python3", "-I", "-c", textwrap.dedent(script)],
            user=65534, group=65534, extra_groups=[], cwd="/", capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    assert "PermissionError" in strangers().stderr
    place.chmod(0o666)  # as if somebody had meant well
    assert strangers().stdout == "b''\n"
    own_node.wait_log("other_user_at_local_socket")
    assert server.info()["visitors"] == 0


def test_of_several_servers_the_one_of_the_current_folder_is_meant(monkeypatch, tmp_path, key):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    folders = [tmp_path / name for name in ("shop", "blog")]
    for folder in (tmp_path / "run", *folders, folders[0] / "cart"):
        folder.mkdir()
    homes = [tmp_path / "1", tmp_path / "2"]
    for home in homes:
        home.mkdir()
    nodes = [Node(home) for home in homes]
    servers = [
        node.serve("console:application", chdir=folder)
        for node, folder in zip(nodes, folders, strict=True)
    ]
    for node, folder in zip(nodes, folders, strict=True):
        node.eval(f'hornbeam_state:set(<<"{key}">>, <<"{folder.name}">>)')
    env = environment()
    get = "result = state_get(k)"
    assert run(get, env, folders[0] / "cart", k=key) == "shop"
    assert run(get, env, folders[1], k=key) == "blog"
    lost = run(
        "try: state_get(k)\nexcept NotConnected as error: result = str(error)", env, tmp_path, k=key
    )
    assert "HORNBEAM_SOCKET" in lost
    assert all(socket_of(server) in lost for server in servers)
    assert [node.close() for node in nodes] == [[], []]


def test_options_are_those_of_the_app_in_whose_folder_one_runs(own_node, tmp_path):
    for name in ("shop", "blog"):
        (tmp_path / name).mkdir()
    mounts = [
        {Atom("path"): "/", Atom("app"): "console:application", Atom("chdir"): tmp_path / "shop"},
        {
            Atom("path"): "/blog",
            Atom("app"): "console:application",
            Atom("chdir"): tmp_path / "blog",
            Atom("rpc_allow"): [Atom("lists")],
        },
    ]
    given = {
        Atom("mounts"): mounts, Atom("bind"): "127.0.0.1:0", Atom("workers"): 1,
        Atom("python"): PYTHON, Atom("pythonpath"): [APPS],
    }  # fmt: skip
    server = own_node.start(f"hornbeam:start({text(given)})")
    source = """
        try:
            result = rpc_call(node(), "lists", "reverse", [[1, 2]])
        except PermissionDenied:
            result = None
    """
    found = [run(source, at(server), tmp_path / name) for name in ("shop", "blog", ".")]
    assert found == [None, [2, 1], None]


def test_start_is_refused_where_the_socket_cannot_be(shared, place):
    place.write_text("precious")
    refusal = shared.refused("console:application", local_socket=str(place))
    assert "a file that is no socket is there" in refusal.sentence
    assert place.read_text() == "precious"
    long = shared.refused("console:application", local_socket="/tmp/" + 110 * "x")
    assert "at most 107 bytes" in long.sentence


def test_off_is_no_socket(serve):
    server = serve("console:application", fresh=True, local_socket=Atom("off"))
    assert "local_socket" not in server.info()


# Celery

TASKS = """
import os
from celery import Celery
from hornbeam_erlang import publish, state_get

app = Celery("tasks")
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control",
    },
    worker_max_tasks_per_child=3,
)
state_get("here, the parent has a connection too")

@app.task
def announce(topic, number):
    publish(topic, str(number))
"""


def test_tasks_of_celery_publish_and_lose_nothing_with_their_processes(
    server, console, tmp_path, key
):
    """Each process of the pool runs three tasks and ends at once after the third."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "queue").mkdir()
    env = at(server)
    console("subscribe(k, forward=True)", k=key)
    put = "from tasks import announce\nresult = [announce.delay(k, n) for n in range(30)] and None"
    subprocess.run([sys.executable, "-c", f"k = {key!r}\n{put}"], env=env, cwd=tmp_path, check=True)
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "2", "-P", "prefork"],
            env=env, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        heard = [console.next_pushed() for _ in range(30)]
    finally:
        worker.send_signal(signal.SIGTERM)
        status = worker.wait(60)
    assert sorted(heard, key=int) == [str(n) for n in range(30)]
    assert status == 0, (tmp_path / "log").read_text()
