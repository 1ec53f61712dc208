"""The pages of the command beside the table that its flags are made from."""

import importlib.util
import re
from pathlib import Path

import pytest
from hornbeam_erlang._command.options import ELSEWHERE, ROWS

ROOT = Path(__file__).parents[2]

spec = importlib.util.spec_from_file_location("command_table", ROOT / "tools" / "command_table.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

FLAGS = {
    *(flag for row in ROWS for flag in (*row.long_flags, *row.short_flags)),
    *(f"--no-{flag[2:]}" for row in ROWS for flag in row.long_flags if row.kind.value == "BOOLEAN"),
    *tool.BY_ITSELF,
    *("-c",),
}


@pytest.mark.parametrize("path", tool.PAGES, ids=lambda path: path.name)
def test_tables_of_a_page_are_those_of_the_command(path):
    assert path.read_text(encoding="utf-8") == tool.page(path), "run tools/command_table.py"


def test_what_is_said_to_be_elsewhere_is_no_flag_of_the_command():
    assert not tool.INSTEAD.keys() & FLAGS
    assert not tool.INSTEAD.keys() & ELSEWHERE.keys()


OURS = sorted((ROOT / "docs" / "coming-from").glob("*.md"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_pages_name_flags_that_there_are(path):
    """In the last column of a table, and in commands of ours."""
    text = path.read_text(encoding="utf-8")
    columns = re.findall(r"^\|.*\|([^|]*)\|$", text, re.MULTILINE)
    told = " ".join(column for column in columns if "refused:" not in column)
    told += " ".join(re.findall(r"^hornbeam .*$", text, re.MULTILINE))
    named = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", told))
    assert named - FLAGS == set()
