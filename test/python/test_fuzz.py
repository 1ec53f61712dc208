"""Rubbish from the BEAM: a worker exits with PROTOCOL_ERROR and a line, or goes on; nothing else.

A few seconds in every run; `make fuzz` runs longer. FUZZ_SEED repeats a run; the name of a test
that failed has its seed.
"""

import contextlib
import os
import random
import time
from pathlib import Path

import pytest
from beam import Beam, Gone
from test_wire_vectors import VECTORS, from_hex

SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(1 << 30))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "3"))

PROTOCOL_ERROR = 70

# Bytes that a worker may hold.
MOST = 300 << 20

# Heads that claim more than is there.
HEADS = [bytes([tag]) + b"\xff" * 4 for tag in (0xDD, 0xDF, 0xC6, 0xDB)] + [
    b"\xc9\xff\xff\xff\xff\x02",
    b"\xdd\x0f\xff\xff\xff",
    b"\xd4\x02\x90",
    b"\xc1",
]


@pytest.fixture(params=[SEED], ids=[f"FUZZ_SEED={SEED}"])
def chance(request) -> random.Random:
    return random.Random(request.param)


def good() -> list[bytes]:
    """Return what the BEAM may send, but for `stop` and `start`."""
    lines = [line for line in VECTORS.read_text("utf-8").split("\n") if line.startswith("beam ")]
    words = [line.split(" = ", 1)[0].split(" ", 2) for line in lines]
    return [from_hex(groups) for _, name, groups in words if name not in ("stop", "start")]


def mutated(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(min(len(data), 64) or 1)
    match chance.randrange(5):
        case 0:
            return data[:at] + chance.randbytes(1) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + data[at + 1 :]
        case 3:
            return data[:at] + chance.choice(HEADS) + data[at:]
    return data[:at] + data[at : at + 1] * 2 + data[at + 1 :]


def memory(beam: Beam) -> int:
    """Return the bytes that the worker holds; 0 when it has gone."""
    try:
        pages = Path(f"/proc/{beam.process.pid}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def survives(beam: Beam, data: bytes) -> bool:
    """Send and see: the worker answers a call after it, or it has ended as it should."""
    with contextlib.suppress(BrokenPipeError):
        beam.send_bytes(data)
        beam.send("call", 0, 1 << 40, 0, "os", "getpid", b"\x90", b"\x80")
        with contextlib.suppress(TimeoutError, Gone):
            while True:
                if beam.next(1.0)[:3] == ("result", 0, 1 << 40):
                    return True
    # What is cut off waits for the rest: a whole message after it is the rest of it.
    with contextlib.suppress(BrokenPipeError):
        beam.send_bytes(b"\xc1" * 64)
    with contextlib.suppress(TimeoutError, Gone):
        beam.next(0.2)
    if beam.process.poll() is None and not any(level == 50 for level, _, _ in beam.logs):
        return False  # it waits for the rest of a long one
    assert beam.expect_end() == PROTOCOL_ERROR
    assert [line for line in beam.logs if line[0] == 50 and "does not know" in line[2]]
    return False


def test_rubbish_ends_a_worker_in_order_or_not_at_all(chance):
    vectors = good()
    end = time.monotonic() + SECONDS
    beam = Beam().__enter__().run("echo:app")
    try:
        while time.monotonic() < end:
            data = chance.choice(vectors)
            for _ in range(chance.randrange(3)):
                data = mutated(chance, data)
            alive = survives(beam, data)
            assert memory(beam) < MOST
            if not alive:
                beam.__exit__()
                beam = Beam().__enter__().run("echo:app")
    finally:
        beam.__exit__()


@pytest.mark.parametrize("head", HEADS[:6], ids=bytes.hex)
def test_a_length_without_its_bytes_costs_no_memory(head):
    with Beam() as beam:
        beam.run("echo:app")
        before = memory(beam)
        with contextlib.suppress(BrokenPipeError):
            beam.send_bytes(head * 50)
            beam.send_bytes(b"\x93\x05\x01" + head)
        with contextlib.suppress(TimeoutError, Gone):
            beam.next(0.3)
        assert memory(beam) - before < 64 << 20
