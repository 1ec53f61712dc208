"""The example chat as people use it: its page in a real browser, in which they talk."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator

import pytest
from harness import DEADLINE, ROOT, Node, Server, eventually
from playwright.sync_api import Browser, Page, expect
from terms import text

CHAT = ROOT / "examples" / "chat"

expect.set_options(timeout=DEADLINE * 1000)


class Visitor:
    """Somebody with the chat's page before them."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page = page
        self.members = page.locator("#members li")
        self.news = page.locator("#log .news")
        self.said = page.locator("#log .message .text")
        page.goto(server.http)

    def join(self, name: str, room: str) -> None:
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_label("Room").fill(room)
        self.page.get_by_role("button", name="Join").click()
        expect(self.members.filter(has_text=re.compile(f"^{re.escape(name)}$"))).to_be_visible()

    def say(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.keyboard.press("Enter")


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[[Server], Visitor]]:
    """Open a server's page, each time as somebody else."""
    contexts = []

    def visited(server: Server) -> Visitor:
        contexts.append(browser.new_context())
        return Visitor(contexts[-1].new_page(), server)

    yield visited
    for context in contexts:
        context.close()


@pytest.fixture
def chat(serve: Callable[..., Server]) -> Server:
    return serve("chat:application", chdir=CHAT, workers=2)


def loads(server: Server) -> list[int]:
    """How many connections each worker has."""
    return [worker["streams"] for worker in server.workers()]


def test_two_people_on_two_workers_see_each_other_and_talk(visit, serve, key):
    chat = serve("chat:application", chdir=CHAT, workers=2, fresh=True)
    ada, bob = visit(chat), visit(chat)
    ada.join("Ada", key)
    bob.join("Bob", key)
    assert loads(chat) == [1, 1]
    expect(ada.news).to_have_text(["Bob joined"])
    for somebody in (ada, bob):
        expect(somebody.members).to_have_text(["Ada", "Bob"])

    bob.say("Hello, Ada! ✓")
    expect(ada.said).to_have_text(["Hello, Ada! ✓"])
    ada.say("Hello, Bob.")
    for somebody in (ada, bob):
        expect(somebody.said).to_have_text(["Hello, Ada! ✓", "Hello, Bob."])
    expect(ada.page.locator("#log .message .name")).to_have_text(["Bob", "Ada"])

    bob.page.close()
    expect(ada.news).to_have_text(["Bob joined", "Bob left"])
    expect(ada.members).to_have_text(["Ada"])


def test_people_of_a_killed_worker_vanish_and_come_back(visit, serve, key):
    chat = serve("chat:application", chdir=CHAT, workers=2, fresh=True)
    ada, bob = visit(chat), visit(chat)
    ada.join("Ada", key)
    (busy,) = [worker["os_pid"] for worker in chat.workers() if worker["streams"]]
    bob.join("Bob", key)
    (of_bob,) = {worker["os_pid"] for worker in chat.workers()} - {busy}
    bob.page.evaluate(
        "window.changes = []; new MutationObserver(() => changes.push($('status').textContent))"
        ".observe($('status'), {childList: true})"
    )
    os.kill(of_bob, signal.SIGKILL)
    expect(ada.news.filter(has_text="Bob left")).to_be_visible()
    expect(ada.news.filter(has_text="Bob joined")).to_have_count(2)
    expect(ada.members).to_have_text(["Ada", "Bob"])
    changes = bob.page.evaluate("changes")
    assert changes[0].startswith("connection lost")
    assert "connected" in changes
    bob.say("still here")
    expect(ada.said).to_have_text(["still here"])


def test_people_of_a_killed_worker_stay_where_sockets_outlive_it(visit, serve, key):
    chat = serve("chat:application", chdir=CHAT, workers=2, websocket_resume=True, fresh=True)
    ada, bob = visit(chat), visit(chat)
    ada.join("Ada", key)
    bob.join("Bob", key)
    expect(ada.news).to_have_text(["Bob joined"])
    workers = {worker["os_pid"] for worker in chat.workers()}
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    bob.say("still here")
    expect(ada.said).to_have_text(["still here"])
    assert chat.node.eval("hornbeam:reload()") == "ok"
    ada.say("and here")
    expect(bob.said).to_have_text(["still here", "and here"])
    assert not workers & {worker["os_pid"] for worker in chat.workers()}
    for somebody in (ada, bob):
        expect(somebody.members).to_have_text(["Ada", "Bob"])
        expect(somebody.page.locator("#status")).to_have_text("connected")
    expect(ada.news).to_have_text(["Bob joined"])
    expect(bob.news).to_have_count(0)


