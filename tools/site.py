"""Make the documentation's site in _build/site/html, and check each link and anchor of it.

    .venv/bin/python tools/site.py

The pages are those of docs/, and with them what lies elsewhere and belongs to it: the benchmarks'
page with its pictures, the change log, the examples. They are laid out in _build/site/pages as the
generator (mkdocs.yml) wants them; links to other files of the project lead to copies of these. The
Python reference is made from the docstrings, the Erlang reference from what `make docs` has made.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "site"
PAGES, HTML = SITE / "pages", SITE / "html"
EDOC = ROOT / "doc"

LINK = re.compile(r"\[((?:[^\]`]|`[^`]*`)*)\]\(([^)\s]+)\)|`[^`\n]*`")
"""A link, or code, in which there is none."""

FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)

MODULES = (
    *("state", "connection", "pubsub", "presence", "leadership", "cluster"),
    *("rpc", "functions", "hooks", "metrics", "aio", "terms", "exceptions", "testing"),
)
"""Of hornbeam_erlang, in the order of the reference."""


class BrokenLink(Exception):
    """Tell which page has a link to nothing."""


# What is a page, and where it goes


def sources() -> dict[Path, str]:
    """Return all pages that somebody has written, with their places on the site."""
    docs = ROOT / "docs"
    found = {path: str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    for readme in ROOT.glob("examples/*/README.md"):
        found[readme] = f"examples/{readme.parent.name}.md"
    return found | {
        ROOT / "README.md": "index.md",
        ROOT / "docs" / "index.md": "index.md",
        ROOT / "bench" / "README.md": "benchmarks.md",
        ROOT / "CHANGELOG.md": "changelog.md",
        ROOT / "CONTRIBUTING.md": "contributing.md",
    }


def lay_out() -> None:
    """Fill _build/site/pages."""
    shutil.rmtree(SITE, ignore_errors=True)
    places = sources()
    for source, place in places.items():
        if source != ROOT / "README.md":
            write(place, relinked(source, place, places))
    for picture in (ROOT / "docs" / "pictures").iterdir():
        copy(picture, f"pictures/{picture.name}")
    for name in MODULES:
        write(f"reference/python/{name}.md", python_page(name))
    lay_out_erlang()


def write(place: str, text: str) -> None:
    path = PAGES / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def copy(source: Path, place: str) -> None:
    path = PAGES / place
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, path)


# Links


def relinked(source: Path, place: str, places: dict[Path, str]) -> str:
    """Return a page's text with links that hold where it goes."""

    def link(found: re.Match[str]) -> str:
        if not found[2]:
            return found[0]
        goal = target(found[2], source, place, places)
        return f"[{found[1]}]({goal})" if goal else found[1]

    parts = FENCED.split(source.read_text(encoding="utf-8"))
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def target(link: str, source: Path, place: str, places: dict[Path, str]) -> str | None:
    """Return where a link leads on the site; one to a folder without a page leads nowhere."""
    parts = urlsplit(link)
    if parts.scheme or not parts.path:
        return link
    file = (source.parent / unquote(parts.path)).resolve()
    if file.is_dir() and (file / "README.md").exists():
        file = file / "README.md"
    if file.is_dir():
        return None
    if not file.is_file():
        raise BrokenLink(f"{source.relative_to(ROOT)} has a link to {link}, which is no file")
    if (goal := places.get(file)) is None:
        goal = str(file.relative_to(ROOT / "docs" if "pictures" in file.parts else ROOT))
        copy(file, goal)
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return os.path.relpath(goal, Path(place).parent) + fragment


# References


def python_page(name: str) -> str:
    module = f"hornbeam_erlang.{name}"
    return f"# {module}\n\n::: {module}\n"


def lay_out_erlang() -> None:
    """Copy edoc's pages, and list the modules that users call."""
    if not (EDOC / "index.html").exists():
        sys.exit("make site: there is no Erlang reference in doc/: `make docs` makes it")
    for file in EDOC.glob("*.html"):
        write(f"reference/erlang/{file.name}", of_here(file.read_text(encoding="utf-8")))
    copy(EDOC / "erlang.png", "reference/erlang/erlang.png")
    copy(ROOT / "docs" / "edoc.css", "reference/erlang/stylesheet.css")
    rows = "\n".join(f"| [`{name}`](erlang/{name}.html) | {about(name)} |" for name in called())
    write("reference/erlang.md", ERLANG.format(rows=rows))


def of_here(page: str) -> str:
    """Return a page of edoc whose links lead to others of it, and not to where it was made."""

    def link(found: re.Match[str]) -> str:
        parts = urlsplit(found[1])
        name = Path(parts.path).name
        if parts.scheme or not name:
            return found[0]
        fragment = f"#{parts.fragment}" if parts.fragment else ""
        return f'href="{name}{fragment}"' if (EDOC / name).exists() else ""

    return re.sub(r'href="([^"]*)"', link, page)


ERLANG = """\
# Erlang reference

What Erlang code of the same node calls; the [guide](../guide/erlang-integration.md) has examples.

| module | |
|---|---|
{rows}

[All modules](erlang/modules-frame.html), for those who change the server.
"""


def called() -> list[str]:
    """Return the modules that the guides call."""
    text = "".join(page.read_text(encoding="utf-8") for page in ROOT.glob("docs/guide/*.md"))
    names = set(re.findall(r"\b(hornbeam\w*):\w+\(", text))
    return sorted(name for name in names if (EDOC / f"{name}.html").exists())


def about(name: str) -> str:
    """Return the first sentence that edoc has of a module."""
    text = (EDOC / f"{name}.html").read_text(encoding="utf-8", errors="replace")
    described = re.search(
        r'name="description".*?</h2>(?:<p>)?(.*?)(?:</p>|<h2|<h3)', text, re.DOTALL
    )
    plain = re.sub(r"<[^>]+>", "", described[1]) if described else ""
    return " ".join(plain.split()).partition(". ")[0].rstrip(".")


# The check


class Page(HTMLParser):
    """What a page links to, and what may be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.ids, self.links = path, {""}, set[str]()
        self.feed(path.read_text(encoding="utf-8", errors="replace"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "id" or (tag == "a" and name == "name")):
                self.ids.add(value)
            if value and (name == "src" or (name == "href" and tag == "a")):
                self.links.add(value)


def broken(folder: Path) -> Iterator[str]:
    """Yield a sentence for each link between pages that leads nowhere."""
    found = sorted(folder.rglob("*.html"))
    pages = {path: Page(path) for path in found if path.name != "404.html"}
    for page in pages.values():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            goal = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            if goal.is_dir():
                goal /= "index.html"
            known = pages[goal].ids if goal in pages else {""}
            if not goal.exists() or unquote(parts.fragment) not in known:
                yield f"{page.path.relative_to(folder)} has a link to nothing: {link}"


def main() -> None:
    try:
        lay_out()
    except BrokenLink as error:
        sys.exit(f"make site: {error}")
    built = subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--strict", "--clean"],
        cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if built.returncode:
        sys.exit(f"make site: the generator has failed\n{built.stdout}")
    if found := list(broken(HTML)):
        sys.exit("make site: " + "\n".join(found))
    sys.stdout.write(f"{HTML / 'index.html'}\n")


if __name__ == "__main__":
    main()
