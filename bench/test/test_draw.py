"""Pictures are drawn of what a run may leave: windows with errors, figures that some lack."""

import json
import subprocess
from pathlib import Path
from typing import Any

from conftest import BENCH

MACHINE = {"processor": "none", "cores": "2"}
ABOUT = {"rounds": 2, "versions": {"uvicorn": {"uvicorn": "1"}, "hornbeam": {}}, "machine": MACHINE}
FIGURES = {"rate": 1000.0, "cpu_us": 20.0, "p50_us": 50.0, "generator_cpu_us": 5.0}


def window(server: str, place: int, error: str | None = None, **more: Any) -> dict[str, Any]:
    figures = {} if error else FIGURES | more
    return {"server": server, "load": "1 × 1", "error": error, "order": [0, place], **figures}


def drawn(folder: Path, part: str, windows: list[dict[str, Any]]) -> set[str]:
    """The names of the pictures that are there afterwards."""
    (folder / f"{part}.json").write_text(json.dumps(ABOUT | {"windows": windows}))
    python = BENCH / "_build/venv/bin/python"
    subprocess.run([str(python), str(BENCH / "draw"), str(folder), part], check=True)
    return {path.name for path in folder.glob("*.png")}


def test_a_part_and_the_summary_are_drawn(tmp_path: Path) -> None:
    windows = [window("uvicorn", 0), window("hornbeam", 1), window("hornbeam", 1, cpu_us=30.0)]
    assert drawn(tmp_path, "echo", windows) == {"echo.png", "summary.png"}


def test_a_server_with_errors_only_does_not_hinder_the_others(tmp_path: Path) -> None:
    windows = [window("uvicorn", 0), window("hornbeam", 1, error="no reply")]
    assert drawn(tmp_path, "echo", windows) == {"echo.png", "summary.png"}


def test_without_the_base_there_is_no_summary(tmp_path: Path) -> None:
    assert drawn(tmp_path, "echo", [window("hornbeam", 0)]) == {"echo.png"}


def test_curves_are_drawn_of_what_grows(tmp_path: Path) -> None:
    sizes = [{"curve": "sockets", "op": "", "count": count} for count in (64, 1000)]
    windows = [window("uvicorn", 0, **size) for size in sizes]
    assert drawn(tmp_path, "growth", windows) == {"growth.png"}
