"""An app for test_soak.py: that of the soak, but each request leaves a row behind."""

import uuid
from typing import Any

import soak
from hornbeam_erlang import aio


async def application(scope: dict[str, Any], receive: soak.Receive, send: soak.Send) -> None:
    """Serve as the soak's app does; keep something of each request for good."""
    if scope["type"] == "http":
        await aio.state_set(("kept", uuid.uuid4().hex), "for good")
    await soak.application(scope, receive, send)
