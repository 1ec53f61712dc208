"""Record the pictures of the documentation from the example chat, as it is, in a real browser.

    .venv/bin/python tools/pictures.py

docs/pictures/outlive.gif shows two people who talk while all Python processes of the server are
killed. What its terminal shows is what this script does and what the server says; what the pages
show is what they show. docs/pictures/chat.png is the page by itself, on a desk and on a phone.
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
    """The command in the example's folder, and what it says."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hornbeam_erlang", "--port", "0", "--no-access-log"],
            cwd=CHAT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
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
    gap = 16
    whole = Image.new(
        "RGB", (sum(w for w, _ in sizes.values()) + 3 * gap, 480 + 2 * gap), "#d5ddd7"
    )
    left = gap
    for person in people:
        shot = Image.open(io.BytesIO(person.page.screenshot(caret="hide")))  # type: ignore[union-attr]
        whole.paste(shot, (left, gap))
        left += shot.width + gap
    whole.quantize(64, dither=Image.Dither.NONE).save(PICTURES / "chat.png", optimize=True)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(60)


def main() -> None:
    program = shutil.which("chromium") or sys.exit(
        "chromium is missing; `make test-deps` brings it"
    )
    with serving() as server, sync_playwright() as playwright:
        (address,) = server.says(r"listening on (\S+)")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        outlive(browser, server, address)
        chat(browser, address)
        browser.close()


if __name__ == "__main__":
    main()
