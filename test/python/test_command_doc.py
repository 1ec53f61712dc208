"""The page of the command beside the table that its flags are made from."""

import importlib.util
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "command_table.py"


def test_tables_of_the_page_are_those_of_the_command():
    spec = importlib.util.spec_from_file_location("command_table", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = tool.PAGE.read_text(encoding="utf-8")
    assert text == tool.page(text), "run tools/command_table.py"
