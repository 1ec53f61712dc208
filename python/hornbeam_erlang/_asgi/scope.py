"""What the scopes of HTTP and WebSocket have in common (ASGI 3.0). Pure."""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from hornbeam_erlang._asgi.tls import tls_extension
from hornbeam_erlang._wire.packets import StreamScope

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

# From 2.4 on Starlette leaves it to `send` to say that the client of a stream is gone, and does not
# listen: a generator that waits would live on. So HTTP says 2.3, as uvicorn's does.
SPEC_VERSIONS = {"http": "2.3", "websocket": "2.5"}


def common_scope(type_: str, scope: StreamScope, root_path: str) -> dict[str, Any]:
    """Return a scope of a type, with the keys that all types have.

    The proxy has taken `root_path` off the path; ASGI wants it in there ("PATH_INFO can be derived
    by stripping root_path from path").
    """
    # Unpacked once: a request waits for this, and to look a field up by its name costs more.
    version, scheme, _, raw_path, query_string, headers, client, server, connect, tls = scope
    path = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
    return {
        "type": type_,
        "asgi": {"version": "3.0", "spec_version": SPEC_VERSIONS[type_]},
        "http_version": version,
        "scheme": scheme,
        "path": root_path + path.decode("utf-8", "replace"),
        "raw_path": quoted(root_path) + raw_path if root_path else raw_path,
        "query_string": query_string,
        "root_path": root_path,
        "headers": list(map(tuple, headers)),
        "client": None if client is None else tuple(client),
        "server": None if server is None else tuple(server),
        "extensions": _extensions(connect, tls),
    }


def _extensions(connect: dict[Any, Any] | None, tls: list[Any] | None) -> dict[str, Any]:
    extensions: dict[str, Any] = {} if connect is None else {"hornbeam.connect": connect}
    if tls is not None:
        extensions["tls"] = tls_extension(tls)
    return extensions


@lru_cache(maxsize=16)
def quoted(path: str) -> bytes:
    """Return a path as it would stand in a request line (RFC 3986, 3.3)."""
    return quote(path, safe="/:@!$&'()*+,;=~").encode()
