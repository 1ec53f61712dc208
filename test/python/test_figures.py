"""Figures of the documentation beside what the benchmarks measured."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

spec = importlib.util.spec_from_file_location("figures", ROOT / "tools" / "figures.py")
figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figures)

PAGES = [page for page in figures.pages() if figures.MARK.search(page.read_text(encoding="utf-8"))]

BARE = re.compile(r"(?:took|takes|costs?|some) [^.|\n]*?\d[\d.]*\s(?:KiB|µs|microseconds)")
"""A measured figure as a sentence says it."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_figures_of_a_page_are_those_that_were_measured(page):
    text = page.read_text(encoding="utf-8")
    assert text == figures.page(text), "run tools/figures.py"


def test_a_figure_that_nobody_measured_is_an_error():
    with pytest.raises(AssertionError, match="no dolphin under"):
        figures.value("memory", "5 000, silent", "dolphin", "kib")


def test_a_changed_figure_is_seen():
    said = "It takes <!-- figure: idle socket -->61 KiB<!-- end -->."
    assert figures.page(said) != said
    assert figures.page(figures.page(said)) == figures.page(said)


@pytest.mark.parametrize(
    "page",
    [p for p in figures.pages() if "guide" in p.parts or p.name == "README.md"],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_guides_say_what_was_measured_by_marks_only(page):
    text = figures.MARK.sub("", page.read_text(encoding="utf-8"))
    assert BARE.findall(text) == []
