"""Which files of tests take longest, so that they begin first and none runs alone at the end.

Figures of a run with `--durations=0`; a file that is not here takes less than each of these.
"""

from __future__ import annotations

from pathlib import Path

LONGEST = (
    "test_control.py",
    "test_rolling.py",
    "test_shutdown.py",
    "test_channels_redis.py",
    "test_outlive_model.py",
    "test_command.py",
    "test_failures.py",
    "test_consumers.py",
    "test_outside.py",
    "test_erlang_project.py",
    "test_trace.py",
    "test_http2.py",
    "test_dashboard.py",
    "test_release.py",
    "test_affinity.py",
    "test_frameworks.py",
    "test_keeper.py",
    "test_websocket.py",
    "test_flow.py",
    "test_supervised.py",
    "test_lives.py",
    "test_inherited.py",
    "test_http1.py",
    "test_board.py",
)


def turn(path: Path) -> int:
    """Return when a file's turn is among all: the longest ones' first."""
    return LONGEST.index(path.name) if path.name in LONGEST else len(LONGEST)
