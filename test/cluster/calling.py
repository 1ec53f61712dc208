"""Calls that go on while something happens to the nodes that are called."""

from __future__ import annotations

from harness import eventually
from members import Member

CALLING = """
served, failed = {}, []
async def go_on():
    while True:
        try:
            where = await aio.execute(name, 'work')
            served[where] = served.get(where, 0) + 1
        except Exception as error:
            failed.append(repr(error))
            await asyncio.sleep(0.01)
calling = [asyncio.create_task(go_on()) for _ in range(4)]
"""

SERVING = """
class Service:
    async def work(self):
        await asyncio.sleep(0.005)
        return node()
register_hook(name, Service())
"""


class Calling:
    """Calls that go on, of a hook that other nodes have."""

    def __init__(self, caller: Member, servers: list[Member], name: str) -> None:
        self.caller, self.name = caller, name
        for server in servers:
            self.serve(server)
        eventually(lambda: self.offering() == len(servers))
        self.console = caller.console()
        self.console(CALLING, name=name)
        for server in servers:
            self.reaches(server)

    def __enter__(self) -> Calling:
        return self

    def __exit__(self, *_: object) -> None:
        self.console("[task.cancel() for task in calling]")
        self.console.leave()

    def serve(self, server: Member) -> None:
        server(SERVING, name=self.name)

    def offering(self) -> int:
        kind = self.caller("terms.Atom('hook')")
        return len(self.caller.erlang("hornbeam_call_peers", "offering", (kind, self.name)))

    def reaches(self, server: Member) -> None:
        """Wait until a node is called now."""
        before = self.served(server)
        eventually(lambda: self.served(server) > before)

    def served(self, server: Member) -> int:
        return self.console("served.get(name, 0)", name=server.name)

    def failed(self) -> list[str]:
        return self.console("failed")
