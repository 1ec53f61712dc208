"""Says what it was asked, or answers as the client tells it to: for tests of HTTP itself.

A path whose first segment names no handler here is `seen`'s, and so is the target `*`.
"""

from __future__ import annotations

import hashlib
import json

from gallery import gallery, note, read_body, released, respond


async def told(scope, receive) -> bytes:
    """Say all that a request was, as JSON; bytes are Latin-1."""
    body = await read_body(receive)
    all_of_it = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode("latin-1"),
        "query": scope["query_string"].decode("latin-1"),
        "version": scope["http_version"],
        "scheme": scope["scheme"],
        "headers": [[part.decode("latin-1") for part in header] for header in scope["headers"]],
        "body": body.decode("latin-1"),
    }
    return json.dumps(all_of_it).encode()


async def seen(scope, receive, send):
    """Answer with the request."""
    answer = await told(scope, receive)
    await respond(send, answer, headers=[(b"content-length", b"%d" % len(answer))])


async def seen_in_a_field(scope, receive, send):
    """Answer with the request in a header, so that HEAD is answered like the others."""
    headers = [(b"x-seen", await told(scope, receive)), (b"content-length", b"0")]
    await respond(send, b"", headers=headers)


async def says(scope, receive, send):
    """Answer what the query describes: hexadecimal JSON, as `http1.says` writes it.

    A WebSocket is accepted by status 101 and denied by any other.
    """
    wanted = json.loads(bytes.fromhex(scope["query_string"].decode()))
    headers = [tuple(part.encode("latin-1") for part in field) for field in wanted["fields"]]
    kind = "" if scope["type"] == "http" else "websocket."
    if kind:
        await receive()
    elif wanted["reads"]:
        await read_body(receive)
    if wanted["status"] == 101 and kind:
        await send({"type": "websocket.accept", "headers": headers})
        await receive()
        return
    start = {"type": f"{kind}http.response.start", "status": wanted["status"], "headers": headers}
    await send(start)
    parts = wanted["parts"]
    for number, part in enumerate(parts, 1):
        more = number < len(parts) or not wanted["ends"]
        data = bytes(part) if isinstance(part, int) else part.encode("latin-1")
        await send({"type": f"{kind}http.response.body", "body": data, "more_body": more})


async def digest(scope, receive, send):
    """Take the body as it comes and say how long it was, and its SHA-256."""
    size, sha = 0, hashlib.sha256()
    while True:
        event = await receive()
        assert event["type"] == "http.request"
        size += len(event["body"])
        sha.update(event["body"])
        if not event["more_body"]:
            break
    await respond(send, f"{size} {sha.hexdigest()}".encode())


async def events(scope, receive, send):
    """Note that it was called and what it received; answer at the body's end."""
    note(scope, "called")
    while True:
        event = await receive()
        if event["type"] != "http.request":
            note(scope, event["type"])
            return
        if not event["more_body"]:
            note(scope, "whole")
            break
    await respond(send, b"whole")


async def held(scope, receive, send):
    """Note that it was called; once released, read the body and give it back."""
    note(scope, "called")
    await released(scope)
    await respond(send, await read_body(receive))


async def unread(scope, receive, send):
    """Note that it was called; once released, answer 404 without having read."""
    note(scope, "called")
    await released(scope)
    await respond(send, b"not here", status=404, headers=[(b"content-length", b"8")])


async def breaks(scope, receive, send):
    """Begin a response of unknown length and, once released, break off."""
    await read_body(receive)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the beginning", "more_body": True})
    await released(scope)
    raise LookupError("a secret of the app")


class Handlers(dict):
    """Handlers by name, and one for all other names."""

    def __init__(self, handlers, other):
        super().__init__(handlers)
        self.other = other

    def __missing__(self, name):
        return self.other


application = gallery(Handlers(globals(), seen))

telling = gallery(Handlers({}, seen_in_a_field))
