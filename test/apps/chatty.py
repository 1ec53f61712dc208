"""An app that logs with each request, about as much as a pipe holds in a hundred of them."""

from __future__ import annotations

import logging

from gallery import respond

log = logging.getLogger("chatty")


async def application(scope, receive, send):
    log.warning("served: %s", "x" * 600)
    await respond(send, b"")
