"""The maker of the site: where links of pages go, which of them lead to nothing, what is code."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


site = tool("site")


def test_every_page_has_a_place_in_the_nav():
    nav = (site.ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    missing = set(site.sources().values()) - set(re.findall(r": (\S+\.md)$", nav, re.MULTILINE))
    assert missing == set(), "give it a place in the nav of mkdocs.yml"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Make a project with a few pages and a file that is none."""
    for name, value in {"ROOT": tmp_path, "PAGES": tmp_path / "pages"}.items():
        monkeypatch.setattr(site, name, value)
    for name in ("docs/guide/a.md", "bench/README.md", "examples/chat/chat.py", "tools/x.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.fixture
def linked(project):
    """Write a page and return what becomes of it on the site."""
    page = project / "docs" / "guide" / "a.md"
    places = {page: "guide/a.md", project / "bench" / "README.md": "benchmarks.md"}

    def linked(text):
        page.write_text(text)
        return site.relinked(page, "guide/a.md", places)

    return linked


def test_a_link_to_a_page_from_elsewhere_leads_to_its_place(linked):
    assert linked("[b](../../bench/README.md#echo)") == "[b](../benchmarks.md#echo)"
    assert linked("[`b`](../../bench)") == "[`b`](../benchmarks.md)"


def test_a_link_to_another_file_leads_to_a_copy(linked, project):
    assert linked("[c](../../examples/chat/chat.py)") == "[c](../examples/chat/chat.py)"
    assert (project / "pages" / "examples" / "chat" / "chat.py").exists()


def test_a_link_to_a_folder_without_a_page_is_its_text(linked):
    assert linked("see [tools](../../tools).") == "see tools."


def test_what_is_code_or_elsewhere_stays(linked):
    for text in ("`[x](gone.md)`", "```\n[x](gone.md)\n```", "[x](https://example.org)", "[x](#y)"):
        assert linked(text) == text


def test_a_link_to_no_file_is_an_error(linked):
    with pytest.raises(site.BrokenLink, match=r"docs/guide/a.md has a link to gone.md"):
        linked("[x](gone.md)")


def test_links_between_pages_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there"></a><img src="c.png"><p id="p">')
    (tmp_path / "b.html").write_text(
        '<h1 id="there"></h1><a href="a.html#p"></a><a href="#p"></a><a href="https://x"></a>'
    )
    assert list(site.broken(tmp_path)) == [
        "a.html has a link to nothing: c.png",
        "b.html has a link to nothing: #p",
    ]


def test_examples_of_a_docstring_are_fenced():
    fenced = tool("doctests").fenced
    text = "Say so.\n\n>>> say(\n...     1)\n1\n\nAnd then.\n"
    expected = "Say so.\n\n```pycon\n>>> say(\n...     1)\n1\n```\n\nAnd then.\n"
    assert fenced(text) == expected
