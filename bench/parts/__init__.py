"""The benchmarks by name: `bench/run echo` runs `parts.echo`.

A part has `SERVERS` by name, `options(parser)`, `measure(chosen)` and `table(windows)`.
"""

from parts import calls, drown, echo, fanout, ops, outlive, slow

PARTS = {
    "echo": echo,
    "ops": ops,
    "fanout": fanout,
    "calls": calls,
    "drown": drown,
    "slow": slow,
    "outlive": outlive,
}
