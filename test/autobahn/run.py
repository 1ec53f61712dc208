#!/usr/bin/env python3
"""Run the cases of the Autobahn test suite against a raw ASGI echo, on both WebSocket engines.

    make autobahn
    test/autobahn/run.py --cases '1.*' '6.4.*' --engines hornbeam --messages 1000

The performance cases (9.7, 9.8, 12, 13) send `--messages` messages each; the suite's own number
is 1000. Ends with 1 when a case fails or is passed in a way that the suite calls not strict.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test" / "e2e"), str(Path(__file__).parent)]

from harness import Node  # noqa: E402
from terms import Atom  # noqa: E402

from peer import Peer  # noqa: E402
from suite import identity, load  # noqa: E402

LIMIT = 300.0
"""Seconds after which a case has failed."""

KNOWN = {"3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15"}
"""Not strict on Cowboy's engine: it closes at a wrong frame at once, and asks no handler. So an app
in another process cannot have answered the message before it."""


async def run(case: type, host: str, port: int) -> tuple[str, str, str]:
    """Run a case; return its behaviour, that of its close, and what was seen."""
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_connection(lambda: Peer(case, "/echo"), host, port)
    try:
        done: Any = await asyncio.wait_for(peer.ended, LIMIT)
    except TimeoutError:
        return "FAILED", "FAILED", f"it went on for more than {LIMIT} s"
    return done.behavior, done.behaviorClose, f"{done.result} {done.resultClose}"


async def run_all(cases: list[type], engine: str, host: str, port: int) -> bool:
    """Run all cases one after the other, and print what is not well and the sums."""
    counts: dict[str, Counter[str]] = {}
    for case in cases:
        behaviour, closing, seen = await run(case, host, port)
        category = identity(case).partition(".")[0]
        if (behaviour, engine) == ("NON-STRICT", "cowboy") and identity(case) in KNOWN:
            behaviour = "NON-STRICT AS KNOWN"
        counts.setdefault(category, Counter())[behaviour] += 1
        if behaviour not in ("OK", "INFORMATIONAL") or closing not in ("OK", "INFORMATIONAL"):
            print(
                f"{engine:10}{identity(case):8} {behaviour}, close: {closing}. {seen}", flush=True
            )
    for category, count in counts.items():
        print(f"{engine:10}category {category:3}", dict(count), flush=True)
    return not any(count["FAILED"] + count["NON-STRICT"] for count in counts.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["*"], help="such as 1.* or 6.4.1")
    parser.add_argument("--engines", nargs="+", default=["hornbeam", "cowboy"])
    parser.add_argument("--messages", type=int, default=100)
    chosen = parser.parse_args()
    cases = [
        case
        for case in load(ROOT / "_build" / "autobahn")
        if any(fnmatch.fnmatch(identity(case), pattern) for pattern in chosen.cases)
    ]
    for case in cases:
        if hasattr(case, "COUNT"):
            case.COUNT = min(case.COUNT, chosen.messages)
    passed = [serve(cases, engine) for engine in chosen.engines]
    return 0 if all(passed) else 1


def serve(cases: list[type], engine: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        try:
            server = node.serve(
                "sockets:application", http_engine=Atom(engine), websocket_compress=True
            )
            return asyncio.run(run_all(cases, engine, server.host, server.port))
        finally:
            node.close()


if __name__ == "__main__":
    sys.exit(main())