def test_everybody_on_every_node_is_shown_until_their_node_is_gone(visit, tmp_path, key):
    names = ("here", "there")
    for folder in (*names, "meeting"):
        (tmp_path / folder).mkdir()
    with contextlib.ExitStack() as stack:
        nodes = []
        for name in names:
            meeting = tmp_path / "meeting"
            nodes.append(Node(tmp_path / name, name=f"{name}@127.0.0.1", meeting=meeting))
            stack.callback(nodes[-1].close)
        here, there = [node.serve("chat:application", chdir=CHAT, workers=1) for node in nodes]
        assert here.node.eval("net_kernel:connect_node('there@127.0.0.1')") is True
        ada, bob = visit(here), visit(there)
        ada.join("Ada", key)
        bob.join("Bob", key)
        for somebody in (ada, bob):
            expect(somebody.members).to_have_text(["Ada", "Bob"])
        bob.say("Hello over there")
        expect(ada.said).to_have_text(["Hello over there"])
        there.node.kill()
        expect(ada.news).to_have_text(["Bob joined", "Bob left"])
        expect(ada.members).to_have_text(["Ada"])


PHONE = {"width": 320, "height": 568}
"""The smallest that people have, in CSS pixels."""


def test_the_page_fits_a_small_phone(browser, chat, key):
    context = browser.new_context(viewport=PHONE, is_mobile=True, has_touch=True)
    with contextlib.closing(context):
        ada = Visitor(context.new_page(), chat)
        fits(ada.page, "Join")
        ada.join("A" * 32, f"{key}{'x' * 40}")
        ada.say("a word " * 20 + "x" * 100)
        expect(ada.said).to_have_count(1)
        fits(ada.page, "Send")
        ada.page.evaluate("status('connection lost, trying again …', 'offline')")
        fits(ada.page, "Send")


def fits(page: Page, button: str) -> None:
    """Look whether nothing is wider than the phone, and a button is on its screen."""
    widths = page.evaluate("[innerWidth, document.documentElement.scrollWidth]")
    assert widths == [PHONE["width"], PHONE["width"]]
    box = page.get_by_role("button", name=button).bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    assert box["y"] + box["height"] <= PHONE["height"]


def test_erlang_may_join_the_talk(visit, chat, key):
    ada = visit(chat)
    ada.join("Ada", key)
    message = '#{kind => message, name => erlang, text => <<"hello">>}'
    assert chat.node.eval(f"hornbeam:publish({text(f'chat:{key}')}, {message})") == 1
    expect(ada.said).to_have_text(["hello"])
    assert [*chat.node.eval(f"hornbeam_presence:list({text(f'chat:{key}')})")] == ["Ada"]


def test_what_is_said_is_never_read_as_html(visit, chat, key):
    markup = "<img src=x onerror='document.title=`broken in`'><b>bold</b>"
    eve = visit(chat)
    eve.join("<i>Eve</i>", key)
    eve.say(markup)
    expect(eve.said).to_have_text([markup])
    expect(eve.page.locator("main img, main b, main i")).to_have_count(0)
    expect(eve.page).to_have_title("Hornbeam chat")


def test_people_in_another_room_hear_nothing(visit, chat, key):
    here, there = visit(chat), visit(chat)
    here.join("Ada", key)
    there.join("Bob", f"{key} next door")
    here.say("first")
    expect(here.said).to_have_text(["first"])
    there.say("second")
    expect(there.said).to_have_text(["second"])
    expect(there.members).to_have_text(["Bob"])


def test_the_page_calls_for_nothing_from_elsewhere(visit, chat):
    script = "performance.getEntriesByType('resource').map((entry) => entry.name)"
    addresses = visit(chat).page.evaluate(script)
    assert [address for address in addresses if not address.startswith("data:")] == []


def test_nobody_is_left_behind(visit, chat, key):
    ada = visit(chat)
    ada.join("Ada", key)
    ada.page.close()
    people = f"maps:keys(hornbeam_presence:list({text(f'chat:{key}')}))"
    eventually(lambda: chat.node.eval(people) == [])
