"""The handlers that test_flow.py wants in one worker, WebSocket and HTTP."""

from __future__ import annotations

from exchanges import counts  # noqa: F401 - part of the gallery
from exchanges import floods as http_floods  # noqa: F401
from gallery import gallery
from sockets import echo, floods, stops_reading  # noqa: F401

application = gallery(globals())
