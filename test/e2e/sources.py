"""Clients of event streams, and what the node says of these."""

from __future__ import annotations

import re

import httpx
from harness import DEADLINE, Server, eventually

EVENTS = {"accept": "text/event-stream"}


class Source:
    """An open event stream, by the client that people have: a body that breaks off raises."""

    def __init__(self, server: Server, target: str, method: str = "GET", **headers: str) -> None:
        # To read the certificates that one trusts takes a quarter of a second.
        self.client = httpx.Client(timeout=DEADLINE, verify=False)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = self.client.build_request(method, server.http + target, headers=EVENTS | named)
        self.response = self.client.send(request, stream=True)
        assert self.response.status_code == 200
        self.text = self.response.iter_text()
        self.buffer = ""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def event(self) -> dict[str, str]:
        """Wait for the next event."""
        return dict(line.split(": ", 1) for line in self.lines())

    def lines(self) -> list[str]:
        """Wait for the next event as it stands."""
        return self.raw_events(1).splitlines()[:-1]

    def raw_events(self, count: int) -> str:
        """Wait for so many ends of events; return what came, as it stands."""
        while len(ends := list(re.finditer(r"(\r?\n){2}", self.buffer))) < count:
            self.buffer += next(self.text)
        end = ends[count - 1].end()
        events, self.buffer = self.buffer[:end], self.buffer[end:]
        return events

    def rest(self) -> str:
        """Wait for the end of the body, which is a whole one; return what came before it."""
        return self.buffer + "".join(self.text)


def streams(server: Server) -> list[dict]:
    return server.node.eval("hornbeam:connections(#{kind => event_stream})")


def listed(server: Server, count: int) -> list[dict]:
    return eventually(lambda: (found := streams(server)) and len(found) == count and found)


def worker_of(event: dict[str, str]) -> int:
    return int(event["id"])
