"""The example of Django and Channels as people use it: its pages in a browser, over two workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import httpx
import pytest
from harness import DEADLINE, PYTHON, ROOT, eventually
from playwright.sync_api import expect
from visitors import at

EXAMPLE = ROOT / "examples" / "django_channels"
USER = """
from django.contrib.auth.models import User
User.objects.create_user("ada", password="a long secret")
"""

expect.set_options(timeout=DEADLINE * 1000)


def manage(database, *words: str, env: dict[str, str] | None = None) -> None:
    """Run a command of Django's for the example."""
    subprocess.run(
        [PYTHON, "manage.py", *words],
        cwd=EXAMPLE,
        env=(env or os.environ) | {"DATABASE": str(database)},
        check=True,
        capture_output=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database in which there is somebody who can log in."""
    file = tmp_path_factory.mktemp("django") / "db.sqlite3"
    manage(file, "migrate")
    manage(file, "shell", "-c", USER)
    return file


@pytest.fixture
def server(serve, database):
    return serve(
        "site_asgi:application",
        chdir=EXAMPLE,
        workers=2,
        websocket_resume=True,
        env={"DATABASE": str(database)},
    )


@pytest.fixture
def enter(browser, server):
    """Open the room in pages, until two of them are in two workers; those two."""
    contexts = []

    def entered():
        context = browser.new_context()
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{server.http}/chat/lobby/")
        expect(page.locator("#who")).to_have_text(re.compile(r"You are \w+, in worker \d+"))
        return page

    def two():
        pages = [entered()]
        while len({worker(page) for page in pages}) < 2:
            pages.append(entered())
        return pages[0], pages[-1]

    yield two
    for context in contexts:
        context.close()


def worker(page) -> int:
    return int(page.locator("#who").inner_text().rpartition(" ")[2])


def say(page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def hear(page, text: str) -> None:
    expect(page.locator("#log li").last).to_have_text(text)


def test_pages_in_two_workers_talk(enter):
    one, other = enter()
    say(one, "hello")
    say(one, "again")
    for page in (one, other):
        expect(page.locator("#log li")).to_have_text(["somebody: hello", "somebody: again"])


def test_a_view_and_a_command_outside_speak_to_both(enter, server, database):
    pages = enter()
    assert httpx.get(f"{server.http}/announce/lobby/", params={"text": "tea"}).status_code == 204
    for page in pages:
        hear(page, "announcer: tea")
    manage(database, "announce", "lobby", "cake", env=at(server))
    for page in pages:
        hear(page, "manage.py: cake")


def test_who_has_logged_in_is_known_to_the_consumer(browser, server):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{server.http}/login/")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("a long secret")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("You are ada.")).to_be_visible()
    page.goto(f"{server.http}/chat/lobby/")
    expect(page.locator("#who")).to_have_text(re.compile("You are ada, in worker"))
    say(page, "it is me")
    hear(page, "ada: it is me")
    context.close()


@pytest.mark.parametrize("end", ["kill -9", "reload"])
def test_the_sockets_outlive_their_workers_and_join_again(enter, server, end):
    pages = enter()
    before = {page: worker(page) for page in pages}
    if end == "reload":
        assert server.node.eval("hornbeam:reload()") == "ok"
    else:
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
    for page in pages:
        eventually(lambda page=page: worker(page) not in before.values())
        expect(page.locator("#who")).not_to_have_text("Gone")
    say(pages[0], "still here")
    for page in pages:
        hear(page, "somebody: still here")
