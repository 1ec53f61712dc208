"""What perf and py-spy saw of a server, told by rooms: kernel, emulator, whose code.

Knows the names of functions, not how they came to be sampled.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# A kernel's sample belongs to the first of these that its stack holds.
_KERNEL = {
    "pipe write": ("pipe_write", "anon_pipe_write"),
    "pipe read": ("pipe_read", "anon_pipe_read"),
    "preempted": ("exit_to_user_mode_loop", "irqentry_exit_to_user_mode", "__x64_sys_sched_yield"),
    "TCP send, with the work of the other end": ("tcp_sendmsg", "do_writev", "__sys_sendto"),
    "TCP receive": ("tcp_recvmsg", "__sys_recvfrom"),
    "epoll": ("do_epoll_wait", "do_epoll_ctl", "ep_poll", "epoll_ctl", "epoll_wait"),
    "futex": ("do_futex", "__x64_sys_futex"),
    "accept, close": ("__x64_sys_accept4", "__sys_accept4", "task_work_run", "__fput"),
}
# An emulator's sample belongs to the first whose expression its function's name matches.
_EMULATOR = {
    "garbage collection": r"garbage|minor|major|sweep|_gc|move_|collect_|offset_|rootset",
    "port I/O": r"inet|tcp_|driver_|port|poll|writev|iov|vec_|forker|efile|check_io",
    "messages and copies": r"msg|message|copy_|send|size_object|queue_|signal|sig_|proc_lock|prtsd",
    "allocation": r"alc|alloc|malloc|free|mseg|carrier|cfree|block",
    "scheduling": r"sched|process_main|runq|aux_work|wake|ethr|thr_|timer|tmr|time|pthread|migrat",
    "ETS and terms": r"db_|ets_|hash|map|cmp|eq$|term|atomic|binary|bin_|bits|decode_packet",
}
_OURS, _COWBOYS = r"\$hornbeam", r"\$(cowboy|cow_|ranch)"


@dataclass(frozen=True)
class Sample:
    """A moment of a thread: from the running function outwards, each with its binary."""

    pid: int
    stack: tuple[tuple[str, str], ...]


def read(script: Iterable[str]) -> Iterator[Sample]:
    """The samples in the output of `perf script -F pid,ip,sym,dso`."""
    pid, stack = 0, list[tuple[str, str]]()
    for line in script:
        words = line.split(None, 1)
        if len(words) == 1 and not line.startswith("\t"):
            pid, stack = int(words[0]), []
        elif words:
            name, _, binary = words[1].strip().rpartition(" (")
            stack.append((name or "?", binary.rstrip(")")))
        elif stack:
            yield Sample(pid, tuple(stack))
            stack = []


def room(sample: Sample) -> str:
    """Where the moment went."""
    name, binary = sample.stack[0]
    if "kernel" in binary or binary.startswith("[k"):
        return f"kernel: {_kernel(name for name, _ in sample.stack)}"
    if name.startswith("$") and not name.startswith("$global"):
        return f"Erlang: {_whose(name)}"
    if "beam.smp" in binary or name.startswith("$global"):
        return f"emulator: {_first(_EMULATOR, name)}"
    return _library(binary)


def function(sample: Sample) -> str:
    """The function that was running; of an Erlang module's, the module."""
    name, binary = sample.stack[0]
    if name.startswith("$"):
        return name.partition(":")[0] + ":"
    return f"{name} ({binary.rpartition('/')[2]})"


def shares(stacks: Iterable[str]) -> dict[str, float]:
    """The part of the time that each file of Python ran itself, from py-spy's "a;b;c count"."""
    own: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        own[_file(stack.rpartition(";")[2])] += int(count)
    whole = own.total() or 1
    return {file: count / whole for file, count in own.most_common()}


def _kernel(names: Iterable[str]) -> str:
    stack = set(names)
    return next((r for r, marks in _KERNEL.items() if stack.intersection(marks)), "the rest")


def _whose(name: str) -> str:
    if re.match(_OURS, name):
        return "ours"
    return "Cowboy's" if re.match(_COWBOYS, name) else "OTP's and others'"


def _first(rooms: dict[str, str], name: str) -> str:
    if name == "[unknown]":
        return "functions without a name"
    return next((r for r, names in rooms.items() if re.search(names, name)), "the rest")


def _library(binary: str) -> str:
    file = binary.rpartition("/")[2].partition(".")[0]
    if "uvloop" in binary:
        return "library: uvloop"
    return "interpreter" if file.startswith(("python", "libpython")) else f"library: {file}"


def _file(frame: str) -> str:
    """The file of "function (path/file.py:line)", from where its package's folder begins."""
    path = frame.rpartition(" (")[2].partition(":")[0]
    return re.sub(r".*/(site-packages|python3[.0-9]*|python|bench)/", "", path)
