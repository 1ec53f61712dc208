"""What a scrape of a server's metrics says, read by Prometheus' own parsers for Python."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from harness import DEADLINE, Server, written_address
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families as text_families

HERE = "127.0.0.1:0"
"""An option `metrics` for a port of the system's choice."""

OPEN_METRICS = "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"


def operations(server: Server) -> str:
    """Return where the listener of operations is, as a link."""
    ip, port = server.info()["operations"]
    return f"http://{written_address(ip)}:{port}"


class Scrape(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """Values by the names and the labels of their series."""

    def __init__(self, server: Server | str, accept: str = "text/plain") -> None:
        address = server if isinstance(server, str) else operations(server)
        answer = httpx.get(f"{address}/metrics", headers={"accept": accept}, timeout=DEADLINE)
        answer.raise_for_status()
        self.text, self.content_type = answer.text, answer.headers["content-type"]
        parse = open_metrics_families if "openmetrics" in self.content_type else text_families
        self.families = {family.name: family for family in parse(self.text)}
        samples = [sample for family in self.families.values() for sample in family.samples]
        super().__init__(
            {(each.name, frozenset(each.labels.items())): each.value for each in samples}
        )
        assert len(self) == len(samples), "two samples are of one series"

    def value(self, name: str, **labels: str) -> float:
        """Return the value of a series; 0 where there is none yet."""
        return self.get((name, frozenset(labels.items())), 0)

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of all series of a name that have these labels."""
        return sum(
            value
            for (each, of), value in self.items()
            if each == name and labels.items() <= dict(of).items()
        )

    def of(self, name: str) -> Mapping[frozenset[tuple[str, str]], float]:
        """Return all series of a name."""
        return {labels: value for (each, labels), value in self.items() if each == name}
