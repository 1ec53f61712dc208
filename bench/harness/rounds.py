"""What all parts share: rounds in which servers take turns, and one window with its outcome.

Each round starts every server afresh; within a round the servers take turns load by load, in
an order that rotates, so that what changes on the machine meets all of them alike.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.load import LoadError
from harness.machine import machine
from servers.process import Server

Figures = dict[str, Any]
Load = TypeVar("Load")


@dataclass(frozen=True)
class Times:
    """How often and how long (s) a part measures where the command line does not say."""

    rounds: int = 3
    warmup: float = 0.5  # before each window
    seconds: float = 2.5  # of a window


def chosen_servers(chosen: Namespace, known: Mapping[str, type[Server]]) -> list[str]:
    """The names of a part's servers that the command line asks for."""
    return [name for name in known if chosen.servers is None or name in chosen.servers]


def run(
    chosen: Namespace,
    workers: int,
    servers: Mapping[str, Server],
    loads: Sequence[Load],
    measure: Callable[[str, Load], Figures],
    names: Sequence[str] = (),
) -> tuple[Figures, list[Figures]]:
    """Measure each server (of `names`, if given) under each load (a dataclass), by rounds.

    Returns what was measured on, and every window.
    """
    about = measured_on(chosen, workers, servers)
    turns = list(names or servers)
    windows = [
        window
        for number in range(chosen.rounds)
        for window in _round(number, servers, turns, loads, measure)
    ]
    return about, windows


def measured_on(chosen: Namespace, workers: int, servers: Mapping[str, Server]) -> Figures:
    """What a run was asked for, and on what it ran."""
    return {
        "rounds": chosen.rounds,
        "seconds": chosen.seconds,
        "workers": workers,
        "versions": {name: server.versions() for name, server in servers.items()},
        "machine": machine(),
    }


def run_by_app(
    chosen: Namespace,
    workers: int,
    serving: Callable[[str], Mapping[str, Server]],
    loads: Mapping[Load, str],
    measure: Callable[[Server, Load], Figures],
) -> tuple[Figures, list[Figures]]:
    """The same for loads that want different apps, each on servers of its own."""
    about: Figures = {}
    windows = []
    for app in dict.fromkeys(loads.values()):
        servers = serving(app)
        mine = [load for load in loads if loads[load] == app]
        its, measured = run(
            *(chosen, workers, servers, mine),
            lambda name, load, servers=servers: measure(servers[name], load),
        )
        about = its | {"versions": about.get("versions", {}) | its["versions"]}
        places = [list(loads).index(load) for load in mine]
        windows += [w | {"order": [places[w["order"][0]], w["order"][1]]} for w in measured]
    return about, windows


def _round(
    number: int,
    servers: Mapping[str, Server],
    names: list[str],
    loads: Sequence[Load],
    measure: Callable[[str, Load], Figures],
) -> Iterator[Figures]:
    with ExitStack() as running:
        for server in servers.values():
            running.enter_context(server)
        for position, load in enumerate(loads):
            for name in rotated(names, number + position):
                keys = {"round": number, "server": name, "load": str(load), **vars(load)}
                order = [position, names.index(name)]
                yield keys | _outcome(keys, servers, load, measure) | {"order": order}


def _outcome(
    keys: Figures,
    servers: Mapping[str, Server],
    load: Load,
    measure: Callable[[str, Load], Figures],
) -> Figures:
    told = f"{keys['round'] + 1}  {load!s:<22} {keys['server']:<18}"
    try:
        figures = measure(keys["server"], load)
    except LoadError as error:
        for server in servers.values():
            server.check_alive()
        print(f"{told} {error}", file=sys.stderr, flush=True)
        return {"error": str(error)}
    print(
        f"{told} {figures['rate']:>9.0f}/s  p50 {figures['p50_us']:8.1f} µs",
        file=sys.stderr,
        flush=True,
    )
    return {"error": None} | figures


def rotated(names: list[str], by: int) -> list[str]:
    """The names in an order in which another one begins each time."""
    by %= len(names) or 1
    return names[by:] + names[:by]
