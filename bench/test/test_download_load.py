"""The downloads believe no response, and count what they got."""

import pytest
from faulty import Faulty

from harness.attack import Attack
from harness.load import LoadError
from harness.probe import Watch

SECONDS = 0.5
COUNT = 2
# What is wrong, and what the load says of it.
FAULTS = {
    "status": "not HTTP/1.1 200: HTTP/1.1 503",
    "changed": "a body with other bytes than were sent",
    "length": "a line of more than 4096 bytes",
    "cut": "a download has ended",
}


def downloaded(fault: str) -> dict[str, float]:
    """What clients got from a server."""
    with Faulty("wrong_download", fault) as server:
        watch = Watch(server.pids, None)
        with Attack(server, watch, generator="download", count=COUNT) as downloads:
            downloads.watch(SECONDS)
            figures = downloads.stop()
    assert figures
    return figures


def test_what_came_is_counted_over_many_responses() -> None:
    figures = downloaded("none")
    assert figures["bytes"] > 10 * COUNT * 4 * 65536  # a response has four parts
    assert figures["seconds"] >= SECONDS
    assert 0 < figures["generator_cpu_s"] < figures["seconds"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_response_is_an_error(fault: str) -> None:
    with pytest.raises(LoadError, match=FAULTS[fault]):
        downloaded(fault)
