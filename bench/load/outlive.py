"""Sockets that go through an event: each speaks once a period and comes back when it was dropped.

A program of its own, in the way of the C generators: says when all sockets are open, waits for a
line, goes on for the rest of the window, and prints one line of JSON. The sockets are those of the
project's own tests (test/e2e/crowds.py); this adds that a client comes back, as any would.
"""

import argparse
import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from statistics import median, quantiles

import uvloop

sys.path.append(str(Path(__file__).resolve().parents[2] / "test/e2e"))

from crowds import Account, Crowd, Socket

COME_BACK = 0.05  # seconds between two tries to connect
PATIENCE = 5.0  # seconds for one try


class Timed(Account):
    """An account with every wait for an echo, in seconds."""

    def __init__(self, waits: list[float]) -> None:
        super().__init__()
        self.waits = waits

    def hear(self, number: int) -> None:
        """Note an echo and how long it took."""
        if number in self.waiting:
            self.waits.append(time.monotonic() - self.waiting[number])
        super().hear(number)


class Clients(Crowd):
    """A crowd whose sockets are followed by others on the same account when they are dropped."""

    def __init__(self, port: int, period: float) -> None:
        super().__init__("127.0.0.1", port, "/", period=period)
        self.waits: list[float] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.away = 0

    def new_socket(self) -> Socket:
        """Make the socket of a new client."""
        socket = Socket(self.path, greeting=False, ended=self.dropped)
        socket.account = Timed(self.waits)
        return socket

    def dropped(self, socket: Socket) -> None:
        """Let the client come back, unless it was never there or all is over."""
        if socket in self.sockets and not self.silent:
            self.closes.append(socket)
            task = asyncio.create_task(self.come_back(socket))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def come_back(self, before: Socket) -> None:
        """Connect until it works, and go on counting; the wait began when the last echo was due."""
        account = before.account
        since = min(account.waiting.values(), default=time.monotonic())
        self.away += 1
        self.sockets.remove(before)
        while not self.silent:
            try:
                after = await asyncio.wait_for(self.connect(account), PATIENCE)
            except (OSError, TimeoutError):
                await asyncio.sleep(COME_BACK)
                continue
            self.away -= 1
            self.sockets.append(after)
            self.speak(after)
            account.waiting[account.said] = since
            return

    async def connect(self, account: Account) -> Socket:
        """Open a socket on an account."""
        loop = asyncio.get_running_loop()
        _, socket = await loop.create_connection(self.new_socket, self.host, self.port)
        socket.account = account
        await socket.opened
        return socket

    def figures(self, seconds: float) -> dict[str, object]:
        """What became of everybody."""
        told = self.told()
        codes: dict[int, int] = {}
        for socket in self.closes:
            codes[socket.code or 0] = codes.get(socket.code or 0, 0) + 1
        return {
            **{name: told[name] for name in ("said", "lost", "doubled")},
            "messages": told["heard"],
            "seconds": seconds,
            "dropped": len(self.closes),
            "codes": codes,
            "unserved": self.away + sum(bool(s.account.waiting) for s in self.sockets),
            "gap": max(self.longest(), *self.waits, 0.0),
            "p50_us": 1e6 * median(self.waits),
            "p99_us": 1e6 * quantiles(self.waits, n=100)[98],
        }


async def work(chosen: argparse.Namespace) -> None:
    """Open all, let the event happen, and tell."""
    clients = Clients(chosen.port, chosen.period)
    await clients.open(chosen.sockets)
    await clients.all_heard()
    clients.waits.clear()
    clients.longest()
    await asyncio.to_thread(tell_and_wait, "ready")
    began, cpu = time.monotonic(), own_cpu()
    await asyncio.sleep(chosen.seconds)
    clients.silent = True
    await asyncio.sleep(chosen.patience)
    figures = clients.figures(time.monotonic() - began)
    await asyncio.to_thread(
        tell_and_wait, json.dumps(figures | {"generator_cpu_s": own_cpu() - cpu})
    )


def tell_and_wait(line: str) -> None:
    """Tell the harness something and wait for its answer."""
    print(line, flush=True)
    sys.stdin.readline()


def own_cpu() -> float:
    """User and system time of this process, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def options() -> argparse.ArgumentParser:
    """The command line, as `harness.load` writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--sockets", type=int, required=True)
    parser.add_argument("--period", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--patience", type=float, default=2.0, help="for the last echoes")
    return parser


if __name__ == "__main__":
    uvloop.run(work(options().parse_args()))
