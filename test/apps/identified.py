"""An app that gives its answer an id itself, as middleware does."""

import json


async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    headers = [(b"x-request-id", b"of-the-app")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body"})


def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [environ["HTTP_X_REQUEST_ID"].encode()]


def secured(environ, start_response):
    start_response("200 OK", [("content-type", "application/json")])
    told = {name: value for name, value in environ.items() if name.startswith("SSL_")}
    return [json.dumps(told).encode()]
