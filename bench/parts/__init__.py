"""The benchmarks by name: `bench/run echo` runs `parts.echo`.

A part has `SERVERS` by name, `options(parser)`, `measure(chosen)` and `table(windows)`. It may have
`TIMES`, and say what its picture shows by `PANELS` or `draw` (see bench/draw).
"""

from parts import (
    calls,
    channels,
    cluster,
    connect,
    downloads,
    drown,
    echo,
    echo2,
    events,
    fanout,
    first,
    growth,
    http,
    memory,
    operated,
    ops,
    outlive,
    partload,
    presence,
    slow,
    start,
    tls,
    wsgi,
)

PARTS = {
    "echo": echo,
    "echo2": echo2,
    "partload": partload,
    "http": http,
    "wsgi": wsgi,
    "connect": connect,
    "tls": tls,
    "ops": ops,
    "fanout": fanout,
    "events": events,
    "channels": channels,
    "cluster": cluster,
    "calls": calls,
    "growth": growth,
    "presence": presence,
    "memory": memory,
    "start": start,
    "first": first,
    "drown": drown,
    "downloads": downloads,
    "slow": slow,
    "outlive": outlive,
    "operated": operated,
}
