"""The benchmarks by name: `bench/run echo` runs `parts.echo`.

A part has `SERVERS` by name, `options(parser)`, `measure(chosen)` and `table(windows)`. It may have
`TIMES`, and say what its picture shows by `PANELS` or `draw` (see bench/draw).
"""

from parts import calls, drown, echo, echo2, fanout, growth, ops, outlive, slow

PARTS = {
    "echo": echo,
    "echo2": echo2,
    "ops": ops,
    "fanout": fanout,
    "calls": calls,
    "growth": growth,
    "drown": drown,
    "slow": slow,
    "outlive": outlive,
}
