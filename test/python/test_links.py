"""Links of the pages, before anything is made of them: to files that there are, and to headings."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TRACKED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT, check=True, capture_output=True, text=True,
).stdout.split()  # fmt: skip

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Name the headings of a page as the site and the forges do."""
    named = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(prose(page)))
    return {"", *(name.strip().replace(" ", "-") for name in named)}


def broken(page: Path) -> list[str]:
    found = []
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page))):
        path, _, fragment = link.partition("#")
        if re.match(r"\w+:", path):
            continue
        goal = (page.parent / path).resolve() if path else page
        if not goal.exists() or (goal.suffix == ".md" and fragment not in anchors(goal)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", TRACKED)
def test_links_of_a_page_lead_somewhere(page):
    assert broken(ROOT / page) == []


def test_a_link_to_nothing_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A [b](page.md#a-b) c\n[a](gone.md) [b](#nowhere) [c](#a-bpagemda-b-c) [d](/)\n"
    )
    assert broken(page) == ["page.md#a-b", "gone.md", "#nowhere"]


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
