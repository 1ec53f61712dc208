"""The benchmarks by name: `bench/run echo` runs `parts.echo`."""

from parts import echo

PARTS = {"echo": echo}
