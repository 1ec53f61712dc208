"""An app below a supervisor of the user's: what is there before it, how it ends, who sees that."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from clients import RawWebSocket
from harness import APPS, PYTHON, EvalError, Server, eventually
from terms import Atom, Expression, charlist, text

APP = "asking:application"

PRICES = """#{
    id => prices,
    start => {erlang, apply, [fun() ->
        ok = hornbeam:register_function(price, fun(Article) -> {ok, byte_size(Article) * 100} end),
        ignore
    end, []]}
}"""
"""A child that offers the function which the app calls while it is imported."""


class Household:
    """The user's supervisor in a node, with an app that notes how it ends."""

    def __init__(self, node, notes) -> None:
        self.node, self.notes = node, notes
        notes.touch()
        self.options = {
            Atom("bind"): "127.0.0.1:0",
            Atom("workers"): 1,
            Atom("python"): PYTHON,
            Atom("pythonpath"): [APPS],
            Atom("env"): {"TRACE": str(notes)},
        }

    def served(self, form: str = "hornbeam:child_spec({app}, {options})", app: str = APP) -> str:
        """Write the child that serves an app."""
        pairs = [(key, value) for key, value in self.options.items()]
        named = {Atom("app"): app} | self.options
        return form.format(
            app=charlist(app), options=text(self.options), pairs=text(pairs), named=text(named)
        )

    def start(self, *children: str, intensity: int = 3):
        return self.node.eval(f"household:start([{', '.join(children)}], {intensity})", 60)

    def serve(self, **options) -> Server:
        self.options |= {Atom(key): value for key, value in options.items()}
        assert self.start(PRICES, self.served()) == "ok"
        return self.running()

    def running(self) -> Server:
        return self.node.running()

    def stop(self):
        return self.node.eval("household:stop()", 60)

    def noted(self) -> list[str]:
        return [line.split()[0] for line in self.notes.read_text().splitlines()]

    def serves_anew(self, before: list[int]) -> bool:
        with contextlib.suppress(EvalError, KeyError, httpx.TransportError):
            server = self.running()
            return server.worker_pids() != before and price_of(server) == "400"
        return False


@pytest.fixture
def household(own_node, tmp_path) -> Household:
    return Household(own_node, tmp_path / "notes")


def price_of(server: Server) -> str:
    return httpx.get(f"{server.http}/").text


def test_what_the_app_calls_at_its_import_is_there(household):
    assert price_of(household.serve()) == "400"


@pytest.mark.parametrize(
    "form",
    [
        "hornbeam:child_spec({app}, {options})",
        "hornbeam:child_spec({app}, {pairs})",
        "hornbeam:child_spec({{{app}, {options}}})",
        "hornbeam:child_spec({named})",
        "hornbeam:child_spec(maps:to_list({named}))",
    ],
    ids=["a map", "a keyword list", "a pair", "a map with the app", "keywords with the app"],
)
def test_a_child_is_described_in_each_form(household, form):
    assert household.start(PRICES, household.served(form)) == "ok"
    assert price_of(household.running()) == "400"


def test_a_child_may_be_several_apps(household):
    mounts = [{Atom("path"): f"/{name}", Atom("app"): APP} for name in "ab"]
    options = text(household.options | {Atom("mounts"): mounts})
    assert household.start(PRICES, f"hornbeam:child_spec({options})") == "ok"
    server = household.running()
    assert [httpx.get(f"{server.http}/{name}").text for name in "ab"] == ["400", "400"]
    assert household.stop() == "shutdown"
    assert household.noted() == ["shutdown", "shutdown"]
    assert household.node.python_pids() == []


def test_the_end_of_the_supervisor_is_one_in_order(household):
    server = household.serve()
    ws = RawWebSocket(server, "/")
    ws.read_message()
    assert household.stop() == "shutdown"
    assert ws.read_close() == (1001, "the server stops")
    assert household.noted() == ["disconnect", "shutdown"]
    assert household.node.eval("hornbeam:info()") == {}
    assert household.node.python_pids() == []


def test_the_end_of_the_supervisor_begins_with_a_drain(household):
    server = household.serve(drain_delay=2000, health_path="/healthz")
    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(household.stop)
        eventually(lambda: httpx.get(f"{server.http}/healthz").status_code == 503)
        assert price_of(server) == "400"
        assert server.info()["health"] == {"status": "draining", "reasons": []}
        assert household.node.eval("hornbeam:drain()") == ("error", "supervised")
        assert stopped.result() == "shutdown"
    assert household.noted() == ["shutdown"]


