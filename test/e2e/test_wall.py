"""The example of FastAPI, server-sent events and htmx as people use it: pages in two workers."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from browsers import npm_install
from harness import DEADLINE, ROOT, Server, eventually
from playwright.sync_api import Browser, Page, expect
from sources import streams

EXAMPLE = ROOT / "examples" / "wall"

expect.set_options(timeout=DEADLINE * 1000)


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> Path:
    """Install the page's scripts from npm, as the example's README tells."""
    folder = tmp_path_factory.mktemp("npm")
    shutil.copy(EXAMPLE / "package.json", folder)
    return npm_install(folder)


@pytest.fixture
def wall(serve: Callable[..., Server], modules) -> Server:
    return serve(
        "main:app", chdir=EXAMPLE, workers=2, env={"NODE_MODULES": str(modules)}, fresh=True
    )


def opened(browser: Browser, server: Server) -> Page:
    page = browser.new_page()
    page.goto(server.http)
    expect(page.locator("#worker")).to_have_text(re.compile(r"\d+"))
    return page


def write(page: Page, text: str) -> None:
    page.get_by_label("Note").fill(text)
    page.get_by_role("button", name="Write").click()
    expect(page.get_by_label("Note")).to_have_value("")


def worker_of(page: Page) -> int:
    return int(page.locator("#worker").inner_text())


def test_who_writes_is_read_by_pages_of_both_workers(browser, wall):
    pages = [opened(browser, wall) for _ in range(3)]
    assert {worker_of(page) for page in pages} == set(wall.worker_pids())
    write(pages[0], "Hello & <welcome>")
    write(pages[1], "größe")
    late = opened(browser, wall)
    for page in (*pages, late):
        tops(page, ["größe", "Hello & <welcome>"])
        page.close()
    eventually(lambda: streams(wall) == [])


def tops(page: Page, texts: list[str]) -> None:
    """Wait for the uppermost notes: others may be there from before."""
    for place, text in enumerate(texts):
        expect(page.locator("li").nth(place)).to_have_text(text)


def test_a_page_of_a_killed_worker_comes_back_and_has_missed_nothing(browser, wall):
    page, other = opened(browser, wall), opened(browser, wall)
    write(page, "before")
    tops(page, ["before"])
    killed = worker_of(page)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: killed not in wall.worker_pids())
    # The page has not come back yet: it waits for a second.
    httpx.post(f"{wall.http}/notes", data={"text": "meanwhile"}).raise_for_status()
    expect(page.locator("#worker")).not_to_have_text(str(killed))
    write(other, "after")
    for reader in (page, other):
        tops(reader, ["after", "meanwhile", "before"])
        reader.close()
