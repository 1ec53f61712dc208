"""One who looks at a server while it works: its metrics scraped, its live page open in a browser,
one of its sockets traced by the command.

The page's feed is read to its end, and its tables are asked for as often as the page does
(apps/hornbeam/priv/dashboard/page.js). Its CPU is the harness's own.
"""

import json
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar

from harness.load import LoadError
from servers.python import VENV

SCRAPE_SECONDS = 5.0  # a third of Prometheus's own default
PAGE_SECONDS = 3.0
PATIENCE = 30.0  # seconds for one answer
TABLES = ("sockets", "topics", "state")


@contextmanager
def scraping(operations: str) -> Iterator[None]:
    """Scrape what is at this address."""

    def scrape() -> None:
        _read(urllib.request.build_opener(), f"{operations}/metrics")

    with _repeated(scrape, SCRAPE_SECONDS):
        yield


@contextmanager
def page_open(operations: str, token: str) -> Iterator[None]:
    """Have the live page open."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    _read(browser, f"{operations}/dashboard?token={token}")
    feed = browser.open(f"{operations}/dashboard/feed", timeout=PATIENCE)
    reader = threading.Thread(target=lambda: [None for _ in feed], daemon=True)
    reader.start()

    def ask() -> None:
        for table in TABLES:
            _read(browser, f"{operations}/dashboard/tables/{table}")

    with _repeated(ask, PAGE_SECONDS):
        yield


@contextmanager
def tracing(pid: int) -> Iterator[None]:
    """Trace the messages of the socket that is the oldest, as soon as there is one."""
    traced: list[subprocess.Popen[bytes]] = []

    def begin(over: threading.Event) -> None:
        while not over.wait(0.2):
            if oldest := _oldest(pid):
                words = ["trace", oldest, "-n", "1000000", "--seconds", "3600", "--bodies", "200"]
                traced.append(subprocess.Popen(_asking(pid, words), stdout=subprocess.DEVNULL))
                return

    try:
        with _beside(begin):
            yield
    finally:
        ends = [process.poll() for process in traced]
        for process in traced:
            process.kill()
            process.wait()
    # It ends by itself, and well, when the socket does.
    if ends not in ([None], [0]):
        raise LoadError(f"the onlooker: no socket was traced ({ends})")


def _oldest(pid: int) -> str | None:
    words = ["connections", "--top", "age", "-n", "1", "--json"]
    listed = subprocess.run(_asking(pid, words), capture_output=True, check=False)
    connections = json.loads(listed.stdout)["connections"] if listed.returncode == 0 else []
    return str(connections[0]["id"]) if connections else None


def _asking(pid: int, words: list[str]) -> list[str]:
    return [str(VENV / "bin" / "hornbeam"), *words, "--socket", str(pid)]


@contextmanager
def _repeated(look: Callable[[], None], seconds: float) -> Iterator[None]:
    failed: list[OSError] = []

    def repeat(over: threading.Event) -> None:
        try:
            while not over.is_set():
                look()
                over.wait(seconds)
        except OSError as error:
            failed.append(error)

    with _beside(repeat):
        yield
    if failed:
        raise LoadError(f"the onlooker: {failed[0]}")


@contextmanager
def _beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do something in a thread beside the block, whose end it is told by the event."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=[over])
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _read(browser: urllib.request.OpenerDirector, address: str) -> None:
    with browser.open(address, timeout=PATIENCE) as answer:
        answer.read()
