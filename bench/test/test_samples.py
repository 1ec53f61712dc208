"""Samples are told by room: whose code, or what of the kernel, was running."""

import pytest

from harness import samples
from harness.samples import Sample

SCRIPT = """4711
\tffffffff8a tcp_ack ([kernel.kallsyms])
\tffffffff8b tcp_sendmsg ([kernel.kallsyms])
\t    7f0011 __GI___writev (/lib/libc.so.6)

4712
\t    7f0012 $hornbeam_exchange:info/3 (/tmp/perf-4712.map)

"""
ROOMS = {
    ("tcp_ack", "[kernel.kallsyms]"): "kernel: the rest",
    ("$hornbeam_wire:pack/1", "/tmp/perf-1.map"): "Erlang: ours",
    ("$cow_http:parse/1", "/tmp/perf-1.map"): "Erlang: Cowboy's",
    ("$gen_tcp:send/2", "/tmp/perf-1.map"): "Erlang: OTP's and others'",
    ("$global::call_bif", "/tmp/perf-1.map"): "emulator: the rest",
    ("erts_garbage_collect", "/usr/lib/beam.smp"): "emulator: garbage collection",
    ("[unknown]", "/usr/lib/beam.smp"): "emulator: functions without a name",
    ("_PyEval_EvalFrameDefault", "/lib/libpython3.11.so.1.0"): "interpreter",
    ("uv__read", "/lib/uvloop/loop.cpython-311.so"): "library: uvloop",
    ("pack", "/lib/_cmsgpack.cpython-311.so"): "library: _cmsgpack",
}


def test_samples_are_read_from_what_perf_prints() -> None:
    first, second = samples.read(SCRIPT.splitlines())
    assert (first.pid, len(first.stack)) == (4711, 3)
    assert samples.room(first) == "kernel: TCP send, with the work of the other end"
    assert (second.pid, samples.room(second)) == (4712, "Erlang: ours")
    assert samples.function(second) == "$hornbeam_exchange:"


@pytest.mark.parametrize("running", ROOMS)
def test_a_moment_belongs_to_a_room(running: tuple[str, str]) -> None:
    assert samples.room(Sample(1, (running,))) == ROOMS[running]


def test_python_is_told_by_the_files_that_ran() -> None:
    stacks = ["run (/a/bench/apps/hello.py:1);pack (/v/site-packages/m/p.py:3) 3"]
    stacks += ["run (/a/bench/apps/hello.py:1) 1"]
    assert samples.shares(stacks) == {"m/p.py": 0.75, "apps/hello.py": 0.25}
