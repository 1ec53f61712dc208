"""A request as WSGI shows it to an app: the environ (PEP 3333, RFC 3875). Pure.

Made of an HTTP scope, so that both interfaces say the same of a client. Bytes that are no ASCII
stand in it as PEP 3333 wants them: each as the character of its number (latin-1).
"""

from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from hornbeam_erlang._asgi.scope import quoted
from hornbeam_erlang._asgi.tls import mod_ssl

# What joins the values of a field that comes more than once (RFC 9110, 5.3; RFC 6265, 5.4).
_COMMA, _SEMICOLON = ",", "; "

# What clients may call a header has no end that is worth its place among those that are known.
_LONGEST_KNOWN = 64

_PORTS = {"http": "80", "https": "443"}


def make_environ(scope: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the environ of a request; `own` is what all requests of a server have in common."""
    environ = own.copy()
    root_path, raw_path = scope["root_path"], scope["raw_path"]
    query = scope["query_string"].decode("latin-1")
    environ["REQUEST_METHOD"] = scope["method"]
    environ["SERVER_PROTOCOL"] = f"HTTP/{scope['http_version']}"
    environ["SCRIPT_NAME"] = root_path.encode().decode("latin-1")
    environ["PATH_INFO"] = _path_info(raw_path, root_path)
    environ["QUERY_STRING"] = query
    # As it came, which PATH_INFO is not: nobody knows there of a slash whether it was encoded.
    target = raw_path.decode("latin-1")
    environ["RAW_URI"] = environ["REQUEST_URI"] = f"{target}?{query}" if query else target
    environ["wsgi.url_scheme"] = scope["scheme"]
    environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = _client(scope["client"])
    _add_headers(scope["headers"], environ)
    environ["SERVER_NAME"], environ["SERVER_PORT"] = _server(scope, environ)
    if (connect := scope["extensions"].get("hornbeam.connect")) is not None:
        environ["hornbeam.connect"] = connect
    if (tls := scope["extensions"].get("tls")) is not None:
        environ |= mod_ssl(tls)
    return environ


def _path_info(raw_path: bytes, root_path: str) -> str:
    """Return the path below `root_path`, decoded: not by way of text, which it may be none."""
    raw = raw_path.removeprefix(quoted(root_path)) if root_path else raw_path
    return (unquote_to_bytes(raw) if b"%" in raw else raw).decode("latin-1")


def _add_headers(headers: list[tuple[bytes, bytes]], environ: dict[str, Any]) -> None:
    for name, value in headers:
        key = _key(name)
        if not key:
            continue
        text = value.decode("latin-1")
        if key in environ:
            joint = _SEMICOLON if key == "HTTP_COOKIE" else _COMMA
            text = f"{environ[key]}{joint}{text}"
        environ[key] = text


@lru_cache(maxsize=1024)
def _known_key(name: bytes) -> str:
    return _make_key(name)


def _key(name: bytes) -> str:
    return _known_key(name) if len(name) <= _LONGEST_KNOWN else _make_key(name)


def _make_key(name: bytes) -> str:
    """Return what a header is called; empty for one that could be taken for something else.

    `X_User` and `X-User` would be the same, and a proxy that sets the one lets the other pass.
    `Proxy` would be the variable by which programs find a proxy, if an environ becomes the
    environment of one (https://httpoxy.org).
    """
    if b"_" in name or name == b"proxy":
        return ""
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def _client(client: tuple[str, int] | None) -> tuple[str, str]:
    """Return where the client is; nothing where it came by a Unix socket."""
    return ("", "") if client is None else (client[0], str(client[1]))


def _server(scope: dict[str, Any], environ: dict[str, Any]) -> tuple[str, str]:
    """Return what the server is called; a Unix socket's is what the client calls it."""
    server = scope["server"]
    if server is not None and server[1] is not None:
        return server[0], str(server[1])
    name, colon, port = environ.get("HTTP_HOST", "").rpartition(":")
    if not colon or port.endswith("]"):
        name, port = environ.get("HTTP_HOST", ""), ""
    return name or "localhost", port or _PORTS.get(scope["scheme"], "80")