def test_a_child_that_was_ended_can_be_started_again(household):
    server = household.serve()
    household.node.eval("ok = supervisor:terminate_child(household, hornbeam)")
    with pytest.raises(httpx.ConnectError):
        price_of(server)
    household.node.eval("{ok, _} = supervisor:restart_child(household, hornbeam)", 60)
    assert price_of(household.running()) == "400"


def test_the_child_has_all_the_time_that_a_stop_takes(household):
    household.serve()
    spec = household.node.eval(
        "{ok, #{shutdown := Shutdown, type := Type, restart := Restart}} ="
        " supervisor:get_childspec(household, hornbeam), {Shutdown, Type, Restart}"
    )
    assert spec == ("infinity", "supervisor", "permanent")


def test_the_end_of_the_server_is_seen_by_the_supervisor(household):
    before = household.serve().worker_pids()
    household.node.eval("exit(whereis(hornbeam_server_sup), kill)")
    eventually(lambda: household.serves_anew(before))
    # The orphans of the first had all the time of a stop in order.
    assert household.noted() == ["shutdown"]


def test_a_server_that_uses_up_its_restarts_is_started_anew(household):
    before = household.serve().worker_pids()
    household.node.eval(
        """
        Server = whereis(hornbeam_server_sup),
        Ref = monitor(process, Server),
        (fun Kill() ->
            _ = [exit(Pid, kill) || Pid <- [whereis(hornbeam_connection_limit)], is_pid(Pid)],
            receive {'DOWN', Ref, process, _, _} -> ok after 1 -> Kill() end
        end)()
        """
    )
    eventually(lambda: household.serves_anew(before))
    assert household.node.eval("is_pid(whereis(hornbeam_sup))") is True


def test_a_second_child_is_refused_and_the_first_serves_on(household):
    server = household.serve()
    again = household.served().replace("hornbeam:child_spec", "")
    answer = household.node.eval(f"apply(hornbeam, start_link, tuple_to_list({{{again[1:-1]}}}))")
    assert answer == ("error", ("already_started", APP))
    assert household.node.eval(f"hornbeam:start({charlist(APP)}, #{{}})") == answer
    assert price_of(server) == "400"


def test_what_a_supervisor_has_started_it_stops(household):
    server = household.serve()
    answer = household.node.eval(
        "{error, Reason} = hornbeam:stop(),"
        " {Reason, unicode:characters_to_binary(hornbeam:format_error(Reason))}"
    )
    assert answer[0] == "supervised"
    assert "supervisor:terminate_child/2" in answer[1]
    assert price_of(server) == "400"


def test_a_child_that_does_not_start_is_an_error_and_a_paragraph_in_the_log(household):
    answer = household.start(PRICES, household.served(app="nowhere:application"))
    assert answer[0] == "error"
    household.node.wait_log("ModuleNotFoundError: No module named 'nowhere'.*importing +nowhere")
    assert household.node.eval("hornbeam:info()") == {}
    assert household.node.eval("whereis(hornbeam_server_sup)") == "undefined"
    # Nothing is in the way of the next one.
    household.serve()


def test_the_application_that_stops_takes_what_is_served_along_in_order(household):
    server = household.serve()
    ws = RawWebSocket(server, "/")
    ws.read_message()
    household.node.eval("ok = application:stop(hornbeam)", 60)
    assert ws.read_close() == (1001, "the server stops")
    assert household.noted() == ["disconnect", "shutdown"]
    household.node.wait_log("the application hornbeam is not started")
    eventually(lambda: household.node.eval("whereis(household)") == "undefined")


def test_the_crash_of_the_application_is_seen_by_the_supervisor(household):
    household.serve()
    household.node.eval("exit(whereis(hornbeam_sup), kill)")
    eventually(lambda: household.node.eval("whereis(household)") == "undefined")
    eventually(lambda: not household.node.python_pids())


def test_a_supervisor_prints_no_secret(household):
    household.serve(env={"TRACE": str(household.notes), "A_SECRET": "open sesame"})
    printed = household.node.eval(
        "{ok, Spec} = supervisor:get_childspec(household, hornbeam),"
        ' unicode:characters_to_binary(io_lib:format("~p", [Spec]))'
    )
    assert "asking" in printed
    assert "sesame" not in printed


def test_without_the_application_the_error_says_what_to_do(household):
    household.node.eval("ok = application:stop(hornbeam)")
    spec = Expression(household.served())
    answer = household.node.eval(
        f"#{{start := {{M, F, A}}}} = {spec}, {{error, Reason}} = apply(M, F, A),"
        " unicode:characters_to_binary(hornbeam:format_error(Reason))"
    )
    assert "name it among the applications of yours" in answer
